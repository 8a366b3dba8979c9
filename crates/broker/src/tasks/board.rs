//! Who does what: the workers that are here, their tasks, and the tasks that wait for one of them. No I/O, and time comes from outside.

mod shown;
mod worker;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;

use self::worker::{Load, Worker};
use super::prospects::Prospects;
use super::task::{Reason, Task};
use super::worker::{Assignment, MOST_WORKERS, Order, Registration};
use super::{Refusal, TaskOptions};

pub(crate) use super::prospects::Prospect;

/// One arrival of a task here. The queue that it came from gives the numbers, and none twice.
pub(crate) type DeliveryId = u64;

/// One stay of a worker at a server. Of two stays the later one has the greater key, also on different servers if one has [heard](Board::heard_of) of the other; otherwise
/// their clocks decide.
pub(crate) type WorkerKey = u64;

/// For how long a task may wait here while a worker has room that cannot do it: it is in the way of what that worker could do.
pub(crate) const IN_THE_WAY: Duration = Duration::from_millis(200);

/// A task that has come from the queue and has to go back to it, one way or another.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) number: DeliveryId,
    /// Stays the same for as long as the task exists.
    pub(crate) id: Arc<str>,
    pub(crate) task: Arc<Task>,
    /// How often it was tried before.
    pub(crate) attempts: u32,
}

/// What the queue is told. Of each delivery one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    /// There is a worker that can have so many tasks at once.
    Opened(WorkerKey, u32),
    /// The worker takes no tasks any more.
    Closed(WorkerKey),
    /// A worker with this id is here now, and so nowhere else.
    Joined(String, WorkerKey),
    /// The task is done.
    Done(DeliveryId),
    /// The task shall come again later; it has been tried so often.
    Later(DeliveryId, u32),
    /// Nobody here can do it, but maybe somebody elsewhere. If not, that counts as an attempt.
    NobodyHere(DeliveryId),
    /// It has been tried often enough.
    Dead(DeliveryId, u32, Reason),
}

/// The whole of it. Not bounded by itself: there are as many tasks as the queue lets come, which asks for no more than workers can have.
#[derive(Debug)]
pub(crate) struct Board {
    options: TaskOptions,
    queue: UnboundedSender<Notice>,
    workers: HashMap<WorkerKey, Worker>,
    /// What they are for each type.
    prospects: Prospects,
    /// How many tasks they can have together.
    capacity: u32,
    /// Workers by their own ids.
    ids: HashMap<String, WorkerKey>,
    /// In the order in which they began.
    running: BTreeMap<DeliveryId, Running>,
    /// Tasks that workers here can do that have no room now, in the order of their arrival.
    waiting: VecDeque<Waiting>,
    last_key: WorkerKey,
    /// How many tasks have been done since the start.
    done: u64,
    /// Whether nobody gets anything new any more.
    is_closing: bool,
    /// Told when time begins to matter.
    busy: Arc<Notify>,
    /// Told when a worker has got room and the queue hears nothing of it.
    room: Arc<Notify>,
}

#[derive(Debug)]
struct Running {
    delivery: Delivery,
    worker: WorkerKey,
    since: Instant,
    /// When the lease is over.
    until: Instant,
    /// What the worker said last about how far it is.
    progress: Option<Reason>,
}

#[derive(Debug)]
struct Waiting {
    delivery: Delivery,
    since: Instant,
}

impl Board {
    pub(crate) fn new(options: TaskOptions, queue: UnboundedSender<Notice>) -> Self {
        Self {
            options,
            queue,
            workers: HashMap::new(),
            prospects: Prospects::default(),
            capacity: 0,
            ids: HashMap::new(),
            running: BTreeMap::new(),
            waiting: VecDeque::new(),
            last_key: 0,
            done: 0,
            is_closing: false,
            busy: Arc::default(),
            room: Arc::default(),
        }
    }

    /// Told when time begins to matter.
    pub(crate) fn busy(&self) -> Arc<Notify> {
        Arc::clone(&self.busy)
    }

    /// Told when a worker has got room and there is no notice: it has answered for a task that was not its own any more.
    pub(crate) fn room(&self) -> Arc<Notify> {
        Arc::clone(&self.room)
    }

    fn tell(&self, notice: Notice) {
        // A queue that is gone has nothing to lose any more.
        let _ = self.queue.send(notice);
    }

    /// Changes what a worker has or may get: nothing else does, but its coming and going.
    fn change<T>(&mut self, key: WorkerKey, change: impl FnOnce(&mut Worker) -> T) -> Option<T> {
        let worker = self.workers.get_mut(&key)?;
        let before = worker.prospect();
        let outcome = change(worker);
        let types = worker.types.as_deref();
        self.prospects.change(types, before, worker.prospect());
        Some(outcome)
    }

