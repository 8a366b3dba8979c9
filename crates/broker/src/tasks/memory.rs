//! A queue in memory, for a server that is to be tried without anything else. Bounded, and gone with the process.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::{Instant, sleep_until};

use super::board::{Delivery, DeliveryId, Notice, Prospect, WorkerKey};
use super::status::{Retried, beginning};
use super::task::{Reason, Task, new_id};
use super::{Answer, Counts, DeadTask, QueueError, QueueSide, Request, lock};

/// How many tasks there may be that are neither done nor given up.
const MOST_TASKS: usize = 10_000;

/// How many bytes the names of these may have together.
const MOST_BYTES: usize = 32 * 1024 * 1024;

/// How many tasks are kept that were given up; of more, those that were given up last.
const MOST_DEAD: usize = 1000;

pub(super) struct MemoryQueue {
    side: QueueSide,
    /// How many tasks each worker has room for.
    slots: HashMap<WorkerKey, u32>,
    /// And all of them together.
    room: usize,
    ready: VecDeque<Delivery>,
    /// How many of these, from the front, only busy workers could do when the board was at this [turn](super::board::Board::turns), and so still.
    passed_over: usize,
    turns: u64,
    /// Tasks that are to be tried again, by when.
    later: BTreeMap<(Instant, DeliveryId), Delivery>,
    /// Tasks that are with a worker, or about to be.
    given: HashMap<DeliveryId, Delivery>,
    dead: VecDeque<(Delivery, Reason, Timestamp)>,
    /// Of all but the dead.
    bytes: usize,
    last_number: DeliveryId,
}

impl MemoryQueue {
    pub(super) fn new(side: QueueSide) -> Self {
        Self {
            side,
            slots: HashMap::new(),
            room: 0,
            ready: VecDeque::new(),
            passed_over: 0,
            turns: 0,
            later: BTreeMap::new(),
            given: HashMap::new(),
            dead: VecDeque::new(),
            bytes: 0,
            last_number: 0,
        }
    }

