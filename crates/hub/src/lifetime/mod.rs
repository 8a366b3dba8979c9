//! The lifetime manager: every connection on every server. Who is here, and who gets a message.
//!
//! Alone, a server hands messages to its connections directly. With a [`Backplane`] everything but messages to
//! a connection of its own goes through that and comes back, so that a room has one order on all servers.
//! The layout is that of ASP.NET Core's Redis backplane: channels in [`channels`], payloads in [`envelope`].

mod channels;
mod commands;
mod envelope;
mod groups;
mod invoke;
mod results;
mod table;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt, join, ready};
use hubcast_protocol::Encoding;
use tokio::sync::{oneshot, watch};
use tokio::task::coop::consume_budget;
use tokio::time::Duration;

use crate::backplane::{Backplane, Receiver};
use crate::close_reason::CloseReason;
use crate::connection::Connection;
use crate::error::GroupError;
use crate::frame::Broadcast;
use crate::options::HubOptions;
use crate::random;
use crate::writers::{Delivery, Writers};
use channels::{Channel, Channels};
use envelope::{GroupAction, Malformed};
use groups::GroupTable;
use results::Results;
pub(crate) use results::new_invocation_id;
use table::ConnectionTable;

/// How long [`Groups`](crate::Groups) waits for another server to say that it has done as asked. 30 s, as in
/// ASP.NET Core.
pub const ACK_TIMEOUT: Duration = Duration::from_secs(30);

/// How many receivers cost whoever sends as much of its task's turn on the processor as one message of a client does.
const RECEIVERS_PER_UNIT: usize = 64;