    /// Whether there may be this worker, too, in the place of the one with its id if that is here.
    pub(crate) fn has_place_for(&self, registration: &Registration) -> bool {
        let replaced = self.key_of(&registration.id);
        let replaced = replaced.and_then(|key| self.workers.get(&key));
        let replaced = replaced.map_or(0, |worker| worker.registration.capacity);
        let others = self.capacity.saturating_sub(replaced);
        others.saturating_add(registration.capacity) <= MOST_WORKERS
    }

    /// A worker has come. One with the same id has to go. `clock` is the time in milliseconds that all servers have.
    pub(crate) fn join(
        &mut self,
        mut registration: Registration,
        orders: UnboundedSender<Order>,
        clock: u64,
        now: Instant,
    ) -> WorkerKey {
        let key = clock.max(self.last_key + 1);
        self.last_key = key;
        self.capacity += registration.capacity;
        tracing::debug!(worker = ?registration.id, door = ?registration.door, capacity = registration.capacity, "a worker has come");
        let before = self.ids.insert(registration.id.clone(), key);
        self.tell(Notice::Joined(registration.id.clone(), key));
        let capacity = registration.capacity;
        let types = registration.types.take();
        let worker = Worker {
            types: types.map(|types| types.into_iter().collect()),
            registration,
            orders,
            held: HashMap::new(),
            is_open: true,
        };
        let types = worker.types.as_deref();
        self.prospects
            .change(types, Prospect::Nobody, worker.prospect());
        self.workers.insert(key, worker);
        self.tell(Notice::Opened(key, capacity));
        if let Some(before) = before {
            self.dismiss(before, now);
        }
        self.feed(key, now);
        key
    }

    /// The worker with an id, if it is here.
    pub(crate) fn key_of(&self, id: &str) -> Option<WorkerKey> {
        self.ids.get(id).copied()
    }

    /// All workers that are here.
    pub(crate) fn ids(&self) -> Vec<(String, WorkerKey)> {
        let ids = self.ids.iter();
        ids.map(|(id, key)| (id.clone(), *key)).collect()
    }

    /// There is a worker on another server: whoever comes from now on comes later.
    pub(crate) fn heard_of(&mut self, key: WorkerKey) {
        // No time that any clock shows.
        if key < WorkerKey::MAX / 2 {
            self.last_key = self.last_key.max(key);
        }
    }

    /// A worker is on another server now, or its id is somebody else's.
    pub(crate) fn dismiss(&mut self, key: WorkerKey, now: Instant) {
        if let Some(worker) = self.workers.get(&key) {
            let Registration { id, door, .. } = &worker.registration;
            tracing::info!(worker = ?id, ?door, "a worker has to go: another one with its id has come");
            let _ = worker.orders.send(Order::Leave);
        }
        self.leave(key, now);
    }

    /// A worker has gone. What it had goes to others.
    pub(crate) fn leave(&mut self, key: WorkerKey, now: Instant) {
        let Some(worker) = self.workers.remove(&key) else {
            return;
        };
        let types = worker.types.as_deref();
        self.prospects
            .change(types, worker.prospect(), Prospect::Nobody);
        self.capacity = self.capacity.saturating_sub(worker.registration.capacity);
        let id = worker.registration.id;
        tracing::debug!(worker = ?id, door = ?worker.registration.door, "a worker has gone");
        if self.ids.get(&id) == Some(&key) {
            self.ids.remove(&id);
        }
        if worker.is_open {
            self.tell(Notice::Closed(key));
        }
        let mut lost: Vec<_> = worker.held.into_values().flatten().collect();
        lost.sort_unstable();
        for number in lost {
            if let Some(running) = self.running.remove(&number) {
                let reason = Reason::new(format!("worker {id} went away"));
                self.try_again(running.delivery, reason, now);
            }
        }
    }

    /// A task has come from the queue.
    pub(crate) fn arrive(&mut self, delivery: Delivery, now: Instant) {
        // The last worker may have gone while the task was on its way: that is not the task's fault.
        let nobody = if self.workers.is_empty() {
            Notice::Later(delivery.number, delivery.attempts)
        } else {
            Notice::NobodyHere(delivery.number)
        };
        self.find_worker(delivery, nobody, now);
    }

