//! What may be concluded from what the workers saw: of all that was finished of a task one counts, and for each of the others there is an excuse.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write;
use std::time::Duration;

use tokio::time::Instant;

use crate::journal::{Doing, Entries, Excuse, Journal};

/// How many tasks RabbitMQ may have given to a server without knowing what became of them: as many as all workers can have, and once more while some of them go
/// and others come. It gives another one only when an acknowledgement is on its disk, and takes those of a server in their order: so after that
/// many more were told by this server, an acknowledgement was no longer on its way, however busy the machine is.
const UNACKNOWLEDGED: usize = 2 * 39;

/// For how long a server may not have noticed that it lost RabbitMQ.
const UNNOTICED: Duration = Duration::from_secs(1);

/// For how long after a loss servers find out which tasks came a second time: five seconds until they connect, eight for their answers, and some work.
const RECOVERY: Duration = Duration::from_secs(20);

/// How many tasks may be given up several times: those that were on their way from one queue to another when a connection was lost, and so are in both. Nobody remembers
/// those whom nobody does. There are few such moments, and twenty tasks are given up.
const MOST_GIVEN_UP_TWICE: usize = 5;

/// What befell one of the servers.
#[derive(Debug, Default)]
pub(crate) struct Fate {
    /// When it lost a connection to RabbitMQ.
    pub(crate) losses: Vec<Instant>,
    /// When it was killed.
    pub(crate) deaths: Vec<Instant>,
}

/// What the storm knows, and the workers do not.
pub(crate) struct Facts {
    pub(crate) began: Instant,
    /// The tasks.
    pub(crate) published: HashSet<String>,
    /// Those that may have been published several times: that they are not lost is all that can be said of them.
    pub(crate) doubtful: HashSet<String>,
    /// Those without an id.
    pub(crate) nameless: HashSet<String>,
    /// Those that not all workers do: servers hand them on to each other, and no worker sees it.
    pub(crate) special: HashSet<String>,
    /// Those that were given up, and why, each time.
    pub(crate) dead: BTreeMap<String, Vec<String>>,
    pub(crate) fates: Vec<Fate>,
}

/// Compares what workers did with what was published and what was given up. Gives an account of it, or everything that is wrong.
pub(crate) fn verdict(journal: &Journal, facts: &Facts) -> Result<String, String> {
    let mut entries = journal.entries();
    let mut wrong = std::mem::take(&mut entries.problems);
    let mut excuses = BTreeMap::<Excuse, u32>::new();
    // What no worker saw is told of: these excuses are conclusions.
    let mut rare = Vec::new();
    let (mut done, mut superfluous, mut given_up_twice) = (0, 0, 0);
    for task in entries.doings.keys().chain(facts.dead.keys()) {
        if !facts.published.contains(task) {
            wrong.push(format!("{task} was never published"));
        }
    }
    for task in &facts.published {
        let Entries { doings, told, .. } = &mut *entries;
        let doings = doings.get_mut(task);
        let doings = doings.map(Vec::as_mut_slice).unwrap_or_default();
        let finished = doings.iter().filter(|doing| doing.is_done).count();
        let given_up = usize::from(facts.dead.contains_key(task));
        if facts.times_given_up(task) > 1 {
            given_up_twice += 1;
            if !facts.special.contains(task) {
                wrong.push(facts.story(task, doings));
            }
        }
        if finished + given_up == 0 {
            wrong.push(format!("{task} is lost"));
        }
        done += usize::from(finished > 0);
        if facts.doubtful.contains(task) {
            continue;
        }
        facts.excuse(task, doings, told);
        let is_rare = |doing: &Doing| {
            matches!(
                doing.excuse,
                Some(Excuse::ServerForgot | Excuse::NamelessTwice)
            )
        };
        if doings.iter().any(is_rare) {
            rare.push(facts.story(task, doings));
        }
        let counted = doings.iter().filter(|doing| doing.may_count()).count();
        if counted + given_up > 1 {
            wrong.push(facts.story(task, doings));
        }
        superfluous += (finished + given_up).saturating_sub(1);
        if finished + given_up > 1 {
            for excuse in doings.iter().filter_map(|doing| doing.excuse) {
                *excuses.entry(excuse).or_default() += 1;
            }
        }
    }
    if given_up_twice > MOST_GIVEN_UP_TWICE {
        wrong.push(format!("{given_up_twice} were given up several times"));
    }
    let fates = facts.fates.iter().map(|fate| facts.fate(fate));
    let fates: Vec<String> = fates.collect();
    if !wrong.is_empty() {
        let (count, wrong) = (wrong.len(), wrong.join("\n"));
        return Err(format!("{count} wrong:\n{wrong}\n{}", fates.join("\n")));
    }
    let excuses: Vec<String> = excuses
        .iter()
        .map(|(excuse, count)| format!("{count} {excuse}"))
        .collect();
    let losses: usize = facts.fates.iter().map(|fate| fate.losses.len()).sum();
    if !rare.is_empty() {
        rare.extend(fates);
    }
    rare.push(format!(
        "{done} done, {} dead, {given_up_twice} of them several times, once more than needed: {superfluous} ({}), {:?}, {losses} connections to RabbitMQ lost, {} perhaps put in twice",
        facts.dead.len(),
        excuses.join(", "),
        entries.events,
        facts.doubtful.len()
    ));
    Ok(rare.join("\n"))
}

