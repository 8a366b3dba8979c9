//! What carries a connection's bytes. A transport never looks into a message.

pub(crate) mod long_polling;
pub(crate) mod resumable;
pub(crate) mod server_sent_events;
pub(crate) mod session;
pub(crate) mod upgrade;
pub(crate) mod websocket;

use crate::options::HubOptions;

/// The three ways in which SignalR moves bytes, and one that moves none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    WebSockets,
    ServerSentEvents,
    LongPolling,
    /// The client is in the same process, and takes what waits for it out of the outbox.
    Local,
}

impl Transport {
    /// Its name in a negotiation.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::WebSockets => "WebSockets",
            Self::ServerSentEvents => "ServerSentEvents",
            Self::LongPolling => "LongPolling",
            Self::Local => "Local",
        }
    }

    /// What it can carry, in the words of a negotiation.
    pub(crate) fn formats(self) -> &'static [&'static str] {
        match self {
            Self::ServerSentEvents | Self::Local => &["Text"],
            Self::WebSockets | Self::LongPolling => &["Text", "Binary"],
        }
    }

    /// Whether clients of the network may use it.
    pub(crate) fn is_offered(self, options: &HubOptions) -> bool {
        match self {
            Self::WebSockets => options.transports.web_sockets,
            Self::ServerSentEvents => options.transports.server_sent_events,
            Self::LongPolling => options.transports.long_polling,
            Self::Local => false,
        }
    }
}
