//! The narrow waist between servers: bytes on named channels.
//!
//! What the bytes mean is written once, in the lifetime manager; a backplane only carries them. Any
//! implementation can prove itself with the tests in `tests/backplane_suite` of this crate.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::{Duration, Instant};

/// Joins servers into one.
///
/// A backplane belongs to one hub of one server. Its promises:
///
/// - [`publish`](Self::publish) reaches every server that has subscribed to the channel, **this one included**, and
///   all of them in one order per channel.
/// - While the other servers cannot be reached, `publish` still reaches this one, at once.
/// - [`subscribe`](Self::subscribe) and [`unsubscribe`](Self::unsubscribe) take effect in the order in which they
///   are *called*, not awaited.
pub trait Backplane: Send + Sync + 'static {
    /// Starts to deliver. Called once, within a tokio runtime, before anything else.
    fn start(&self, receiver: Arc<dyn Receiver>);

    /// Sends bytes to all subscribers of a channel; done when they are on their way.
    ///
    /// Tells how many servers they went to, this one included; `None` if the others cannot be reached. A backplane that
    /// does not count says 1. Nobody at all means that whoever was asked for does not exist.
    fn publish<'a>(&'a self, channel: &'a str, payload: Bytes) -> BoxFuture<'a, Option<u64>>;

    /// Receives the channel from now on; the future is done when nothing sent from then on can be missed.
    fn subscribe(&self, channel: &str) -> BoxFuture<'static, ()>;

    /// Receives the channel no longer. What is under way may still arrive.
    fn unsubscribe(&self, channel: &str);

    /// Agrees with all servers on the value of a key: the first proposal wins and is what everybody gets.
    ///
    /// The key is forgotten after `lifetime`, if there is one. `None` if the others cannot be asked now.
    fn agree<'a>(
        &'a self,
        key: &'a str,
        proposal: Bytes,
        lifetime: Option<Duration>,
    ) -> BoxFuture<'a, Option<Bytes>>;

    /// Whether the other servers can be reached, now and whenever that changes.
    fn status(&self) -> watch::Receiver<BackplaneStatus>;
}

/// Takes what a backplane brings.
pub trait Receiver: Send + Sync + 'static {
    /// Some server, maybe this one, published `payload` on a channel that this one subscribed to.
    ///
    /// Must not block, because whoever carries the messages calls it, and must not publish, for the same reason; it
    /// may subscribe and unsubscribe.
    fn receive(&self, channel: &str, payload: Bytes);
}

/// Whether the other servers can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackplaneStatus {
    /// It is not known yet; behaves like `Disconnected`.
    Connecting,
    /// They can.
    Connected,
    /// They cannot; only clients of this server get what is sent.
    Disconnected {
        /// What is wrong, for an operator. Names no secrets.
        reason: String,
    },
}

/// A backplane in memory: the endpoints that share it are servers of their own within one process.
///
/// For tests of programs that will run as several servers, and for one process that mounts the same hub at
/// several paths. An endpoint alone needs no backplane at all.
#[derive(Debug)]
pub struct LocalBackplane {
    bus: Arc<Mutex<Bus>>,
    /// Held while a message is handed out, so that all members see one order.
    order: Arc<Mutex<()>>,
    /// Which member of the bus this handle is, once started.
    member: usize,
    status: watch::Sender<BackplaneStatus>,
}

#[derive(Default)]
struct Bus {
    members: HashMap<usize, Arc<dyn Receiver>>,
    subscribers: HashMap<String, HashSet<usize>>,
    agreed: HashMap<String, (Bytes, Option<Instant>)>,
    handles: usize,
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Bus")
            .field("members", &self.members.len())
            .field("channels", &self.subscribers.len())
            .finish_non_exhaustive()
    }
}

impl LocalBackplane {
    /// A bus with one member; [`join`](Self::join) makes more.
    pub fn new() -> Self {
        Self {
            bus: Arc::default(),
            order: Arc::default(),
            member: 0,
            status: watch::Sender::new(BackplaneStatus::Connected),
        }
    }

    /// Another member of the same bus, for another endpoint.
    pub fn join(&self) -> Self {
        let mut bus = self.bus();
        bus.handles += 1;
        Self {
            bus: Arc::clone(&self.bus),
            order: Arc::clone(&self.order),
            member: bus.handles,
            status: self.status.clone(),
        }
    }

    fn bus(&self) -> MutexGuard<'_, Bus> {
        self.bus.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for LocalBackplane {
    fn default() -> Self {
        Self::new()
    }
}

impl Backplane for LocalBackplane {
    fn start(&self, receiver: Arc<dyn Receiver>) {
        self.bus().members.insert(self.member, receiver);
    }

    fn publish<'a>(&'a self, channel: &'a str, payload: Bytes) -> BoxFuture<'a, Option<u64>> {
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        // A receiver may subscribe, so the bus itself is free while it works.
        let members: Vec<Arc<dyn Receiver>> = {
            let bus = self.bus();
            let subscribers = bus.subscribers.get(channel).into_iter().flatten();
            let members = subscribers.filter_map(|member| bus.members.get(member));
            members.map(Arc::clone).collect()
        };
        for member in &members {
            member.receive(channel, payload.clone());
        }
        Box::pin(std::future::ready(Some(members.len() as u64)))
    }

    fn subscribe(&self, channel: &str) -> BoxFuture<'static, ()> {
        let mut bus = self.bus();
        let subscribers = bus.subscribers.entry(channel.to_owned()).or_default();
        subscribers.insert(self.member);
        Box::pin(std::future::ready(()))
    }

    fn unsubscribe(&self, channel: &str) {
        let mut bus = self.bus();
        if let Some(subscribers) = bus.subscribers.get_mut(channel) {
            subscribers.remove(&self.member);
            if subscribers.is_empty() {
                bus.subscribers.remove(channel);
            }
        }
    }

    fn agree<'a>(
        &'a self,
        key: &'a str,
        proposal: Bytes,
        lifetime: Option<Duration>,
    ) -> BoxFuture<'a, Option<Bytes>> {
        let now = Instant::now();
        let mut bus = self.bus();
        bus.agreed
            .retain(|_, (_, until)| until.is_none_or(|until| until > now));
        let until = lifetime.map(|lifetime| now + lifetime);
        let entry = bus.agreed.entry(key.to_owned());
        let (agreed, _) = entry.or_insert((proposal, until));
        Box::pin(std::future::ready(Some(agreed.clone())))
    }

    fn status(&self) -> watch::Receiver<BackplaneStatus> {
        self.status.subscribe()
    }
}
