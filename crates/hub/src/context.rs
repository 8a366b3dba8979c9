//! What a hub method knows of its surroundings, and what the rest of a program can do with a hub.

use std::sync::Arc;

use crate::backplane::BackplaneStatus;
use crate::call::{Call, CallState};
use crate::clients::{CallerClients, Clients};
use crate::close_reason::CloseReason;
use crate::connection::Connection;
use crate::error::{GroupError, InvokeError};
use crate::items::Items;
use crate::lifetime::Lifetime;
use crate::transport::Transport;

/// The surroundings of one call: who called, and everybody else. ASP.NET Core's `Hub.Context`, `Hub.Clients` and
/// `Hub.Groups`.
///
/// It belongs to one call, but may be cloned and kept, for tasks that go on when the method has returned.
#[derive(Debug, Clone)]
pub struct CallerContext {
    connection: Arc<Connection>,
    call: Arc<Call>,
}

impl CallerContext {
    pub(crate) fn new(connection: Arc<Connection>, call: Arc<Call>) -> Self {
        Self { connection, call }
    }

    pub(crate) fn call(&self) -> &Call {
        &self.call
    }

    fn lifetime(&self) -> &Arc<Lifetime> {
        &self.connection.lifetime
    }

    /// The call is about to wait for what a client answers.
    pub(crate) fn before_waiting(&self) -> Result<(), InvokeError> {
        self.state().before_waiting(&self.connection.slots)
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(crate) fn state(&self) -> &CallState {
        &self.call.state
    }

    /// Waits until so little waits to be written to the caller that more can be made for it.
    pub(crate) async fn room(&self) {
        let enough = self.lifetime().options.application_max_buffer_size;
        self.connection.outbox.calm(enough).await;
    }

    /// The id of the caller's connection. Others may know it; it gives no access to the connection.
    pub fn connection_id(&self) -> &str {
        &self.connection.id
    }

    /// The user that the caller's connection belongs to, as the
    /// [provider](crate::HubEndpoint::user_id_provider) said when it began. ASP.NET Core's `Context.UserIdentifier`.
    pub fn user_identifier(&self) -> Option<&str> {
        self.connection.user.as_deref()
    }

    /// A header of the request that the caller's connection began with; see
    /// [`ConnectingRequest::header`](crate::ConnectingRequest::header).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.connection.request.header(name)
    }

    /// A query parameter of the request that the caller's connection began with; see
    /// [`ConnectingRequest::query`](crate::ConnectingRequest::query).
    pub fn query(&self, name: &str) -> Option<String> {
        self.connection.request.query(name)
    }

    /// What a middleware has put into the request that the caller's connection began with, for example the claims of a
    /// token.
    pub fn extension<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.connection.request.extension()
    }

    /// What carries the caller's connection: `WebSockets`, `ServerSentEvents` or `LongPolling`; or `Local`, for a client
    /// [within the process](crate::HubEndpoint::connect_local).
    pub fn transport(&self) -> &'static str {
        // Fixed by the first request, before the hub can hear of the connection.
        self.connection.transport().map_or("", Transport::name)
    }

    /// What the hub keeps with the caller's connection.
    pub fn items(&self) -> Items<'_> {
        Items::new(&self.connection.items)
    }

    /// Ends the caller's connection, without an error. A client with automatic reconnect does not come back. The call
    /// itself goes on; its result reaches nobody. ASP.NET Core's `Context.Abort()`.
    pub fn abort(&self) {
        self.connection.end(CloseReason::Aborted);
    }

    /// The hub from outside of its calls, for what outlives this one.
    pub fn hub(&self) -> HubContext {
        HubContext::new(Arc::clone(self.lifetime()))
    }

    /// Waits until nobody wants the outcome of this call any more: the client has taken the call back
    /// (`CancelInvocation`, as when a stream is disposed of, or since .NET 11 any call), its connection has ended, or the server goes
    /// away. ASP.NET Core's `CancellationToken` parameters and `Context.ConnectionAborted`.
    ///
    /// A plain method may listen or not: it is run to its end, and its answer is sent as long as there is somebody to send it to. It
    /// waits for ever in a call that ends in peace, so select between it and something that ends.
    pub async fn cancelled(&self) {
        self.state().until_stopped().await;
    }

    /// Whether [`cancelled`](Self::cancelled) would be done at once.
    pub fn is_cancelled(&self) -> bool {
        self.state().stopped().is_some()
    }

    /// The clients of the hub, the caller among them.
    pub fn clients(&self) -> CallerClients<'_> {
        CallerClients::new(self.lifetime(), self)
    }

    /// The groups of the hub.
    pub fn groups(&self) -> Groups<'_> {
        Groups(self.lifetime())
    }
}

/// A hub from outside of its calls: for background tasks, HTTP handlers, timers. ASP.NET Core's `IHubContext`.
#[derive(Debug, Clone)]
pub struct HubContext(Arc<Lifetime>);

impl HubContext {
    pub(crate) fn new(lifetime: Arc<Lifetime>) -> Self {
        Self(lifetime)
    }

    /// The clients of the hub.
    pub fn clients(&self) -> Clients<'_> {
        Clients::new(&self.0, None)
    }

    /// The groups of the hub.
    pub fn groups(&self) -> Groups<'_> {
        Groups(&self.0)
    }

    /// How many connections of the hub are on this server now.
    pub fn connection_count(&self) -> usize {
        self.0.connection_count()
    }

    /// Whether the other servers can be reached; `None` without a backplane.
    pub fn backplane_status(&self) -> Option<BackplaneStatus> {
        Some(self.0.backplane()?.status().borrow().clone())
    }
}

/// Changes who is in which group. ASP.NET Core's `IGroupManager`.
///
/// A group exists from its first member to its last; names are compared exactly. Membership belongs to a
/// connection and is gone with it: a client that reconnects joins anew.
#[derive(Debug, Clone, Copy)]
pub struct Groups<'a>(&'a Lifetime);

impl Groups<'_> {
    /// Puts a connection into a group. A member is added again without effect.
    ///
    /// When this returns, everything that is sent to the group reaches the connection.
    ///
    /// # Errors
    ///
    /// For a connection on another server, when that does not answer within [`ACK_TIMEOUT`](crate::ACK_TIMEOUT).
    pub async fn add(&self, connection_id: &str, group: &str) -> Result<(), GroupError> {
        self.0.add_to_group(connection_id, group).await
    }

    /// Takes a connection out of a group. Who is no member is removed without effect.
    ///
    /// # Errors
    ///
    /// As for [`add`](Self::add).
    pub async fn remove(&self, connection_id: &str, group: &str) -> Result<(), GroupError> {
        self.0.remove_from_group(connection_id, group).await
    }
}
