//! What a user writes: a type with methods, and a table of them.

use std::future::ready;

use crate::close_reason::CloseReason;
use crate::context::CallerContext;
use crate::error::HubResult;
use crate::methods::Methods;

/// A hub: a set of methods that clients can call.
///
/// There is one value of it per endpoint, shared by all calls; what it depends on are its fields. A unit test
/// builds it with a literal and calls its methods.
///
/// ```
/// use hubcast::{CallerContext, Hub, HubResult, Methods};
///
/// pub struct ChatHub;
///
/// impl Hub for ChatHub {
///     fn methods() -> Methods<Self> {
///         Methods::new().method("SendMessage", Self::send_message)
///     }
/// }
///
/// impl ChatHub {
///     async fn send_message(&self, ctx: &CallerContext, user: String, message: String) -> HubResult {
///         ctx.clients().all().send("ReceiveMessage", (user, message)).await?;
///         Ok(())
///     }
/// }
/// ```
pub trait Hub: Send + Sync + Sized + 'static {
    /// The table of methods. Asked for once, when the endpoint starts.
    fn methods() -> Methods<Self>;

    /// A client has connected: its handshake is done, messages to it arrive already, and none of its own are read before this has
    /// ended. ASP.NET Core's `OnConnectedAsync`.
    ///
    /// The client cannot be asked for a result here, nor later with this `ctx`: its answer would not be read. Use
    /// [`ctx.hub()`](CallerContext::hub) in a task of its own.
    ///
    /// An error closes the connection, and the client does not come back by itself; [`on_disconnected`](Self::on_disconnected) is
    /// then not called. It is run to its end even if the client is gone meanwhile.
    fn on_connected(&self, ctx: &CallerContext) -> impl Future<Output = HubResult> + Send {
        let _ = ctx;
        ready(Ok(()))
    }

    /// A client's connection has ended, and why. ASP.NET Core's `OnDisconnectedAsync`.
    ///
    /// Called exactly once for every connection that [`on_connected`](Self::on_connected) let in. The connection is still in its
    /// groups, but nothing reaches it any more. Methods that were running may still run. An error is logged.
    fn on_disconnected(
        &self,
        ctx: &CallerContext,
        reason: &CloseReason,
    ) -> impl Future<Output = HubResult> + Send {
        let _ = (ctx, reason);
        ready(Ok(()))
    }
}
