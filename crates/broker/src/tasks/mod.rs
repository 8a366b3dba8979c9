//! The task centre: each task goes to exactly one worker that can do it, and comes back to the queue until one says that it is done.
//!
//! Workers [join](TaskCentre::join_worker) through whatever door the program has, tasks come from a queue: in memory, or RabbitMQ's. The centre
//! takes no more of them than its workers have room for, so that what waits waits in the queue, and servers that share one share the work.
//!
//! A worker has a task for the time of a lease, which it can renew. When the lease is over or the worker has gone, another worker gets the task
//! at once; what a worker refuses comes again later. So a task may be done twice, if a worker finishes it and cannot say so: its
//! [id](Assignment::id) stays the same.

mod board;
mod memory;
mod prospects;
mod rabbit;
mod status;
mod task;
mod worker;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::mpsc::{
    Receiver, Sender, UnboundedReceiver, UnboundedSender, channel, unbounded_channel,
};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::link::{Link, LinkStatus};
use crate::name::TaskQueue;

use self::board::{Board, Notice, WorkerKey};
use self::memory::MemoryQueue;
use self::rabbit::RabbitQueue;
use self::worker::Order;

pub use self::rabbit::DeadTasks;
pub use self::status::{DeadTask, Retried, RunningTask, Status, WorkerStatus};
pub use self::task::{LARGEST_TASK, Malformed, Reason, Task};
pub use self::worker::{Answers, Assignment, Door, Registration, RegistrationError, Worker};

/// How many requests may wait for the queue.
const MOST_REQUESTS: usize = 64;

/// How the task centre deals with tasks.
#[derive(Debug, Clone)]
pub struct TaskOptions {
    /// How often a task is tried before it is given up. Default: 5.
    pub attempts: u32,
    /// How long a worker has a task before another one gets it, unless it says that it is still at it. Default: 60 s.
    pub lease: Duration,
    /// How long a task waits that was refused, or that nobody can do, before it is tried again. Default: 5 s, so that the usual attempts outlast the
    /// restart of a worker.
    pub retry: Duration,
}

impl Default for TaskOptions {
    fn default() -> Self {
        Self {
            attempts: 5,
            lease: Duration::from_mins(1),
            retry: Duration::from_secs(5),
        }
    }
}

/// A worker's answer that does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The worker has no task of that id.
    #[error("You have no task of that id.")]
    NotYours,
    /// The worker took too long, and the task was given to somebody else.
    #[error("The lease of this task is over; another worker has it.")]
    LeaseOver,
    /// Another worker with the same id has taken this one's place.
    #[error("Another worker has your id; your tasks are no longer yours.")]
    Replaced,
}

/// Why the queue did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// As many tasks wait as may wait in memory.
    #[error("There are too many tasks; try again when some are done.")]
    Full,
    /// RabbitMQ cannot be reached, or did not say in time that it has done it. What was asked for may yet be done.
    #[error("RabbitMQ is away: {0}")]
    Away(String),
    /// RabbitMQ does not do what was asked, and would not the next time.
    #[error("RabbitMQ does not do it: {0}")]
    Refused(String),
    /// Too many others want to look at the tasks that were given up, which they do one after the other.
    #[error("Too many are looking at the tasks that were given up; try again soon.")]
    Busy,
    /// RabbitMQ is short of memory or disk, and takes no messages. Nothing was put into the queue.
    #[error("RabbitMQ takes no messages: {0}")]
    Blocked(String),
    /// The server is about to stop.
    #[error("The server is shutting down.")]
    Stopped,
}

/// What a queue is asked from outside, and where the answer goes.
#[derive(Debug)]
enum Request {
    Submit(Task, Answer<String>),
    Counts(Answer<Counts>),
    /// So many at most.
    Dead(usize, Answer<Vec<DeadTask>>),
    /// One of that id, or all.
    Retry(Option<String>, Answer<Retried>),
    /// Answered when everything that was decided before is safe.
    Flush(Answer<()>),
}

