//! Publishing, with a confirmation for every message.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::BoxFuture;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation, PublisherConfirm};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::backoff::Backoff;
use crate::link::Link;
use crate::name::short;
use crate::trouble::{Refusal, Trouble, describe, is_not_found, is_refusal};
use crate::{CHECK, while_connected};

/// How many messages wait for a confirmation at most, and how many more for being sent.
const UNCONFIRMED: usize = 256;
const WAITING: usize = 64;

/// How many messages that must reach a queue are under way at once.
const LANES: usize = 8;

/// RabbitMQ's delivery mode of messages that survive its restart, in queues that do.
const PERSISTENT: u8 = 2;

/// A message to publish.
#[derive(Debug, Clone)]
pub struct Message {
    exchange: String,
    routing_key: String,
    payload: Vec<u8>,
    properties: BasicProperties,
}

impl Message {
    /// A persistent message. The exchange without a name (`""`) hands it to the queue whose name is the routing key; a fanout exchange ignores the routing key.
    pub fn new(
        exchange: impl Into<String>,
        routing_key: impl Into<String>,
        payload: impl Into<Vec<u8>>,
    ) -> Self {
        Self {
            exchange: exchange.into(),
            routing_key: routing_key.into(),
            payload: payload.into(),
            properties: BasicProperties::default().with_delivery_mode(PERSISTENT),
        }
    }

    /// Other properties, such as headers. Unless they say how the message is to be kept, it is persistent.
    pub fn properties(mut self, properties: BasicProperties) -> Self {
        self.properties = match properties.delivery_mode() {
            Some(_) => properties,
            None => properties.with_delivery_mode(PERSISTENT),
        };
        self
    }
}

/// Why a message is not published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// RabbitMQ does not take it, or closed the channel over what was published: such an exchange does not exist, though everything was declared, or this user may
    /// not publish there, or the message is too big.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No queue got it; only with [`Publisher::mandatory`].
    #[error("no queue has taken the message: {0}")]
    Returned(String),
    /// The connection was lost before a confirmation: it may have been published or not. Only of [`Publisher::publish_once`], or when the publisher
    /// is dropped.
    #[error("the connection was lost before RabbitMQ confirmed the message: {0}")]
    Lost(String),
}

/// What has to be there to publish to, declared anew on each channel.
type Declare = Box<dyn Fn(Channel) -> BoxFuture<'static, Result<(), Trouble>> + Send + Sync>;

/// Publishes messages for as many tasks as like to, over a channel of its own. When it is dropped, what is not confirmed is given up.
pub struct Publisher {
    lanes: Vec<mpsc::Sender<Entry>>,
    next: AtomicUsize,
    tasks: Vec<AbortHandle>,
}

/// A confirmation that is to come.
#[derive(Debug)]
pub struct Confirming(oneshot::Receiver<Result<(), PublishError>>);

impl Confirming {
    /// Waits until RabbitMQ has confirmed the message: the queues that got it have it on disk if they are durable.
    pub async fn confirmed(self) -> Result<(), PublishError> {
        let answer = self.0.await;
        answer.unwrap_or_else(|_| Err(PublishError::Lost("the publisher has ended".to_owned())))
    }
}

struct Entry {
    message: Message,
    /// Whether it is sent again on the next channel if this one is lost before a confirmation.
    again: bool,
    answer: oneshot::Sender<Result<(), PublishError>>,
}

impl Entry {
    fn answer(self, answer: Result<(), PublishError>) {
        // Whoever asked may have gone.
        let _ = self.answer.send(answer);
    }
}

impl Publisher {
    /// For messages whose receivers are nobody's business, as with a fanout exchange: confirmed even if there is no queue for them. They are sent in the order of the
    /// calls, and up to 256 are under way at once.
    ///
    /// `declare` runs first on every channel. When somebody has deleted what it declares, it runs once more, and what is not confirmed is sent again.
    pub fn new<F>(link: &Link, declare: impl Fn(Channel) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), Trouble>> + Send + 'static,
    {
        let declare: Declare = Box::new(move |channel| Box::pin(declare(channel)));
        let (lane, entries) = mpsc::channel(WAITING);
        let task = tokio::spawn(publish_all(
            link.clone(),
            declare,
            entries,
            UNCONFIRMED,
            false,
        ));
        Self {
            lanes: vec![lane],
            next: AtomicUsize::new(0),
            tasks: vec![task.abort_handle()],
        }
    }

