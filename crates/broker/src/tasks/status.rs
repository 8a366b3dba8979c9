//! What can be seen of the task centre from outside.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};

use super::task::Reason;
use super::worker::Door;

/// How many workers and how many running tasks are shown: looking is to cost little, however many there are.
pub(crate) const MOST_SHOWN: usize = 100;

/// How many characters of a task's name are shown.
const LONGEST_NAME: usize = 100;

/// How many bytes are shown of a task that was given up: as many of them are looked at as there may be.
pub(crate) const LONGEST_DEAD: usize = 1000;

/// The task centre now:
/// `{"workers": [..], "workerCount": 0, "running": [..], "runningCount": 0, "waiting": 0, "done": 0, "dead": 0}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Workers of this server, those that have been here longest first, 100 at most.
    pub workers: Vec<WorkerStatus>,
    /// How many workers this server has.
    pub worker_count: usize,
    /// Tasks that workers of this server are doing, those that came first first, 100 at most.
    pub running: Vec<RunningTask>,
    /// How many tasks workers of this server are doing.
    pub running_count: usize,
    /// How many tasks wait to be tried, for the first time or again: in the queue, which all its servers share, and at this server, until a worker has room. Those that wait at
    /// other servers so, for a moment, are not in it. `null` while RabbitMQ is away.
    pub waiting: Option<u64>,
    /// How many tasks workers of this server have done since it was started.
    pub done: u64,
    /// How many tasks have been given up by all servers of the queue, and still are; `null` while RabbitMQ is away.
    pub dead: Option<u64>,
}

/// What became of tasks that were to get another chance: `{"retried": 3, "left": 0}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retried {
    /// How many are back in the queue.
    pub retried: u64,
    /// How many were there and are not known to be back: not looked at, for want of time, or because somebody else was looking at them; not taken by RabbitMQ; or not confirmed in time, so that
    /// they may be back all the same.
    pub left: u64,
}

/// A worker: `{"id": "a", "door": "push", "types": [1, 2], "capacity": 4, "running": 1}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WorkerStatus {
    /// Its own name.
    pub id: String,
    /// How it came: `push` or `taskHub`.
    pub door: Door,
    /// The types of tasks that it can do, in order; `null` is all.
    #[serde(serialize_with = "shared")]
    pub types: Option<Arc<[i64]>>,
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
    /// What is to be done; of more than 100 characters these, and `…`.
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
    /// What was in the queue, as text; of more than 1000 bytes the beginning.
    pub task: String,
    /// Why it was given up.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was given up, if that is known.
    pub at: Option<Timestamp>,
}

#[expect(clippy::ref_option, reason = "serde gives it so")]
fn shared<S: Serializer>(types: &Option<Arc<[i64]>>, serializer: S) -> Result<S::Ok, S::Error> {
    types.as_deref().serialize(serializer)
}

/// Of a long name the beginning.
pub(crate) fn shortened(name: &str) -> String {
    match name.char_indices().nth(LONGEST_NAME) {
        Some((end, _)) => format!("{}…", name.split_at(end).0),
        None => name.to_owned(),
    }
}

/// Of a long text the beginning, as it is shown of a task that was given up.
pub(crate) fn beginning(text: &str) -> &str {
    text.split_at(text.floor_char_boundary(LONGEST_DEAD)).0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Registration, Task, TaskCentre, TaskOptions};
    use super::*;

    #[tokio::test]
    async fn of_many_workers_and_tasks_the_first_are_shown_and_all_are_counted() {
        let centre = TaskCentre::in_memory(TaskOptions::default());
        let mut workers = Vec::new();
        for number in 0..101 {
            let worker = Registration {
                types: Some([3, 1, 2].into()),
                ..Registration::new(format!("w{number}"), Door::Push)
            };
            workers.push(centre.join_worker(worker).unwrap());
            let (name, kind) = ("ä".repeat(32_000), 1);
            centre.submit(Task { name, kind }).await.unwrap();
        }
        for worker in &mut workers {
            worker.next().await.unwrap();
        }
        let status = centre.status().await;
        assert_eq!((status.workers.len(), status.worker_count), (100, 101));
        assert_eq!((status.running.len(), status.running_count), (100, 101));
        assert_eq!(status.workers[0].id, "w0");
        assert_eq!(status.workers[99].id, "w99");

        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json["workerCount"], 101);
        assert_eq!(json["runningCount"], 101);
        assert_eq!(json["workers"][0]["types"], json!([1, 2, 3]));
        assert_eq!(json["running"][0]["name"], format!("{}…", "ä".repeat(100)));
        // Whoever looks has a share of the types, no copy.
        let again = centre.status().await;
        let types = |status: &Status| status.workers[0].types.clone().unwrap();
        assert!(Arc::ptr_eq(&types(&status), &types(&again)));
    }

    #[test]
    fn a_task_that_was_given_up_is_cut_between_characters() {
        let whole = "ä".repeat(500);
        assert_eq!(beginning(&whole), whole);
        assert_eq!(beginning(&format!("{whole}b")), whole);
        assert_eq!(beginning(&format!("b{whole}")).len(), 999);
    }

    #[test]
    fn a_name_that_is_not_too_long_is_shown_as_it_is() {
        for name in ["", "Demo", &"😀".repeat(100)] {
            assert_eq!(shortened(name), name);
        }
        assert_eq!(
            shortened(&"😀".repeat(101)),
            format!("{}…", "😀".repeat(100))
        );
    }
}
