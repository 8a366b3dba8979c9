//! What an operator may choose about a hub, with defaults and their reasons.

use std::time::Duration;

use hubcast_protocol::Encoding;

use crate::origins::AllowedOrigins;

/// The settings of one hub endpoint.
///
/// Names and defaults are those of ASP.NET Core's `HubOptions` and `HttpConnectionDispatcherOptions` where
/// those exist. Set what differs:
///
/// ```
/// use std::time::Duration;
/// use hubcast::HubOptions;
///
/// let options = HubOptions {
///     enable_detailed_errors: true,
///     keep_alive_interval: Duration::from_secs(5),
///     ..HubOptions::default()
/// };
/// ```
#[derive(Debug, Clone)]
pub struct HubOptions {
    /// The name of the hub on a backplane: the prefix of all its channels. `None` takes the name of the Rust
    /// type, without its path.
    ///
    /// To share a Redis with ASP.NET Core servers it must be the full name of the hub's class there,
    /// namespace included (`MyApp.Hubs.ChatHub`); a class in the global namespace is just `ChatHub`.
    pub hub_name: Option<String>,
    /// How long a new connection may take to send a whole handshake request. Default: 15 s, long enough for a
    /// phone that has just woken up and short enough that silent sockets do not pile up.
    pub handshake_timeout: Duration,
    /// How often a ping is sent to every client. Default: 15 s, half of the 30 s after which the stock clients
    /// give up on a silent server. Looked at once a second.
    pub keep_alive_interval: Duration,
    /// How long a client may stay silent before the connection is closed. Default: 30 s, twice the interval at
    /// which the stock clients ping. Counts only from a client's first ping on, because a client that never
    /// pings never promised to. Looked at once a second.
    pub client_timeout_interval: Duration,
    /// The most bytes that one message of a client may have, its framing included. Default: 32 768, which
    /// bounds what a stranger can make the server hold. `None` is no limit.
    pub maximum_receive_message_size: Option<usize>,
    /// How many plain calls of one client run at the same time; others wait for their turn. Default: 1, so that calls take effect in
    /// the order they were made. At least 1. Streams, and calls with streams of the client, are not counted.
    pub maximum_parallel_invocations_per_client: usize,
    /// How many items of a client's stream wait for the method that reads it. Default: 10. While it is full, nothing more is read from
    /// that client. At least 1.
    pub stream_buffer_capacity: usize,
    /// How many streams one client may have at a time, in both directions together; more are refused. Default: 100, which bounds what a
    /// stranger can make the server hold. ASP.NET Core has no such limit.
    pub maximum_streams_per_client: usize,
    /// Whether the texts of all errors are sent to clients. Default: no, because they may tell a stranger about
    /// the inside of the server. Texts of [`HubError::new`](crate::HubError::new) are always sent.
    pub enable_detailed_errors: bool,
    /// The most bytes of a client's messages that wait for the hub, unread or unstarted, before the server stops
    /// reading from that client. Default: 65 536 (`ApplicationMaxBufferSize`).
    pub application_max_buffer_size: usize,
    /// The most bytes that wait to be written to one client. Default: 4 194 304. Of what others say, one message may wait for each 256 of
    /// them at most, however short it is: 16 384.
    ///
    /// A sender never waits for a stranger, so a client that reads more slowly than a room talks is closed when
    /// this is full (`CloseReason::TooSlow`). ASP.NET Core makes the sender wait instead, at 65 536 bytes. The
    /// bytes of a broadcast are shared among all who have not read it; each has a queue of its own, which may take 400 000 bytes when it is
    /// full of short messages. Four mebibytes let an ordinary client sleep through a burst of a few seconds.
    pub transport_max_buffer_size: usize,
    /// How long a client may take nothing at all of what waits for it. Default: 10 s. Looked at once a second.
    pub transport_send_timeout: Duration,
    /// How long the server waits for the peer's half of the WebSocket close handshake. Default: 5 s.
    pub close_timeout: Duration,
    /// Chooses one of the WebSocket sub-protocols that a client offers (`Sec-WebSocket-Protocol`), to be told to it. Default: none is
    /// chosen, and stock clients offer none. For clients or proxies that insist on one.
    pub sub_protocol_selector: Option<SubProtocolSelector>,
    /// How long the answer to a negotiation can be used. Default: 15 s (`DisconnectTimeout`), since clients
    /// connect at once.
    ///
    /// With several servers their clocks must agree to within a small part of it.
    pub negotiation_lifetime: Duration,
    /// Which encodings clients may use; at least one. Default: JSON and MessagePack.
    ///
    /// With a backplane every message is sent in all of them, since any server may have clients of any.
    pub supported_protocols: Vec<Encoding>,
    /// Which transports clients may use. Default: all of them; clients prefer WebSockets.
    pub transports: Transports,
    /// How long a poll waits for something to send. Default: 90 s, less than the 100 s after which the stock clients
    /// give one up.
    pub poll_timeout: Duration,
    /// How long a connection over several requests, or over several sockets, may be without the one that brings its messages.
    /// Default: 15 s. Looked at once a second.
    pub disconnect_timeout: Duration,
    /// Whether a connection ends when its client's authentication does, as an [`AuthenticationExpiration`](crate::AuthenticationExpiration) in its
    /// request says. Default: no. The client is let come back, with a new token. Looked at once a second.
    pub close_on_authentication_expiration: bool,
    /// Whether a WebSocket connection may outlive its socket: stateful reconnect. Default: no, as in ASP.NET Core.
    ///
    /// A client that asks for it (`withStatefulReconnect()`) and loses its network comes back on another socket as if nothing had
    /// happened: no message is lost or doubled, its groups and running calls stay. That costs memory, the messages that it
    /// has not acknowledged, and works only where its requests come back to the same server.
    pub allow_stateful_reconnects: bool,
    /// With stateful reconnect: how many bytes may be written to a client that it has not acknowledged; what goes beyond waits
    /// until it has. While it has no socket as much again may come to wait for it, not counting answers to its own calls; beyond that
    /// the connection is closed (`CloseReason::TooSlow`). Default: 100 000 (`StatefulReconnectBufferSize`), which the stock clients keep, too.
    pub stateful_reconnect_buffer_size: usize,
    /// With stateful reconnect: how many connections of this endpoint may be without a socket at a time. When one more loses
    /// its socket, the one that has been without for the longest is over. Default: 1 000, which bounds what clients that went away can hold. ASP.NET Core has no such limit.
    pub maximum_detached_connections: usize,
    /// The lowest version of negotiation that is served. Default: 0, so that every client is.
    pub minimum_protocol_version: i32,
    /// Whose web pages may talk to this hub. Default: pages of this very host.
    pub allowed_origins: AllowedOrigins,
}

