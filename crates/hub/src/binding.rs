//! Giving raw arguments the types of a method's parameters.

use std::sync::Arc;

use hubcast_protocol::{Arguments, DecodeError, Encoding, Value};
use serde::de::DeserializeOwned;

use crate::client_stream::{ClientStream, Upload, client_stream};

/// The arguments do not fit the parameters. The text is for the caller when detailed errors are on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// Too many or too few; the count must be exact.
    #[error("Invocation provides {given} argument(s) but target expects {expected}.")]
    Count {
        /// How many arguments came.
        given: usize,
        /// How many parameters there are, those that are streams left out.
        expected: usize,
    },
    /// An argument is not of its parameter's type.
    #[error(
        "Error binding arguments. Make sure that the types of the provided values match the types of the hub \
         method being invoked."
    )]
    Type {
        /// Which argument, counted from 1; 0 for all of them.
        position: usize,
        /// What the decoder objected to.
        reason: String,
    },
}

impl BindError {
    /// The text as ASP.NET Core has it for an encoding: with MessagePack it knows which argument it was.
    pub(crate) fn text(&self, encoding: Encoding) -> String {
        match self {
            Self::Type { position, .. } if encoding == Encoding::MessagePack && *position > 0 => {
                format!(
                    "Error binding argument {position}. Make sure that the types of the provided values match the \
                     types of the hub method being invoked."
                )
            }
            _ => self.to_string(),
        }
    }
}

/// What a call brings for the parameters of its method.
#[derive(Debug)]
pub struct Parameters<'a> {
    arguments: Arguments<'a>,
    values: std::vec::IntoIter<Value<'a>>,
    taken: usize,
    stream_capacity: usize,
    uploads: Uploads,
}

/// The ends of a call's streams that the client's items go into, in the order of the parameters.
#[derive(Default)]
pub(crate) struct Uploads(pub(crate) Vec<Arc<dyn Upload>>);

impl std::fmt::Debug for Uploads {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_tuple("Uploads")
            .field(&self.0.len())
            .finish()
    }
}

impl<'a> Parameters<'a> {
    /// Streams hold at most `stream_capacity` items.
    pub(crate) fn new(arguments: Arguments<'a>, stream_capacity: usize) -> Self {
        Self {
            arguments,
            values: Vec::new().into_iter(),
            taken: 0,
            stream_capacity,
            uploads: Uploads::default(),
        }
    }

    pub(crate) fn into_uploads(self) -> Vec<Arc<dyn Upload>> {
        self.uploads.0
    }

    fn expect(&mut self, expected: usize) -> Result<(), BindError> {
        let values = self
            .arguments
            .values()
            .map_err(|error| unreadable(&error))?;
        let given = values.len();
        if given != expected {
            return Err(BindError::Count { given, expected });
        }
        self.values = values.into_iter();
        Ok(())
    }
}

fn unreadable(error: &DecodeError) -> BindError {
    BindError::Type {
        position: 0,
        reason: error.to_string(),
    }
}

/// A parameter of a hub method: a type that implements `Deserialize`, or a [`ClientStream`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a parameter of a hub method",
    label = "cannot be deserialized",
    note = "every parameter after the context must implement `serde::Deserialize` and own its data, or be a \
            `ClientStream` of such a type"
)]
pub trait FromArgument: Sized {
    #[doc(hidden)]
    const IS_STREAM: bool;

    #[doc(hidden)]
    fn from_argument(parameters: &mut Parameters<'_>) -> Result<Self, BindError>;
}

impl<T: DeserializeOwned> FromArgument for T {
    const IS_STREAM: bool = false;

    fn from_argument(parameters: &mut Parameters<'_>) -> Result<Self, BindError> {
        parameters.taken += 1;
        let position = parameters.taken;
        let failed = |reason| BindError::Type { position, reason };
        match parameters.values.next() {
            Some(value) => value.decode().map_err(|error| failed(error.to_string())),
            // Cannot be: the count has been compared.
            None => Err(failed("it is missing".to_owned())),
        }
    }
}

impl<T: DeserializeOwned + Send + 'static> FromArgument for ClientStream<T> {
    const IS_STREAM: bool = true;

    fn from_argument(parameters: &mut Parameters<'_>) -> Result<Self, BindError> {
        let (stream, upload) = client_stream(parameters.stream_capacity);
        parameters.uploads.0.push(upload);
        Ok(stream)
    }
}

/// The parameters of a hub method: a tuple of up to eight types that implement `Deserialize`, or are a
/// [`ClientStream`] of one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the parameters of a hub method",
    label = "a parameter here cannot be deserialized",
    note = "every parameter after the context must implement `serde::Deserialize` and own its data"
)]
pub trait FromArguments: Sized {
    /// How many of the parameters are streams.
    #[doc(hidden)]
    const STREAMS: usize;

    /// Takes exactly as many arguments as there are types that are no streams.
    #[doc(hidden)]
    fn from_arguments(parameters: &mut Parameters<'_>) -> Result<Self, BindError>;
}

macro_rules! from_arguments {
    ($count:literal $($param:ident)*) => {
        impl<$($param: FromArgument),*> FromArguments for ($($param,)*) {
            const STREAMS: usize = 0 $(+ $param::IS_STREAM as usize)*;

            fn from_arguments(parameters: &mut Parameters<'_>) -> Result<Self, BindError> {
                parameters.expect($count - Self::STREAMS)?;
                Ok(($($param::from_argument(parameters)?,)*))
            }
        }
    };
}

from_arguments!(0);
from_arguments!(1 A);
from_arguments!(2 A B);
from_arguments!(3 A B C);
from_arguments!(4 A B C D);
from_arguments!(5 A B C D E);
from_arguments!(6 A B C D E F);
from_arguments!(7 A B C D E F G);
from_arguments!(8 A B C D E F G I);
