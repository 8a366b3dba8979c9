//! What happened to each task, as its workers saw it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Mutex, MutexGuard};

use tokio::time::Instant;

/// Why a worker's word that a task is done may not have counted, so that somebody did the task once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Excuse {
    /// The worker died before it said so.
    Died,
    /// The worker was too late: it hung for longer than its lease, or was told so.
    Late,
    /// The connection ended before anything that the server does only after it has heard the worker.
    Unseen,
    /// The server was killed before RabbitMQ can be known to have heard of it.
    ServerDied,
    /// Only this server knew that it was done when RabbitMQ had lost that or had it twice, and it was killed before others asked.
    ServerForgot,
    /// The server lost RabbitMQ when that may not have heard of it yet, and the task has no id by which it could be told from another.
    Nameless,
    /// A server lost RabbitMQ when the task may have been on its way from one queue to another, and so in both, and the same.
    NamelessTwice,
}

impl fmt::Display for Excuse {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Died => "died before saying so",
            Self::Late => "too late",
            Self::Unseen => "gone before it was seen",
            Self::ServerDied => "its server died",
            Self::ServerForgot => "only a server knew that died",
            Self::Nameless => "no id, RabbitMQ lost before it knew",
            Self::NamelessTwice => "no id, RabbitMQ lost between two queues",
        })
    }
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
    /// It came to a server that was not there.
    ClosedDoor,
}

/// A worker's stay at a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) worker: usize,
    pub(crate) server: usize,
    /// When it came.
    pub(crate) since: Instant,
}

/// That a worker was told of a task, and what it made of it.
#[derive(Debug)]
pub(crate) struct Doing {
    pub(crate) place: Place,
    /// When it was told.
    pub(crate) told: Instant,
    /// When it was done with it, one way or another.
    pub(crate) at: Instant,
    /// Whether it finished it.
    pub(crate) is_done: bool,
    pub(crate) excuse: Option<Excuse>,
}

impl Doing {
    /// It may have counted.
    pub(crate) fn may_count(&self) -> bool {
        self.is_done && self.excuse.is_none()
    }
}

/// Which of what was made of a task.
#[derive(Debug, Clone)]
pub(crate) struct DoingId {
    task: String,
    number: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Entries {
    /// What was made of each task, in this order.
    pub(crate) doings: HashMap<String, Vec<Doing>>,
    /// How many tasks somebody has finished.
    finished: usize,
    /// When each server told a worker of a task.
    pub(crate) told: HashMap<usize, Vec<Instant>>,
    pub(crate) events: BTreeMap<Event, u32>,
    /// What must not happen.
    pub(crate) problems: Vec<String>,
}

/// Everybody writes into it.
#[derive(Debug, Default)]
pub(crate) struct Journal(Mutex<Entries>);

impl Journal {
    pub(crate) fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap()
    }

    /// A worker was told of a task. Gives the time.
    pub(crate) fn told(&self, place: Place) -> Instant {
        let mut entries = self.entries();
        // Under the lock, so that they are in order.
        let now = Instant::now();
        entries.told.entry(place.server).or_default().push(now);
        now
    }

    /// A worker has finished a task that it was told of then.
    pub(crate) fn finish(&self, task: &str, place: Place, told: Instant) -> DoingId {
        self.enter(task, place, told, true)
    }

    /// A worker did not do a task that it was told of then.
    pub(crate) fn fail(&self, task: &str, place: Place, told: Instant) {
        self.enter(task, place, told, false);
    }

    fn enter(&self, task: &str, place: Place, told: Instant, is_done: bool) -> DoingId {
        let mut entries = self.entries();
        let entries = &mut *entries;
        let doings = entries.doings.entry(task.to_owned()).or_default();
        if is_done && !doings.iter().any(|doing| doing.is_done) {
            entries.finished += 1;
        }
        doings.push(Doing {
            place,
            told,
            at: Instant::now(),
            is_done,
            excuse: None,
        });
        DoingId {
            task: task.to_owned(),
            number: doings.len() - 1,
        }
    }

    /// It may not have counted.
    pub(crate) fn excuse(&self, DoingId { task, number }: &DoingId, excuse: Excuse) {
        let mut entries = self.entries();
        let doing = &mut entries.doings.get_mut(task).unwrap()[*number];
        doing.excuse.get_or_insert(excuse);
    }

    pub(crate) fn note(&self, event: Event) {
        *self.entries().events.entry(event).or_default() += 1;
    }

    pub(crate) fn problem(&self, text: String) {
        self.entries().problems.push(text);
    }

    /// How many tasks somebody has finished.
    pub(crate) fn finished(&self) -> usize {
        self.entries().finished
    }
}
