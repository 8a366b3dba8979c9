//! What may handle a call of the server: functions of its arguments.

use std::fmt::Display;
use std::future::{Ready, ready};
use std::marker::PhantomData;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hubcast_protocol::{Arguments, Encoding, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::upload::or_unknown;

/// The shape of a handler: a function or closure of up to eight parameters that own their data.
///
/// There is no need to implement it by hand. What a handler must give is asked where it is registered.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not have the shape of a handler",
    label = "not a handler",
    note = "a handler is a function or closure of at most eight parameters, none of them a reference, with their types written out: \
            `|user: String, text: String| ..`"
)]
pub trait Handler<Params>: Send + Sync + 'static {
    /// What it gives, or the future of it.
    type Output;

    /// Runs it, or makes the future that runs it.
    fn call(&self, params: Params) -> Self::Output;
}

/// What a handler may give that is not asked for a result: nothing, or a future of nothing.
///
/// `Kind` tells these apart: [`Immediate`], [`Eventual`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not what a handler gives",
    label = "neither `()` nor a future of it",
    note = "a handler gives nothing; one whose result the server asks for is registered with `on_result`"
)]
pub trait IntoDone<Kind> {
    /// The rest of the handler's work.
    type Future: Future<Output = ()>;

    /// Gives the rest of the work.
    fn into_done(self) -> Self::Future;
}

/// What a handler may give that is asked for a result: a `Result`, or a future of one.
///
/// The text of an error goes to the server.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not what a handler with a result gives",
    label = "neither a `Result<T, E>` nor a future of one",
    note = "give `Result<T, E>` where `T: serde::Serialize` and `E: std::fmt::Display`"
)]
pub trait IntoAnswer<Kind> {
    /// The type of the result.
    type Value: Serialize;
    /// The type of the error.
    type Error: Display;
    /// The rest of the handler's work.
    type Future: Future<Output = Result<Self::Value, Self::Error>>;

    /// Gives the rest of the work.
    fn into_answer(self) -> Self::Future;
}

/// A handler that is done when it returns.
#[derive(Debug)]
pub enum Immediate {}

/// A handler that is done when its future is.
#[derive(Debug)]
pub enum Eventual {}

impl IntoDone<Immediate> for () {
    type Future = Ready<()>;

    fn into_done(self) -> Ready<()> {
        ready(())
    }
}

// Otherwise the compiler would ask for a future of whatever a handler gives.
#[diagnostic::do_not_recommend]
impl<F: Future<Output = ()>> IntoDone<Eventual> for F {
    type Future = F;

    fn into_done(self) -> F {
        self
    }
}

impl<T: Serialize, E: Display> IntoAnswer<Immediate> for Result<T, E> {
    type Value = T;
    type Error = E;
    type Future = Ready<Self>;

    fn into_answer(self) -> Ready<Self> {
        ready(self)
    }
}

#[diagnostic::do_not_recommend]
impl<F, T, E> IntoAnswer<Eventual> for F
where
    F: Future<Output = Result<T, E>>,
    T: Serialize,
    E: Display,
{
    type Value = T;
    type Error = E;
    type Future = F;

    fn into_answer(self) -> F {
        self
    }
}

/// The parameters of a handler: a tuple of up to eight types that implement `Deserialize` and own their data.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the parameters of a handler",
    label = "a parameter here cannot be deserialized",
    note = "every parameter must implement `serde::Deserialize` and own its data"
)]
pub trait FromArguments: Sized {
    /// Takes exactly as many arguments as there are types. The error is for the log.
    #[doc(hidden)]
    fn from_arguments(arguments: Arguments<'_>) -> Result<Self, String>;
}

/// A call that wants an answer.
pub(crate) struct Asked {
    pub(crate) encoding: Encoding,
    pub(crate) id: String,
}

/// A running handler: what there is to send when it is done.
pub(crate) type Running = BoxFuture<'static, Option<Vec<u8>>>;

/// A handler without its types.
pub(crate) trait Target: Send + Sync {
    /// Whether it has a result, which the server may ask for.
    fn has_result(&self) -> bool;

