//! A worker of the storm: it does most tasks, and with some of them something goes wrong.

use std::collections::HashMap;
use std::mem::replace;
use std::sync::Arc;
use std::time::Duration;

use end_to_end::wait::{DEADLINE, within};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::door::{Door, Heard, Kind, Task, Who};
use crate::journal::{DoingId, Event, Excuse, Journal, Place};

/// What nobody wants to do.
pub(crate) const POISON: &str = "poison";

/// How long the server may take to end a connection. Whose place was taken on another server hears of it through RabbitMQ, which may be away.
const GOODBYE: Duration = Duration::from_mins(1);

/// What a worker does with a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Do,
    Refuse,
    /// Dies in the middle of it.
    Crash,
    /// Finishes it, and dies before it says so.
    FinishAndCrash,
    /// Says that it is done, and dies at once: that may or may not be heard.
    SayAndCrash,
    /// Holds it for longer than its lease, and then says that it is done.
    HangAndSay,
    /// Holds it for longer than its lease, and dies.
    HangAndCrash,
    /// Goes in good order.
    Leave,
    /// Comes to a server under its id while it still has a connection.
    TakeOver,
}

pub(crate) struct Worker {
    pub(crate) number: usize,
    pub(crate) who: Who,
    pub(crate) random: fastrand::Rng,
    pub(crate) servers: Vec<String>,
    pub(crate) lease: Duration,
    pub(crate) journal: Arc<Journal>,
    pub(crate) is_over: watch::Receiver<bool>,
}

/// One stay of a worker at a server.
struct Stay {
    door: Door,
    place: Place,
    capacity: usize,
    /// How many tasks it was told.
    told: usize,
    /// What it has answered, in this order: what it has finished, and `None` for a refusal.
    answers: Vec<Option<DoingId>>,
    /// The same by the ids of the tasks.
    by_id: HashMap<String, DoingId>,
}

impl Worker {
    /// Works until the storm is over.
    pub(crate) async fn work(mut self) {
        let mut stay = self.come().await;
        let mut is_over = self.is_over.clone();
        loop {
            let heard = tokio::select! {
                heard = stay.door.next() => Some(heard),
                _ = is_over.wait_for(|is_over| *is_over) => None,
            };
            let Some(heard) = heard else {
                return self.leave(stay).await;
            };
            match heard {
                Heard::Task(task) => stay = self.told(stay, task).await,
                Heard::Objection { id, text } => self.objection(&stay, &id, &text),
                Heard::End => {
                    self.journal.note(Event::Dismissal);
                    stay.end(&self.journal);
                    stay = self.come().await;
                }
            }
        }
    }

    /// Comes to one of the servers that are there.
    async fn come(&mut self) -> Stay {
        within(DEADLINE, "some server is there", async {
            loop {
                let server = self.random.usize(..self.servers.len());
                let place = Place {
                    worker: self.number,
                    server,
                    since: Instant::now(),
                };
                if let Some(door) = Door::enter(&self.servers[server], &self.who).await {
                    return Stay {
                        door,
                        place,
                        capacity: self.who.capacity,
                        told: 0,
                        answers: Vec::new(),
                        by_id: HashMap::new(),
                    };
                }
                self.journal.note(Event::ClosedDoor);
            }
        })
        .await
    }

    fn deed(&mut self, task: &Task) -> Deed {
        if self.who.kind == Kind::Plain {
            // It has the task already, and whatever it does to it is no business of the server. So it does all, and goes in good order only.
            return match self.random.u32(..1000) {
                0..5 => Deed::Leave,
                5..8 => Deed::TakeOver,
                _ => Deed::Do,
            };
        }
        if task.name.starts_with(POISON) {
            return Deed::Refuse;
        }
        match self.random.u32(..1000) {
            0..20 => Deed::Refuse,
            20..27 => Deed::Crash,
            27..32 => Deed::FinishAndCrash,
            32..36 => Deed::SayAndCrash,
            36..38 => Deed::HangAndSay,
            38..39 => Deed::HangAndCrash,
            39..45 => Deed::Leave,
            45..48 => Deed::TakeOver,
            _ => Deed::Do,
        }
    }