    /// For messages that must reach a queue: one that reaches none is [`PublishError::Returned`]. In no particular order.
    ///
    /// Eight channels with one message each: confirmations of several messages come at once, and nothing would tell of which of them a message was that came back.
    pub fn mandatory(link: &Link) -> Self {
        let mut publisher = Self {
            lanes: Vec::with_capacity(LANES),
            next: AtomicUsize::new(0),
            tasks: Vec::with_capacity(LANES),
        };
        for _ in 0..LANES {
            let declare: Declare = Box::new(|_| Box::pin(async { Ok(()) }));
            let (lane, entries) = mpsc::channel(WAITING);
            let task = tokio::spawn(publish_all(link.clone(), declare, entries, 1, true));
            publisher.lanes.push(lane);
            publisher.tasks.push(task.abort_handle());
        }
        publisher
    }

    /// Publishes a message, and returns once it is confirmed. While RabbitMQ is away this waits; what a lost connection left unconfirmed is sent again, so it may arrive twice.
    pub async fn publish(&self, message: Message) -> Result<(), PublishError> {
        self.begin(message).await.confirmed().await
    }

    /// The same, but fails when the connection is lost before a confirmation: for what comes again by itself, such as a message that is passed on and
    /// acknowledged only afterwards.
    pub async fn publish_once(&self, message: Message) -> Result<(), PublishError> {
        self.enqueue(message, false).await.confirmed().await
    }

    /// The first half of [`Self::publish`]: returns when the message has its place among those that are sent, behind those that came before it.
    pub async fn begin(&self, message: Message) -> Confirming {
        self.enqueue(message, true).await
    }

