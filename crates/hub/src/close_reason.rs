//! Every way in which a connection ends.

use std::fmt;

use hubcast_protocol::Encoding;

use crate::frame::Frame;

const CLIENT_TIMEOUT: &str =
    "Client hasn't sent a message/ping within the configured ClientTimeoutInterval.";
const TOO_SLOW: &str = "Client has not read its messages in time.";

/// Why a connection ended. Logged, and counted in the metric `hubcast_connections_ended_total` under its
/// [`name`](Self::name).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The client said goodbye, with a hub message or with the transport's own means.
    ClientLeft,
    /// The client said goodbye because something went wrong with it. Holds its text.
    ClientFailed(String),
    /// The client ended its long polling with a DELETE.
    PollingEnded,
    /// The transport ended without a word: a lost network, a killed browser.
    ConnectionLost,
    /// No whole handshake request arrived in time, or none within the size limit.
    HandshakeCanceled,
    /// The handshake asked for something that is not offered, or was not a handshake. Holds what the client was told.
    HandshakeRefused(String),
    /// The client sent something that is not a hub message. Holds the offence.
    ProtocolError(String),
    /// The client broke the WebSocket's rules (RFC 6455). Holds the close code it was told.
    WebSocketError(u16),
    /// The hub did not want the connection: [`Hub::on_connected`](crate::Hub::on_connected), or a filter around it, failed. Holds what a
    /// client may read of that, which may be nothing.
    Rejected(String),
    /// The client was silent for longer than [`HubOptions::client_timeout_interval`](crate::HubOptions::client_timeout_interval).
    ClientTimeout,
    /// The client's authentication has ended; it may come back with a new one. See
    /// [`HubOptions::close_on_authentication_expiration`](crate::HubOptions::close_on_authentication_expiration).
    AuthenticationExpired,
    /// The client reads more slowly than it is written to.
    TooSlow,
    /// The hub ended the connection with [`CallerContext::abort`](crate::CallerContext::abort); the client shall not
    /// come back by itself.
    Aborted,
    /// The server is going away; the client shall come back, to it or to another.
    ServerShutdown,
}

impl CloseReason {
    /// A short name for metrics and logs, the same for every value of a kind.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ClientLeft => "client_left",
            Self::ClientFailed(_) => "client_failed",
            Self::PollingEnded => "polling_ended",
            Self::ConnectionLost => "connection_lost",
            Self::HandshakeCanceled => "handshake_canceled",
            Self::HandshakeRefused(_) => "handshake_refused",
            Self::ProtocolError(_) => "protocol_error",
            Self::WebSocketError(_) => "websocket_error",
            Self::Rejected(_) => "rejected",
            Self::ClientTimeout => "client_timeout",
            Self::AuthenticationExpired => "authentication_expired",
            Self::TooSlow => "too_slow",
            Self::Aborted => "aborted",
            Self::ServerShutdown => "server_shutdown",
        }
    }

    /// The text of the exception that ASP.NET Core gives to `OnDisconnectedAsync` for this end; `None` for an end in peace, or
    /// without a word.
    pub fn error(&self) -> Option<&str> {
        match self {
            Self::ProtocolError(text) | Self::ClientFailed(text) => Some(text),
            Self::ClientTimeout => Some(CLIENT_TIMEOUT),
            Self::TooSlow => Some(TOO_SLOW),
            _ => None,
        }
    }

    /// What a log may say beside the name, shortened: it can hold what a client wrote.
    pub(crate) fn detail(&self) -> Option<String> {
        match self {
            Self::HandshakeRefused(text)
            | Self::ProtocolError(text)
            | Self::Rejected(text)
            | Self::ClientFailed(text) => Some(text.chars().take(200).collect()),
            Self::WebSocketError(code) => Some(code.to_string()),
            _ => None,
        }
    }

    /// Whether connections end like this every day.
    pub(crate) fn is_ordinary(&self) -> bool {
        matches!(
            self,
            Self::ClientLeft
                | Self::PollingEnded
                | Self::AuthenticationExpired
                | Self::ConnectionLost
                | Self::Aborted
                | Self::ServerShutdown
        )
    }

    /// The last hub message that the client is sent, if there is one.
    ///
    /// `allowReconnect` is true wherever coming back may help, as in ASP.NET Core: always, unless the hub itself wants
    /// the client gone.
    pub(crate) fn close_message(&self, encoding: Encoding, detailed_errors: bool) -> Option<Frame> {
        let close = |error: Option<&str>| {
            let allow_reconnect = !matches!(self, Self::Rejected(_) | Self::Aborted);
            Some(
                Frame::infallible(encoding, |out| {
                    encoding.write_close(out, error, allow_reconnect);
                })
                .uncounted(),
            )
        };
        let mut error = String::from("Connection closed with an error.");
        let (exception, detail) = match self {
            Self::ClientLeft
            | Self::ClientFailed(_)
            | Self::ConnectionLost
            | Self::HandshakeCanceled
            | Self::HandshakeRefused(_)
            | Self::WebSocketError(_) => return None,
            Self::Aborted
            | Self::ServerShutdown
            | Self::PollingEnded
            | Self::AuthenticationExpired => return close(None),
            Self::Rejected(detail) => {
                error.push_str(detail);
                return close(Some(&error));
            }
            Self::ProtocolError(detail) => ("InvalidDataException", detail.as_str()),
            Self::ClientTimeout => ("OperationCanceledException", CLIENT_TIMEOUT),
            Self::TooSlow => ("OperationCanceledException", TOO_SLOW),
        };
        if detailed_errors {
            error = format!("{error} {exception}: {detail}");
        }
        close(Some(&error))
    }

    /// The code that the WebSocket is closed with: 1000 unless its own rules were broken.
    pub(crate) fn websocket_code(&self) -> u16 {
        match self {
            Self::WebSocketError(code) => *code,
            _ => 1000,
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HandshakeRefused(text)
            | Self::ProtocolError(text)
            | Self::Rejected(text)
            | Self::ClientFailed(text) => {
                write!(formatter, "{}: {text}", self.name())
            }
            Self::WebSocketError(code) => write!(formatter, "{}: {code}", self.name()),
            _ => formatter.write_str(self.name()),
        }
    }
}
