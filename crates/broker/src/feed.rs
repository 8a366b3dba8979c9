//! A feed: a durable fanout exchange, which hands what is published to it to all of its queues.

use std::fmt;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Consumer, ExchangeKind};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::link::Link;
use crate::name::Name;
use crate::publisher::Message;
use crate::trouble::{Trouble, is_not_found, is_refusal};
use crate::while_connected;

/// How many messages are delivered ahead of being acknowledged.
const AHEAD: u16 = 100;

/// How often exchange and binding are declared anew. Whoever deletes an exchange takes its bindings away, and nobody is told.
const AGAIN: Duration = Duration::from_mins(1);

/// The queue through which somebody receives what comes.
#[derive(Debug, Clone)]
pub enum FeedQueue {
    /// One for this channel's connection alone, and gone with it.
    Own,
    /// A durable one, which keeps what comes while nobody receives. All who receive from it share what comes. One that is there is taken as it is, with arguments of its own.
    Shared(Name),
    /// A durable one as well, of which one receives everything, in order, until that one goes; then another does. RabbitMQ's single active consumer.
    InTurn(Name),
}

/// A durable fanout exchange of this name.
#[derive(Debug, Clone)]
pub struct Feed {
    exchange: Name,
    again: Duration,
}

impl Feed {
    /// Names it; nothing is asked of RabbitMQ.
    pub fn new(exchange: Name) -> Self {
        Self {
            exchange,
            again: AGAIN,
        }
    }

    /// How often a [`Subscription`] declares exchange and binding anew: once a minute by default. Must not be zero.
    #[doc(hidden)]
    #[must_use]
    pub fn declared_every(self, again: Duration) -> Self {
        Self { again, ..self }
    }

    /// The name of the exchange.
    pub fn exchange(&self) -> &Name {
        &self.exchange
    }

    /// A persistent message for everybody who is bound to it.
    pub fn message(&self, payload: impl Into<Vec<u8>>) -> Message {
        Message::new(self.exchange.as_str(), "", payload)
    }

    /// Makes sure that the exchange is there. Refused if there is one of this name that is something else, or if this user may not declare it.
    pub async fn declare(&self, channel: &Channel) -> Result<(), Trouble> {
        let options = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        let (name, fanout) = (self.exchange.to_short(), ExchangeKind::Fanout);
        let declared = channel.exchange_declare(name, fanout, options, FieldTable::default());
        let what = || format!("declaring the durable fanout exchange '{}'", self.exchange);
        declared
            .await
            .map_err(|error| Trouble::asking(what())(error))
    }

    /// Declares the exchange, binds a queue to it, and begins to receive what comes, to be acknowledged, a hundred messages ahead at most.
    ///
    /// `channel` is one of this link.
    pub async fn subscribe(
        &self,
        link: &Link,
        channel: Channel,
        queue: &FeedQueue,
    ) -> Result<Subscription, Trouble> {
        let subscribing = self.consume(link, &channel, queue);
        let (queue, consumer) = while_connected(&channel, subscribing).await??;
        let mut again = interval_at(Instant::now() + self.again, self.again);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Subscription {
            feed: self.clone(),
            channel,
            queue,
            consumer,
            again,
        })
    }

    async fn consume(
        &self,
        link: &Link,
        channel: &Channel,
        queue: &FeedQueue,
    ) -> Result<(ShortString, Consumer), Trouble> {
        // First: what is refused leaves no queue behind.
        self.declare(channel).await?;
        let queue = match queue {
            FeedQueue::Shared(name) if is_there(link, name).await? => name.to_short(),
            queue => declare_queue(channel, queue).await?,
        };
        self.bind(channel, &queue).await?;
        channel.basic_qos(AHEAD, BasicQosOptions::default()).await?;
        let what = format!("reading the queue '{queue}'");
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let nameless = ShortString::default();
        let consumer = channel.basic_consume(queue.clone(), nameless, options, arguments);
        let consumer = consumer.await.map_err(Trouble::asking(what))?;
        Ok((queue, consumer))
    }

    async fn bind(&self, channel: &Channel, queue: &ShortString) -> Result<(), Trouble> {
        let exchange = self.exchange.to_short();
        let what = format!("binding the queue '{queue}' to the exchange '{exchange}'");
        let (options, nothing) = (QueueBindOptions::default(), ShortString::default());
        let arguments = FieldTable::default();
        let bound = channel.queue_bind(queue.clone(), exchange, nothing, options, arguments);
        bound.await.map_err(Trouble::asking(what))
    }
}

/// Whether there is a queue of this name, whatever its arguments. Asked on a channel of its own, which RabbitMQ closes if there is none.
async fn is_there(link: &Link, queue: &Name) -> Result<bool, Trouble> {
    let passive = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let channel = link.channel().await;
    let looking = channel.queue_declare(queue.to_short(), passive, FieldTable::default());
    match while_connected(&channel, looking).await? {
        Ok(_) => Ok(true),
        Err(error) if is_refusal(&error) && is_not_found(&error) => Ok(false),
        Err(error) => Err(Trouble::asking(format!("looking for the queue '{queue}'"))(
            error,
        )),
    }
}

/// Declares a queue, and gives its name.
async fn declare_queue(channel: &Channel, queue: &FeedQueue) -> Result<ShortString, Trouble> {
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let mut arguments = FieldTable::default();
    let (name, options) = match queue {
        FeedQueue::Own => {
            let own = QueueDeclareOptions {
                exclusive: true,
                auto_delete: true,
                ..QueueDeclareOptions::default()
            };
            (ShortString::default(), own)
        }
        FeedQueue::Shared(name) => (name.to_short(), durable),
        FeedQueue::InTurn(name) => {
            let argument = ShortString::from("x-single-active-consumer");
            arguments.insert(argument, AMQPValue::Boolean(true));
            (name.to_short(), durable)
        }
    };
    let what = format!("declaring the queue '{name}'");
    let declared = channel.queue_declare(name, options, arguments).await;
    Ok(declared.map_err(Trouble::asking(what))?.name().clone())
}

/// What a feed brings, on one channel, for as long as that is there.
///
/// Whoever deletes the exchange takes the binding of the queue with it, and leaves channel and consumer as they were; so exchange and binding are declared anew once a minute. What is
/// published between the deletion and that does not come.
pub struct Subscription {
    feed: Feed,
    channel: Channel,
    queue: ShortString,
    consumer: Consumer,
    again: Interval,
}

impl Subscription {
    /// Waits for the next message, which is to be [acknowledged](crate::acknowledge). Whoever gives up waiting loses none.
    pub async fn next(&mut self) -> Result<Delivery, Trouble> {
        loop {
            tokio::select! {
                delivery = while_connected(&self.channel, self.consumer.next()) => {
                    let gone = || Trouble::lost("its queue is gone");
                    return Ok(delivery?.ok_or_else(gone)??);
                }
                _ = self.again.tick() => while_connected(&self.channel, self.declare()).await??,
            }
        }
    }

    async fn declare(&self) -> Result<(), Trouble> {
        self.feed.declare(&self.channel).await?;
        self.feed.bind(&self.channel, &self.queue).await
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Subscription")
            .field("feed", &self.feed)
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}
