//! What happened to each task, as its workers saw it, and what may be concluded from that.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

/// For how long an acknowledgement may be on its way to RabbitMQ, on a machine that is busy.
const UNDER_WAY: Duration = Duration::from_secs(5);

/// For how long after a loss servers find out which tasks came a second time: five seconds until they connect, eight for their answers, and some work.
const RECOVERY: Duration = Duration::from_secs(20);

/// Why a worker's word that a task is done may not have counted, so that somebody else has to do the task once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Excuse {
    /// The worker died before it said so.
    Died,
    /// The worker was too late: it hung for longer than its lease, or was told so.
    Late,
    /// The connection ended before anything that the server does only after it has heard the worker.
    Unseen,
}

/// Something that happened to a worker or its surroundings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    Crash,
    Hang,
    Refusal,
    Leave,
    Takeover,
    Dismissal,
}

/// That a worker finished a task.
#[derive(Debug)]
struct Finish {
    #[expect(dead_code, reason = "shown if something is wrong")]
    worker: usize,
    at: Instant,
    excuse: Option<Excuse>,
}

/// Which of a task's finishes.
#[derive(Debug, Clone)]
pub(crate) struct FinishId {
    task: String,
    number: usize,
}

#[derive(Debug, Default)]
struct Entries {
    finished: HashMap<String, Vec<Finish>>,
    /// How often a task was told to a worker that did not do it.
    failed: HashMap<String, u32>,
    events: BTreeMap<Event, u32>,
    /// What must not happen.
    problems: Vec<String>,
}

/// Everybody writes into it.
#[derive(Debug, Default)]
pub(crate) struct Journal(Mutex<Entries>);

impl Journal {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap()
    }

    /// A worker has finished a task.
    pub(crate) fn finish(&self, task: &str, worker: usize) -> FinishId {
        let mut entries = self.entries();
        let finishes = entries.finished.entry(task.to_owned()).or_default();
        finishes.push(Finish {
            worker,
            at: Instant::now(),
            excuse: None,
        });
        FinishId {
            task: task.to_owned(),
            number: finishes.len() - 1,
        }
    }

    /// It may not have counted.
    pub(crate) fn excuse(&self, FinishId { task, number }: &FinishId, excuse: Excuse) {
        let mut entries = self.entries();
        let finish = &mut entries.finished.get_mut(task).unwrap()[*number];
        finish.excuse.get_or_insert(excuse);
    }

    /// A worker did not do a task that it was told of.
    pub(crate) fn fail(&self, task: &str) {
        *self.entries().failed.entry(task.to_owned()).or_default() += 1;
    }

    pub(crate) fn note(&self, event: Event) {
        *self.entries().events.entry(event).or_default() += 1;
    }

    pub(crate) fn problem(&self, text: String) {
        self.entries().problems.push(text);
    }

    /// How many tasks somebody has finished.
    pub(crate) fn finished(&self) -> usize {
        self.entries().finished.len()
    }

    /// Compares what workers did with what was published and what was given up. Gives a line about it, or everything that is wrong.
    ///
    /// `doubtful` are tasks that may have been published several times, `nameless` those without an id, and `losses` when a server lost RabbitMQ.
    pub(crate) fn verdict(
        &self,
        published: &HashSet<String>,
        doubtful: &HashSet<String>,
        dead: &BTreeMap<String, String>,
        nameless: &HashSet<String>,
        losses: &[Instant],
    ) -> Result<String, String> {
        let mut entries = self.entries();
        let entries = &mut *entries;
        let mut wrong = std::mem::take(&mut entries.problems);
        let (mut duplicates, mut excuses) = (0, BTreeMap::<&str, u32>::new());
        for task in entries.finished.keys().chain(dead.keys()) {
            if !published.contains(task) && !doubtful.contains(task) {
                wrong.push(format!("{task} was never published"));
            }
        }
        for task in doubtful {
            if !entries.finished.contains_key(task) && !dead.contains_key(task) {
                wrong.push(format!("{task} is lost"));
            }
        }
        for task in published {
            let none = Vec::new();
            let finishes = entries.finished.get(task).unwrap_or(&none);
            let counted = finishes.iter().filter(|it| it.excuse.is_none()).count();
            let reason = dead.get(task);
            if finishes.is_empty() && reason.is_none() {
                wrong.push(format!("{task} is lost"));
            }
            // RabbitMQ may have been lost before it was acknowledged. A task without an id of its own cannot be told from another that is alike when it then comes
            // again, and that one nobody would have done.
            let is_unrecognised = nameless.contains(task)
                && finishes
                    .first()
                    .zip(finishes.last())
                    .is_some_and(|(first, last)| {
                        let under_way = first.at - RECOVERY..=last.at.min(first.at + UNDER_WAY);
                        losses.iter().any(|loss| under_way.contains(loss))
                    });
            if (counted > 1 && !is_unrecognised) || (counted > 0 && reason.is_some()) {
                wrong.push(format!(
                    "{task} counted {counted} times, given up: {reason:?}, {finishes:?}"
                ));
            }
            if finishes.len() > 1 {
                duplicates += finishes.len() - 1;
                for excuse in finishes.iter().filter_map(|it| it.excuse) {
                    let name = match excuse {
                        Excuse::Died => "died before saying so",
                        Excuse::Late => "too late",
                        Excuse::Unseen => "gone before it was seen",
                    };
                    *excuses.entry(name).or_default() += 1;
                }
                if counted > 1 {
                    *excuses.entry("RabbitMQ lost, no id").or_default() += 1;
                }
            }
        }
        if wrong.is_empty() {
            let mut line = format!("{} done, {} dead", entries.finished.len(), dead.len());
            let _ = write!(
                line,
                ", {duplicates} duplicates {excuses:?}, {:?}",
                entries.events
            );
            let _ = write!(line, ", RabbitMQ lost {} times", losses.len());
            if !doubtful.is_empty() {
                let _ = write!(line, ", {} perhaps put in twice", doubtful.len());
            }
            return Ok(line);
        }
        Err(format!(
            "{} wrong, losses at {losses:?}:\n{}",
            wrong.len(),
            wrong.join("\n")
        ))
    }
}
