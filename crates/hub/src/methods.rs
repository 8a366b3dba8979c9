//! The table of a hub's methods.

use std::sync::Arc;

use futures_util::Stream;
use futures_util::future::{Ready, ready};
use serde::Serialize;

use crate::authorization::{AnyPolicy, Policy};
use crate::binding::FromArguments;
use crate::context::CallerContext;
use crate::error::HubResult;
use crate::hub::Hub;
use crate::invocation::{Callable, Plain, Streaming, Typed};

/// The methods of a hub, by the names that clients call them.
pub struct Methods<H> {
    /// In the order of their names, whose ASCII case does not count: a handful is found faster so than by a hash of the name.
    table: Vec<Registered<H>>,
}

/// A method in the table.
pub(crate) struct Registered<H> {
    /// As it was registered.
    pub(crate) name: &'static str,
    pub(crate) method: Box<dyn Callable<H>>,
    /// Who may call it; anybody without one.
    pub(crate) policy: Option<Arc<dyn AnyPolicy<H>>>,
}

impl<H> std::fmt::Debug for Methods<H> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_list()
            .entries(self.table.iter().map(|method| method.name))
            .finish()
    }
}

impl<H: Hub> Default for Methods<H> {
    fn default() -> Self {
        Self::new()
    }
}

impl<H: Hub> Methods<H> {
    /// An empty table.
    pub fn new() -> Self {
        Self { table: Vec::new() }
    }