    /// Does something with a task, and goes on where it is then.
    async fn told(&mut self, mut stay: Stay, task: Task) -> Stay {
        stay.told += 1;
        let journal = Arc::clone(&self.journal);
        let told = journal.told(stay.place);
        let deed = self.deed(&task);
        match deed {
            Deed::Do => {
                self.finish(&mut stay, task, told).await;
                stay
            }
            Deed::Refuse => {
                journal.note(Event::Refusal);
                journal.fail(&task.name, stay.place, told);
                stay.answers.push(None);
                stay.door.answer(task, Err("not now")).await;
                stay
            }
            Deed::Crash => {
                journal.fail(&task.name, stay.place, told);
                self.crash(stay).await
            }
            Deed::FinishAndCrash => {
                let finish = journal.finish(&task.name, stay.place, told);
                journal.excuse(&finish, Excuse::Died);
                self.crash(stay).await
            }
            Deed::SayAndCrash => {
                self.finish(&mut stay, task, told).await;
                self.crash(stay).await
            }
            Deed::HangAndSay | Deed::HangAndCrash => {
                journal.note(Event::Hang);
                sleep(self.lease * 3 / 2).await;
                if deed == Deed::HangAndSay {
                    let finish = self.finish(&mut stay, task, told).await;
                    assert!(told.elapsed() > self.lease);
                    journal.excuse(&finish, Excuse::Late);
                } else {
                    journal.fail(&task.name, stay.place, told);
                }
                // What else it was given meanwhile is late, too.
                self.crash(stay).await
            }
            Deed::Leave => {
                if self.who.kind == Kind::Hub {
                    // A handler that runs is dropped with its connection.
                    journal.fail(&task.name, stay.place, told);
                } else {
                    self.finish(&mut stay, task, told).await;
                }
                journal.note(Event::Leave);
                self.leave(stay).await;
                self.come().await
            }
            Deed::TakeOver => {
                journal.note(Event::Takeover);
                self.finish(&mut stay, task, told).await;
                let before = replace(&mut stay, self.come().await);
                self.is_dismissed(before).await;
                stay
            }
        }
    }

    async fn finish(&self, stay: &mut Stay, task: Task, told: Instant) -> DoingId {
        let finish = self.journal.finish(&task.name, stay.place, told);
        stay.by_id.insert(task.id.clone(), finish.clone());
        stay.answers.push(Some(finish.clone()));
        stay.door.answer(task, Ok(())).await;
        finish
    }

    async fn crash(&mut self, stay: Stay) -> Stay {
        self.journal.note(Event::Crash);
        stay.end(&self.journal);
        stay.door.break_down();
        self.come().await
    }

    /// An answer came too late. That excuses it, if it is one of those that can be too late.
    fn objection(&self, stay: &Stay, id: &str, text: &str) {
        let finish = stay.by_id.get(id);
        if let Some(finish) = finish {
            self.journal.excuse(finish, Excuse::Late);
        }
        if !text.contains("lease") && !text.contains("no longer yours") {
            let number = self.number;
            let problem = format!("worker {number} was told {text} of {finish:?}");
            self.journal.problem(problem);
        }
    }

    /// Goes in good order. What a raw worker said before its goodbye is heard before the server's; what it is told meanwhile it does only if
    /// it need not say so.
    async fn leave(&self, mut stay: Stay) {
        stay.door.say_goodbye().await;
        if self.who.kind == Kind::Hub {
            // The answer may not have been sent.
            stay.end(&self.journal);
            return;
        }
        self.read_to_the_end(&mut stay).await;
    }

    async fn read_to_the_end(&self, stay: &mut Stay) {
        loop {
            match within(GOODBYE, "the end of a stay", stay.door.next()).await {
                Heard::Task(task) => {
                    stay.told += 1;
                    let told = self.journal.told(stay.place);
                    if self.who.kind == Kind::Plain {
                        self.finish(stay, task, told).await;
                    } else {
                        self.journal.fail(&task.name, stay.place, told);
                    }
                }
                Heard::Objection { id, text } => self.objection(stay, &id, &text),
                Heard::End => return,
            }
        }
    }

    /// Somebody has its id, so the server hangs up.
    async fn is_dismissed(&self, mut stay: Stay) {
        self.read_to_the_end(&mut stay).await;
        stay.end(&self.journal);
    }
}

impl Stay {
    /// A worker never has more tasks than it can have: if it was told so many more, the first of its answers were heard. Of the others it cannot know.
    fn end(&self, journal: &Journal) {
        let heard = self.told.saturating_sub(self.capacity);
        for finish in self.answers.iter().skip(heard).flatten() {
            journal.excuse(finish, Excuse::Unseen);
        }
    }
}
