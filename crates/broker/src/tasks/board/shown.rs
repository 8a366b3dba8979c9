//! What can be seen of the board from outside.

use tokio::time::Instant;

use super::worker::Worker;
use super::{Board, Running};
use crate::tasks::status::{MOST_SHOWN, RunningTask, WorkerStatus, shortened};

impl Board {
    /// The workers that have been here longest, those first.
    pub(crate) fn worker_statuses(&self) -> Vec<WorkerStatus> {
        let mut workers: Vec<_> = self.workers.iter().collect();
        workers.sort_unstable_by_key(|(key, _)| **key);
        let status = |(_, worker): (_, &Worker)| WorkerStatus {
            id: worker.registration.id.clone(),
            door: worker.registration.door,
            types: worker.types.clone(),
            capacity: worker.registration.capacity,
            running: worker.held.len(),
        };
        workers.into_iter().take(MOST_SHOWN).map(status).collect()
    }

    /// Of the tasks that are being done those that came first, and those first.
    pub(crate) fn running_tasks(&self, now: Instant) -> Vec<RunningTask> {
        let status = |running: &Running| {
            let worker = self.workers.get(&running.worker);
            RunningTask {
                id: running.delivery.id.to_string(),
                name: shortened(&running.delivery.task.name),
                kind: running.delivery.task.kind,
                attempt: running.delivery.attempts + 1,
                worker: worker.map(|worker| worker.registration.id.clone()),
                seconds: now.duration_since(running.since).as_secs(),
                progress: running.progress.clone(),
            }
        };
        self.running.values().take(MOST_SHOWN).map(status).collect()
    }
}
