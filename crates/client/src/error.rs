//! What can go wrong, each with what to do about it. No text here has an access token in it, nor a connection token.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hubcast_protocol::{EncodeError, InvalidMessage};
use hubcast_tls::TlsError;

use crate::state::HubConnectionState;

/// An address that this client cannot connect to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// It is no absolute URL.
    #[error("the URL of a hub is absolute and has a host, such as http://localhost:8080/chatHub")]
    Invalid,
    /// It has a user name or a password in it.
    #[error("a URL cannot carry a user name or a password: use an access token or a header")]
    UserInformation,
    /// It is of something else than HTTP.
    #[error(
        "the URL of a hub begins with http://, https://, ws:// or wss://, not with {scheme}://"
    )]
    Scheme {
        /// What it begins with.
        scheme: String,
    },
}

/// [`HubConnectionBuilder::build`](crate::HubConnectionBuilder::build) was given something that it cannot use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The URL.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The name of a header, or its value, has characters that HTTP does not allow there.
    #[error("the header '{name}' is not one that HTTP allows: check its name and its value")]
    Header {
        /// The name that was given.
        name: String,
    },
}

/// A connection was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The connection is started already, or being started or stopped.
    #[error(
        "Cannot start a HubConnection that is not in the 'Disconnected' state: it is '{state}'. Stop it first, or wait for its \
         end."
    )]
    NotDisconnected {
        /// The state it is in.
        state: HubConnectionState,
    },
    /// The connection was stopped while it was being started.
    #[error("the connection was stopped before it was made")]
    Stopped,
    /// The provider of access tokens failed, and this is its text; or it panicked, and this says so.
    #[error("there is no access token: {0}")]
    AccessToken(String),
    /// An access token has characters that no HTTP header may have.
    #[error("the access token cannot be sent: a header must not have control characters")]
    InvalidAccessToken,
    /// Nobody listens at the address.
    #[error("cannot connect to {address}: {source}")]
    Unreachable {
        /// Host and port.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The address is one for TLS (`https`, `wss`), and there was none: for example, the certificate that the server shows is not one that is
    /// trusted here.
    #[error("cannot connect to {address} with TLS: {source}")]
    Tls {
        /// Host and port.
        address: String,
        /// What went wrong.
        source: TlsError,
    },
    /// What answers at the address speaks no HTTP.
    #[error("{address} does not answer as an HTTP server does: {reason}")]
    Http {
        /// Host and port.
        address: String,
        /// What went wrong.
        reason: String,
    },
    /// The server took longer than the handshake time-out for one of the steps of connecting.
    #[error("the server did not finish the {step} within {limit:?}")]
    TimedOut {
        /// Which step: negotiation, WebSocket upgrade or handshake.
        step: &'static str,
        /// How long it might have taken.
        limit: Duration,
    },
    /// The negotiation was answered with something else than 200: with 404 there is no hub at this URL, with 401 or 403 the
    /// access token is missing or not good enough.
    #[error(
        "the negotiation was answered with the status {status}: check the URL of the hub, and the access token"
    )]
    NegotiationStatus {
        /// The status.
        status: u16,
    },
    /// The server refused in its answer to the negotiation; this is its text.
    #[error("the server refused the negotiation: {0}")]
    NegotiationRefused(String),
    /// The answer to the negotiation is not one that SignalR knows.
    #[error("the answer to the negotiation makes no sense: {0}; is there a hub at this URL?")]
    NegotiationInvalid(String),
    /// The server sent the client to a place that it cannot go to.
    #[error("the negotiation led elsewhere: {0}")]
    Redirect(#[from] UrlError),
    /// The client was sent on a hundred times.
    #[error("Negotiate redirection limit exceeded: the servers send clients in circles.")]
    TooManyRedirects,
    /// The server does not let clients use WebSockets with this encoding, and there is no other transport here.
    #[error(
        "the server does not offer WebSockets for this encoding, only: {offered}; this client has no other transport"
    )]
    WebSocketsNotOffered {
        /// The names of the transports that it offers.
        offered: String,
    },
    /// The request to switch to WebSockets was answered with something else than 101.
    #[error(
        "the server did not switch to WebSockets, but answered with the status {status}: a 404 means that there is no hub at \
         this URL, or that the connection was negotiated with another server"
    )]
    UpgradeStatus {
        /// The status.
        status: u16,
    },
    /// The server claims to have switched to WebSockets, but did not do so as the standard wants it.
    #[error("the server did not switch to WebSockets properly: {0}")]
    UpgradeInvalid(&'static str),
    /// The server refused the handshake, for example because it does not know the encoding; this is its text.
    #[error("the server refused the handshake: {0}")]
    HandshakeRefused(String),
    /// The connection was lost in the handshake.
    #[error("the handshake failed: {0}")]
    Handshake(#[source] ConnectionError),
}

/// Why a connection was lost.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The server closed the connection with an error; this is its text.
    #[error("Server returned an error on close: {0}")]
    ClosedByServer(String),
    /// The socket came to its end, and no Close message before it: the server is gone, or somebody between cut the
    /// connection.
    #[error("the connection ended without a Close message from the server")]
    Ended,
    /// Nothing came from the server for as long as
    /// [`server_timeout`](crate::HubConnectionBuilder::server_timeout) allows. A living server pings.
    #[error("Server timeout ({limit:?}) elapsed without receiving a message from the server.")]
    ServerTimeout {
        /// How long the server might have been silent.
        limit: Duration,
    },
    /// The socket failed.
    #[error("the WebSocket failed: {0}")]
    WebSocket(String),
    /// What came is not the hub protocol.
    #[error("the server sent what is no hub message: {0}")]
    InvalidMessage(#[from] InvalidMessage),
    /// A message of the server is larger than
    /// [`max_message_size`](crate::HubConnectionBuilder::max_message_size) allows.
    #[error(
        "the server sent a message of more than {limit} bytes: raise max_message_size if it may"
    )]
    TooLarge {
        /// The most bytes that a message may have.
        limit: usize,
    },
    /// Calls of the server waited for a handler that did not end for as long as the server time-out.
    #[error(
        "a handler ran for more than {limit:?} while more calls waited than there is room for: handlers have to be quick, or \
         spawn what takes long"
    )]
    HandlersTooSlow {
        /// How long there was no room.
        limit: Duration,
    },
    /// The connection was lost, and automatic reconnect gave up.
    #[error("Reconnect retries have been exhausted after {attempts} failed attempts: {last}")]
    ReconnectFailed {
        /// How often it was tried.
        attempts: usize,
        /// Why it failed the last time.
        last: Arc<StartError>,
    },
    /// Something of the program's that the connection runs itself panicked: a
    /// [retry policy](crate::HubConnectionBuilder::automatic_reconnect_with), an [`Upload`](crate::Upload), or the reading of a result.
    #[error("a retry policy, an upload or the reading of a result panicked in the client")]
    Panicked,
}