/// Whom a message is for. Exceptions apply to everybody, to groups and to users; servers of ASP.NET Core do not know the
/// latter.
#[derive(Debug, Clone, Copy)]
pub(crate) enum To<'a> {
    All,
    Connection(&'a str),
    Group(&'a str),
    User(&'a str),
}

/// All connections of one hub, here and, through the backplane, elsewhere.
pub(crate) struct Lifetime {
    pub(crate) options: HubOptions,
    connections: Mutex<ConnectionTable>,
    groups: GroupTable,
    /// The connections of each user.
    users: GroupTable,
    results: Results,
    pub(crate) writers: Writers,
    /// How many connections here read MessagePack.
    messagepack_readers: AtomicUsize,
    /// Set when the server goes away; from then on whatever connects is ended at once.
    shutting_down: watch::Sender<bool>,
    remote: Option<Remote>,
}

/// The other servers.
struct Remote {
    backplane: Arc<dyn Backplane>,
    channels: Channels,
    server_name: String,
    next_command: AtomicI32,
    /// Group commands sent and not acknowledged.
    awaited_acks: Mutex<HashMap<i32, oneshot::Sender<()>>>,
}

impl std::fmt::Debug for Lifetime {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Lifetime")
            .field("connections", &self.connections().len())
            .finish_non_exhaustive()
    }
}

impl Lifetime {
    /// Starts the backplane, if there is one. Must run within a tokio runtime.
    pub(crate) fn start(
        options: HubOptions,
        hub_name: &str,
        backplane: Option<Arc<dyn Backplane>>,
    ) -> Arc<Self> {
        let lifetime = Arc::new(Self {
            options,
            connections: Mutex::default(),
            groups: GroupTable::default(),
            users: GroupTable::default(),
            results: Results::default(),
            writers: Writers::new(),
            messagepack_readers: AtomicUsize::new(0),
            shutting_down: watch::Sender::new(false),
            remote: backplane.map(|backplane| {
                let server_name = server_name();
                Remote {
                    channels: Channels::new(hub_name, &server_name),
                    backplane,
                    server_name,
                    next_command: AtomicI32::new(1),
                    awaited_acks: Mutex::default(),
                }
            }),
        });
        if let Some(remote) = &lifetime.remote {
            let inbound = Inbound(Arc::downgrade(&lifetime));
            remote.backplane.start(Arc::new(inbound));
            // In effect before any connection's own channel is, whose confirmation is waited for.
            let channels = &remote.channels;
            for channel in [
                channels.all(),
                channels.group_commands(),
                channels.acks(),
                channels.results(),
            ] {
                drop(remote.backplane.subscribe(&channel));
            }
        }
        lifetime
    }

    pub(crate) fn backplane(&self) -> Option<&Arc<dyn Backplane>> {
        self.remote.as_ref().map(|remote| &remote.backplane)
    }

    fn connections(&self) -> MutexGuard<'_, ConnectionTable> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection of that id, if it is on this server.
    pub(crate) fn find(&self, id: &str) -> Option<Arc<Connection>> {
        self.connections().get(id).map(Arc::clone)
    }

    pub(crate) fn connection_count(&self) -> usize {
        self.connections().len()
    }

    /// Does something with every connection on this server.
    pub(crate) fn for_each(&self, mut act: impl FnMut(&Arc<Connection>)) {
        self.connections().iter().for_each(&mut act);
    }

    /// Whether a message must be written in an encoding, because somebody may read it.
    pub(crate) fn writes(&self, encoding: Encoding) -> bool {
        match encoding {
            _ if self.remote.is_some() => self.options.supports(encoding),
            Encoding::Json => true,
            Encoding::MessagePack => self.messagepack_readers.load(Ordering::Relaxed) > 0,
        }
    }

    /// From now on the connection gets messages. Done when none sent from then on can be missed.
    pub(crate) fn connect(&self, connection: &Arc<Connection>) -> BoxFuture<'static, ()> {
        if connection.encoding() == Encoding::MessagePack {
            self.messagepack_readers.fetch_add(1, Ordering::Relaxed);
        }
        self.connections().insert(Arc::clone(connection));
        // Not missed: whoever set it since has found the connection in the table.
        if *self.shutting_down.borrow() {
            connection.end(CloseReason::ServerShutdown);
        }
        let own = match &self.remote {
            Some(remote) => remote
                .backplane
                .subscribe(&remote.channels.connection(&connection.id)),
            None => ready(()).boxed(),
        };
        let Some(user) = &connection.user else {
            return own;
        };
        let mut subscribed = None;
        // Asked for by every connection of the user: the first one's subscription may still be under way.
        self.users.enter(user, connection, || {
            if let Some(remote) = &self.remote {
                let channel = remote.channels.user(user);
                subscribed = Some(remote.backplane.subscribe(&channel));
            }
        });
        let users = subscribed.unwrap_or_else(|| ready(()).boxed());
        join(own, users).map(|_| ()).boxed()
    }

    /// The connection is gone: it leaves everything, for good.
    pub(crate) fn disconnect(&self, connection: &Connection) {
        let removed = self.connections().remove(&connection.id);
        if removed && connection.encoding() == Encoding::MessagePack {
            self.messagepack_readers.fetch_sub(1, Ordering::Relaxed);
        }
        self.hang_up(connection);
        self.groups
            .remove_for_good(connection, |group| self.unsubscribe_group(group));
        if let Some(user) = &connection.user {
            self.users.leave(user, connection, || {
                if let Some(remote) = &self.remote {
                    remote.backplane.unsubscribe(&remote.channels.user(user));
                }
            });
        }
        if let Some(remote) = &self.remote {
            let channel = remote.channels.connection(&connection.id);
            remote.backplane.unsubscribe(&channel);
        }
    }

    fn unsubscribe_group(&self, group: &str) {
        if let Some(remote) = &self.remote {
            remote.backplane.unsubscribe(&remote.channels.group(group));
        }
    }

    /// Sends a message to clients, wherever they are.
    pub(crate) async fn send(&self, to: To<'_>, except: &HashSet<String>, message: &Broadcast) {
        if let To::Connection(id) = to
            && let Some(connection) = self.find(id)
        {
            return connection.deliver(message);
        }
        let Some(remote) = &self.remote else {
            let reached = self.deliver(to, except, message);
            // Handing out never waits, so the runtime would not notice how long it takes. The message has its place already, and what the
            // sender does next comes behind it.
            for _ in 0..reached / RECEIVERS_PER_UNIT {
                consume_budget().await;
            }
            return;
        };
        let (channel, except) = match to {
            To::All => (remote.channels.all(), Some(except)),
            To::Group(group) => (remote.channels.group(group), Some(except)),
            To::User(user) => (remote.channels.user(user), Some(except)),
            To::Connection(id) => (remote.channels.connection(id), None),
        };
        let none = HashSet::new();
        let payload = envelope::write_message(except.unwrap_or(&none), message, None);
        remote.backplane.publish(&channel, payload).await;
    }

    /// Hands a message to the connections on this server; gives how many there were.
    fn deliver(&self, to: To<'_>, except: &HashSet<String>, message: &Broadcast) -> usize {
        let mut delivery = Delivery::new(&self.writers, message);
        match to {
            // Under the lock, so that everybody sees one order.
            To::All => self.connections().deliver(except, &mut delivery),
            To::Group(group) => self.groups.deliver(group, except, &mut delivery),
            To::User(user) => self.users.deliver(user, except, &mut delivery),
            To::Connection(id) => {
                if let Some(connection) = self.find(id) {
                    delivery.to(&connection);
                }
            }
        }
        delivery.reached()
    }

    /// Puts a connection into a group; done when messages to the group will reach it.
    pub(crate) async fn add_to_group(&self, id: &str, group: &str) -> Result<(), GroupError> {
        match (self.find(id), &self.remote) {
            (Some(connection), _) => {
                self.add_local(&connection, group).await;
                Ok(())
            }
            (None, Some(remote)) => remote.command(GroupAction::Add, id, group).await,
            (None, None) => Ok(()),
        }
    }

    /// Takes a connection out of a group.
    pub(crate) async fn remove_from_group(&self, id: &str, group: &str) -> Result<(), GroupError> {
        match (self.find(id), &self.remote) {
            (Some(connection), _) => {
                self.remove_local(&connection, group);
                Ok(())
            }
            (None, Some(remote)) => remote.command(GroupAction::Remove, id, group).await,
            (None, None) => Ok(()),
        }
    }

    /// Makes a connection of this server a member at once; what comes back is done when messages will reach it.
    fn add_local(&self, connection: &Arc<Connection>, group: &str) -> BoxFuture<'static, ()> {
        let Some(remote) = &self.remote else {
            self.groups.add(group, connection, || {});
            return ready(()).boxed();
        };
        let channel = remote.channels.group(group);
        let mut subscribed = None;
        // Asked for by every member: somebody else's subscription may still be under way.
        self.groups.add(group, connection, || {
            subscribed = Some(remote.backplane.subscribe(&channel));
        });
        subscribed.unwrap_or_else(|| ready(()).boxed())
    }

    fn remove_local(&self, connection: &Connection, group: &str) {
        self.groups
            .remove(group, connection, || self.unsubscribe_group(group));
    }

    /// Ends every connection on this server, now and from now on.
    pub(crate) fn shut_down(&self) {
        self.shutting_down.send_replace(true);
        self.for_each(|connection| connection.end(CloseReason::ServerShutdown));
    }

    /// Done when the server goes away.
    pub(crate) async fn shutting_down(&self) {
        let mut shutting_down = self.shutting_down.subscribe();
        // The sender is ours, so this ends only with true.
        let _ = shutting_down.wait_for(|set| *set).await;
    }

    /// Whether anybody here is in a group.
    #[cfg(test)]
    pub(crate) fn has_group(&self, group: &str) -> bool {
        self.groups.exists(group)
    }

    /// Whether any connection here belongs to a user.
    #[cfg(test)]
    pub(crate) fn has_user(&self, user: &str) -> bool {
        self.users.exists(user)
    }

    /// Whether no client has been asked for anything that it has not answered.
    #[cfg(test)]
    pub(crate) fn awaits_nothing(&self) -> bool {
        self.results.is_empty()
    }

    /// Takes what the backplane brings.
    fn receive(self: &Arc<Self>, channel: &str, payload: &Bytes) -> Result<(), Malformed> {
        let Some(remote) = &self.remote else {
            return Ok(());
        };
        let to = match remote.channels.parse(channel) {
            Some(Channel::All) => To::All,
            Some(Channel::Connection(id)) => To::Connection(id),
            Some(Channel::Group(group)) => To::Group(group),
            Some(Channel::User(user)) => To::User(user),
            Some(Channel::Results) => return self.returned(payload),
            Some(Channel::GroupCommands) => {
                self.obey(envelope::read_group_command(payload)?);
                return Ok(());
            }
            Some(Channel::Acks) => {
                let id = envelope::read_ack(payload)?;
                if let Some(waiting) = remote.awaited_acks().remove(&id) {
                    // Whoever waited may have given up.
                    let _ = waiting.send(());
                }
                return Ok(());
            }
            None => return Ok(()),
        };
        let message = envelope::read_message(payload)?;
        if let (To::Connection(id), Some(question)) = (to, &message.question) {
            return self.ask(remote, id, &message, question);
        }
        self.deliver(to, &message.except, &message.broadcast());
        Ok(())
    }
}

