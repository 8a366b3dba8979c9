//! One client, as the server sees it: its name, what waits to be written to it, where it belongs, how it ended.

use std::collections::HashSet;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Poll;
use std::time::SystemTime;

use futures_util::task::AtomicWaker;
use hubcast_protocol::{Encoding, HubMessage};
use tokio::time::{Duration, Instant};

use crate::call::Slots;
use crate::close_reason::CloseReason;
use crate::connecting::ConnectingRequest;
use crate::frame::{Broadcast, Frame};
use crate::items::ItemStore;
use crate::lifetime::Lifetime;
use crate::options::HubOptions;
use crate::outbox::{Full, Outbox};
use crate::sequence::Received;
use crate::transport::Transport;
use crate::users::AuthenticationExpiration;
use crate::writers::{Audience, Delivery};

/// A client that has a transport. Shared by the task that reads it, and by everybody who sends to it.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Where it takes part.
    pub(crate) lifetime: Arc<Lifetime>,
    /// Its public name; also its name on the backplane.
    pub(crate) id: Arc<str>,
    pub(crate) outbox: Outbox,
    /// What its messages are written in; agreed on in the handshake.
    encoding: OnceLock<Encoding>,
    /// What carries its bytes; fixed by the first request that does.
    transport: OnceLock<Transport>,
    /// The user that it belongs to, if that is known; never empty.
    pub(crate) user: Option<Arc<str>>,
    /// What it began with.
    pub(crate) request: ConnectingRequest,
    /// What the hub keeps with it.
    pub(crate) items: ItemStore,
    /// Set when nothing that the client says is heard any more, so that no answer is waited for.
    pub(crate) hung_up: AtomicBool,
    end: OnceLock<CloseReason>,
    ending: AtomicWaker,
    membership: Mutex<Membership>,
    /// What its plain calls take.
    pub(crate) slots: Slots,
    clock: Clock,
    /// Whether its negotiation allowed it to go on on another socket when it loses one.
    may_resume: bool,
    /// The counting of the client's messages, where both sides count.
    received: OnceLock<Box<Mutex<Received>>>,
}

/// The groups a connection is in, until it has left for good.
#[derive(Debug)]
enum Membership {
    Groups(HashSet<Arc<str>>),
    /// Nothing may be joined any more: an add that comes too late leaves no ghost.
    Left,
}

/// When a connection was last heard of and last pinged, in milliseconds after it began.
#[derive(Debug)]
struct Clock {
    start: Instant,
    /// Whether anything has been heard since the last tick; many messages need not look at the clock then.
    heard_since: AtomicBool,
    heard: AtomicU64,
    pinged: AtomicU64,
    /// Set by the client's first ping: it promised to go on.
    promised: AtomicBool,
    /// Set while the server itself does not read, which must not count as the client's silence.
    paused: AtomicBool,
    /// When the client's authentication ends; never, if nobody said.
    expires: AtomicU64,
}

impl Connection {
    pub(crate) fn new(id: Arc<str>, lifetime: &Arc<Lifetime>) -> Self {
        Self {
            lifetime: Arc::clone(lifetime),
            id,
            outbox: Outbox::new(lifetime.options.transport_max_buffer_size),
            encoding: OnceLock::new(),
            transport: OnceLock::new(),
            user: None,
            request: ConnectingRequest::default(),
            items: ItemStore::default(),
            hung_up: AtomicBool::new(false),
            end: OnceLock::new(),
            ending: AtomicWaker::new(),
            membership: Mutex::new(Membership::Groups(HashSet::new())),
            slots: Slots::default(),
            clock: Clock {
                start: Instant::now(),
                heard_since: AtomicBool::new(false),
                heard: AtomicU64::new(0),
                pinged: AtomicU64::new(0),
                promised: AtomicBool::new(false),
                paused: AtomicBool::new(false),
                expires: AtomicU64::new(u64::MAX),
            },
            may_resume: false,
            received: OnceLock::new(),
        }
    }

