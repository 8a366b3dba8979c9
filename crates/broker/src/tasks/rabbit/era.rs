//! The queue for as long as one connection lasts. What is decided about a task is done with it here: acknowledged, or published elsewhere and then
//! acknowledged.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, FuturesUnordered, SelectAll};
use lapin::message::Delivery as Arrived;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Consumer};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use crate::publisher::{self, PublishError};
use crate::trouble::Trouble;

use super::dead::DeadTasks;
use super::ledger::{Given, Known};
use super::message::{Message, Receipt, new_task};
use super::names::state;
use super::servers::{Said, Voice};
use super::{End, RabbitQueue};
use crate::tasks::board::{DeliveryId, Notice, WorkerKey};
use crate::tasks::task::{Reason, Task, new_id};
use crate::tasks::{Answer, Counts, QueueError, Request, lock};

/// How long another server may take to answer.
const ANSWER: Duration = Duration::from_secs(1);

/// For how long after a connection was lost others may not have theirs back yet, so that they cannot answer. They try every five seconds at least.
const RETURN: Duration = Duration::from_secs(8);

/// How often a question is repeated, for those who have just come back.
const REPEAT: Duration = Duration::from_millis(500);

/// The name of the consumer of what other servers say, which no worker's can be.
const SERVERS: &str = "servers";

/// Something that is under way with RabbitMQ.
type Job = BoxFuture<'static, Result<Settled, Trouble>>;

enum Settled {
    /// An acknowledgement of a task that is done has been sent.
    Done(DeliveryId),
    Other,
}

/// What came on a worker's consumer.
enum Item {
    Task(Box<lapin::Result<Arrived>>),
    /// That was the last.
    End(WorkerKey),
}

/// A question to the other servers, and the task that it is about. It stays unacknowledged meanwhile.
struct Ask {
    given: Given<Receipt>,
    is_about: Question,
    /// When silence is an answer.
    until: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Question {
    /// Whether somebody has it already.
    Holds,
    /// Whether somebody can do it.
    Can,
}

pub(super) struct Era<'a> {
    queue: &'a mut RabbitQueue,
    /// Everything is delivered and acknowledged on this one.
    channel: Channel,
    /// For looking at queues.
    looking: Channel,
    voice: Voice,
    servers: Consumer,
    deliveries: SelectAll<BoxStream<'static, Item>>,
    /// The workers that are consumers.
    open: HashMap<WorkerKey, u32>,
    jobs: FuturesUnordered<Job>,
    asks: HashMap<u64, Ask>,
    last_ask: u64,
    /// Says when the questions are to be looked at.
    clock: Interval,
    /// Those who wait until nothing is under way.
    flushing: Vec<Answer<()>>,
    /// Until when somebody else may have lost the connection, too, and not be back.
    others_return: Instant,
}

/// What happens next.
enum Event {
    Notice(Notice),
    Request(Request),
    Said(Box<lapin::Result<Arrived>>),
    Came(Item),
    Settled(Result<Settled, Trouble>),
    /// The questions are to be looked at.
    Time,
    /// There is no task centre any more.
    Over,
    /// What other servers say is not heard any more.
    Deaf,
}

impl<'a> Era<'a> {
    pub(super) async fn begin(
        queue: &'a mut RabbitQueue,
        channel: Channel,
        is_first: bool,
    ) -> Result<Self, Trouble> {
        let names = queue.names.clone();
        names.declare(&queue.link).await?;
        let name = names.join_servers(&channel).await?;
        let options = BasicConsumeOptions {
            no_ack: true,
            ..BasicConsumeOptions::default()
        };
        let none = FieldTable::default();
        let servers = channel.basic_consume(name.clone(), SERVERS.into(), options, none);
        let now = Instant::now();
        let mut clock = interval(REPEAT);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut era = Self {
            servers: servers.await?,
            looking: queue.link.channel().await,
            queue,
            voice: Voice::new(channel.clone(), names.servers, name),
            channel,
            deliveries: SelectAll::new(),
            open: HashMap::new(),
            jobs: FuturesUnordered::new(),
            asks: HashMap::new(),
            last_ask: 0,
            clock,
            flushing: Vec::new(),
            others_return: if is_first { now } else { now + RETURN },
        };
        // What was decided while there was no connection comes first: some of what is about to be delivered again is done.
        while let Ok(notice) = era.queue.side.notices.try_recv() {
            era.hear(notice).await?;
        }
        era.match_consumers().await?;
        Ok(era)
    }

