//! Values of a message that nobody has given a type yet.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::InvalidMessage;

/// One argument, item or result, still in the encoding it came in.
#[derive(Debug, Clone, Copy)]
pub struct Value<'a>(&'a RawValue);

impl<'a> Value<'a> {
    pub(crate) fn new(raw: &'a RawValue) -> Self {
        Self(raw)
    }

    /// Gives the value its type. The error says what did not fit, in the decoder's words.
    pub fn decode<T: Deserialize<'a>>(self) -> Result<T, DecodeError> {
        serde_json::from_str(self.0.get()).map_err(|error| DecodeError(error.to_string()))
    }

    /// The JSON text of the value, exactly as it came.
    pub fn as_json(self) -> &'a str {
        self.0.get()
    }
}

/// A value that does not have the type it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DecodeError(String);

/// The arguments of an invocation, in order, none of them decoded.
#[derive(Debug, Clone, Copy)]
pub struct Arguments<'a>(Option<&'a RawValue>);

impl<'a> Arguments<'a> {
    /// Arguments of which is known only that no text can be made of them: their bytes are not UTF-8.
    pub(crate) const UNREADABLE: Arguments<'static> = Arguments(None);

    /// The raw value must be an array.
    pub(crate) fn new(raw: &'a RawValue) -> Result<Self, InvalidMessage> {
        if raw.get().starts_with('[') {
            Ok(Self(Some(raw)))
        } else {
            Err(InvalidMessage::new(
                "Expected 'arguments' to be of type Array.",
            ))
        }
    }

    /// The arguments one by one. An error if their bytes are not UTF-8.
    pub fn values(self) -> Result<Vec<Value<'a>>, DecodeError> {
        let raw = self
            .0
            .ok_or_else(|| DecodeError("invalid UTF-8".to_owned()))?;
        let values = serde_json::from_str::<Vec<&'a RawValue>>(raw.get());
        let values = values.map_err(|error| DecodeError(error.to_string()))?;
        Ok(values.into_iter().map(Value).collect())
    }
}