/// What the backplane holds of us: nothing that keeps a lifetime manager alive.
struct Inbound(Weak<Lifetime>);

impl Receiver for Inbound {
    fn receive(&self, channel: &str, payload: Bytes) {
        let Some(lifetime) = self.0.upgrade() else {
            return;
        };
        if let Err(malformed) = lifetime.receive(channel, &payload) {
            tracing::warn!(channel, %malformed, "a message from the backplane was dropped");
        }
    }
}

/// A name for this server that no other has: `<machine>_<32 hex digits>`, as in ASP.NET Core.
fn server_name() -> String {
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let machine = match machine.trim() {
        "" => "hubcast",
        machine => machine,
    };
    let unique = u128::from_be_bytes(random::bytes());
    format!("{machine}_{unique:032x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_sends_much_to_many_lets_others_take_their_turn() {
        const MESSAGES: usize = 100;
        let lifetime = Lifetime::start(HubOptions::default(), "Hub", None);
        let members: Vec<_> = (0..640)
            .map(|number: u32| Arc::new(Connection::new(number.to_string().into(), &lifetime)))
            .collect();
        for member in &members {
            lifetime.connect(member).await;
            lifetime.add_local(member, "room").await;
        }
        let message = Broadcast::ping();
        let size = message.frame(Encoding::Json).unwrap().len();
        let first = Arc::clone(&members[0]);
        let other = tokio::spawn(async move { first.outbox.bytes() / size });
        for _ in 0..MESSAGES {
            let room = To::Group("room");
            lifetime.send(room, &HashSet::new(), &message).await;
        }
        for member in &members {
            assert_eq!(member.outbox.bytes() / size, MESSAGES);
        }
        let seen = other.await.unwrap();
        assert!(seen < MESSAGES / 2, "it came after {seen} messages");
    }
}
