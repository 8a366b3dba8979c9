//! Giving raw arguments the types of a method's parameters.

use hubcast_protocol::{Arguments, DecodeError, Value};
use serde::de::DeserializeOwned;

/// The arguments do not fit the parameters. The text is for the caller when detailed errors are on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// Too many or too few; the count must be exact.
    #[error("Invocation provides {given} argument(s) but target expects {expected}.")]
    Count {
        /// How many arguments came.
        given: usize,
        /// How many parameters there are.
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

/// The parameters of a hub method: a tuple of up to eight types that implement `Deserialize`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the parameters of a hub method",
    label = "a parameter here cannot be deserialized",
    note = "every parameter after the context must implement `serde::Deserialize` and own its data"
)]
pub trait FromArguments: Sized {
    /// Decodes exactly as many arguments as there are types.
    #[doc(hidden)]
    fn from_arguments(arguments: Arguments<'_>) -> Result<Self, BindError>;
}

fn decode<T: DeserializeOwned>(position: usize, value: Value<'_>) -> Result<T, BindError> {
    value.decode().map_err(|error| BindError::Type {
        position,
        reason: error.to_string(),
    })
}

fn unreadable(error: &DecodeError) -> BindError {
    BindError::Type {
        position: 0,
        reason: error.to_string(),
    }
}

macro_rules! from_arguments {
    ($count:literal $($position:literal $param:ident)*) => {
        impl<$($param: DeserializeOwned),*> FromArguments for ($($param,)*) {
            #[allow(non_snake_case, reason = "the names of types serve as names of values")]
            fn from_arguments(arguments: Arguments<'_>) -> Result<Self, BindError> {
                let values = arguments.values().map_err(|error| unreadable(&error))?;
                let given = values.len();
                let Ok::<[Value<'_>; $count], _>([$($param),*]) = values.try_into() else {
                    return Err(BindError::Count { given, expected: $count });
                };
                Ok(($(decode::<$param>($position, $param)?,)*))
            }
        }
    };
}

from_arguments!(0);
from_arguments!(1 1 A);
from_arguments!(2 1 A 2 B);
from_arguments!(3 1 A 2 B 3 C);
from_arguments!(4 1 A 2 B 3 C 4 D);
from_arguments!(5 1 A 2 B 3 C 4 D 5 E);
from_arguments!(6 1 A 2 B 3 C 4 D 5 E 6 F);
from_arguments!(7 1 A 2 B 3 C 4 D 5 E 6 F 7 G);
from_arguments!(8 1 A 2 B 3 C 4 D 5 E 6 F 7 G 8 I);