    /// A worker here gets the task, now or when it has room; if none can do it, the queue is told.
    fn find_worker(&mut self, delivery: Delivery, nobody: Notice, now: Instant) {
        self.busy.notify_one();
        let mut least: Option<(WorkerKey, Load)> = None;
        let mut ties = 0;
        let mut is_possible = self.is_closing;
        for (key, worker) in &self.workers {
            let may_have = worker.may_have(&delivery);
            is_possible |= may_have;
            if self.is_closing || !may_have || !worker.has_room() {
                continue;
            }
            let load = worker.load();
            let order = least.map(|(_, least)| load.cmp(least));
            match order {
                None | Some(std::cmp::Ordering::Less) => {
                    least = Some((*key, load));
                    ties = 1;
                }
                Some(std::cmp::Ordering::Equal) => {
                    ties += 1;
                    if fastrand::u32(..ties) == 0 {
                        least = Some((*key, load));
                    }
                }
                Some(std::cmp::Ordering::Greater) => {}
            }
        }
        match least {
            Some((key, _)) => self.assign(key, delivery, now),
            None if is_possible => self.waiting.push_back(Waiting {
                delivery,
                since: now,
            }),
            None => self.tell(nobody),
        }
    }

    fn assign(&mut self, key: WorkerKey, delivery: Delivery, now: Instant) {
        let assignment = Assignment {
            id: Arc::clone(&delivery.id),
            task: Arc::clone(&delivery.task),
            attempt: delivery.attempts + 1,
        };
        self.change(key, |worker| {
            let id = Arc::clone(&delivery.id);
            worker.held.insert(id, Some(delivery.number));
            // A worker that does not listen any more is about to leave, and its tasks go to others then.
            let _ = worker.orders.send(Order::Do(assignment));
        });
        let running = Running {
            worker: key,
            since: now,
            until: now + self.options.lease,
            progress: None,
            delivery,
        };
        self.running.insert(running.delivery.number, running);
    }

    /// A worker has room: the oldest tasks that it can do are its.
    fn feed(&mut self, key: WorkerKey, now: Instant) {
        while !self.is_closing
            && let Some(worker) = self.workers.get(&key)
            && worker.has_room()
            && let Some(first) = self
                .waiting
                .iter()
                .position(|waiting| worker.may_have(&waiting.delivery))
            && let Some(Waiting { delivery, .. }) = self.waiting.remove(first)
        {
            self.assign(key, delivery, now);
        }
    }

    /// Ends the stay of a task at a worker; which delivery it was, if it still was that worker's to do.
    fn give_up(&mut self, key: WorkerKey, id: &str) -> Result<Running, Refusal> {
        let may_open = !self.is_closing;
        let given_up = self.change(key, |worker| {
            let held = worker.held.remove(id)?;
            let opens = may_open && !worker.is_open;
            worker.is_open |= opens;
            Some((held, opens.then_some(worker.registration.capacity)))
        });
        let (held, opened) = given_up
            .ok_or(Refusal::Replaced)?
            .ok_or(Refusal::NotYours)?;
        if let Some(capacity) = opened {
            self.tell(Notice::Opened(key, capacity));
        }
        let running = held.and_then(|number| self.running.remove(&number));
        if running.is_none() {
            self.room.notify_one();
        }
        running.ok_or(Refusal::LeaseOver)
    }

    /// A worker has done a task.
    pub(crate) fn done(&mut self, key: WorkerKey, id: &str, now: Instant) -> Result<(), Refusal> {
        let outcome = self.give_up(key, id).map(|running| {
            self.done += 1;
            self.tell(Notice::Done(running.delivery.number));
        });
        self.feed(key, now);
        outcome
    }

    /// A worker does not do a task.
    pub(crate) fn refuse(
        &mut self,
        key: WorkerKey,
        id: &str,
        reason: &Reason,
        now: Instant,
    ) -> Result<(), Refusal> {
        let outcome = self.give_up(key, id).map(|Running { delivery, .. }| {
            let attempts = delivery.attempts + 1;
            let notice = if attempts < self.options.attempts {
                Notice::Later(delivery.number, attempts)
            } else {
                let reason = Reason::new(format!("refused: {reason}"));
                Notice::Dead(delivery.number, attempts, reason)
            };
            self.tell(notice);
        });
        self.feed(key, now);
        outcome
    }

    /// A worker is still at it: its lease begins anew.
    pub(crate) fn progress(
        &mut self,
        key: WorkerKey,
        id: &str,
        text: Reason,
        now: Instant,
    ) -> Result<(), Refusal> {
        let worker = self.workers.get(&key).ok_or(Refusal::Replaced)?;
        let held = worker.held.get(id).ok_or(Refusal::NotYours)?;
        let running = held.and_then(|number| self.running.get_mut(&number));
        let running = running.ok_or(Refusal::LeaseOver)?;
        running.until = now + self.options.lease;
        running.progress = Some(text);
        Ok(())
    }

