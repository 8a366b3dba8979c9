//! What a program wraps around the methods of a hub: measuring, refusing, translating errors.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use serde::Serialize;

use crate::call::Call;
use crate::close_reason::CloseReason;
use crate::context::CallerContext;
use crate::error::{HubError, HubResult};
use crate::frame::Frame;

/// Wraps the calls of a hub's methods, and the coming and going of its clients. ASP.NET Core's `IHubFilter`.
///
/// Given to [`HubEndpoint::filter`](crate::HubEndpoint::filter); the first one given is the outermost. Every method here passes on what it is
/// given unless it is written otherwise.
///
/// ```
/// use futures_util::future::BoxFuture;
/// use hubcast::{Answer, HubError, HubFilter, HubInvocation, HubResult, Next};
///
/// /// Refuses whoever shouts.
/// struct Quiet;
///
/// impl HubFilter for Quiet {
///     fn invoke_method<'a>(
///         &'a self,
///         invocation: HubInvocation<'a>,
///         next: Next<'a>,
///     ) -> BoxFuture<'a, HubResult<Answer<'a>>> {
///         Box::pin(async move {
///             if let Some((text,)) = invocation.arguments::<(String,)>()
///                 && text.contains('!')
///             {
///                 return Err(HubError::new("not so loud, please"));
///             }
///             next.run(invocation).await
///         })
///     }
/// }
/// ```
///
/// As in ASP.NET Core filters do not see calls that never reach a method: an unknown name, arguments that do not fit, a caller that is not
/// authorized, a streaming method called as a plain one or the reverse.
pub trait HubFilter: Send + Sync + 'static {
    /// Around one call. For a method that streams this surrounds the making of the stream, not its items.
    ///
    /// An error counts as the method's own.
    fn invoke_method<'a>(
        &'a self,
        invocation: HubInvocation<'a>,
        next: Next<'a>,
    ) -> BoxFuture<'a, HubResult<Answer<'a>>> {
        next.run(invocation)
    }

    /// Around [`Hub::on_connected`](crate::Hub::on_connected), which `next` runs when it is awaited. An error ends the connection.
    fn on_connected<'a>(
        &'a self,
        context: &'a CallerContext,
        next: BoxFuture<'a, HubResult>,
    ) -> BoxFuture<'a, HubResult> {
        let _ = context;
        next
    }

    /// Around [`Hub::on_disconnected`](crate::Hub::on_disconnected), which `next` runs when it is awaited.
    fn on_disconnected<'a>(
        &'a self,
        context: &'a CallerContext,
        reason: &'a CloseReason,
        next: BoxFuture<'a, HubResult>,
    ) -> BoxFuture<'a, HubResult> {
        let _ = (context, reason);
        next
    }
}

/// All filters of a hub, the outermost first.
pub(crate) type Filters = Arc<[Arc<dyn HubFilter>]>;

/// A call that is about to reach its method. ASP.NET Core's `HubInvocationContext`.
pub struct HubInvocation<'a> {
    pub(crate) context: &'a CallerContext,
    pub(crate) method: &'static str,
    pub(crate) call: &'a Call,
    /// An `Option` of the tuple of parameters, which the method takes.
    pub(crate) arguments: &'a mut (dyn Any + Send + Sync),
}

impl fmt::Debug for HubInvocation<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("HubInvocation")
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

impl<'a> HubInvocation<'a> {
    /// Who calls, and everybody else.
    pub fn context(&self) -> &'a CallerContext {
        self.context
    }

    /// The method's name as the hub's table has it, however the caller spells it.
    pub fn method(&self) -> &'static str {
        self.method
    }

    /// The arguments, if `P` is the tuple of the method's parameters: `(String, i32)` for
    /// `async fn say(&self, ctx: &CallerContext, text: String, times: i32)`.
    pub fn arguments<P: 'static>(&self) -> Option<&P> {
        self.arguments.downcast_ref::<Option<P>>()?.as_ref()
    }

    /// The arguments, to be changed before the method gets them.
    pub fn arguments_mut<P: 'static>(&mut self) -> Option<&mut P> {
        self.arguments.downcast_mut::<Option<P>>()?.as_mut()
    }

    /// An answer without the method: what the caller gets as its result. A method that streams can only be refused, with an error.
    ///
    /// # Errors
    ///
    /// If the value cannot be encoded.
    pub fn answer<T: Serialize>(&self, value: &T) -> HubResult<Answer<'a>> {
        self.call.succeeded(value).map(Answer::value)
    }
}

/// What a method has answered: a result that is encoded already, or a stream that is to be read. Filters pass it on.
pub struct Answer<'a>(pub(crate) Answered<'a>);

pub(crate) enum Answered<'a> {
    /// The completion, if anybody wants one.
    Value(Option<Frame>),
    /// The items, ready to be sent.
    Stream(BoxStream<'a, HubResult<Frame>>),
    /// The method that should have given a stream gave none.
    NoStream,
}

impl Answer<'_> {
    pub(crate) fn value(completion: Option<Frame>) -> Self {
        Self(Answered::Value(completion))
    }
}

impl fmt::Debug for Answer<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match &self.0 {
            Answered::Value(_) => "Answer(value)",
            Answered::Stream(_) => "Answer(stream)",
            Answered::NoStream => "Answer(no stream)",
        })
    }
}

/// Runs the method itself.
pub(crate) type RunMethod<'a> =
    &'a (dyn Fn(HubInvocation<'a>) -> BoxFuture<'a, HubResult<Answer<'a>>> + Send + Sync);

/// The rest of the way to the method: the filters further in, and the method itself.
pub struct Next<'a> {
    pub(crate) filters: &'a [Arc<dyn HubFilter>],
    pub(crate) method: RunMethod<'a>,
}

impl fmt::Debug for Next<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Next")
            .field("filters", &self.filters.len())
            .finish_non_exhaustive()
    }
}

impl<'a> Next<'a> {
    /// Goes on with the call. The future does nothing until it is awaited.
    pub fn run(self, invocation: HubInvocation<'a>) -> BoxFuture<'a, HubResult<Answer<'a>>> {
        match self.filters.split_first() {
            Some((filter, filters)) => filter.invoke_method(
                invocation,
                Self {
                    filters,
                    method: self.method,
                },
            ),
            None => (self.method)(invocation),
        }
    }
}

/// Wraps the coming of a client in all filters.
pub(crate) fn around_connected<'a>(
    filters: &'a [Arc<dyn HubFilter>],
    context: &'a CallerContext,
    hub: BoxFuture<'a, HubResult>,
) -> BoxFuture<'a, HubResult> {
    let inwards = filters.iter().rev();
    inwards.fold(hub, |next, filter| filter.on_connected(context, next))
}

/// Wraps the going of a client in all filters.
pub(crate) fn around_disconnected<'a>(
    filters: &'a [Arc<dyn HubFilter>],
    context: &'a CallerContext,
    reason: &'a CloseReason,
    hub: BoxFuture<'a, HubResult>,
) -> BoxFuture<'a, HubResult> {
    let inwards = filters.iter().rev();
    inwards.fold(hub, |next, filter| {
        filter.on_disconnected(context, reason, next)
    })
}

/// A filter has passed on another call than it was given.
pub(crate) fn arguments_are_gone() -> HubError {
    std::io::Error::other("a filter passed on a call whose arguments had been used up").into()
}

/// A filter has given a value for a call that wants a stream.
pub(crate) fn value_for_a_stream() -> HubError {
    std::io::Error::other("a filter answered a method that streams with a value").into()
}
