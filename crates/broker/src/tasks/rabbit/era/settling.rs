//! What becomes of a task: it is acknowledged, or published elsewhere and then acknowledged.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use lapin::BasicProperties;
use lapin::types::ShortString;

use super::Era;
use crate::publisher::{self, PublishError};
use crate::tasks::board::DeliveryId;
use crate::tasks::rabbit::ledger::{Given, Known};
use crate::tasks::rabbit::message::{Message, Receipt};
use crate::tasks::task::Reason;
use crate::trouble::Trouble;

/// Something that is under way with RabbitMQ.
pub(super) type Job = BoxFuture<'static, Result<Settled, Trouble>>;

pub(super) enum Settled {
    /// An acknowledgement of a task that is done has been sent.
    Done(DeliveryId),
    /// A task is in another queue now.
    PassedOn,
    Other,
}

impl Era<'_> {
    /// Somebody knows the task from its first coming.
    pub(super) fn recognise(&mut self, given: Given<Receipt>, known: Known) {
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
                let properties = given.message.put_off();
                self.pass_on(given, properties);
            }
        }
    }

    /// Puts a task where it comes from again later.
    pub(super) fn retry(&mut self, given: Given<Receipt>, attempts: u32) {
        let properties = given.message.retried(&given.id, attempts);
        self.pass_on(given, properties);
    }

    /// Puts a task behind all others in the queue: somebody elsewhere has room for it.
    pub(super) fn give_back(&mut self, given: Given<Receipt>) {
        let properties = given.message.retried(&given.id, given.message.attempts);
        let tasks = self.queue.names.tasks.clone();
        self.publish(&tasks, given.message.body, properties, given.receipt);
    }

    fn pass_on(&mut self, given: Given<Receipt>, properties: BasicProperties) {
        let milliseconds = self.queue.side.options.retry.as_millis().to_string();
        let properties = properties.with_expiration(milliseconds.as_str().into());
        let retry = self.queue.names.retry.clone();
        self.publish(&retry, given.message.body, properties, given.receipt);
    }

    /// Gives a task up.
    pub(super) fn bury(
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
        self.passing_on += 1;
        self.jobs.push(Box::pin(async move {
            queues
                .publish_once(message)
                .await
                .map_err(|error| lost(&error))?;
            receipt.acknowledge().await?;
            Ok(Settled::PassedOn)
        }));
    }
}

/// A task that could not be published comes again with the next connection.
fn lost(error: &PublishError) -> Trouble {
    Trouble::lost(error.to_string())
}