/// Chooses from what a client offers; see [`HubOptions::sub_protocol_selector`].
pub type SubProtocolSelector = fn(&[&str]) -> Option<&'static str>;

impl HubOptions {
    /// Whether clients may use an encoding.
    pub(crate) fn supports(&self, encoding: Encoding) -> bool {
        self.supported_protocols.contains(&encoding)
    }
}

/// The transports that clients are told of and may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transports {
    /// One socket, both ways.
    pub web_sockets: bool,
    /// One long answer, and a request for each message of the client.
    pub server_sent_events: bool,
    /// A request that waits for messages, again and again, and one for each message of the client.
    pub long_polling: bool,
}

impl Default for Transports {
    fn default() -> Self {
        Self {
            web_sockets: true,
            server_sent_events: true,
            long_polling: true,
        }
    }
}

impl Default for HubOptions {
    fn default() -> Self {
        Self {
            hub_name: None,
            handshake_timeout: Duration::from_secs(15),
            keep_alive_interval: Duration::from_secs(15),
            client_timeout_interval: Duration::from_secs(30),
            maximum_receive_message_size: Some(32 * 1024),
            maximum_parallel_invocations_per_client: 1,
            stream_buffer_capacity: 10,
            maximum_streams_per_client: 100,
            enable_detailed_errors: false,
            application_max_buffer_size: 64 * 1024,
            transport_max_buffer_size: 4 * 1024 * 1024,
            transport_send_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(5),
            sub_protocol_selector: None,
            negotiation_lifetime: Duration::from_secs(15),
            supported_protocols: Encoding::ALL.to_vec(),
            transports: Transports::default(),
            poll_timeout: Duration::from_secs(90),
            disconnect_timeout: Duration::from_secs(15),
            close_on_authentication_expiration: false,
            allow_stateful_reconnects: false,
            stateful_reconnect_buffer_size: 100_000,
            maximum_detached_connections: 1_000,
            minimum_protocol_version: 0,
            allowed_origins: AllowedOrigins::default(),
        }
    }
}