type Answer<T> = oneshot::Sender<Result<T, QueueError>>;

/// How many tasks are in the queue and not with a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counts {
    waiting: u64,
    dead: u64,
}

/// How long a queue may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The task centre of one server. Clones are the same one.
#[derive(Debug, Clone)]
pub struct TaskCentre {
    board: Arc<Mutex<Board>>,
    queue: Sender<Request>,
    trouble: watch::Receiver<Option<String>>,
    /// How things stand with publishing to RabbitMQ.
    publishing: Option<watch::Receiver<LinkStatus>>,
}

/// What the task of a queue works with.
#[derive(Debug)]
struct QueueSide {
    board: Arc<Mutex<Board>>,
    options: TaskOptions,
    notices: UnboundedReceiver<Notice>,
    /// What somebody has to put right before the queue can be used.
    trouble: watch::Sender<Option<String>>,
    /// Ends when there is no task centre any more.
    requests: Receiver<Request>,
}

impl TaskCentre {
    /// A task centre whose queue is in memory: bounded, and gone with the process. Needs the runtime that it is to live in.
    pub fn in_memory(options: TaskOptions) -> Self {
        let (centre, side) = Self::new(options);
        tokio::spawn(MemoryQueue::new(side).run());
        centre
    }

    /// A task centre whose queue is in RabbitMQ, where other servers may share it. Needs the runtime that it is to live in.
    ///
    /// `queue` is where tasks arrive; `<queue>.retry`, `<queue>.dead` and the exchange `<queue>.servers` are made beside it. Quorum queues, where the broker has
    /// them; the queue itself is used as it is if it is there already.
    pub fn on_rabbitmq(options: TaskOptions, link: Link, queue: &TaskQueue) -> Self {
        let (mut centre, side) = Self::new(options);
        let publishing = link.another();
        centre.publishing = Some(publishing.status());
        tokio::spawn(RabbitQueue::new(side, link, publishing, queue).run());
        centre
    }

    fn new(options: TaskOptions) -> (Self, QueueSide) {
        // One notice for each delivery and each worker, both of which are bounded.
        let (notify, notices) = unbounded_channel();
        let (queue, requests) = channel(MOST_REQUESTS);
        let board = Arc::new(Mutex::new(Board::new(options.clone(), notify)));
        let busy = lock(&board).busy();
        tokio::spawn(watch_time(Arc::downgrade(&board), busy));
        let (trouble, trouble_seen) = watch::channel(None);
        let centre = Self {
            board: Arc::clone(&board),
            queue,
            trouble: trouble_seen,
            publishing: None,
        };
        let side = QueueSide {
            board,
            options,
            notices,
            trouble,
            requests,
        };
        (centre, side)
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        lock(&self.board)
    }

    fn join(
        &self,
        registration: Registration,
        orders: UnboundedSender<Order>,
    ) -> Result<WorkerKey, RegistrationError> {
        let mut board = self.board();
        if board.is_closing() || !board.has_place_for(&registration) {
            return Err(RegistrationError::Full);
        }
        let clock = jiff::Timestamp::now().as_millisecond();
        let clock = clock.try_into().unwrap_or_default();
        Ok(board.join(registration, orders, clock, Instant::now()))
    }

    /// Takes a worker in. One with the same id loses its place, and its tasks.
    pub fn join_worker(&self, registration: Registration) -> Result<Worker, RegistrationError> {
        Worker::join(self, registration)
    }

    /// Puts a task into the queue, and gives the id that it has got. It is safe there when this returns.
    pub async fn submit(&self, task: Task) -> Result<String, QueueError> {
        self.can_publish()?;
        self.ask(|answer| Request::Submit(task, answer)).await
    }

