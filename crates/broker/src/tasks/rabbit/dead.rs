//! The tasks that were given up: looking at them, and giving them another chance.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::link::{Link, LinkStatus};
use crate::name::TaskQueue;
use crate::publisher::{self, PublishError, Publisher};
use crate::trouble::{Refusal, Trouble};
use crate::while_connected;

use super::message::{Message, Receipt};
use super::names::{Names, state};
use crate::tasks::status::{DeadTask, Retried};

/// How long nothing comes when there is nothing more: what somebody else is looking at does not come.
const QUIET: Duration = Duration::from_secs(2);

/// How many tasks are on their way back at once.
const AT_ONCE: u16 = 32;

/// How long RabbitMQ may take to answer what was begun in time, such as while it takes no messages.
const ANSWERING: Duration = Duration::from_secs(3);

/// How long it may take to answer that nobody looks any more.
const CLOSING: Duration = Duration::from_secs(1);

/// The queue of tasks that were given up.
///
/// What one looks at is hidden from others meanwhile: AMQP knows no other way to look into a queue. So of several who look at once some see less than there is.
#[derive(Debug)]
pub struct DeadTasks {
    link: Link,
    /// What is published goes this way.
    publishing: Link,
    names: Names,
}

/// Something on its way back.
type Back = BoxFuture<'static, Result<(), Trouble>>;

impl DeadTasks {
    /// Those of a queue of tasks.
    pub fn new(link: Link, queue: &TaskQueue) -> Self {
        Self::of(link.clone(), link, Names::new(queue))
    }

    pub(super) fn of(link: Link, publishing: Link, names: Names) -> Self {
        Self {
            link,
            publishing,
            names,
        }
    }

    /// Those that were given up first, so many at most. They stay where they are.
    pub async fn list(&self, most: usize) -> Result<Vec<DeadTask>, Trouble> {
        let ahead = u16::try_from(most.max(1)).unwrap_or(u16::MAX);
        let mut look = Look::begin(&self.link, &self.names.dead, ahead).await?;
        let mut dead = Vec::new();
        while dead.len() < most
            && let Some((message, _)) = look.next().await?
        {
            dead.push(message.as_dead());
        }
        look.end().await?;
        Ok(dead)
    }

    /// Puts tasks back into the queue as if they were new: one of this id, which is looked for among the first 65,535, or all. Those that are given up meanwhile stay. Begins nothing more after this time,
    /// or when one cannot be put back, and says what is left then; that RabbitMQ does not answer is known four seconds later. Fails only if nothing was put back.
    ///
    /// A task may be in both queues, if the connection is lost in between, or RabbitMQ does not answer, or this is dropped.
    pub async fn retry(&self, id: Option<&str>, time: Duration) -> Result<Retried, Trouble> {
        let until = Instant::now() + time;
        let late = until + ANSWERING;
        // Of what is passed over none may be acknowledged, so all of it is ahead.
        let ahead = if id.is_some() { u16::MAX } else { AT_ONCE };
        let beginning = Look::begin(&self.link, &self.names.dead, ahead);
        let unanswered = |_| Trouble::lost("there was no answer in time");
        let mut look = timeout_at(late, beginning).await.map_err(unanswered)??;
        let publisher = Arc::new(Publisher::mandatory(&self.publishing));
        let mut under_way = FuturesUnordered::<Back>::new();
        let (mut begun, mut retried) = (0, 0);
        let mut trouble = None;
        let mut is_over = false;
        while !is_over || !under_way.is_empty() {
            let has_room = under_way.len() < usize::from(AT_ONCE);
            let step = tokio::select! {
                biased;
                Some(back) = under_way.next() => back.map(|()| retried += 1),
                () = sleep_until(late) => {
                    trouble.get_or_insert(self.late(under_way.len()));
                    break;
                }
                found = look.next(), if !is_over && has_room => found.map(|found| match found {
                    Some((message, receipt)) => {
                        if id.is_none_or(|id| message.id.as_deref() == Some(id)) {
                            under_way.push(self.put_back(&publisher, message, receipt));
                            begun += 1;
                            is_over = id.is_some();
                        }
                        is_over |= until <= Instant::now();
                    }
                    None => is_over = true,
                }),
            };
            // The others may be in the queue already, and are to be so only there.
            if let Err(error) = step {
                trouble.get_or_insert(error);
                is_over = true;
            }
        }
        let is_found = id.is_some() && retried > 0;
        let not_back = begun - retried;
        let left = if is_found { 0 } else { look.left + not_back };
        // What was passed over goes back, and all that was acknowledged has arrived when this has been answered.
        let ended = timeout_at(late + CLOSING, look.end()).await;
        if let Err(error) = ended.map_err(unanswered).flatten() {
            trouble.get_or_insert(error);
        }
        match trouble {
            Some(trouble) if retried == 0 => Err(trouble),
            _ => Ok(Retried { retried, left }),
        }
    }

