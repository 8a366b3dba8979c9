//! From a method in the table and raw arguments to a running call, its types forgotten.

use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, ready};
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use tokio::time::timeout;

use crate::authorization::{AnyPolicy, MethodCall};
use crate::binding::{BindError, FromArguments, Parameters};
use crate::call::{Call, SHUTTING_DOWN, Stop};
use crate::context::CallerContext;
use crate::error::HubResult;
use crate::filters::{
    Answer, Answered, Filters, HubInvocation, Next, arguments_are_gone, value_for_a_stream,
};
use crate::frame::Frame;
use crate::hub::Hub;
use crate::methods::{IntoCompletion, IntoStream, Method, StreamMethod};

/// How long a stream that nobody wants any more may take to notice.
const STREAM_FAREWELL: Duration = Duration::from_secs(2);

/// A running call. Gives the answer, if one is wanted.
pub(crate) type Running = BoxFuture<'static, Option<Frame>>;

/// What the calls of one connection share. Each connection has one of its own: a count that the calls of all connections changed would be
/// fought over by all processors.
pub(crate) struct Callee<H> {
    pub(crate) hub: Arc<H>,
    pub(crate) filters: Filters,
}

/// What a call needs beside its arguments.
pub(crate) struct Setting<H> {
    pub(crate) callee: Arc<Callee<H>>,
    pub(crate) policy: Option<Arc<dyn AnyPolicy<H>>>,
    pub(crate) context: CallerContext,
    /// The method's name as it was registered.
    pub(crate) name: &'static str,
    /// The text for a caller that was wrong about the method, which it learns if it may call it at all.
    pub(crate) refusal: Option<String>,
}

/// A method with its types forgotten.
pub(crate) trait Callable<H>: Send + Sync {
    /// Whether it answers with a stream.
    fn is_stream(&self) -> bool;

    /// How many streams it wants from the client.
    fn streams(&self) -> usize;

    /// Gives the arguments their types; what comes back runs only when polled.
    fn bind(
        &self,
        parameters: &mut Parameters<'_>,
        setting: Setting<H>,
    ) -> Result<Running, BindError>;
}

/// What is different between methods that answer once and those that stream.
pub(crate) trait Answering<H, P>: Clone + Send + Sync + 'static {
    const STREAMS: bool;

    fn answer<'a>(
        &'a self,
        hub: &'a H,
        context: &'a CallerContext,
        call: &'a Call,
        params: P,
    ) -> impl Future<Output = HubResult<Answer<'a>>> + Send + 'a;
}

/// A method of either kind and the types of its parameters. Every call has a copy of the method, which for a function is nothing.
pub(crate) struct Typed<M, P>(M, PhantomData<fn() -> P>);

impl<M, P> Typed<M, P> {
    pub(crate) fn new(method: M) -> Self {
        Self(method, PhantomData)
    }
}

impl<H, M, P> Callable<H> for Typed<M, P>
where
    H: Hub,
    M: Answering<H, P>,
    P: FromArguments + Send + Sync + 'static,
{
    fn is_stream(&self) -> bool {
        M::STREAMS
    }

    fn streams(&self) -> usize {
        P::STREAMS
    }

    fn bind(
        &self,
        parameters: &mut Parameters<'_>,
        setting: Setting<H>,
    ) -> Result<Running, BindError> {
        let params = P::from_arguments(parameters)?;
        Ok(run(self.0.clone(), params, setting).boxed())
    }
}

/// A method that answers once.
#[derive(Clone)]
pub(crate) struct Plain<F>(pub(crate) F);

impl<H, F, P> Answering<H, P> for Plain<F>
where
    H: Hub,
    F: for<'a> Method<'a, H, P, Future: Send, Output: IntoCompletion>,
    P: Send + 'static,
{
    const STREAMS: bool = false;

    async fn answer<'a>(
        &'a self,
        hub: &'a H,
        context: &'a CallerContext,
        call: &'a Call,
        params: P,
    ) -> HubResult<Answer<'a>> {
        let value = self.0.call(hub, context, params).await.into_result()?;
        call.succeeded(&value).map(Answer::value)
    }
}

/// A method that answers with a stream, made in the way that `K` names.
pub(crate) struct Streaming<F, K>(F, PhantomData<fn() -> K>);

impl<F: Clone, K> Clone for Streaming<F, K> {
    fn clone(&self) -> Self {
        Self::new(self.0.clone())
    }
}

impl<F, K> Streaming<F, K> {
    pub(crate) fn new(method: F) -> Self {
        Self(method, PhantomData)
    }
}

impl<H, F, P, K> Answering<H, P> for Streaming<F, K>
where
    H: Hub,
    F: for<'a> StreamMethod<'a, H, P, Output: IntoStream<K, Stream: Send, Wait: Send>>,
    P: Send + 'static,
    K: 'static,
{
    const STREAMS: bool = true;

    async fn answer<'a>(
        &'a self,
        hub: &'a H,
        context: &'a CallerContext,
        call: &'a Call,
        params: P,
    ) -> HubResult<Answer<'a>> {
        let stream = self.0.call(hub, context, params).into_stream().await?;
        Ok(Answer(match stream {
            Some(stream) => {
                let items = stream.map(|item| item.and_then(|item| call.item(&item)));
                Answered::Stream(items.boxed())
            }
            None => Answered::NoStream,
        }))
    }
}