    /// One in a hub of its own.
    #[cfg(test)]
    pub(crate) fn alone(id: &str, options: &HubOptions) -> Self {
        Self::new(id.into(), &Lifetime::start(options.clone(), "Hub", None))
    }

    /// The same as one that may go on on another socket when it loses one, if its handshake says so, too.
    pub(crate) fn resumable(mut self) -> Self {
        self.may_resume = true;
        self
    }

    /// Notes the request that it begins with, and the user that this is of.
    pub(crate) fn begun_with(mut self, request: ConnectingRequest, user: Option<String>) -> Self {
        self.authenticated_until(request.extension());
        self.request = request;
        self.user = user.filter(|user| !user.is_empty()).map(Into::into);
        self
    }

    /// Notes when the authentication of its newest request ends, if that is known.
    pub(crate) fn authenticated_until(&self, expiration: Option<&AuthenticationExpiration>) {
        if let Some(AuthenticationExpiration(time)) = expiration {
            let left = time.duration_since(SystemTime::now()).unwrap_or_default();
            let left = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
            let expires = self.clock.now().saturating_add(left);
            self.clock.expires.store(expires, Ordering::Relaxed);
        }
    }

    /// Whether nothing that the client says is heard any more.
    pub(crate) fn has_hung_up(&self) -> bool {
        self.hung_up.load(Ordering::Relaxed)
    }

    /// Fixes what carries the connection; false if it is carried by something else already.
    pub(crate) fn carried_by(&self, transport: Transport) -> bool {
        *self.transport.get_or_init(|| transport) == transport
    }

    /// What carries the connection, once that is known.
    pub(crate) fn transport(&self) -> Option<Transport> {
        self.transport.get().copied()
    }

    /// Fixes what the connection's messages are written in.
    pub(crate) fn agree_on(&self, encoding: Encoding) {
        // Once: there is one handshake.
        let _ = self.encoding.set(encoding);
    }

    /// What the connection's messages are written in; JSON until that is agreed on, as in the handshake itself.
    pub(crate) fn encoding(&self) -> Encoding {
        self.encoding.get().copied().unwrap_or(Encoding::Json)
    }

    /// Fixes the version of the hub protocol: from 2 on both sides count, where that was negotiated.
    pub(crate) fn agree_on_version(&self, version: i32, options: &HubOptions) {
        if self.may_resume && version >= 2 && self.received.set(Box::default()).is_ok() {
            self.outbox
                .make_resumable(options.stateful_reconnect_buffer_size);
        }
    }