    /// Adds a method: an `async fn(&self, ctx: &CallerContext, ..) -> HubResult<T>` with up to eight parameters of
    /// types that implement `Deserialize`, and a result that implements `Serialize`.
    ///
    /// Clients find it by `name` in any ASCII case, and must give exactly as many arguments as there are
    /// parameters; both as in ASP.NET Core. A parameter that may be `null` is an `Option`; one that takes anything
    /// is a `serde_json::Value` or, where it is JSON unchanged to the letter, a `Box<serde_json::value::RawValue>`. Parameters own
    /// their data: write `String`, not `&str`, for which the compiler has only "not general enough" to say. A parameter of
    /// type [`ClientStream`](crate::ClientStream) is a stream that the client sends; it is no argument.
    ///
    /// Every call has a clone of `method`. That of a function is nothing; what a closure captures must be worth cloning.
    ///
    /// # Panics
    ///
    /// If there is a method of that name already, in any case: SignalR knows no overloading.
    pub fn method<F, P>(self, name: &'static str, method: F) -> Self
    where
        F: for<'a> Method<'a, H, P, Future: Send, Output: IntoCompletion>,
        P: FromArguments + Send + Sync + 'static,
    {
        self.register(name, Box::new(Typed::<_, P>::new(Plain(method))))
    }

    /// Adds a method that answers with a stream: a `fn(&self, ctx: &CallerContext, ..) -> impl Stream<Item = HubResult<T>>`,
    /// or an `async fn` of a `HubResult` of such a stream, with parameters as [`method`](Self::method) has them.
    ///
    /// ```
    /// use futures_util::{Stream, stream};
    /// use hubcast::{CallerContext, Hub, HubResult, Methods};
    ///
    /// struct Clock;
    ///
    /// impl Hub for Clock {
    ///     fn methods() -> Methods<Self> {
    ///         Methods::new().stream("CountDown", Self::count_down)
    ///     }
    /// }
    ///
    /// impl Clock {
    ///     fn count_down(&self, _: &CallerContext, from: u32) -> impl Stream<Item = HubResult<u32>> {
    ///         stream::iter((0..=from).rev().map(Ok))
    ///     }
    /// }
    /// ```
    ///
    /// Clients call it with `stream(..)`. It runs beside other calls and takes none of their slots. While
    /// [`application_max_buffer_size`](crate::HubOptions::application_max_buffer_size) bytes wait for the client, the stream is not
    /// asked for more. An error among the items ends it. When the client no longer wants the stream, or is gone,
    /// [`CallerContext::cancelled`] tells so, and the stream is dropped at its next item, or two seconds later.
    ///
    /// An `async fn` may also give a `HubResult<Option<impl Stream>>`; `None` is told to the client as ASP.NET Core tells of a
    /// method that returned null.
    ///
    /// # Panics
    ///
    /// If there is a method of that name already, in any case.
    pub fn stream<F, P, K>(self, name: &'static str, method: F) -> Self
    where
        F: for<'a> StreamMethod<'a, H, P, Output: IntoStream<K, Stream: Send, Wait: Send>>,
        P: FromArguments + Send + Sync + 'static,
        K: 'static,
    {
        let method = Streaming::<F, K>::new(method);
        self.register(name, Box::new(Typed::<_, P>::new(method)))
    }

    fn register(mut self, name: &'static str, method: Box<dyn Callable<H>>) -> Self {
        match self.position(name) {
            Err(at) => self.table.insert(
                at,
                Registered {
                    name,
                    method,
                    policy: None,
                },
            ),
            Ok(_) => panic!("Duplicate definitions of '{name}'. Overloading is not supported."),
        }
        self
    }

    /// Lets only those call a method whom a policy allows to: an `async fn(&self, ctx: &CallerContext, call: MethodCall<'_>) -> bool`.
    /// ASP.NET Core's `[Authorize]` on a hub method.
    ///
    /// Asked for every call, once its arguments have their types. Who is not allowed reads `Failed to invoke 'X' because user is
    /// unauthorized`; neither the method nor a filter sees the call.
    ///
    /// ```
    /// use hubcast::{CallerContext, Hub, HubResult, MethodCall, Methods};
    ///
    /// struct ChatHub;
    ///
    /// impl Hub for ChatHub {
    ///     fn methods() -> Methods<Self> {
    ///         Methods::new()
    ///             .method("Ban", Self::ban)
    ///             .authorize("Ban", Self::may_moderate)
    ///     }
    /// }
    ///
    /// impl ChatHub {
    ///     async fn ban(&self, _: &CallerContext, user: String) -> HubResult {
    ///         println!("{user} is banned");
    ///         Ok(())
    ///     }
    ///
    ///     async fn may_moderate(&self, ctx: &CallerContext, call: MethodCall<'_>) -> bool {
    ///         let banned = call.arguments::<(String,)>();
    ///         ctx.connection_id().starts_with('m') && banned.is_some_and(|(user,)| user != "boss")
    ///     }
    /// }
    /// ```
    ///
    /// # Panics
    ///
    /// If there is no method of that name, or if it has a policy already.
    pub fn authorize<F>(mut self, name: &'static str, policy: F) -> Self
    where
        F: for<'a> Policy<'a, H>,
    {
        let at = self.position(name);
        let Some(method) = at.ok().and_then(|at| self.table.get_mut(at)) else {
            panic!("There is no method '{name}' that could be authorized: register it first.");
        };
        assert!(
            method.policy.is_none(),
            "The method '{name}' has a policy already."
        );
        method.policy = Some(Arc::new(policy));
        self
    }

    pub(crate) fn find(&self, target: &str) -> Option<&Registered<H>> {
        self.table.get(self.position(target).ok()?)
    }

    /// Where a method is, or else where it belongs.
    fn position(&self, name: &str) -> Result<usize, usize> {
        self.table.binary_search_by(|method| {
            let [method, name] = [method.name, name].map(str::bytes);
            let lower = |byte: u8| byte.to_ascii_lowercase();
            method.map(lower).cmp(name.map(lower))
        })
    }
}

/// The shape of a hub method; what it must be able to do is asked where it is registered, so that the compiler
/// names what is missing.
///
/// Implemented for functions `(&'a H, &'a CallerContext, P1, P2, ..) -> Future` of up to eight parameters; there is
/// no need to implement it by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not have the shape of a hub method",
    label = "not a hub method",
    note = "a hub method is `async fn name(&self, ctx: &CallerContext, ..) -> HubResult<T>` with at most eight \
            parameters after the context, none of them a reference"
)]
pub trait Method<'a, H: 'a, Params>: Clone + Send + Sync + 'static {
    /// What the method gives in the end.
    type Output;
    /// The running method.
    type Future: Future<Output = Self::Output> + 'a;

    /// Calls the method.
    fn call(&self, hub: &'a H, context: &'a CallerContext, params: Params) -> Self::Future;
}

/// What a hub method may give: a [`HubResult`] of something that can be serialized.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not what a hub method returns",
    label = "not a `HubResult<T>` of a serializable `T`",
    note = "return `HubResult<T>` where `T: serde::Serialize`; a method without a result returns `HubResult`; one that \
            answers with a stream is registered with `stream`"
)]
pub trait IntoCompletion {
    /// The type of the result.
    type Value: Serialize;

    /// The value, or what went wrong.
    fn into_result(self) -> HubResult<Self::Value>;
}

impl<T: Serialize> IntoCompletion for HubResult<T> {
    type Value = T;

    fn into_result(self) -> HubResult<T> {
        self
    }
}