    /// Gives the arguments their types and begins to run. The error says what does not fit.
    fn call(&self, arguments: Arguments<'_>, asked: Option<Asked>) -> Result<Running, String>;
}

/// A handler without a result.
pub(crate) struct Plain<F, P, K>(pub(crate) F, pub(crate) PhantomData<fn(P) -> K>);

/// A handler with one.
pub(crate) struct Answering<F, P, K>(pub(crate) F, pub(crate) PhantomData<fn(P) -> K>);

impl<F, P, K> Target for Plain<F, P, K>
where
    F: Handler<P, Output: IntoDone<K, Future: Send + 'static>>,
    P: FromArguments,
{
    fn has_result(&self) -> bool {
        false
    }

    fn call(&self, arguments: Arguments<'_>, _: Option<Asked>) -> Result<Running, String> {
        let params = P::from_arguments(arguments)?;
        let done = self.0.call(params).into_done();
        Ok(done.map(|()| None).boxed())
    }
}

impl<F, P, K> Target for Answering<F, P, K>
where
    F: Handler<P, Output: IntoAnswer<K, Future: Send + 'static>>,
    P: FromArguments,
{
    fn has_result(&self) -> bool {
        true
    }

    fn call(&self, arguments: Arguments<'_>, asked: Option<Asked>) -> Result<Running, String> {
        let params = P::from_arguments(arguments)?;
        let answer = self.0.call(params).into_answer();
        let completion = answer.map(|answer| asked.map(|asked| asked.completion(answer)));
        Ok(completion.boxed())
    }
}

impl Asked {
    fn completion<T: Serialize, E: Display>(self, answer: Result<T, E>) -> Vec<u8> {
        let mut message = Vec::new();
        let failure = match answer {
            Ok(value) => match self.encoding.write_result(&mut message, &self.id, &value) {
                Ok(()) => return message,
                Err(error) => error.to_string(),
            },
            Err(error) => error.to_string(),
        };
        self.failure(&failure)
    }

    pub(crate) fn failure(&self, error: &str) -> Vec<u8> {
        let mut message = Vec::new();
        self.encoding
            .write_error(&mut message, &self.id, or_unknown(error));
        message
    }
}

fn argument<T: DeserializeOwned>(position: usize, value: Value<'_>) -> Result<T, String> {
    let value = value.decode();
    value.map_err(|error| format!("argument {position} does not fit: {error}"))
}

macro_rules! handler {
    ($count:literal $($param:ident $position:literal)*) => {
        impl<$($param: DeserializeOwned),*> FromArguments for ($($param,)*) {
            #[allow(non_snake_case, reason = "the names of types serve as names of values")]
            fn from_arguments(arguments: Arguments<'_>) -> Result<Self, String> {
                let values = arguments.values().map_err(|error| error.to_string())?;
                let given = values.len();
                let values: [Value<'_>; $count] = values.try_into().map_err(|_| {
                    format!("there are {given} arguments, and the handler has {} parameters", $count)
                })?;
                let [$($param),*] = values;
                Ok(($(argument($position, $param)?,)*))
            }
        }

        impl<F, R, $($param),*> Handler<($($param,)*)> for F
        where
            F: Fn($($param),*) -> R + Send + Sync + 'static,
        {
            type Output = R;

            #[allow(non_snake_case, reason = "the names of types serve as names of values")]
            fn call(&self, ($($param,)*): ($($param,)*)) -> R {
                self($($param),*)
            }
        }
    };
}

handler!(0);
handler!(1 A 1);
handler!(2 A 1 B 2);
handler!(3 A 1 B 2 C 3);
handler!(4 A 1 B 2 C 3 D 4);
handler!(5 A 1 B 2 C 3 D 4 E 5);
handler!(6 A 1 B 2 C 3 D 4 E 5 G 6);
handler!(7 A 1 B 2 C 3 D 4 E 5 G 6 I 7);
handler!(8 A 1 B 2 C 3 D 4 E 5 G 6 I 7 J 8);
