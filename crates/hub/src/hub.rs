//! What a user writes: a type with methods, and a table of them.

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
}