    /// So many were published, or about to be, and RabbitMQ has not answered.
    fn late(&self, unanswered: usize) -> Trouble {
        let why = match &*self.publishing.status().borrow() {
            LinkStatus::Blocked { reason } => format!("no messages are taken ({reason})"),
            _ => "there was no answer in time".to_owned(),
        };
        let Names { tasks, dead, .. } = &self.names;
        Trouble::Lost(format!(
            "{why}; up to {unanswered} tasks may be both in '{tasks}' and in '{dead}'"
        ))
    }

    fn put_back(&self, publisher: &Arc<Publisher>, message: Message, receipt: Receipt) -> Back {
        let tasks = self.names.tasks.clone();
        let properties = message.forgiven();
        let message = publisher::Message::new("", tasks.as_str(), message.body);
        let message = message.properties(properties);
        let publisher = Arc::clone(publisher);
        Box::pin(async move {
            let outcome = publisher.publish_once(message).await;
            outcome.map_err(|error| match error {
                PublishError::Lost(reason) => Trouble::Lost(reason),
                PublishError::Refused(refusal) => refusal.into(),
                PublishError::Returned(_) => Refusal(format!("'{tasks}': {error}")).into(),
            })?;
            receipt.acknowledge().await
        })
    }
}

/// A look into a queue. What is not acknowledged goes back when it ends.
struct Look {
    channel: Channel,
    consumer: Consumer,
    /// How many of those that were there when it began have not been looked at.
    left: u64,
    /// Whether nothing more comes.
    is_over: bool,
}

impl Look {
    /// `ahead` is how many may be here without being acknowledged.
    async fn begin(link: &Link, queue: &ShortString, ahead: u16) -> Result<Self, Trouble> {
        let channel = link.channel().await;
        let beginning = async {
            let left = state(&channel, queue).await?;
            let left = left.ok_or_else(|| Refusal(format!("there is no queue '{queue}'")))?;
            let options = BasicQosOptions::default();
            channel.basic_qos(ahead, options).await?;
            let asked = Trouble::asking(format!("looking into the queue '{queue}'"));
            let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
            let consumer = channel.basic_consume(queue.clone(), "".into(), options, none);
            Ok::<_, Trouble>((consumer.await.map_err(asked)?, left))
        };
        let (consumer, left) = while_connected(&channel, beginning).await??;
        Ok(Self {
            channel,
            consumer,
            left,
            is_over: left == 0,
        })
    }

    /// The next one, if there is one that nobody else is looking at.
    async fn next(&mut self) -> Result<Option<(Message, Receipt)>, Trouble> {
        if self.is_over {
            return Ok(None);
        }
        let coming = while_connected(&self.channel, self.consumer.next());
        let Ok(came) = timeout(QUIET, coming).await else {
            self.is_over = true;
            return Ok(None);
        };
        let came = came?.ok_or_else(|| Trouble::lost("the queue was deleted"))??;
        self.left = self.left.saturating_sub(1);
        self.is_over = self.left == 0;
        Ok(Some(Message::new(came)))
    }

    async fn end(self) -> Result<(), Trouble> {
        let closing = self.channel.close(200, "OK".into());
        while_connected(&self.channel, closing).await??;
        Ok(())
    }
}
