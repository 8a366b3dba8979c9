//! The queue for as long as one connection lasts: what comes is taken, and what the board decides about a task is done with it.

mod consumers;
mod questions;
mod requests;
mod settling;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lapin::message::Delivery as Arrived;
use lapin::options::BasicConsumeOptions;
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use self::consumers::{Consumers, Item, Made};
use self::questions::LOOK;
use self::requests::Look;
use self::settling::{Job, Settled};
use super::asks::{Asks, Question};
use super::ledger::{Given, Known};
use super::message::{Message, Receipt};
use super::servers::{Voice, What};
use super::{End, RabbitQueue};
use crate::link::LinkStatus;
use crate::tasks::board::Notice;
use crate::tasks::task::{Reason, Task, new_id};
use crate::tasks::{Answer, Request, lock};
use crate::trouble::Trouble;

/// How often it is looked at whether the channel is there, which says so itself when it is lost, or should; and what takes too long.
const CHECK: Duration = Duration::from_secs(1);

/// The name of the consumer of what other servers say, which no worker's can be.
const SERVERS: &str = "servers";

pub(super) struct Era<'a> {
    queue: &'a mut RabbitQueue,
    /// Everything is delivered and acknowledged on this one.
    channel: Channel,
    /// For looking at queues.
    looking: Channel,
    voice: Voice,
    servers: Consumer,
    consumers: Consumers,
    jobs: FuturesUnordered<Job>,
    /// How many tasks are on their way to another queue.
    passing_on: u32,
    /// How many of them RabbitMQ does not take there.
    refused: Arc<AtomicU32>,
    asks: Asks<Receipt>,
    /// Whether the others may have missed who this server is.
    is_unknown: bool,
    /// Says when the questions are to be looked at.
    clock: Interval,
    /// Says when that is.
    check: Interval,
    /// Those who want to look at the tasks that were given up, and whether somebody does.
    looks: VecDeque<Look>,
    is_looking: bool,
    /// Those who wait until nothing is under way.
    flushing: Vec<Answer<()>>,
}

