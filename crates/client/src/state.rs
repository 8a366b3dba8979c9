//! How a connection is, and what happens to it.

use std::fmt;
use std::sync::Arc;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::error::ConnectionError;

/// How many events wait for a program that does not look at them; of more it misses the oldest.
pub(crate) const EVENTS: usize = 64;

/// What a connection is doing, in SignalR's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HubConnectionState {
    /// Nothing: it was never started, or has ended.
    Disconnected,
    /// It is being started.
    Connecting,
    /// Calls can be made.
    Connected,
    /// It is being stopped.
    Disconnecting,
    /// It was lost and is being made anew. Calls fail meanwhile.
    Reconnecting,
}

impl fmt::Display for HubConnectionState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

/// Something happened to a connection. The stock clients' `onreconnecting`, `onreconnected` and `onclose`.
#[derive(Debug, Clone)]
pub enum ConnectionEvent {
    /// It was lost, for this reason (`None`: the server asked to come back), and is being made anew. What waited for an answer has failed.
    Reconnecting(Option<ConnectionError>),
    /// It was made anew. To the server it is another connection: groups have to be joined again.
    Reconnected {
        /// Its new id; `None` where negotiation is skipped.
        connection_id: Option<Arc<str>>,
    },
    /// It has ended: for this reason, or because it was stopped, or the server closed it without an error (`None`). It can
    /// be started again.
    Closed(Option<ConnectionError>),
}

/// What happens to a connection from [`HubConnection::events`](crate::HubConnection::events) on.
#[derive(Debug)]
pub struct ConnectionEvents(pub(crate) broadcast::Receiver<ConnectionEvent>);

impl ConnectionEvents {
    /// Waits for the next event; `None` once the connection has been dropped, and has ended.
    ///
    /// May be dropped while it waits, as in a `select!`: no event is lost by that. A program that takes no events for a long
    /// time misses the oldest: 64 are kept.
    pub async fn next(&mut self) -> Option<ConnectionEvent> {
        loop {
            match self.0.recv().await {
                Ok(event) => return Some(event),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    }
}