    fn received(&self) -> Option<MutexGuard<'_, Received>> {
        let received = self.received.get()?;
        Some(received.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether both sides count their messages.
    pub(crate) fn counts(&self) -> bool {
        self.received.get().is_some()
    }

    /// Counts a message of the client, where both sides count; false if the hub shall not see it. `Err` ends the
    /// connection.
    pub(crate) fn admits(&self, message: &HubMessage<'_>) -> Result<bool, CloseReason> {
        let Some(mut received) = self.received() else {
            return Ok(true);
        };
        match message {
            HubMessage::Invocation(_)
            | HubMessage::StreamItem(_)
            | HubMessage::Completion(_)
            | HubMessage::StreamInvocation(_)
            | HubMessage::CancelInvocation(_) => Ok(received.count()),
            HubMessage::Ack { sequence_id } => {
                self.outbox.acknowledge(*sequence_id);
                Ok(false)
            }
            HubMessage::Sequence { sequence_id } => received
                .go_on_from(*sequence_id)
                .map(|()| false)
                .map_err(|error| CloseReason::ProtocolError(error.to_owned())),
            HubMessage::Ping | HubMessage::Close(_) | HubMessage::Unknown { .. } => Ok(true),
        }
    }

    /// Whether the connection goes on when its socket is lost.
    pub(crate) fn is_resumable(&self) -> bool {
        self.counts() && self.end.get().is_none() && self.outbox.is_resumable()
    }

    /// The connection is about to end: it will have no other socket.
    pub(crate) fn forgo_resumption(&self) {
        if self.counts() {
            self.outbox.forgo_resumption();
        }
    }

    /// Goes on on another socket, which is told first where; false if the connection is over.
    pub(crate) fn attach(&self) -> bool {
        self.heard();
        let encoding = self.encoding();
        self.outbox.attach(|first| Frame::sequence(encoding, first))
    }

    /// Queues a message for one.
    pub(crate) fn deliver(self: &Arc<Self>, broadcast: &Broadcast) {
        Delivery::new(&self.lifetime.writers, broadcast).to(self);
    }

    /// Queues a message that others get, too; true if the connection must be [listed](crate::writers::Writers::list).
    pub(crate) fn enqueue(&self, broadcast: &Broadcast, audience: Audience) -> bool {
        if let Some(frame) = broadcast.frame(self.encoding()) {
            return self.push(frame.clone(), audience);
        }
        tracing::debug!(
            connection = &*self.id,
            "a message was not to be had in the encoding of a client"
        );
        false
    }

    /// Queues a message that the client did not ask for. A connection that has no room for it is ended.
    pub(crate) fn send(self: &Arc<Self>, frame: Frame) {
        if self.push(frame, Audience::Few) {
            let writers = &self.lifetime.writers;
            writers.list(Audience::Few, [Arc::clone(self)]);
        }
    }

    fn push(&self, frame: Frame, audience: Audience) -> bool {
        self.outbox.push(frame, audience).unwrap_or_else(|Full| {
            self.end(CloseReason::TooSlow);
            false
        })
    }

    /// Queues an answer to a call of the client, or an item of one.
    pub(crate) fn answer(&self, frame: Frame) {
        if self.outbox.push_answer(frame).is_err() {
            self.end(CloseReason::TooSlow);
        }
    }

    /// Ends the connection; only the first reason counts.
    pub(crate) fn end(&self, reason: CloseReason) {
        if self.end.set(reason).is_ok() {
            self.ending.wake();
        }
    }

    /// Waits until somebody ends the connection. Only one task may wait.
    pub(crate) async fn ended(&self) -> CloseReason {
        poll_fn(|context| {
            if let Some(reason) = self.end.get() {
                return Poll::Ready(reason.clone());
            }
            self.ending.register(context.waker());
            match self.end.get() {
                Some(reason) => Poll::Ready(reason.clone()),
                None => Poll::Pending,
            }
        })
        .await
    }

    /// Why the connection ended, if it has.
    pub(crate) fn end_reason(&self) -> Option<&CloseReason> {
        self.end.get()
    }

    fn membership(&self) -> MutexGuard<'_, Membership> {
        self.membership
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the connection is in a group; false if it is already, or has left for good.
    pub(crate) fn note_joined(&self, group: &Arc<str>) -> bool {
        match &mut *self.membership() {
            Membership::Groups(groups) => groups.insert(Arc::clone(group)),
            Membership::Left => false,
        }
    }

    /// Notes that the connection is no longer in a group; false if it was not.
    pub(crate) fn note_left(&self, group: &str) -> bool {
        match &mut *self.membership() {
            Membership::Groups(groups) => groups.remove(group),
            Membership::Left => false,
        }
    }

    /// Takes the connection out of every group for good; gives the groups it was in.
    pub(crate) fn leave_for_good(&self) -> HashSet<Arc<str>> {
        match std::mem::replace(&mut *self.membership(), Membership::Left) {
            Membership::Groups(groups) => groups,
            Membership::Left => HashSet::new(),
        }
    }

    /// Notes that a message of the client has arrived.
    pub(crate) fn heard(&self) {
        self.clock.heard_since.store(true, Ordering::Relaxed);
    }

    /// Notes that the client has pinged, so that from now on its silence means something.
    pub(crate) fn heard_ping(&self) {
        self.clock.promised.store(true, Ordering::Release);
    }

    /// Notes whether the server has stopped reading from the client.
    pub(crate) fn set_reading_paused(&self, paused: bool) {
        // Before the silence counts again: see `tick`.
        if !paused && self.clock.paused.load(Ordering::Relaxed) {
            self.heard();
        }
        self.clock.paused.store(paused, Ordering::Release);
    }

    /// Once a second: pings what has not been pinged for long, ends what has been silent or stuck for too long, or is no longer
    /// authenticated, and says how far the client's messages have come.
    ///
    /// Pings and silence are not for long polling, where every poll is a sign of life and what waits may wait for the next one.
    pub(crate) fn tick(self: &Arc<Self>, options: &HubOptions, pings: &mut Delivery<'_>) {
        let clock = &self.clock;
        let now = clock.now();
        // Looked at first: what makes silence count comes behind what was heard.
        let silence_counts =
            clock.promised.load(Ordering::Acquire) && !clock.paused.load(Ordering::Acquire);
        if clock.heard_since.swap(false, Ordering::Relaxed) {
            clock.heard.store(now, Ordering::Relaxed);
        }
        if options.close_on_authentication_expiration
            && now >= self.clock.expires.load(Ordering::Relaxed)
        {
            return self.end(CloseReason::AuthenticationExpired);
        }
        if self.transport() == Some(Transport::LongPolling) {
            return;
        }
        // Without a socket there is nobody to be heard or to be pinged.
        if self.counts() && self.outbox.is_detached() {
            return;
        }
        if self.outbox.stalled_for(Instant::now()) > options.transport_send_timeout {
            return self.end(CloseReason::TooSlow);
        }
        let since = |then: &AtomicU64| {
            Duration::from_millis(now.saturating_sub(then.load(Ordering::Relaxed)))
        };
        if silence_counts && since(&clock.heard) > options.client_timeout_interval {
            return self.end(CloseReason::ClientTimeout);
        }
        // Counted from the last ping, whatever else was sent since: that is what ASP.NET Core does.
        if since(&clock.pinged) >= options.keep_alive_interval {
            clock.pinged.store(now, Ordering::Relaxed);
            pings.to(self);
        }
        let ack = self.received().and_then(|mut received| received.ack_due());
        if let Some(sequence_id) = ack {
            self.send(Frame::ack(self.encoding(), sequence_id));
        }
    }
}

impl Clock {
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    /// After a long silence that was nobody's fault.
    #[test]
    fn whoever_begins_to_ping_is_not_ended_for_its_silence_before() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let _within = runtime.enter();
        let options = HubOptions {
            client_timeout_interval: Duration::from_millis(100),
            ..HubOptions::default()
        };
        let lifetime = Lifetime::start(options.clone(), "Hub", None);
        let ping = Broadcast::ping();
        let connections: Vec<_> = (0..5_000)
            .map(|number: u32| Arc::new(Connection::new(number.to_string().into(), &lifetime)))
            .collect();
        for connection in &connections {
            connection.set_reading_paused(true);
        }
        while connections
            .iter()
            .any(|connection| connection.clock.now() < 110)
        {
            std::thread::yield_now();
        }
        // Closer together than a `Barrier` lets them go.
        let arrived = AtomicUsize::new(0);
        let meet = |round: usize| {
            arrived.fetch_add(1, Ordering::SeqCst);
            while arrived.load(Ordering::SeqCst) < 2 * (round + 1) {
                std::hint::spin_loop();
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for (round, connection) in connections.iter().enumerate() {
                    meet(round);
                    (0..round % 64).for_each(|_| std::hint::spin_loop());
                    connection.heard();
                    connection.heard_ping();
                    connection.set_reading_paused(false);
                }
            });
            let mut pings = Delivery::new(&lifetime.writers, &ping);
            for (round, connection) in connections.iter().enumerate() {
                meet(round);
                connection.tick(&options, &mut pings);
            }
        });
        let ended = connections
            .iter()
            .filter(|connection| connection.end_reason().is_some());
        assert_eq!(ended.count(), 0);
    }
}