/// The shape of a hub method that answers with a stream.
///
/// Implemented for functions `(&'a H, &'a CallerContext, P1, P2, ..) -> R` of up to eight parameters; there is no need to
/// implement it by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not have the shape of a hub method that streams",
    label = "not a hub method that streams",
    note = "such a method is `fn name(&self, ctx: &CallerContext, ..) -> impl Stream<Item = HubResult<T>>`, or an `async fn` of a \
            `HubResult` of a stream, with at most eight parameters after the context, none of them a reference"
)]
pub trait StreamMethod<'a, H: 'a, Params>: Clone + Send + Sync + 'static {
    /// The stream, or what becomes one.
    type Output: 'a;

    /// Calls the method.
    fn call(&self, hub: &'a H, context: &'a CallerContext, params: Params) -> Self::Output;
}

/// What a hub method that streams may give: a stream of [`HubResult`]s of something that can be serialized, or the future of one.
///
/// `Kind` tells these apart: [`Immediate`], [`Eventual`], [`Optional`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not what a hub method that streams returns",
    label = "not a stream of `HubResult<T>` of a serializable `T`",
    note = "return `impl Stream<Item = HubResult<T>>` where `T: serde::Serialize`, or make it an `async fn` of a `HubResult` of that"
)]
pub trait IntoStream<Kind> {
    /// The type of the items.
    type Item: Serialize;
    /// The items, and at most one error at the end.
    type Stream: Stream<Item = HubResult<Self::Item>>;
    /// Gives the stream.
    type Wait: Future<Output = HubResult<Option<Self::Stream>>>;

    /// Begins to make the stream.
    fn into_stream(self) -> Self::Wait;
}

/// A method that gives its stream at once.
#[derive(Debug)]
pub enum Immediate {}

/// A method that gives a stream, or an error, in the future.
#[derive(Debug)]
pub enum Eventual {}

/// A method that gives a stream, nothing, or an error, in the future.
#[derive(Debug)]
pub enum Optional {}

impl<S, T> IntoStream<Immediate> for S
where
    S: Stream<Item = HubResult<T>>,
    T: Serialize,
{
    type Item = T;
    type Stream = S;
    type Wait = Ready<HubResult<Option<S>>>;

    fn into_stream(self) -> Self::Wait {
        ready(Ok(Some(self)))
    }
}

impl<F, S, T> IntoStream<Eventual> for F
where
    F: Future<Output = HubResult<S>>,
    S: Stream<Item = HubResult<T>>,
    T: Serialize,
{
    type Item = T;
    type Stream = S;
    type Wait = futures_util::future::MapOk<F, fn(S) -> Option<S>>;

    fn into_stream(self) -> Self::Wait {
        futures_util::TryFutureExt::map_ok(self, Some)
    }
}

impl<F, S, T> IntoStream<Optional> for F
where
    F: Future<Output = HubResult<Option<S>>>,
    S: Stream<Item = HubResult<T>>,
    T: Serialize,
{
    type Item = T;
    type Stream = S;
    type Wait = F;

    fn into_stream(self) -> F {
        self
    }
}

macro_rules! method {
    ($($param:ident)*) => {
        impl<'a, H, F, R, $($param),*> Method<'a, H, ($($param,)*)> for F
        where
            H: 'a,
            F: Fn(&'a H, &'a CallerContext, $($param),*) -> R + Clone + Send + Sync + 'static,
            R: Future + 'a,
        {
            type Output = R::Output;
            type Future = R;

            #[allow(non_snake_case, reason = "the names of types serve as names of values")]
            fn call(&self, hub: &'a H, context: &'a CallerContext, ($($param,)*): ($($param,)*)) -> R {
                self(hub, context, $($param),*)
            }
        }

        impl<'a, H, F, R, $($param),*> StreamMethod<'a, H, ($($param,)*)> for F
        where
            H: 'a,
            F: Fn(&'a H, &'a CallerContext, $($param),*) -> R + Clone + Send + Sync + 'static,
            R: 'a,
        {
            type Output = R;

            #[allow(non_snake_case, reason = "the names of types serve as names of values")]
            fn call(&self, hub: &'a H, context: &'a CallerContext, ($($param,)*): ($($param,)*)) -> R {
                self(hub, context, $($param),*)
            }
        }
    };
}

method!();
method!(A);
method!(A B);
method!(A B C);
method!(A B C D);
method!(A B C D E);
method!(A B C D E G);
method!(A B C D E G I);
method!(A B C D E G I J);