    pub(super) async fn run(&mut self) -> End {
        loop {
            let event = self.next().await;
            let outcome = match event {
                Event::Notice(notice) => match self.hear(notice).await {
                    Ok(()) => self.match_consumers().await,
                    Err(trouble) => Err(trouble),
                },
                Event::Request(request) => {
                    self.begin_request(request);
                    Ok(())
                }
                Event::Said(said) => self.listen(*said).await,
                Event::Came(Item::Task(arrived)) => match *arrived {
                    Ok(arrived) => self.take(arrived).await,
                    Err(error) => Err(error.into()),
                },
                Event::Came(Item::End(worker)) if self.open.contains_key(&worker) => {
                    Err(Trouble::lost("RabbitMQ has cancelled a consumer"))
                }
                Event::Came(Item::End(_)) => Ok(()),
                Event::Settled(Ok(settled)) => {
                    if let Settled::Done(number) = settled {
                        self.queue.ledger.settled(number, Instant::now());
                    }
                    Ok(())
                }
                Event::Settled(Err(trouble)) => Err(trouble),
                Event::Time => self.conclude().await,
                Event::Over => return End::Over,
                Event::Deaf => Err(Trouble::lost("the other servers are not heard any more")),
            };
            if let Err(trouble) = outcome {
                return End::Trouble(trouble);
            }
            if self.jobs.is_empty() && !self.flushing.is_empty() {
                self.flush();
            }
        }
    }

    async fn next(&mut self) -> Event {
        let asks = !self.asks.is_empty();
        let delivers = !self.deliveries.is_empty();
        let works = !self.jobs.is_empty();
        let side = &mut self.queue.side;
        tokio::select! {
            biased;
            notice = side.notices.recv() => notice.map_or(Event::Over, Event::Notice),
            Some(settled) = self.jobs.next(), if works => Event::Settled(settled),
            said = self.servers.next() => said.map_or(Event::Deaf, |said| Event::Said(Box::new(said))),
            request = side.requests.recv() => request.map_or(Event::Over, Event::Request),
            Some(item) = self.deliveries.next(), if delivers => Event::Came(item),
            _ = self.clock.tick(), if asks => Event::Time,
        }
    }

    /// Does what the board wants.
    async fn hear(&mut self, notice: Notice) -> Result<(), Trouble> {
        self.queue.note(&notice);
        match notice {
            Notice::Opened(..) | Notice::Closed(_) => {}
            Notice::Joined(worker) => {
                let from = self.voice.name();
                self.voice.announce(&Said::Joined { from, worker }).await?;
            }
            Notice::Done(number) => {
                if let Some(receipt) = self.queue.ledger.done(number, Instant::now()) {
                    self.jobs.push(Box::pin(async move {
                        receipt.acknowledge().await?;
                        Ok(Settled::Done(number))
                    }));
                }
            }
            Notice::Later(number, attempts) => {
                if let Some(given) = self.queue.ledger.remove(number) {
                    self.retry(given, attempts);
                }
            }
            Notice::NobodyHere(number) => {
                if let Some(given) = self.queue.ledger.remove(number) {
                    self.ask(given, Question::Can).await?;
                }
            }
            Notice::Dead(number, attempts, reason) => {
                if let Some(given) = self.queue.ledger.remove(number) {
                    self.bury(&given.id, &given.message, given.receipt, attempts, &reason);
                }
            }
        }
        Ok(())
    }

