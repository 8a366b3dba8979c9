//! What becomes of a task: it is acknowledged, or published elsewhere and then acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use lapin::BasicProperties;
use lapin::types::ShortString;
use tokio::time::{sleep, timeout_at};

use super::Era;
use crate::publisher::{self, PublishError, Publisher};
use crate::tasks::board::DeliveryId;
use crate::tasks::rabbit::ledger::{Given, Known};
use crate::tasks::rabbit::message::{Message, Receipt};
use crate::tasks::task::Reason;
use crate::trouble::Trouble;

/// How soon a queue that does not take a task, such as a full one, is tried again.
const REFUSED: Duration = Duration::from_secs(5);

/// Something that is under way with RabbitMQ.
pub(super) type Job = BoxFuture<'static, Result<Settled, Trouble>>;

pub(super) enum Settled {
    /// An acknowledgement of a task that is done has been sent.
    Done(DeliveryId),
    /// A task is in another queue now.
    PassedOn,
    /// The tasks that were given up have been looked at.
    Looked,
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

    /// Puts a task behind all others in the queue: somebody elsewhere has room for it. Where it comes from again later, if the queue is full.
    pub(super) fn give_back(&mut self, given: Given<Receipt>) {
        let properties = given.message.retried(&given.id, given.message.attempts);
        let body = given.message.body;
        let later = self.later(body.clone(), properties.clone());
        let now = to(&self.queue.names.tasks, body, properties);
        self.publish(given.receipt, now, Some(later));
    }

    fn pass_on(&mut self, given: Given<Receipt>, properties: BasicProperties) {
        let later = self.later(given.message.body, properties);
        self.publish(given.receipt, later, None);
    }

    /// To where it comes from again later.
    fn later(&self, body: Vec<u8>, properties: BasicProperties) -> publisher::Message {
        let milliseconds = self.queue.side.options.retry.as_millis().to_string();
        let properties = properties.with_expiration(milliseconds.as_str().into());
        to(&self.queue.names.retry, body, properties)
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
        let dead = to(&self.queue.names.dead, message.body.clone(), properties);
        self.publish(receipt, dead, None);
    }

    /// Publishes a task to another queue, or to a second one if that does not take it, and acknowledges it when that is confirmed. Without an acknowledgement to
    /// give RabbitMQ has it still, and delivers it again by itself.
    fn publish(
        &mut self,
        receipt: Option<Receipt>,
        message: publisher::Message,
        or: Option<publisher::Message>,
    ) {
        let Some(receipt) = receipt else {
            return;
        };
        let queues = Arc::clone(&self.queue.publisher);
        let refused = Arc::clone(&self.refused);
        self.passing_on += 1;
        self.jobs.push(Box::pin(async move {
            let publishing = publish(&queues, message, or, refused);
            match timeout_at(receipt.overdue(), publishing).await {
                Ok(published) => {
                    published.map_err(|error| lost(&error))?;
                    receipt.acknowledge().await?;
                }
                // RabbitMQ would end the channel over it. It comes again at once.
                Err(_) => receipt.hand_back().await?,
            }
            Ok(Settled::PassedOn)
        }));
    }
}

/// Publishes a task to a queue, or to a second one if that does not take it, and tries again for as long as neither does.
async fn publish(
    queues: &Publisher,
    message: publisher::Message,
    or: Option<publisher::Message>,
    refused: Arc<AtomicU32>,
) -> Result<(), PublishError> {
    let mut published = queues.publish_once(message.clone()).await;
    if let (Err(PublishError::Refused(_)), Some(or)) = (&published, or) {
        published = queues.publish_once(or).await;
    }
    let _counted;
    if let Err(PublishError::Refused(refusal)) = &published {
        tracing::warn!(reason = %refusal, "a queue does not take a task, which is tried again until it does");
        _counted = Counted::new(refused);
    }
    while let Err(PublishError::Refused(_)) = published {
        sleep(REFUSED).await;
        published = queues.publish_once(message.clone()).await;
    }
    published
}

/// A message for a queue.
fn to(queue: &ShortString, body: Vec<u8>, properties: BasicProperties) -> publisher::Message {
    publisher::Message::new("", queue.as_str(), body).properties(properties)
}

/// One more for as long as it exists.
struct Counted(Arc<AtomicU32>);

impl Counted {
    fn new(count: Arc<AtomicU32>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A task that could not be published comes again with the next connection.
fn lost(error: &PublishError) -> Trouble {
    Trouble::lost(error.to_string())
}