/// A call of a hub method failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum InvokeError {
    /// There is no connection now: it was not started, has ended, or is being made anew.
    #[error(
        "Cannot send data if the connection is not in the 'Connected' State: it is '{state}'. Start it, or wait for its \
         reconnect."
    )]
    NotConnected {
        /// The state it is in.
        state: HubConnectionState,
    },
    /// The server answered with an error; this is its text. What a hub says to its clients (`HubException`, `HubError::new`)
    /// stands behind a general sentence.
    #[error("{0}")]
    Server(String),
    /// The connection was stopped before the answer came. Whether the method ran is not known.
    #[error("Invocation canceled due to the underlying connection being closed.")]
    Closed,
    /// The connection was lost before the answer came. Whether the method ran is not known.
    #[error("Invocation canceled due to the underlying connection being closed: {0}")]
    ConnectionLost(#[source] ConnectionError),
    /// The answer is not of the type that was asked for.
    #[error("the answer is no {type_name}: {reason}")]
    Decode {
        /// The type, as Rust writes it.
        type_name: &'static str,
        /// What did not fit.
        reason: String,
    },
    /// An argument cannot be written in the encoding of the connection.
    #[error("the arguments of '{method}' cannot be encoded: {reason}")]
    Encode {
        /// The method that was to be called.
        method: String,
        /// What the encoder objected to.
        reason: String,
    },
    /// 1,024 calls are waiting for their answers, or as many streams are being sent.
    #[error("1,024 calls or streams are unfinished already: wait for some of them to end")]
    TooMany,
    /// The stream was not read for as long as the server time-out, while the connection waited for room in it. The server
    /// is told that the stream is no longer wanted.
    #[error("the stream was not read for {limit:?} and held up everything behind it")]
    NotRead {
        /// How long it was not read.
        limit: Duration,
    },
}

impl InvokeError {
    pub(crate) fn encode(method: &str, error: &EncodeError) -> Self {
        Self::Encode {
            method: method.to_owned(),
            reason: error.to_string(),
        }
    }

    pub(crate) fn decode<T>(error: &hubcast_protocol::DecodeError) -> Self {
        Self::Decode {
            type_name: std::any::type_name::<T>(),
            reason: error.to_string(),
        }
    }

    /// What calls end with when their connection does; `None` is that it was stopped.
    pub(crate) fn disconnected(reason: Option<ConnectionError>) -> Self {
        reason.map_or(Self::Closed, Self::ConnectionLost)
    }
}
