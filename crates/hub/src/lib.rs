//! A SignalR server for Rust: what ASP.NET Core SignalR clients talk to, unchanged.
//!
//! Write a [`Hub`]: a type with ordinary async methods, and a table of their names. Mount it in an axum
//! application with a [`HubEndpoint`]. Browsers, phones and services call its methods with the stock SignalR
//! clients; its methods call theirs through [`CallerContext::clients`].
//!
//! ```no_run
//! use hubcast::{CallerContext, Hub, HubEndpoint, HubResult, Methods};
//!
//! struct ChatHub;
//!
//! impl Hub for ChatHub {
//!     fn methods() -> Methods<Self> {
//!         Methods::new()
//!             .method("JoinRoom", Self::join_room)
//!             .method("SendMessage", Self::send_message)
//!     }
//! }
//!
//! impl ChatHub {
//!     async fn join_room(&self, ctx: &CallerContext, room: String) -> HubResult {
//!         ctx.groups().add(ctx.connection_id(), &room).await?;
//!         Ok(())
//!     }
//!
//!     async fn send_message(&self, ctx: &CallerContext, room: String, user: String, message: String) -> HubResult {
//!         ctx.clients().group(&room).send("ReceiveMessage", (user, message)).await?;
//!         Ok(())
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> std::io::Result<()> {
//!     let app = axum::Router::new().nest("/chatHub", HubEndpoint::new(ChatHub).routes());
//!     let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
//!     axum::serve(listener, app).await
//! }
//! ```
//!
//! Beyond that:
//!
//! - streams: [`Methods::stream`] to the client, [`ClientStream`] from it; results of a client: [`SingleClient::invoke`]
//! - users: [`UserId`] or a [`UserIdProvider`]; who may call what: [`Methods::authorize`]; what is around every call: [`HubFilter`]
//! - the coming and going of clients: [`Hub::on_connected`], [`Hub::on_disconnected`]; what is kept with each: [`CallerContext::items`]
//! - sending from outside of a call: [`HubEndpoint::context`]; clients within the process: [`HubEndpoint::connect_local`]; stopping in good order: [`HubEndpoint::shut_down`]
//! - limits, time-outs, stateful reconnect, transports, and the origins of web pages that may connect: [`HubOptions`]
//!
//! Signatures here name [`Stream`](futures_util::Stream) and [`BoxFuture`](futures_util::future::BoxFuture) of `futures-util` 0.3, and
//! parameters and results are types of `serde` 1: programs with streams, filters or types of their own depend on those, too.
//!
//! A server alone needs nothing else. Several become one with a [`Backplane`]; `hubcast-backplane` has one over
//! Redis that ASP.NET Core servers share.

mod arguments;
mod authorization;
mod backplane;
mod binding;
mod call;
mod client_stream;
mod clients;
mod close_reason;
mod connecting;
mod connection;
mod context;
mod dispatch;
mod endpoint;
mod error;
mod filters;
mod frame;
mod handler;
mod hub;
mod intake;
mod invocation;
mod items;
mod lifetime;
mod local;
mod methods;
mod negotiate;
mod options;
mod origins;
mod outbox;
mod paths;
mod pipe;
mod random;
mod requests;
mod resume;
mod sequence;
mod tokens;
mod transport;
mod uploads;
mod users;
mod waiting;
mod writers;

#[cfg(test)]
mod tests;

pub use arguments::ClientArguments;
pub use authorization::{MethodCall, Policy};
pub use backplane::{Backplane, BackplaneStatus, LocalBackplane, Receiver};
pub use binding::{BindError, FromArgument, FromArguments};
pub use client_stream::{ClientStream, ClientStreamError};
pub use clients::{CallerClients, Clients, Recipients, SingleClient};
pub use close_reason::CloseReason;
pub use connecting::ConnectingRequest;
pub use context::{CallerContext, Groups, HubContext};
pub use endpoint::HubEndpoint;
pub use error::{GroupError, HubError, HubResult, InvokeError, SendError};
pub use filters::{Answer, HubFilter, HubInvocation, Next};
pub use hub::Hub;
pub use hubcast_protocol::{ByEncoding, ByteArray, Encoding, InvalidTimestamp, Timestamp};
pub use items::Items;
pub use lifetime::ACK_TIMEOUT;
pub use local::{LocalConnection, LocalInvocation};
pub use methods::{
    Eventual, Immediate, IntoCompletion, IntoStream, Method, Methods, Optional, StreamMethod,
};
pub use options::{HubOptions, SubProtocolSelector, Transports};
pub use origins::{AllowedOrigins, InvalidOrigin};
pub use paths::fold_hub_path;
pub use users::{AuthenticationExpiration, UserId, UserIdProvider};
