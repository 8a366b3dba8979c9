//! A SignalR client for Rust: calls the methods of a hub, and is called by it, over WebSockets.
//!
//! It speaks to Hubcast, to ASP.NET Core, and to whatever else serves SignalR hubs. A [`HubConnectionBuilder`] describes a
//! connection; a [`HubConnection`] is started, makes calls, and has functions called when the server calls.
//!
//! ```no_run
//! use hubcast_client::HubConnectionBuilder;
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let connection = HubConnectionBuilder::new("http://localhost:8080/chatHub")
//!         .automatic_reconnect()
//!         .build()?;
//!     connection.on("ReceiveMessage", |user: String, text: String| {
//!         println!("{user}: {text}");
//!     });
//!     connection.start().await?;
//!     connection.invoke::<()>("JoinRoom", ("lobby",)).await?;
//!     connection.send("SendMessage", ("lobby", "ada", "hello")).await?;
//!     connection.stop().await;
//!     Ok(())
//! }
//! ```
//!
//! Beyond that:
//!
//! - streams: [`HubConnection::stream`] from the server, [`Upload`] to it; results that the server asks for:
//!   [`HubConnection::on_result`]
//! - what happens to the connection: [`HubConnection::events`]
//! - encodings, access tokens, headers, reconnect, time-outs: [`HubConnectionBuilder`]
//!
//! After a reconnect a connection is new to the server, so groups are joined again:
//!
//! ```no_run
//! # async fn example(connection: hubcast_client::HubConnection) -> Result<(), hubcast_client::InvokeError> {
//! use hubcast_client::ConnectionEvent;
//!
//! let mut events = connection.events();
//! while let Some(event) = events.next().await {
//!     if let ConnectionEvent::Reconnected { .. } = event {
//!         connection.invoke::<()>("JoinRoom", ("lobby",)).await?;
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Signatures here name [`Stream`](futures_util::Stream) of `futures-util` 0.3, and arguments and results are types of `serde` 1:
//! programs with streams or types of their own depend on those, too.
//!
//! There are no other transports than WebSockets, and no stateful reconnect. Everything that waits is bounded: what is to be
//! sent (1 MiB; whoever sends more waits), calls without an answer and streams of ours (1,024 each), calls of the server
//! (1 MiB) and each of its streams (256 KiB), for which the reading waits.

mod arguments;
mod builder;
mod connection;
mod connector;
mod error;
mod handler;
mod handlers;
mod http;
mod hub_stream;
mod lifecycle;
mod negotiate;
mod queue;
mod retry;
mod session;
mod state;
mod upload;
mod url;
mod wire;

#[cfg(test)]
mod tests;

pub use arguments::{Argument, HubArguments};
pub use builder::HubConnectionBuilder;
pub use connection::{HubConnection, Subscription, WeakHubConnection};
pub use error::{BuildError, ConnectionError, InvokeError, StartError, UrlError};
pub use handler::{Eventual, FromArguments, Handler, Immediate, IntoAnswer, IntoDone};
pub use hub_stream::HubStream;
pub use hubcast_protocol::{ByEncoding, ByteArray, Encoding, InvalidTimestamp, Timestamp};
pub use hubcast_tls::TlsError;
pub use retry::RetryContext;
pub use state::{ConnectionEvent, ConnectionEvents, HubConnectionState};
pub use upload::Upload;