impl Facts {
    /// Looks for excuses for what was finished and has none of its worker's, until one is left, or none if the task was given up. They are in the order in
    /// which they were finished, and the last is the one that counts.
    fn excuse(&self, task: &str, doings: &mut [Doing], told: &HashMap<usize, Vec<Instant>>) {
        let without = doings.iter().filter(|doing| doing.may_count()).count();
        let counts = usize::from(!self.dead.contains_key(task));
        for _ in counts..without {
            let first = doings.iter().position(Doing::may_count).unwrap();
            let Some(excuse) = self.excuse_for(task, doings, first, told) else {
                return;
            };
            doings[first].excuse = Some(excuse);
        }
    }

    /// Why those who are left could not know that this was done when the task came again.
    fn excuse_for(
        &self,
        task: &str,
        doings: &[Doing],
        which: usize,
        told: &HashMap<usize, Vec<Instant>>,
    ) -> Option<Excuse> {
        let doing = &doings[which];
        let Fate { losses, deaths } = &self.fates[doing.place.server];
        // Deaths of this server, and not of the one that came after it.
        let mut deaths = deaths.iter().filter(|death| doing.place.since < **death);
        let is_lost = |loss: &Instant| is_under_way(doing, *loss, told);
        if deaths.clone().any(is_lost) {
            return Some(Excuse::ServerDied);
        }
        let is_nameless = self.nameless.contains(task);
        if is_nameless && losses.iter().any(is_lost) {
            return Some(Excuse::Nameless);
        }
        let is_in_both = self.may_be_in_two_queues(task, doings, which, told);
        let may_come_again = |death: &Instant| {
            is_in_both
                || losses
                    .iter()
                    .any(|loss| is_lost(loss) && *death <= *loss + RECOVERY)
        };
        if deaths.any(may_come_again) {
            return Some(Excuse::ServerForgot);
        }
        (is_nameless && is_in_both).then_some(Excuse::NamelessTwice)
    }

    /// A task is published to another queue before it is acknowledged. If the connection is lost in between, it is in both: seen from where it then was done.
    fn may_be_in_two_queues(
        &self,
        task: &str,
        doings: &[Doing],
        which: usize,
        told: &HashMap<usize, Vec<Instant>>,
    ) -> bool {
        let at = doings[which].at;
        let mut losses = self.fates.iter().flat_map(|fate| &fate.losses);
        let was_handed_on =
            self.special.contains(task) && losses.any(|loss| *loss <= at && at <= *loss + RECOVERY);
        was_handed_on
            || doings[..which].iter().any(|before| {
                let losses = &self.fates[before.place.server].losses;
                losses.iter().any(|loss| is_under_way(before, *loss, told))
            })
    }

    fn times_given_up(&self, task: &str) -> usize {
        self.dead.get(task).map_or(0, Vec::len)
    }

    /// What became of a task, for people.
    fn story(&self, task: &str, doings: &[Doing]) -> String {
        let mut story = format!("{task} ");
        if self.nameless.contains(task) {
            story.push_str("without an id ");
        }
        for reason in self.dead.get(task).into_iter().flatten() {
            let _ = write!(story, "was given up ({reason}) ");
        }
        story.push_str("was told to workers:");
        for doing in doings {
            let Doing { place, .. } = doing;
            let _ = write!(
                story,
                "\n    {:.3} worker {} at {} since {:.3}: {}",
                self.seconds(doing.at),
                place.worker,
                place.server,
                self.seconds(place.since),
                if doing.is_done { "done" } else { "not done" },
            );
            if let Some(excuse) = doing.excuse {
                let _ = write!(story, ", {excuse}");
            }
        }
        story
    }

    fn fate(&self, fate: &Fate) -> String {
        let seconds = |when: &[Instant]| {
            let seconds = when
                .iter()
                .map(|when| format!("{:.3}", self.seconds(*when)));
            seconds.collect::<Vec<_>>().join(" ")
        };
        format!(
            "RabbitMQ lost: {}; killed: {}",
            seconds(&fate.losses),
            seconds(&fate.deaths)
        )
    }

    fn seconds(&self, when: Instant) -> f64 {
        when.saturating_duration_since(self.began).as_secs_f64()
    }
}

/// Whether RabbitMQ may not have known what had become of a task, when its server lost it or died.
fn is_under_way(doing: &Doing, end: Instant, told: &HashMap<usize, Vec<Instant>>) -> bool {
    let told = told.get(&doing.place.server);
    let told = told.map(Vec::as_slice).unwrap_or_default();
    let told_before = |when: Instant| told.partition_point(|told| *told <= when);
    let between = told_before(end).abs_diff(told_before(doing.at));
    doing.told <= end + UNNOTICED && between <= UNACKNOWLEDGED
}