/// Runs a call to its end. It may panic, wherever code of the application runs, encoding included: somebody's `Serialize` may.
async fn run<H: Hub, P: Send + Sync + 'static, M: Answering<H, P>>(
    method: M,
    params: P,
    setting: Setting<H>,
) -> Option<Frame> {
    let Setting {
        callee, context, ..
    } = &setting;
    let Callee { hub, filters } = &**callee;
    let call = context.call();
    let mut arguments = Some(params);
    // In boxes of their own: what is rare, so that it does not make every call larger.
    if setting.policy.is_some() && !Box::pin(is_authorized(&setting, &arguments)).await {
        let target = &call.target;
        return call.error(&format!(
            "Failed to invoke '{target}' because user is unauthorized"
        ));
    }
    if let Some(refusal) = &setting.refusal {
        return call.error(refusal);
    }
    let run_method = |invocation| method_of(&method, &setting, invocation);
    let answer = if filters.is_empty() {
        match arguments.take() {
            Some(params) => method.answer(hub, context, call, params).await,
            None => Err(arguments_are_gone()),
        }
    } else {
        let filtered = async {
            let invocation = HubInvocation {
                context,
                method: setting.name,
                call,
                arguments: &mut arguments,
            };
            let outermost = Next {
                filters,
                method: &run_method,
            };
            outermost.run(invocation).await
        };
        Box::pin(filtered).await
    };
    match answer {
        Ok(Answer(Answered::Value(_))) if M::STREAMS => call.failed(&value_for_a_stream()),
        Ok(Answer(Answered::Value(completion))) => completion,
        Ok(Answer(Answered::Stream(items))) => {
            call.state.begins_to_stream();
            Box::pin(send_items(items, call, context)).await
        }
        Ok(Answer(Answered::NoStream)) => call.error(&format!(
            "The value returned by the streaming method '{}' is not a ChannelReader<> or IAsyncEnumerable<>.",
            call.target
        )),
        Err(error) => call.failed(&error),
    }
}

/// Whether the method's policy lets the caller call it like this.
async fn is_authorized<H: Hub>(setting: &Setting<H>, arguments: &(dyn Any + Send + Sync)) -> bool {
    let Some(policy) = &setting.policy else {
        return true;
    };
    let call = MethodCall {
        method: setting.name,
        arguments,
    };
    let authorized = policy
        .decide(&setting.callee.hub, &setting.context, call)
        .await;
    if !authorized {
        tracing::info!(
            method = setting.name,
            "a client is not authorized to call a method"
        );
    }
    authorized
}

/// The end of the way through the filters.
#[expect(
    clippy::needless_pass_by_value,
    reason = "whoever passes a call on has it no longer"
)]
fn method_of<'a, H: Hub, P: 'static, M: Answering<H, P>>(
    method: &'a M,
    setting: &'a Setting<H>,
    invocation: HubInvocation<'a>,
) -> BoxFuture<'a, HubResult<Answer<'a>>> {
    let arguments = invocation.arguments.downcast_mut::<Option<P>>();
    match arguments.and_then(Option::take) {
        Some(params) => method
            .answer(
                &setting.callee.hub,
                &setting.context,
                setting.context.call(),
                params,
            )
            .boxed(),
        None => ready(Err(arguments_are_gone())).boxed(),
    }
}

/// Sends the items of a stream as fast as the client takes them, and gives the completion.
async fn send_items(
    mut items: BoxStream<'_, HubResult<Frame>>,
    call: &Call,
    context: &CallerContext,
) -> Option<Frame> {
    loop {
        let next = async {
            context.room().await;
            items.next().await
        };
        let item = tokio::select! {
            biased;
            why = context.state().until_stopped() => return farewell(items, why, call).await,
            item = next => item,
        };
        let item = match item {
            None => return call.stream_ended(),
            Some(Ok(item)) => item,
            Some(Err(error)) => return call.stream_failed(&error),
        };
        // Once more: other streams of the client may have had one meanwhile.
        tokio::select! {
            biased;
            why = context.state().until_stopped() => return farewell(items, why, call).await,
            () = context.room() => context.connection().answer(item),
        }
        // A stream that always has more would otherwise keep its connection's task to itself.
        tokio::task::coop::consume_budget().await;
    }
}

/// Ends a stream early. One that listens to [`CallerContext::cancelled`] may still tidy up.
async fn farewell(
    mut items: BoxStream<'_, HubResult<Frame>>,
    why: Stop,
    call: &Call,
) -> Option<Frame> {
    if why == Stop::Shutdown {
        return call.failed_to_run(SHUTTING_DOWN);
    }
    // What comes now is not for the client any more.
    let _ = timeout(STREAM_FAREWELL, items.next()).await;
    // A client that took the stream back has been told its end already, unless it did so before the stream began.
    call.stream_ended()
}
