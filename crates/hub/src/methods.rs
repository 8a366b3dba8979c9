//! The table of a hub's methods: from a name and raw arguments to a call.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hubcast_protocol::{Arguments, EncodeError, Encoding};
use serde::Serialize;

use crate::binding::{BindError, FromArguments};
use crate::context::CallerContext;
use crate::error::{HubError, HubResult};
use crate::frame::Frame;
use crate::hub::Hub;

/// The methods of a hub, by the names that clients call them.
pub struct Methods<H> {
    /// Keys are in ASCII lower case.
    table: HashMap<String, Box<dyn Callable<H>>>,
}

impl<H> std::fmt::Debug for Methods<H> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(self.table.keys()).finish()
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
        Self {
            table: HashMap::new(),
        }
    }

    /// Adds a method: an `async fn(&self, ctx: &CallerContext, ..) -> HubResult<T>` with up to eight parameters of
    /// types that implement `Deserialize`, and a result that implements `Serialize`.
    ///
    /// Clients find it by `name` in any ASCII case, and must give exactly as many arguments as there are
    /// parameters; both as in ASP.NET Core. A parameter that may be `null` is an `Option`; one that takes anything
    /// is a `serde_json::Value` or, where it is JSON unchanged to the letter, a `Box<serde_json::value::RawValue>`. Parameters own
    /// their data: write `String`, not `&str`, for which the compiler has only "not general enough" to say.
    ///
    /// # Panics
    ///
    /// If there is a method of that name already, in any case: SignalR knows no overloading.
    pub fn method<F, P>(mut self, name: &'static str, method: F) -> Self
    where
        F: for<'a> Method<'a, H, P, Future: Send, Output: IntoCompletion>,
        P: FromArguments + Send + 'static,
    {
        match self.table.entry(name.to_ascii_lowercase()) {
            Entry::Vacant(vacant) => {
                vacant.insert(Box::new(Plain {
                    name,
                    method: Arc::new(method),
                    params: std::marker::PhantomData,
                }));
            }
            Entry::Occupied(_) => {
                panic!("Duplicate definitions of '{name}'. Overloading is not supported.")
            }
        }
        self
    }

    pub(crate) fn find(&self, target: &str) -> Option<&dyn Callable<H>> {
        let found = if target.bytes().any(|byte| byte.is_ascii_uppercase()) {
            self.table.get(&target.to_ascii_lowercase())
        } else {
            self.table.get(target)
        };
        found.map(|method| &**method)
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
pub trait Method<'a, H: 'a, Params>: Send + Sync + 'static {
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
    note = "return `HubResult<T>` where `T: serde::Serialize`; a method without a result returns `HubResult`"
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

/// A call on its way: who wants the answer, if anybody, and how errors are told.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// `None`: nobody wants an answer, whatever happens.
    pub(crate) invocation_id: Option<String>,
    /// The method's name in the caller's spelling, for texts.
    pub(crate) target: String,
    /// What the answer is written in.
    pub(crate) encoding: Encoding,
    pub(crate) detailed_errors: bool,
}

impl Call {
    fn succeeded<T: Serialize>(&self, value: &T) -> Option<Frame> {
        let id = self.invocation_id.as_deref()?;
        match Frame::encode(self.encoding, |out| {
            self.encoding.write_result(out, id, value)
        }) {
            Ok(frame) => Some(frame),
            Err(error) => self.unencodable(&error),
        }
    }

    fn unencodable(&self, error: &EncodeError) -> Option<Frame> {
        tracing::error!(target = self.target, %error, "the result of a hub method could not be encoded");
        self.failed_to_run("")
    }

    fn failed(&self, error: &HubError) -> Option<Frame> {
        tracing::info!(target = self.target, %error, "a hub method failed");
        self.failed_to_run(&error.detail(self.detailed_errors))
    }

    /// The answer to a call whose method ran and failed. `detail` is empty or starts with a space.
    pub(crate) fn failed_to_run(&self, detail: &str) -> Option<Frame> {
        let target = &self.target;
        self.error(&format!(
            "An unexpected error occurred invoking '{target}' on the server.{detail}"
        ))
    }

    /// The answer to a call that did not come as far as running.
    pub(crate) fn failed_to_bind(&self, detail: &str) -> Option<Frame> {
        let target = &self.target;
        self.error(&format!(
            "Failed to invoke '{target}' due to an error on the server.{detail}"
        ))
    }

    /// The answer with a text of its own.
    pub(crate) fn error(&self, text: &str) -> Option<Frame> {
        let id = self.invocation_id.as_deref()?;
        Some(Frame::infallible(self.encoding, |out| {
            self.encoding.write_error(out, id, text);
        }))
    }
}

/// A running call. Gives the answer, if one is wanted; a panic of the method is an answer, too.
pub(crate) type Running = BoxFuture<'static, Option<Frame>>;

/// A method with its types forgotten.
pub(crate) trait Callable<H>: Send + Sync {
    /// Gives the arguments their types; what comes back runs only when polled.
    fn bind(
        &self,
        hub: &Arc<H>,
        context: &Arc<CallerContext>,
        arguments: Arguments<'_>,
        call: &Call,
    ) -> Result<Running, BindError>;
}

/// A method that answers once.
struct Plain<F, P> {
    name: &'static str,
    method: Arc<F>,
    params: std::marker::PhantomData<fn() -> P>,
}

impl<H, F, P> Callable<H> for Plain<F, P>
where
    H: Hub,
    F: for<'a> Method<'a, H, P, Future: Send, Output: IntoCompletion>,
    P: FromArguments + Send + 'static,
{
    fn bind(
        &self,
        hub: &Arc<H>,
        context: &Arc<CallerContext>,
        arguments: Arguments<'_>,
        call: &Call,
    ) -> Result<Running, BindError> {
        let params = P::from_arguments(arguments)?;
        let (hub, context) = (Arc::clone(hub), Arc::clone(context));
        let (method, call, name) = (Arc::clone(&self.method), call.clone(), self.name);
        Ok(Box::pin(async move {
            // Making the answer is the user's code as well: somebody's `Serialize` may panic.
            let answer = async {
                match method.call(&hub, &context, params).await.into_result() {
                    Ok(value) => call.succeeded(&value),
                    Err(error) => call.failed(&error),
                }
            };
            let answered = AssertUnwindSafe(answer).catch_unwind().await;
            answered.unwrap_or_else(|_| {
                // The panic hook has printed the message and where it came from.
                tracing::error!(method = name, "a hub method panicked");
                call.failed_to_run("")
            })
        }))
    }
}

macro_rules! method {
    ($($param:ident)*) => {
        impl<'a, H, F, R, $($param),*> Method<'a, H, ($($param,)*)> for F
        where
            H: 'a,
            F: Fn(&'a H, &'a CallerContext, $($param),*) -> R + Send + Sync + 'static,
            R: Future + 'a,
        {
            type Output = R::Output;
            type Future = R;

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
