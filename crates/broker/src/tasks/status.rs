//! What can be seen of the task centre from outside.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::task::Reason;
use super::worker::Door;

/// The task centre now: `{"workers": [..], "running": [..], "waiting": 0, "done": 0, "dead": 0}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The workers of this server, those that have been here longest first.
    pub workers: Vec<WorkerStatus>,
    /// The tasks that workers of this server are doing, those that came first first.
    pub running: Vec<RunningTask>,
    /// How many tasks wait to be tried, for the first time or again, on all servers of the queue; `null` while RabbitMQ is away.
    pub waiting: Option<u64>,
    /// How many tasks workers of this server have done since it was started.
    pub done: u64,
    /// How many tasks have been given up, on all servers of the queue; `null` while RabbitMQ is away.
    pub dead: Option<u64>,
}

/// A worker: `{"id": "a", "door": "push", "types": [1, 2], "capacity": 4, "running": 1}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WorkerStatus {
    /// Its own name.
    pub id: String,
    /// How it came: `push` or `taskHub`.
    pub door: Door,
    /// The types of tasks that it can do; `null` is all.
    pub types: Option<BTreeSet<i64>>,
    /// How many tasks it can have at once.
    pub capacity: u32,
    /// How many it has, those included whose lease is over and that it has not answered.
    pub running: usize,
}

/// A task that is being done:
/// `{"id": "..", "name": "Demo", "type": 1, "attempt": 1, "worker": "a", "seconds": 3, "progress": null}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunningTask {
    /// The name of the task.
    pub id: String,
    /// What is to be done.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: i64,
    /// Which attempt it is, beginning with 1.
    pub attempt: u32,
    /// Whose it is.
    pub worker: Option<String>,
    /// For how long it has been this worker's.
    pub seconds: u64,
    /// What the worker said last about how far it is.
    pub progress: Option<Reason>,
}

/// A task that was given up:
/// `{"id": "..", "task": "{\"TaskName\": ..}", "reason": "refused: ..", "attempts": 5, "at": "2026-01-02T03:04:05Z"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadTask {
    /// The name of the task.
    pub id: String,
    /// What was in the queue, as text; of a long one the beginning.
    pub task: String,
    /// Why it was given up.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was given up, if that is known.
    pub at: Option<Timestamp>,
}
