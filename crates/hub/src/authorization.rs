//! Who may call a method.

use std::any::Any;
use std::fmt;

use futures_util::future::BoxFuture;

use crate::context::CallerContext;

/// A call that asks for permission: the method and its arguments. The resource of ASP.NET Core's
/// `HubInvocationContext` requirements.
#[derive(Clone, Copy)]
pub struct MethodCall<'a> {
    pub(crate) method: &'static str,
    /// An `Option` of the tuple of parameters.
    pub(crate) arguments: &'a (dyn Any + Send + Sync),
}

impl fmt::Debug for MethodCall<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("MethodCall")
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

impl<'a> MethodCall<'a> {
    /// The method's name as the hub's table has it.
    pub fn method(&self) -> &'static str {
        self.method
    }

    /// The arguments, if `P` is the tuple of the method's parameters: `(String, i32)` for
    /// `async fn say(&self, ctx: &CallerContext, text: String, times: i32)`.
    pub fn arguments<P: 'static>(&self) -> Option<&'a P> {
        self.arguments.downcast_ref::<Option<P>>()?.as_ref()
    }
}

/// Decides about calls; what [`Methods::authorize`](crate::Methods::authorize) takes.
///
/// Implemented for functions `(&'a H, &'a CallerContext, MethodCall<'a>) -> Future<Output = bool>`, such as a method of the hub; there is
/// no need to implement it by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not have the shape of an authorization policy",
    label = "not a policy",
    note = "a policy is `async fn name(&self, ctx: &CallerContext, call: MethodCall<'_>) -> bool`"
)]
pub trait Policy<'a, H: 'a>: Send + Sync + 'static {
    /// The running decision.
    type Future: Future<Output = bool> + Send + 'a;

    /// Whether the caller may do this.
    fn allows(&self, hub: &'a H, context: &'a CallerContext, call: MethodCall<'a>) -> Self::Future;
}

impl<'a, H, F, R> Policy<'a, H> for F
where
    H: 'a,
    F: Fn(&'a H, &'a CallerContext, MethodCall<'a>) -> R + Send + Sync + 'static,
    R: Future<Output = bool> + Send + 'a,
{
    type Future = R;

    fn allows(&self, hub: &'a H, context: &'a CallerContext, call: MethodCall<'a>) -> R {
        self(hub, context, call)
    }
}

/// A policy with its type forgotten.
pub(crate) trait AnyPolicy<H>: Send + Sync {
    fn decide<'a>(
        &'a self,
        hub: &'a H,
        context: &'a CallerContext,
        call: MethodCall<'a>,
    ) -> BoxFuture<'a, bool>;
}

impl<H, F> AnyPolicy<H> for F
where
    H: Sync + 'static,
    F: for<'a> Policy<'a, H>,
{
    fn decide<'a>(
        &'a self,
        hub: &'a H,
        context: &'a CallerContext,
        call: MethodCall<'a>,
    ) -> BoxFuture<'a, bool> {
        Box::pin(self.allows(hub, context, call))
    }
}