    async fn enqueue(&self, message: Message, again: bool) -> Confirming {
        let (answer, answered) = oneshot::channel();
        let entry = Entry {
            message,
            again,
            answer,
        };
        let next = self.next.fetch_add(1, Ordering::Relaxed) % self.lanes.len().max(1);
        if let Some(lane) = self.lanes.get(next) {
            // Fails only while a runtime ends; then the answer is dropped with the entry, which is one.
            let _ = lane.send(entry).await;
        }
        Confirming(answered)
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Publisher").finish_non_exhaustive()
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Sends what comes, on one channel after another.
async fn publish_all(
    link: Link,
    declare: Declare,
    mut entries: mpsc::Receiver<Entry>,
    unconfirmed: usize,
    mandatory: bool,
) {
    let mut backoff = Backoff::new();
    // What has to be sent first, since it was before.
    let mut left = VecDeque::new();
    let mut is_missing = false;
    loop {
        if left.is_empty() {
            match entries.recv().await {
                Some(entry) => left.push_back(entry),
                None => return,
            }
        }
        let began = Instant::now();
        let mut lane = Lane {
            channel: link.channel().await,
            mandatory,
            unconfirmed,
            under_way: VecDeque::new(),
            is_missing,
        };
        let Err(trouble) = lane.serve(&declare, &mut left, &mut entries).await else {
            return;
        };
        is_missing = lane.is_missing;
        lane.settle(trouble, &mut left);
        backoff.rest(began.elapsed()).await;
    }
}

/// One channel that publishes.
struct Lane {
    channel: Channel,
    mandatory: bool,
    unconfirmed: usize,
    /// In the order in which they were sent.
    under_way: VecDeque<(Entry, PublisherConfirm)>,
    /// Whether RabbitMQ has said that there is no such exchange, and confirmed nothing since.
    is_missing: bool,
}

impl Lane {
    /// Sends what is left over, then what comes, until the channel is lost, or nothing more can come.
    async fn serve(
        &mut self,
        declare: &Declare,
        left: &mut VecDeque<Entry>,
        entries: &mut mpsc::Receiver<Entry>,
    ) -> Result<(), Trouble> {
        let options = ConfirmSelectOptions::default();
        let selecting = self.channel.confirm_select(options);
        while_connected(&self.channel, selecting).await??;
        while_connected(&self.channel, declare(self.channel.clone())).await??;
        // Whether the channel is there: a lane that waited on for what cannot come would be one less for good.
        let mut check = interval(CHECK);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_over = false;
        while !(is_over && left.is_empty() && self.under_way.is_empty()) {
            let has_room = self.under_way.len() < self.unconfirmed;
            if has_room && !left.is_empty() {
                self.send_first(left).await?;
                continue;
            }
            let first = self.under_way.front_mut();
            let confirmed = async {
                match first {
                    Some((_, confirm)) => confirm.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                confirmed = confirmed => self.confirmed(confirmed)?,
                entry = entries.recv(), if has_room && !is_over => match entry {
                    Some(entry) => left.push_back(entry),
                    None => is_over = true,
                },
                _ = check.tick() => self.is_there()?,
            }
        }
        Ok(())
    }

    fn is_there(&self) -> Result<(), Trouble> {
        if self.channel.status().connected() {
            Ok(())
        } else {
            Err(Trouble::lost("the channel is closed"))
        }
    }

    /// Sends the first of those that are left. It stays there if it cannot have been sent.
    async fn send_first(&mut self, left: &mut VecDeque<Entry>) -> Result<(), Trouble> {
        self.is_there()?;
        let Some(entry) = left.pop_front() else {
            return Ok(());
        };
        if entry.answer.is_closed() {
            return Ok(());
        }
        let message = &entry.message;
        let names = short(&message.exchange).zip(short(&message.routing_key));
        let Some((exchange, routing_key)) = names else {
            let text = "the name of an exchange or a queue has more than 255 bytes".to_owned();
            entry.answer(Err(Refusal(text).into()));
            return Ok(());
        };
        let options = BasicPublishOptions {
            mandatory: self.mandatory,
            ..BasicPublishOptions::default()
        };
        let sent = self.channel.basic_publish(
            exchange,
            routing_key,
            options,
            &message.payload,
            message.properties.clone(),
        );
        let sent = while_connected(&self.channel, sent).await;
        match sent.and_then(|sent| sent.map_err(|error| self.trouble(&error))) {
            Ok(confirm) => {
                self.under_way.push_back((entry, confirm));
                Ok(())
            }
            Err(trouble) => {
                if let Some(entry) = again_or_answered(entry, &trouble) {
                    left.push_front(entry);
                }
                Err(trouble)
            }
        }
    }

    /// The first of those under way has its answer.
    fn confirmed(&mut self, confirmed: lapin::Result<Confirmation>) -> Result<(), Trouble> {
        let confirmed = confirmed.map_err(|error| self.trouble(&error))?;
        self.is_missing = false;
        let answer = match confirmed {
            Confirmation::Ack(None) => Ok(()),
            Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned)) => {
                Err(PublishError::Returned(returned.reply_text.to_string()))
            }
            Confirmation::Nack(None) => {
                let text = "RabbitMQ has not taken the message (nack)".to_owned();
                Err(PublishError::Refused(Refusal(text)))
            }
            Confirmation::NotRequested => {
                return Err(Trouble::lost("this channel confirms nothing"));
            }
        };
        if let Some((entry, _)) = self.under_way.pop_front() {
            entry.answer(answer);
        }
        Ok(())
    }

    /// What an error of the channel means. An exchange that is not there was deleted after it was declared, so it is declared once more; if it is not there then either, nobody has
    /// declared it.
    fn trouble(&mut self, error: &lapin::Error) -> Trouble {
        let reason = describe(error);
        if !is_refusal(error) {
            return Trouble::Lost(reason);
        }
        if is_not_found(error) && !mem::replace(&mut self.is_missing, true) {
            return Trouble::Lost(reason);
        }
        Trouble::Refused(Refusal(format!("publishing: {reason}")))
    }

    /// The channel is gone: what was under way is sent again, in its order and before what has not been sent, or told so.
    fn settle(self, trouble: Trouble, left: &mut VecDeque<Entry>) {
        let under_way = self.under_way.into_iter();
        let mut again: VecDeque<_> = under_way
            .filter_map(|(entry, _)| again_or_answered(entry, &trouble))
            .collect();
        if let Trouble::Refused(refusal) = trouble {
            for entry in left.drain(..) {
                entry.answer(Err(refusal.clone().into()));
            }
        }
        again.append(left);
        *left = again;
    }
}

/// A message that was sent, or may have been, and whose channel is gone: it is given back if it is to be sent again.
fn again_or_answered(entry: Entry, trouble: &Trouble) -> Option<Entry> {
    let error = match trouble {
        Trouble::Lost(_) if entry.again => return Some(entry),
        Trouble::Lost(reason) => PublishError::Lost(reason.clone()),
        // Over which message RabbitMQ closed the channel cannot be told; sent again, it would be closed again.
        Trouble::Refused(refusal) => refusal.clone().into(),
    };
    entry.answer(Err(error));
    None
}