    /// Makes each worker that has room a consumer, and no other.
    async fn match_consumers(&mut self) -> Result<(), Trouble> {
        let slots = &self.queue.slots;
        let gone: Vec<_> = self
            .open
            .keys()
            .filter(|worker| !slots.contains_key(worker))
            .copied()
            .collect();
        for worker in gone {
            self.open.remove(&worker);
            let options = BasicCancelOptions::default();
            self.channel.basic_cancel(tag(worker), options).await?;
        }
        let new = slots
            .iter()
            .filter(|(worker, _)| !self.open.contains_key(worker));
        let new: Vec<(WorkerKey, u32)> = new.map(|(worker, slots)| (*worker, *slots)).collect();
        for (worker, slots) in new {
            self.open.insert(worker, slots);
            let prefetch = u16::try_from(slots).unwrap_or(u16::MAX);
            // Counts for each consumer that is made after it.
            let options = BasicQosOptions::default();
            self.channel.basic_qos(prefetch, options).await?;
            let options = BasicConsumeOptions::default();
            let queue = self.queue.names.tasks.clone();
            let none = FieldTable::default();
            let consumer = self
                .channel
                .basic_consume(queue, tag(worker), options, none);
            let items = consumer.await?.map(|item| Item::Task(Box::new(item)));
            let end = stream::once(std::future::ready(Item::End(worker)));
            self.deliveries.push(Box::pin(items.chain(end)));
        }
        Ok(())
    }

    /// A task has come from RabbitMQ.
    async fn take(&mut self, arrived: Arrived) -> Result<(), Trouble> {
        let (message, receipt) = Message::new(arrived);
        let task = match Task::parse(&message.body) {
            Ok(task) => task,
            Err(malformed) => {
                let id = message.id.clone().unwrap_or_else(new_id);
                let reason = Reason::new(malformed.to_string());
                self.bury(&id, &message, Some(receipt), message.attempts, &reason);
                return Ok(());
            }
        };
        let mut given = Given::new(message, task, receipt);
        if !given.message.maybe_twice {
            self.hand_out(given);
            return Ok(());
        }
        let ledger = &mut self.queue.ledger;
        if let Some(receipt) = given.receipt.take() {
            match ledger.adopt(&given.key, receipt) {
                Ok(()) => return Ok(()),
                Err(receipt) => given.receipt = Some(receipt),
            }
        }
        match ledger.known(&given.key) {
            Some(known) => self.recognise(given, known),
            None => self.ask(given, Question::Holds).await?,
        }
        Ok(())
    }

    fn hand_out(&mut self, given: Given<Receipt>) {
        let delivery = self.queue.ledger.insert(given);
        lock(&self.queue.side.board).arrive(delivery, Instant::now());
    }

    /// Somebody knows the task from its first coming.
    fn recognise(&mut self, given: Given<Receipt>, known: Known) {
        tracing::info!(task = ?given.id, ?known, "a task came a second time");
        match known {
            Known::Done => {
                if let Some(receipt) = given.receipt {
                    self.jobs.push(Box::pin(async move {
                        receipt.acknowledge().await?;
                        Ok(Settled::Other)
                    }));
                }
            }
            // If that comes to nothing, here it is again.
            Known::Running => {
                let properties = given.message.put_off(&given.id);
                self.pass_on(given, properties);
            }
        }
    }

    /// Puts a task where it comes from again later.
    fn retry(&mut self, given: Given<Receipt>, attempts: u32) {
        let properties = given.message.retried(&given.id, attempts);
        self.pass_on(given, properties);
    }

    fn pass_on(&mut self, given: Given<Receipt>, properties: BasicProperties) {
        let milliseconds = self.queue.side.options.retry.as_millis().to_string();
        let properties = properties.with_expiration(milliseconds.as_str().into());
        let retry = self.queue.names.retry.clone();
        self.publish(&retry, given.message.body, properties, given.receipt);
    }

