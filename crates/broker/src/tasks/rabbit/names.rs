//! The queues of the task centre, and how they come to be.

use lapin::options::{
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};

use super::servers::STALE;
use crate::link::Link;
use crate::name::TaskQueue;
use crate::trouble::{Refusal, Trouble, describe, is_precondition, is_refusal};

/// What everything is called, given the name of the queue of tasks.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// Where tasks arrive.
    pub(super) tasks: ShortString,
    /// Where tasks wait until they are tried again.
    pub(super) retry: ShortString,
    /// Where tasks are that were given up.
    pub(super) dead: ShortString,
    /// What the servers of the queue tell each other.
    pub(super) servers: ShortString,
}

/// How often a message may be delivered from queues that people look into: looking counts as a delivery, and RabbitMQ 4 would drop a message at its
/// twentieth. There is no number for "as often as one likes" that all versions know.
const AS_OFTEN_AS_ONE_LIKES: i64 = 1_000_000_000;

/// How often a task may be delivered before RabbitMQ gives it up: each time that its connection is lost, or that it is handed back because it takes long. RabbitMQ 4 would do so at the
/// twentieth, after a few hours; without any limit a task that ends every server would come for ever.
const DELIVERIES: i64 = 1000;

impl Names {
    pub(super) fn new(queue: &TaskQueue) -> Self {
        Self {
            tasks: queue.to_short(),
            retry: queue.beside("retry"),
            dead: queue.beside("dead"),
            servers: queue.beside("servers"),
        }
    }

    /// Makes sure that there are the queues for tasks. Where tasks arrive is used as it is if it is there already: others declare it, too, and RabbitMQ
    /// wants all to declare the same.
    ///
    /// A stream cannot be used: what is done stays in it.
    pub(super) async fn declare(&self, link: &Link, is_first: bool) -> Result<(), Trouble> {
        let text = |text: &str| AMQPValue::LongString(text.into());
        let then_to = |queue: &ShortString| {
            vec![
                ("x-dead-letter-exchange", text("")),
                ("x-dead-letter-routing-key", text(queue.as_str())),
            ]
        };
        let limit = |limit| vec![("x-delivery-limit", AMQPValue::LongLongInt(limit))];
        declare(link, &self.dead, vec![], limit(AS_OFTEN_AS_ONE_LIKES)).await?;
        // A channel ends with the first thing that it does not like, so each gets one.
        let looking = link.channel().await;
        if state(&looking, &self.tasks).await?.is_none() {
            // What RabbitMQ gives up because it was delivered too often is dead, too.
            let then = then_to(&self.dead);
            declare(link, &self.tasks, then, limit(DELIVERIES)).await?;
        } else if is_first {
            let ours = [then_to(&self.dead), limit(DELIVERIES)].concat();
            self.look_at_tasks(link, ours).await?;
        }
        // Otherwise a message could be lost on its way from one queue to the other.
        let safely = vec![
            ("x-dead-letter-strategy", text("at-least-once")),
            ("x-overflow", text("reject-publish")),
        ];
        declare(link, &self.retry, then_to(&self.tasks), safely).await
    }

    /// Whether the queue that is there can be used. RabbitMQ tells what a queue is only to those who declare it as something else.
    async fn look_at_tasks(
        &self,
        link: &Link,
        ours: Vec<(&str, AMQPValue)>,
    ) -> Result<(), Trouble> {
        let tasks = &self.tasks;
        let quorum = || ("x-queue-type", AMQPValue::LongString("quorum".into()));
        let ours = ours.into_iter().chain([quorum()]).collect();
        for arguments in [ours, vec![quorum()]] {
            let channel = link.channel().await;
            let options = QueueDeclareOptions::durable();
            let declared = channel.queue_declare(tasks.clone(), options, table(arguments));
            let Err(error) = declared.await else {
                return Ok(());
            };
            let reason = describe(&error);
            if !is_precondition(&error) {
                // Such as that this user may not: then it is not known.
                return Ok(());
            }
            if reason.contains("'stream'") {
                let text = format!(
                    "the queue '{tasks}' is a stream, in which tasks that are done would stay: use another one"
                );
                return Err(Refusal(text).into());
            }
            if reason.contains("'durable'") {
                tracing::warn!(%tasks, "the queue of tasks is not durable: tasks that wait are lost when RabbitMQ restarts");
                return Ok(());
            }
        }
        Ok(())
    }

