//! The workers as consumers: each one that has room is one, and its prefetch is what it has room for.
//!
//! They are made and ended one after the other, while everything else goes on: a server with thousands of workers that has just come back is asked what it is at.

use std::collections::{HashMap, VecDeque};
use std::future::{pending, ready};

use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, SelectAll};
use futures_util::{StreamExt, stream};
use lapin::message::Delivery as Arrived;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer};

use crate::tasks::board::WorkerKey;
use crate::trouble::Trouble;

/// How many places are made up for, at most: as many tasks are kept in memory, besides those that workers have.
const MOST_SPARES: u32 = 1000;

/// One consumer of this connection.
type Number = u64;

/// What came on a consumer.
pub(super) enum Item {
    Task(Box<lapin::Result<Arrived>>),
    /// That was the last.
    End(Number),
}

/// What was made of a change.
pub(super) type Made = Result<Option<(Number, Consumer)>, Trouble>;

pub(super) struct Consumers {
    channel: Channel,
    queue: ShortString,
    /// The workers that are consumers, or about to be.
    open: HashMap<WorkerKey, Number>,
    /// Consumers that stand in for places of workers which are taken by tasks that no worker has any more.
    spares: Vec<(Number, u32)>,
    /// How many such places there are.
    lost_places: u32,
    last: Number,
    /// What is delivered to them.
    pub(super) deliveries: SelectAll<BoxStream<'static, Item>>,
    /// Workers that have got room, or have none any more.
    changed: VecDeque<WorkerKey>,
    /// The change that is being made.
    making: Option<BoxFuture<'static, Made>>,
    /// What counts for the next consumer.
    prefetch: Option<u16>,
}

impl Consumers {
    pub(super) fn new(channel: Channel, queue: ShortString) -> Self {
        Self {
            channel,
            queue,
            open: HashMap::new(),
            spares: Vec::new(),
            lost_places: 0,
            last: 0,
            deliveries: SelectAll::new(),
            changed: VecDeque::new(),
            making: None,
            prefetch: None,
        }
    }

    /// A worker has got room, or has none any more.
    pub(super) fn changes(&mut self, worker: WorkerKey) {
        self.changed.push_back(worker);
    }

    /// So many tasks take places of workers, though no worker has them: RabbitMQ hands out as many more until there are none.
    pub(super) fn lose_places(&mut self, number: u32) {
        self.lost_places = number.min(MOST_SPARES);
    }

    /// Begins the next change, if none is being made. `slots` is how much room each worker has.
    pub(super) fn go_on(&mut self, slots: &HashMap<WorkerKey, u32>) {
        while self.making.is_none()
            && let Some(worker) = self.changed.pop_front()
        {
            match (slots.get(&worker), self.open.get(&worker).copied()) {
                (Some(slots), None) => {
                    self.last += 1;
                    self.open.insert(worker, self.last);
                    self.making = Some(self.begin(self.last, *slots));
                }
                (None, Some(number)) => {
                    self.open.remove(&worker);
                    self.making = Some(self.end(number));
                }
                _ => {}
            }
        }
        if self.making.is_some() {
            return;
        }
        let spared: u32 = self.spares.iter().map(|(_, places)| places).sum();
        if self.lost_places > spared {
            self.last += 1;
            let places = self.lost_places - spared;
            self.spares.push((self.last, places));
            self.making = Some(self.begin(self.last, places));
        } else if self.lost_places == 0
            && let Some((number, _)) = self.spares.pop()
        {
            self.making = Some(self.end(number));
        }
    }

    fn begin(&mut self, number: Number, slots: u32) -> BoxFuture<'static, Made> {
        let prefetch = u16::try_from(slots).unwrap_or(u16::MAX);
        let is_new = self.prefetch.replace(prefetch) != Some(prefetch);
        let (channel, queue) = (self.channel.clone(), self.queue.clone());
        Box::pin(async move {
            if is_new {
                // Counts for each consumer that is made after it.
                let options = BasicQosOptions::default();
                channel.basic_qos(prefetch, options).await?;
            }
            let options = BasicConsumeOptions::default();
            let none = FieldTable::default();
            let asked = Trouble::asking(format!("consuming from the queue '{queue}'"));
            let consumer = channel.basic_consume(queue, tag(number), options, none);
            Ok(Some((number, consumer.await.map_err(asked)?)))
        })
    }

    fn end(&self, number: Number) -> BoxFuture<'static, Made> {
        let channel = self.channel.clone();
        Box::pin(async move {
            let options = BasicCancelOptions::default();
            channel.basic_cancel(tag(number), options).await?;
            Ok(None)
        })
    }

    /// The change that is being made, or never.
    pub(super) async fn made(making: &mut Option<BoxFuture<'static, Made>>) -> Made {
        let made = match making {
            Some(making) => making.await,
            None => pending().await,
        };
        *making = None;
        made
    }

    /// Both sides of what can happen next: a change is made, or something comes.
    pub(super) fn split(
        &mut self,
    ) -> (
        &mut Option<BoxFuture<'static, Made>>,
        &mut SelectAll<BoxStream<'static, Item>>,
    ) {
        (&mut self.making, &mut self.deliveries)
    }

    /// A change is made.
    pub(super) fn keep(&mut self, made: Made) -> Result<(), Trouble> {
        if let Some((number, consumer)) = made? {
            let items = consumer.map(|item| Item::Task(Box::new(item)));
            let end = stream::once(ready(Item::End(number)));
            self.deliveries.push(Box::pin(items.chain(end)));
        }
        Ok(())
    }

    /// A consumer has come to its end: nobody but this server may have wanted that.
    pub(super) fn ended(&self, number: Number) -> Result<(), Trouble> {
        let spares = self.spares.iter().map(|(number, _)| number);
        if self.open.values().chain(spares).any(|it| *it == number) {
            return Err(Trouble::lost("RabbitMQ has cancelled a consumer"));
        }
        Ok(())
    }
}

/// What a consumer is called.
fn tag(number: Number) -> ShortString {
    format!("tasks-{number}").into()
}