    pub(super) async fn run(mut self) {
        let room = lock(&self.side.board).room();
        loop {
            let next = self.later.first_key_value().map(|((due, _), _)| *due);
            let due = async {
                match next {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                notice = self.side.notices.recv() => match notice {
                    Some(notice) => self.hear(notice),
                    None => return,
                },
                request = self.side.requests.recv() => match request {
                    Some(request) => self.answer(request),
                    None => return,
                },
                () = due => self.wake(),
                () = room.notified() => {}
            }
            self.give();
        }
    }

    /// Hands out as much as there is room for. What only busy workers can do is in nobody's way.
    fn give(&mut self) {
        if self.given.len() >= self.room {
            return;
        }
        let now = Instant::now();
        let mut board = lock(&self.side.board);
        let turns = board.turns();
        if turns != self.turns {
            (self.turns, self.passed_over) = (turns, 0);
        }
        while self.given.len() < self.room
            && let Some(next) = self.ready.get(self.passed_over)
        {
            if board.prospect(next.task.kind) == Prospect::Busy {
                self.passed_over += 1;
            } else if let Some(delivery) = self.ready.remove(self.passed_over) {
                self.given.insert(delivery.number, delivery.clone());
                board.arrive(delivery, now);
            }
        }
    }

    fn wake(&mut self) {
        let now = Instant::now();
        while let Some(first) = self.later.first_entry() {
            if first.key().0 > now {
                break;
            }
            self.ready.push_back(first.remove());
        }
    }

    fn hear(&mut self, notice: Notice) {
        match notice {
            Notice::Opened(worker, slots) => {
                self.slots.insert(worker, slots);
                self.room += slots as usize;
            }
            Notice::Closed(worker) => {
                let slots = self.slots.remove(&worker).unwrap_or_default();
                self.room -= slots as usize;
            }
            Notice::Joined(..) => {}
            Notice::Done(number) => {
                if let Some(delivery) = self.given.remove(&number) {
                    self.bytes -= delivery.task.name.len();
                }
            }
            Notice::Later(number, attempts) => self.postpone(number, attempts),
            Notice::NobodyHere(number) => {
                let Some(delivery) = self.given.get(&number) else {
                    return;
                };
                // There are no other servers.
                let attempts = delivery.attempts + 1;
                if attempts < self.side.options.attempts {
                    self.postpone(number, attempts);
                } else {
                    let reason = Reason::nobody(delivery.task.kind);
                    self.bury(number, attempts, reason);
                }
            }
            Notice::Dead(number, attempts, reason) => self.bury(number, attempts, reason),
        }
    }

    fn postpone(&mut self, number: DeliveryId, attempts: u32) {
        if let Some(mut delivery) = self.given.remove(&number) {
            delivery.attempts = attempts;
            let due = Instant::now() + self.side.options.retry;
            self.later.insert((due, number), delivery);
        }
    }

    fn bury(&mut self, number: DeliveryId, attempts: u32, reason: Reason) {
        let Some(mut delivery) = self.given.remove(&number) else {
            return;
        };
        tracing::warn!(task = ?delivery.id, attempts, reason = reason.as_str(), "a task was given up");
        delivery.attempts = attempts;
        self.bytes -= delivery.task.name.len();
        if self.dead.len() >= MOST_DEAD
            && let Some((oldest, ..)) = self.dead.pop_front()
        {
            tracing::warn!(task = ?oldest.id, "a task that was given up was forgotten: there are too many");
        }
        self.dead.push_back((delivery, reason, Timestamp::now()));
    }

    fn answer(&mut self, request: Request) {
        match request {
            Request::Submit(task, answer) => reply(answer, self.submit(task)),
            Request::Counts(answer) => {
                let counts = Counts {
                    waiting: (self.ready.len() + self.later.len()) as u64,
                    dead: self.dead.len() as u64,
                };
                reply(answer, Ok(counts));
            }
            Request::Dead(most, answer) => {
                let dead = self.dead.iter().take(most).map(as_dead).collect();
                reply(answer, Ok(dead));
            }
            Request::Retry(id, answer) => reply(answer, Ok(self.retry(id.as_deref()))),
            // All that came before has been done.
            Request::Flush(answer) => reply(answer, Ok(())),
        }
    }

    fn submit(&mut self, task: Task) -> Result<String, QueueError> {
        let bytes = self.bytes + task.name.len();
        let tasks = self.ready.len() + self.later.len() + self.given.len();
        if tasks >= MOST_TASKS || bytes > MOST_BYTES {
            return Err(QueueError::Full);
        }
        self.bytes = bytes;
        self.last_number += 1;
        let id = new_id();
        self.ready.push_back(Delivery {
            number: self.last_number,
            id: id.as_str().into(),
            task: Arc::new(task),
            attempts: 0,
        });
        Ok(id)
    }

    fn retry(&mut self, id: Option<&str>) -> Retried {
        let mut retried = 0;
        for (mut delivery, reason, at) in std::mem::take(&mut self.dead) {
            if id.is_none_or(|id| *delivery.id == *id) {
                retried += 1;
                delivery.attempts = 0;
                self.bytes += delivery.task.name.len();
                self.ready.push_back(delivery);
            } else {
                self.dead.push_back((delivery, reason, at));
            }
        }
        Retried { retried, left: 0 }
    }
}

fn reply<T>(answer: Answer<T>, outcome: Result<T, QueueError>) {
    // Whoever asked may have gone.
    let _ = answer.send(outcome);
}

/// How it is shown to people.
fn as_dead((delivery, reason, at): &(Delivery, Reason, Timestamp)) -> DeadTask {
    // What is cut off is not written first: a name is no shorter as JSON.
    let begun = Task {
        name: beginning(&delivery.task.name).to_owned(),
        kind: delivery.task.kind,
    };
    let json = serde_json::to_string(&begun).unwrap_or_default();
    DeadTask {
        id: delivery.id.to_string(),
        task: beginning(&json).to_owned(),
        reason: reason.to_string(),
        attempts: delivery.attempts,
        at: Some(*at),
    }
}