    /// A task was tried and nobody is to blame but the worker: another one gets it at once, if there is one.
    fn try_again(&mut self, mut delivery: Delivery, reason: Reason, now: Instant) {
        delivery.attempts += 1;
        if delivery.attempts < self.options.attempts {
            // An attempt is counted once, though nobody else may be there.
            let later = Notice::Later(delivery.number, delivery.attempts);
            self.find_worker(delivery, later, now);
        } else {
            self.tell(Notice::Dead(delivery.number, delivery.attempts, reason));
        }
    }

    /// What time does: leases end, and who has waited long enough may be luckier elsewhere.
    pub(crate) fn tick(&mut self, now: Instant) {
        let over = |running: &Running| running.until <= now;
        let over: Vec<DeliveryId> = self
            .running
            .iter()
            .filter(|(_, running)| over(running))
            .map(|(number, _)| *number)
            .collect();
        for number in over {
            let Some(running) = self.running.remove(&number) else {
                continue;
            };
            let reason = self.take_away(&running);
            self.try_again(running.delivery, reason, now);
        }
        let patience = if self.has_room() {
            IN_THE_WAY.min(self.options.retry)
        } else {
            self.options.retry
        };
        while let Some(first) = self.waiting.front() {
            if now.duration_since(first.since) < patience {
                break;
            }
            if let Some(Waiting { delivery, .. }) = self.waiting.pop_front() {
                self.tell(Notice::Later(delivery.number, delivery.attempts));
            }
        }
    }

    /// A worker has had a task for too long. It keeps the place for as long as it does not answer: who hangs gets no more than it can have.
    fn take_away(&mut self, running: &Running) -> Reason {
        let lease = self.options.lease;
        let taken = self.change(running.worker, |worker| {
            worker.held.insert(Arc::clone(&running.delivery.id), None);
            let id = &worker.registration.id;
            tracing::info!(worker = ?id, task = ?running.delivery.id, "a lease is over");
            let reason = Reason::new(format!("worker {id} did not answer within {lease:?}"));
            let lost = worker.held.values().filter(|held| held.is_none()).count();
            let closes = worker.is_open && lost >= worker.registration.capacity as usize;
            worker.is_open &= !closes;
            (reason, closes)
        });
        let Some((reason, closes)) = taken else {
            return Reason::new("its worker went away");
        };
        if closes {
            self.tell(Notice::Closed(running.worker));
        }
        reason
    }

    /// From now on nobody gets anything new, and what comes back waits.
    pub(crate) fn close(&mut self) {
        self.is_closing = true;
        let all: Vec<WorkerKey> = self.workers.keys().copied().collect();
        for key in all {
            if self.change(key, |worker| std::mem::take(&mut worker.is_open)) == Some(true) {
                self.tell(Notice::Closed(key));
            }
        }
    }

    /// Whether it takes no new workers.
    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing
    }

    /// What there is for a type.
    pub(crate) fn prospect(&self, kind: i64) -> Prospect {
        self.prospects.of(kind)
    }

    /// The same, found out by looking at every worker.
    #[cfg(test)]
    pub(super) fn best_of_each(&self, kind: i64) -> Prospect {
        let able = self.workers.values().filter(|worker| worker.can_do(kind));
        able.map(Worker::prospect).max().unwrap_or(Prospect::Nobody)
    }

    /// Another number whenever there may be something else for a type whose workers were busy.
    pub(crate) fn turns(&self) -> u64 {
        self.prospects.turns()
    }

    /// Whether time has anything to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    /// How many tasks are being done.
    pub(crate) fn running(&self) -> usize {
        self.running.len()
    }

    /// Whether a worker could have something more.
    pub(crate) fn has_room(&self) -> bool {
        let mut workers = self.workers.values();
        workers.any(|worker| worker.is_open && worker.has_room())
    }

    /// How many tasks are here that no worker has had room for yet.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many tasks have been done since the start.
    pub(crate) fn done_so_far(&self) -> u64 {
        self.done
    }

    /// How many workers are here.
    pub(crate) fn worker_count(&self) -> usize {
        self.workers.len()
    }

    /// How often time is looked at while there is something that it could end.
    pub(crate) fn tick_every(&self) -> Duration {
        let mut shortest = self.options.lease.min(self.options.retry);
        if !self.waiting.is_empty() {
            shortest = shortest.min(IN_THE_WAY);
        }
        (shortest / 4).clamp(Duration::from_millis(20), Duration::from_millis(250))
    }
}

impl Drop for Board {
    /// Whoever looks at the time need not any more.
    fn drop(&mut self) {
        self.busy.notify_one();
    }
}