/// What happens next.
enum Event {
    Notice(Notice),
    Request(Request),
    Said(Box<lapin::Result<Arrived>>),
    Made(Made),
    Came(Item),
    Settled(Result<Settled, Trouble>),
    /// The questions are to be looked at.
    Time,
    /// It is to be looked at what is looked at once a second.
    Check,
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
        names.declare(&queue.link, is_first).await?;
        let name = names.join_servers(&queue.link, &channel).await?;
        let options = BasicConsumeOptions {
            no_ack: true,
            ..BasicConsumeOptions::default()
        };
        let none = FieldTable::default();
        let servers = channel.basic_consume(name.clone(), SERVERS.into(), options, none);
        let servers = servers.await?;
        let mut clock = interval(LOOK);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut check = interval(CHECK);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut era = Self {
            servers,
            looking: queue.link.channel().await,
            voice: Voice::new(
                queue.publishing.clone(),
                names.servers,
                Arc::clone(&queue.server),
                name,
            ),
            queue,
            consumers: Consumers::new(channel.clone(), names.tasks),
            channel,
            jobs: FuturesUnordered::new(),
            is_unknown: false,
            passing_on: 0,
            refused: Arc::default(),
            asks: Asks::new(is_first, Instant::now()),
            clock,
            check,
            looks: VecDeque::new(),
            is_looking: false,
            flushing: Vec::new(),
        };
        // What was decided while there was no connection comes first: some of what is about to be delivered again is done.
        while let Ok(notice) = era.queue.side.notices.try_recv() {
            era.hear(notice);
        }
        let workers: Vec<_> = era.queue.slots.keys().copied().collect();
        for worker in workers {
            era.consumers.changes(worker);
        }
        era.introduce();
        if era.queue.slots.is_empty() {
            era.queue.tell_trouble(None);
        }
        Ok(era)
    }

    pub(super) async fn run(&mut self) -> End {
        loop {
            self.consumers.go_on(&self.queue.slots);
            let event = self.next().await;
            let outcome = match event {
                Event::Notice(notice) => {
                    self.hear(notice);
                    Ok(())
                }
                Event::Made(made) => {
                    let kept = self.consumers.keep(made);
                    if kept.is_ok() {
                        self.queue.tell_trouble(None);
                    }
                    kept
                }
                Event::Request(request) => {
                    self.begin_request(request);
                    Ok(())
                }
                Event::Said(said) => self.listen(*said),
                Event::Came(Item::Task(arrived)) => match *arrived {
                    Ok(arrived) => {
                        self.take(arrived);
                        Ok(())
                    }
                    Err(error) => Err(Trouble::asking("taking tasks")(error)),
                },
                Event::Came(Item::End(number)) => self.consumers.ended(number),
                Event::Settled(Ok(settled)) => {
                    match settled {
                        Settled::Done(number) => {
                            self.queue.ledger.settled(number, Instant::now());
                        }
                        Settled::PassedOn => self.passing_on -= 1,
                        Settled::Looked => {
                            self.is_looking = false;
                            self.look_on();
                        }
                        Settled::Other => {}
                    }
                    Ok(())
                }
                Event::Settled(Err(trouble)) => Err(trouble),
                Event::Time => {
                    self.look();
                    Ok(())
                }
                Event::Check if self.channel.status().connected() => self.check(),
                Event::Check => Err(Trouble::lost("a channel is closed")),
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

    /// What is looked at once a second.
    fn check(&mut self) -> Result<(), Trouble> {
        if let Some(refusal) = self.voice.refusal() {
            return Err(refusal.into());
        }
        self.hand_back();
        let is_heard = self.is_heard();
        self.is_unknown |= !is_heard || self.voice.has_been_missed();
        if self.is_unknown {
            // Nor does it know the others.
            self.asks.begin_anew(Instant::now());
        }
        if is_heard && std::mem::take(&mut self.is_unknown) {
            self.introduce();
        }
        // What RabbitMQ does not take, because it takes no messages or a queue is full, stays here, unacknowledged: it must not keep workers from getting others.
        let lost_places = if self.queue.slots.is_empty() {
            0
        } else if is_heard {
            self.refused.load(Ordering::Relaxed)
        } else {
            let asked = self.asks.count();
            let here = self.passing_on.saturating_add(asked);
            here.saturating_add(self.in_the_way())
        };
        self.consumers.lose_places(lost_places);
        Ok(())
    }

    /// Whether RabbitMQ takes what is published.
    pub(super) fn is_heard(&self) -> bool {
        *self.queue.publishing.status().borrow() == LinkStatus::Connected
    }

    /// How many tasks wait here while a worker has room that cannot do them.
    fn in_the_way(&self) -> u32 {
        let board = lock(&self.queue.side.board);
        let waiting = if board.has_room() { board.waiting() } else { 0 };
        waiting.try_into().unwrap_or(u32::MAX)
    }

    /// Whether a task that waits here may as well wait elsewhere: also if nobody is here any more.
    fn can_pass_on(&self) -> bool {
        self.is_heard() || self.queue.slots.is_empty()
    }

    /// Hands back what RabbitMQ would soon end the channel over. What is being done comes again, and is known.
    fn hand_back(&mut self) {
        let now = Instant::now();
        let mut receipts = self.queue.ledger.overdue(now);
        let asked = self.asks.take(|receipt: &Receipt| receipt.overdue() <= now);
        receipts.extend(asked.into_iter().filter_map(|given| given.receipt));
        for receipt in receipts {
            self.jobs.push(Box::pin(async move {
                receipt.hand_back().await?;
                Ok(Settled::Other)
            }));
        }
    }

    async fn next(&mut self) -> Event {
        let asks = !self.asks.is_empty();
        let works = !self.jobs.is_empty();
        let side = &mut self.queue.side;
        let (making, deliveries) = self.consumers.split();
        let delivers = !deliveries.is_empty();
        tokio::select! {
            biased;
            notice = side.notices.recv() => notice.map_or(Event::Over, Event::Notice),
            // In front of what else ends with the channel, since it knows the reason.
            made = Consumers::made(making) => Event::Made(made),
            Some(settled) = self.jobs.next(), if works => Event::Settled(settled),
            said = self.servers.next() => said.map_or(Event::Deaf, |said| Event::Said(Box::new(said))),
            request = side.requests.recv() => request.map_or(Event::Over, Event::Request),
            Some(item) = deliveries.next(), if delivers => Event::Came(item),
            _ = self.clock.tick(), if asks => Event::Time,
            _ = self.check.tick() => Event::Check,
        }
    }

    /// Does what the board wants.
    fn hear(&mut self, notice: Notice) {
        self.queue.note(&notice);
        match notice {
            Notice::Opened(worker, _) | Notice::Closed(worker) => self.consumers.changes(worker),
            Notice::Joined(worker, key) => {
                let workers = vec![(worker, key)];
                self.voice.announce(What::Joined { workers });
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
                // If it has only waited: what is put back now does not come before RabbitMQ takes messages again.
                if !self.can_pass_on()
                    && let Some(given) = self.queue.ledger.get(number)
                    && given.message.attempts == attempts
                {
                    let delivery = given.delivery(number);
                    lock(&self.queue.side.board).arrive(delivery, Instant::now());
                } else if let Some(given) = self.queue.ledger.remove(number) {
                    self.retry(given, attempts);
                }
            }
            Notice::NobodyHere(number) => {
                if let Some(given) = self.queue.ledger.remove(number) {
                    self.ask(given, Question::Can);
                }
            }
            Notice::Dead(number, attempts, reason) => {
                if let Some(given) = self.queue.ledger.remove(number) {
                    self.bury(&given.id, &given.message, given.receipt, attempts, &reason);
                }
            }
        }
    }

    /// A task has come from RabbitMQ.
    fn take(&mut self, arrived: Arrived) {
        let (message, receipt) = Message::new(arrived);
        let task = match Task::parse(&message.body) {
            Ok(task) => task,
            Err(malformed) => {
                let id = message.id.clone().unwrap_or_else(new_id);
                let reason = Reason::new(malformed.to_string());
                self.bury(&id, &message, Some(receipt), message.attempts, &reason);
                return;
            }
        };
        let mut given = Given::new(message, task, receipt);
        if !given.message.maybe_twice {
            self.hand_out(given);
            return;
        }
        let ledger = &mut self.queue.ledger;
        if let Some(receipt) = given.receipt.take() {
            match ledger.adopt(&given.key, receipt) {
                Ok(()) => return,
                Err(receipt) => given.receipt = Some(receipt),
            }
        }
        match ledger.known(&given.key, Instant::now()) {
            Some(known) => self.recognise(given, known),
            // Its other copy is asked about, and whatever becomes of that, one of them is too many.
            None if self.asks.has_copy(&given.key) => {
                self.queue.ledger.is_put_off(&given.key);
                self.recognise(given, Known::Running);
            }
            None => self.ask(given, Question::Holds),
        }
    }

    fn hand_out(&mut self, given: Given<Receipt>) {
        let delivery = self.queue.ledger.insert(given);
        lock(&self.queue.side.board).arrive(delivery, Instant::now());
    }
}
