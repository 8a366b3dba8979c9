//! A feed: a durable fanout exchange, which hands what is published to it to all of its queues.

use lapin::options::{
    BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Consumer, ExchangeKind};

use crate::name::Name;
use crate::publisher::Message;
use crate::trouble::Trouble;

/// How many messages are delivered ahead of being acknowledged.
const AHEAD: u16 = 100;

/// The queue through which somebody receives what comes.
#[derive(Debug, Clone)]
pub enum FeedQueue {
    /// One for this channel's connection alone, and gone with it.
    Own,
    /// A durable one, which keeps what comes while nobody receives. All who receive from it share what comes.
    Shared(Name),
    /// A durable one as well, of which one receives everything, in order, until that one goes; then another does. RabbitMQ's single active consumer.
    InTurn(Name),
}

/// A durable fanout exchange of this name.
#[derive(Debug, Clone)]
pub struct Feed {
    exchange: Name,
}

impl Feed {
    /// Names it; nothing is asked of RabbitMQ.
    pub fn new(exchange: Name) -> Self {
        Self { exchange }
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
    pub async fn subscribe(
        &self,
        channel: &Channel,
        queue: &FeedQueue,
    ) -> Result<Consumer, Trouble> {
        self.declare(channel).await?;
        let queue = self.bind(channel, queue).await?;
        channel.basic_qos(AHEAD, BasicQosOptions::default()).await?;
        let what = format!("reading the queue '{queue}'");
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let consumer = channel.basic_consume(queue, ShortString::default(), options, arguments);
        consumer.await.map_err(Trouble::asking(what))
    }

    /// Declares and binds a queue, and gives its name.
    async fn bind(&self, channel: &Channel, queue: &FeedQueue) -> Result<ShortString, Trouble> {
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
        let declared = channel.queue_declare(name, options, arguments);
        let queue = declared
            .await
            .map_err(Trouble::asking(what))?
            .name()
            .clone();
        let exchange = self.exchange.to_short();
        let what = format!("binding the queue '{queue}' to the exchange '{exchange}'");
        let (options, nothing) = (QueueBindOptions::default(), ShortString::default());
        let arguments = FieldTable::default();
        let bound = channel.queue_bind(queue.clone(), exchange, nothing, options, arguments);
        bound.await.map_err(Trouble::asking(what))?;
        Ok(queue)
    }
}