    /// A queue for what the other servers say, which is gone with the connection.
    pub(super) async fn join_servers(
        &self,
        link: &Link,
        channel: &Channel,
    ) -> Result<ShortString, Trouble> {
        let options = ExchangeDeclareOptions {
            auto_delete: true,
            ..ExchangeDeclareOptions::default()
        };
        let servers = self.servers.clone();
        let none = FieldTable::default;
        let asked = Trouble::asking(format!("declaring the exchange '{servers}'"));
        channel
            .exchange_declare(servers.clone(), ExchangeKind::Fanout, options, none())
            .await
            .map_err(asked)?;
        let options = QueueDeclareOptions {
            exclusive: true,
            auto_delete: true,
            ..QueueDeclareOptions::default()
        };
        let milliseconds = i32::try_from(STALE.as_millis()).unwrap_or(i32::MAX);
        let stale = table([("x-message-ttl", AMQPValue::LongInt(milliseconds))]);
        let asked = Trouble::asking("declaring a queue for what other servers say");
        let queue = channel.queue_declare("".into(), options, stale).await;
        let queue = queue.map_err(asked)?;
        let name = queue.name().clone();
        let bound = QueueBindOptions::default();
        let asked = Trouble::asking(format!("binding a queue to the exchange '{servers}'"));
        let bound = channel.queue_bind(name.clone(), servers, "".into(), bound, none());
        if let Err(error) = bound.await {
            // It would be there for as long as the connection is, and with each attempt one more.
            let deleting = link.channel().await;
            let options = QueueDeleteOptions::default();
            let _ = deleting.queue_delete(name, options).await;
            return Err(asked(error));
        }
        Ok(name)
    }
}

/// Makes sure that there is a durable queue: a quorum queue where the broker knows them, with some arguments of its own, and otherwise a classic one.
async fn declare(
    link: &Link,
    queue: &ShortString,
    arguments: Vec<(&str, AMQPValue)>,
    of_quorum: Vec<(&str, AMQPValue)>,
) -> Result<(), Trouble> {
    let options = QueueDeclareOptions::durable();
    let quorum = ("x-queue-type", AMQPValue::LongString("quorum".into()));
    let all = arguments.iter().cloned().chain(of_quorum).chain([quorum]);
    let channel = link.channel().await;
    let declared = channel.queue_declare(queue.clone(), options, table(all));
    match declared.await {
        Err(error) if is_precondition(&error) => {
            tracing::info!(%queue, %error, "not a quorum queue, so a classic one is tried");
            let channel = link.channel().await;
            let declared = channel.queue_declare(queue.clone(), options, table(arguments));
            let asked = Trouble::asking(format!("declaring the queue '{queue}'"));
            declared.await.map(|_| ()).map_err(asked)
        }
        outcome => {
            let asked = Trouble::asking(format!("declaring the queue '{queue}'"));
            outcome.map(|_| ()).map_err(asked)
        }
    }
}

/// How many messages wait in a queue; `None` if there is no such queue, and then the channel is of no use any more.
pub(super) async fn state(channel: &Channel, queue: &ShortString) -> Result<Option<u64>, Trouble> {
    let options = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let looked = channel.queue_declare(queue.clone(), options, FieldTable::default());
    match looked.await {
        Ok(queue) => Ok(Some(queue.message_count().into())),
        Err(error) if is_refusal(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn table<'a>(entries: impl IntoIterator<Item = (&'a str, AMQPValue)>) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert(name.into(), value);
    }
    table
}