    /// Gives a task up.
    fn bury(
        &mut self,
        id: &str,
        message: &Message,
        receipt: Option<Receipt>,
        attempts: u32,
        reason: &Reason,
    ) {
        tracing::warn!(task = ?id, attempts, reason = reason.as_str(), "a task was given up");
        let properties = message.given_up(id, attempts, reason);
        let dead = self.queue.names.dead.clone();
        self.publish(&dead, message.body.clone(), properties, receipt);
    }

    /// Publishes a task to another queue, and acknowledges it when that is confirmed. Without an acknowledgement to give RabbitMQ has it still, and delivers
    /// it again by itself.
    fn publish(
        &mut self,
        queue: &ShortString,
        body: Vec<u8>,
        properties: BasicProperties,
        receipt: Option<Receipt>,
    ) {
        let Some(receipt) = receipt else {
            return;
        };
        let message = publisher::Message::new("", queue.as_str(), body).properties(properties);
        let queues = Arc::clone(&self.queue.publisher);
        self.jobs.push(Box::pin(async move {
            queues
                .publish_once(message)
                .await
                .map_err(|error| lost(&error))?;
            receipt.acknowledge().await?;
            Ok(Settled::Other)
        }));
    }

    /// Asks the other servers about a task.
    async fn ask(&mut self, given: Given<Receipt>, is_about: Question) -> Result<(), Trouble> {
        let mut until = Instant::now() + ANSWER;
        if is_about == Question::Holds {
            until = until.max(self.others_return);
        }
        self.last_ask += 1;
        let ask = self.last_ask;
        self.asks.insert(
            ask,
            Ask {
                given,
                is_about,
                until,
            },
        );
        self.repeat(ask).await
    }

    async fn repeat(&mut self, ask: u64) -> Result<(), Trouble> {
        let Some(Ask {
            given, is_about, ..
        }) = self.asks.get(&ask)
        else {
            return Ok(());
        };
        let from = self.voice.name();
        let said = match is_about {
            Question::Holds => Said::Holds {
                from,
                ask,
                key: given.key.clone(),
            },
            Question::Can => Said::Can {
                from,
                ask,
                kind: given.task.kind,
            },
        };
        self.voice.announce(&said).await
    }

    /// Takes silence for an answer where it has lasted long enough, and asks again where it has not.
    async fn conclude(&mut self) -> Result<(), Trouble> {
        let now = Instant::now();
        let (over, open): (Vec<_>, Vec<_>) = self
            .asks
            .keys()
            .copied()
            .partition(|ask| self.asks.get(ask).is_some_and(|ask| ask.until <= now));
        for ask in over {
            let Some(Ask {
                given, is_about, ..
            }) = self.asks.remove(&ask)
            else {
                continue;
            };
            match is_about {
                Question::Holds => self.hand_out(given),
                Question::Can => self.count_attempt(given),
            }
        }
        for ask in open {
            self.repeat(ask).await?;
        }
        Ok(())
    }

    /// No worker of any server can do it.
    fn count_attempt(&mut self, given: Given<Receipt>) {
        let attempts = given.message.attempts + 1;
        if attempts < self.queue.side.options.attempts {
            self.retry(given, attempts);
        } else {
            let reason = Reason::nobody(given.task.kind);
            self.bury(&given.id, &given.message, given.receipt, attempts, &reason);
        }
    }