    /// Why tasks cannot come or go, if somebody has to put that right: RabbitMQ does not let this server use the queue or takes no messages, or the task centre has failed. That RabbitMQ is away, its
    /// [link](Link::status) tells.
    pub fn trouble(&self) -> Option<String> {
        if self.queue.is_closed() {
            return Some("the task centre has failed".to_owned());
        }
        let trouble = self.trouble.borrow().clone();
        trouble.or_else(|| match &*self.publishing.as_ref()?.borrow() {
            LinkStatus::Blocked { reason } => Some(QueueError::Blocked(reason.clone()).to_string()),
            LinkStatus::Refused { reason } => Some(format!(
                "RabbitMQ does not let us in a second time, for publishing: {reason}"
            )),
            _ => None,
        })
    }

    /// What is published while RabbitMQ takes no messages waits for as long as that lasts, and who asked has gone by then.
    fn can_publish(&self) -> Result<(), QueueError> {
        match self
            .publishing
            .as_ref()
            .map(watch::Receiver::borrow)
            .as_deref()
        {
            Some(LinkStatus::Blocked { reason }) => Err(QueueError::Blocked(reason.clone())),
            _ => Ok(()),
        }
    }

    /// Looks at everything.
    pub async fn status(&self) -> Status {
        let counts = self.ask(Request::Counts).await.ok();
        let board = self.board();
        let here = board.waiting() as u64;
        Status {
            workers: board.worker_statuses(),
            worker_count: board.worker_count(),
            running: board.running_tasks(Instant::now()),
            running_count: board.running(),
            waiting: counts.map(|counts| counts.waiting + here),
            done: board.done_so_far(),
            dead: counts.map(|counts| counts.dead),
        }
    }

    /// The tasks that were given up, so many at most, those that were given up first first.
    pub async fn dead(&self, most: usize) -> Result<Vec<DeadTask>, QueueError> {
        self.ask(|answer| Request::Dead(most, answer)).await
    }

    /// Puts tasks that were given up back into the queue, as if they were new: one of this id, or all, as far as a few seconds suffice.
    pub async fn retry(&self, id: Option<String>) -> Result<Retried, QueueError> {
        self.can_publish()?;
        self.ask(|answer| Request::Retry(id, answer)).await
    }

    async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Result<T, QueueError> {
        let (answer, answered) = oneshot::channel();
        let asked = async {
            let sent = self.queue.send(request(answer)).await;
            sent.map_err(|_| QueueError::Stopped)?;
            let dropped = |_| QueueError::Away("the connection was lost meanwhile".into());
            answered.await.map_err(dropped)?
        };
        let late = |_| Err(QueueError::Away("it does not answer".into()));
        timeout(PATIENCE, asked).await.unwrap_or_else(late)
    }

    /// From now on nobody gets anything new.
    pub fn close(&self) {
        self.board().close();
    }

    /// [Closes](Self::close), and waits until what is being done is done and RabbitMQ knows it, for that long at most. How many tasks were not; they go to others when
    /// their workers have gone.
    pub async fn drain(&self, grace: Duration) -> usize {
        self.close();
        let idle = async {
            while self.board().running() > 0 {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let finished = async {
            idle.await;
            // Otherwise others would do again what was done.
            let _ = self.ask(Request::Flush).await;
        };
        let _ = timeout(grace, finished).await;
        self.board().running()
    }
}

fn lock(board: &Mutex<Board>) -> MutexGuard<'_, Board> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks at the clock while there is anything that it could end, and for as long as there is a board.
async fn watch_time(board: Weak<Mutex<Board>>, busy: Arc<Notify>) {
    loop {
        busy.notified().await;
        loop {
            let Some(board) = board.upgrade() else {
                return;
            };
            let pause = {
                let mut board = lock(&board);
                board.tick(Instant::now());
                if board.is_idle() {
                    break;
                }
                board.tick_every()
            };
            drop(board);
            sleep(pause).await;
        }
    }
}

#[cfg(test)]
mod tests;
