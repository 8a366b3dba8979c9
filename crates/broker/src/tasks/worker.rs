//! A worker, as the task centre sees it, whatever door it came through.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

use super::board::WorkerKey;
use super::task::{Reason, Task};
use super::{Refusal, TaskCentre};

/// How many tasks a worker may have at once at most.
const LARGEST_CAPACITY: u32 = 1000;

/// How many tasks the workers of one server may have at once together, and so how many workers it may have: each of these tasks is in memory.
pub(super) const MOST_WORKERS: u32 = 10_000;

/// How many types a worker may name.
const MOST_TYPES: usize = 100;

/// How many bytes the id of a worker may have.
const LONGEST_ID: usize = 128;

/// How a worker came here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Door {
    /// A WebSocket without SignalR.
    #[serde(rename = "push")]
    Push,
    /// The hub.
    #[serde(rename = "taskHub")]
    TaskHub,
}

/// What a worker says of itself: JSON `{"id": "a", "types": [1, 2], "capacity": 4}`, of which only the id must be there.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Registration {
    /// Its name. Another worker of the same name takes its place.
    pub id: String,
    /// The types of tasks that it can do; all if it does not say.
    #[serde(default)]
    pub types: Option<BTreeSet<i64>>,
    /// How many tasks it can have at once; one if it does not say.
    #[serde(default = "one")]
    pub capacity: u32,
    /// How it came.
    #[serde(skip, default = "push")]
    pub door: Door,
}

fn one() -> u32 {
    1
}

fn push() -> Door {
    Door::Push
}

/// Why somebody cannot be a worker, in words for its programmer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistrationError {
    /// The id is empty.
    #[error("A worker needs an id.")]
    NoId,
    /// The id is too long.
    #[error("The id of a worker has {LONGEST_ID} bytes at most.")]
    LongId,
    /// The id has control characters.
    #[error("The id of a worker has no control characters.")]
    StrangeId,
    /// It names no types, or too many.
    #[error("A worker names 1 to {MOST_TYPES} types, or leaves them out if it can do all.")]
    Types,
    /// It can have no task, or too many.
    #[error("The capacity of a worker is 1 to {LARGEST_CAPACITY}.")]
    Capacity,
    /// There are as many workers as there may be, or the server is about to stop.
    #[error(
        "The workers of a server have {MOST_WORKERS} tasks at most together; this one is full, or is about to stop."
    )]
    Full,
}

impl Registration {
    /// A worker of that id that can do everything, one task at a time.
    pub fn new(id: impl Into<String>, door: Door) -> Self {
        Self {
            id: id.into(),
            types: None,
            capacity: 1,
            door,
        }
    }

    /// The same with an id that is fit to be seen, if all of it is as it may be.
    pub(crate) fn checked(mut self) -> Result<Self, RegistrationError> {
        self.id = self.id.trim().to_owned();
        if self.id.is_empty() {
            return Err(RegistrationError::NoId);
        }
        if self.id.len() > LONGEST_ID {
            return Err(RegistrationError::LongId);
        }
        if self.id.contains(char::is_control) {
            return Err(RegistrationError::StrangeId);
        }
        let types = self.types.as_ref().map(BTreeSet::len);
        if types.is_some_and(|types| !(1..=MOST_TYPES).contains(&types)) {
            return Err(RegistrationError::Types);
        }
        if !(1..=LARGEST_CAPACITY).contains(&self.capacity) {
            return Err(RegistrationError::Capacity);
        }
        Ok(self)
    }
}

/// A task that is a worker's to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The name of the task, the same at every attempt. What a worker has done it may know by it.
    pub id: Arc<str>,
    /// What is to be done.
    pub task: Arc<Task>,
    /// Which attempt it is, beginning with 1.
    pub attempt: u32,
}

/// What a worker is told.
#[derive(Debug)]
pub(crate) enum Order {
    Do(Assignment),
    /// Another one with the same id has taken its place.
    Leave,
}

/// A worker's place in the task centre. Dropping it gives its tasks to others.
#[derive(Debug)]
pub struct Worker {
    answers: Answers,
    /// As many as the worker has room for, at most.
    orders: UnboundedReceiver<Order>,
}

impl Worker {
    pub(crate) fn join(
        centre: &TaskCentre,
        registration: Registration,
    ) -> Result<Self, RegistrationError> {
        let registration = registration.checked()?;
        let (sender, orders): (UnboundedSender<Order>, _) = unbounded_channel();
        let key = centre.join(registration, sender)?;
        let centre = centre.clone();
        let answers = Answers { centre, key };
        Ok(Self { answers, orders })
    }

    /// The next task; `None` when another worker with the same id has taken this one's place, and this one has to go. Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<Assignment> {
        match self.orders.recv().await {
            Some(Order::Do(assignment)) => Some(assignment),
            Some(Order::Leave) | None => None,
        }
    }

    /// What the worker answers with.
    pub fn answers(&self) -> &Answers {
        &self.answers
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let Answers { centre, key } = &self.answers;
        centre.board().leave(*key, Instant::now());
    }
}

/// A worker's word on its tasks. All fail if the task is not, or no longer, the worker's: its lease was over, and somebody else has it.
#[derive(Debug, Clone)]
pub struct Answers {
    centre: TaskCentre,
    key: WorkerKey,
}

impl Answers {
    /// The task is done.
    pub fn done(&self, id: &str) -> Result<(), Refusal> {
        self.centre.board().done(self.key, id, Instant::now())
    }

    /// The worker does not do the task: it comes again later, to whoever has room then.
    pub fn refuse(&self, id: &str, reason: &Reason) -> Result<(), Refusal> {
        let now = Instant::now();
        self.centre.board().refuse(self.key, id, reason, now)
    }

    /// The worker is still at it, and how far it is: its lease begins anew.
    pub fn progress(&self, id: &str, text: impl Into<String>) -> Result<(), Refusal> {
        let now = Instant::now();
        let text = Reason::new(text);
        self.centre.board().progress(self.key, id, text, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registration(json: &str) -> Registration {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_worker_need_only_say_its_name() {
        let worker = registration(r#"{"id": " a "}"#).checked().unwrap();
        assert_eq!(worker, Registration::new("a", Door::Push));
        let worker = registration(r#"{"id":"b","types":[2,1,2],"capacity":3,"colour":"red"}"#);
        assert_eq!(worker.types, Some(BTreeSet::from([1, 2])));
        assert_eq!(worker.capacity, 3);
    }

    #[test]
    fn a_worker_that_cannot_be_is_told_why() {
        let types = |count| {
            let types: Vec<i64> = (0..count).collect();
            serde_json::json!({"id": "a", "types": types}).to_string()
        };
        assert!(registration(&types(100)).checked().is_ok());
        let many_types = types(101);
        for (json, error) in [
            (r#"{"id":"  "}"#, RegistrationError::NoId),
            (r#"{"id":"a\u0007"}"#, RegistrationError::StrangeId),
            (r#"{"id":"a","types":[]}"#, RegistrationError::Types),
            (&many_types, RegistrationError::Types),
            (r#"{"id":"a","capacity":0}"#, RegistrationError::Capacity),
            (r#"{"id":"a","capacity":1001}"#, RegistrationError::Capacity),
        ] {
            assert_eq!(registration(json).checked(), Err(error), "{json}");
        }
        let long = Registration::new("x".repeat(129), Door::TaskHub);
        assert_eq!(long.checked(), Err(RegistrationError::LongId));
    }
}