    /// Another server has said something.
    async fn listen(&mut self, said: lapin::Result<Arrived>) -> Result<(), Trouble> {
        let said = said?;
        let said = match serde_json::from_slice(&said.data) {
            Ok(said) => said,
            Err(error) => {
                tracing::debug!(%error, "another server is not understood");
                return Ok(());
            }
        };
        match said {
            Said::Holds { from, .. } | Said::Can { from, .. } | Said::Joined { from, .. }
                if from == self.voice.name() => {}
            Said::Holds { from, ask, key } => {
                if let Some(known) = self.queue.ledger.known(&key) {
                    self.voice
                        .answer(&from, &Said::Known { ask, known })
                        .await?;
                }
            }
            Said::Can { from, ask, kind } => {
                let can = lock(&self.queue.side.board).can_do(kind);
                if can {
                    self.voice.answer(&from, &Said::Able { ask }).await?;
                }
            }
            Said::Joined { worker, .. } => {
                lock(&self.queue.side.board).replace(&worker, Instant::now());
            }
            Said::Known { ask, known } => {
                if let Some(Ask { given, .. }) = self.asked(ask, Question::Holds) {
                    self.recognise(given, known);
                }
            }
            Said::Able { ask } => {
                if let Some(Ask { given, .. }) = self.asked(ask, Question::Can) {
                    let attempts = given.message.attempts;
                    self.retry(given, attempts);
                }
            }
        }
        Ok(())
    }

    fn asked(&mut self, ask: u64, question: Question) -> Option<Ask> {
        let is_it = self.asks.get(&ask)?.is_about == question;
        is_it.then(|| self.asks.remove(&ask)).flatten()
    }

    fn begin_request(&mut self, request: Request) {
        let job: Job = match request {
            Request::Submit(task, answer) => self.submit(&task, answer),
            Request::Counts(answer) => {
                let (looking, names) = (self.looking.clone(), self.queue.names.clone());
                Box::pin(async move {
                    let gone = || Trouble::lost("a queue was deleted");
                    let tasks = state(&looking, &names.tasks).await?.ok_or_else(gone)?;
                    let retry = state(&looking, &names.retry).await?.ok_or_else(gone)?;
                    let dead = state(&looking, &names.dead).await?.ok_or_else(gone)?;
                    let counts = Counts {
                        waiting: tasks + retry,
                        dead,
                    };
                    let _ = answer.send(Ok(counts));
                    Ok(Settled::Other)
                })
            }
            Request::Dead(most, answer) => {
                let dead = self.dead();
                Box::pin(async move {
                    let _ = answer.send(dead.list(most).await.map_err(away));
                    Ok(Settled::Other)
                })
            }
            Request::Retry(id, answer) => {
                let dead = self.dead();
                Box::pin(async move {
                    let _ = answer.send(dead.retry(id.as_deref()).await.map_err(away));
                    Ok(Settled::Other)
                })
            }
            Request::Flush(answer) => {
                self.flushing.push(answer);
                return;
            }
        };
        self.jobs.push(job);
    }

    fn submit(&self, task: &Task, answer: Answer<String>) -> Job {
        let id = new_id();
        let body = serde_json::to_vec(task).unwrap_or_default();
        let tasks = self.queue.names.tasks.clone();
        let message = publisher::Message::new("", tasks.as_str(), body).properties(new_task(&id));
        let queues = Arc::clone(&self.queue.publisher);
        Box::pin(async move {
            let published = queues.publish_once(message).await;
            let outcome = published.map(|()| id).map_err(away);
            // Whoever asked may have gone.
            let _ = answer.send(outcome);
            Ok(Settled::Other)
        })
    }

    fn dead(&self) -> DeadTasks {
        DeadTasks::of(self.queue.link.clone(), self.queue.names.clone())
    }

    /// Nothing is under way any more: when RabbitMQ has answered this, it has all that was sent before.
    fn flush(&mut self) {
        let (channel, names) = (self.channel.clone(), self.queue.names.clone());
        let waiting = std::mem::take(&mut self.flushing);
        self.jobs.push(Box::pin(async move {
            state(&channel, &names.tasks).await?;
            for answer in waiting {
                let _ = answer.send(Ok(()));
            }
            Ok(Settled::Other)
        }));
    }
}

/// What a worker's consumer is called.
fn tag(worker: WorkerKey) -> ShortString {
    format!("worker-{worker}").into()
}

/// A task that could not be published comes again with the next connection.
fn lost(error: &PublishError) -> Trouble {
    Trouble::lost(error.to_string())
}

fn away(error: impl std::fmt::Display) -> QueueError {
    QueueError::Away(error.to_string())
}
