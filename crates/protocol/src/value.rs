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
pub struct Arguments<'a>(&'a RawValue);

impl<'a> Arguments<'a> {
    /// The raw value must be an array.
    pub(crate) fn new(raw: &'a RawValue) -> Result<Self, InvalidMessage> {
        if raw.get().starts_with('[') {
            Ok(Self(raw))
        } else {
            Err(InvalidMessage::new(
                "Expected 'arguments' to be of type Array.",
            ))
        }
    }

    /// The arguments one by one.
    pub fn values(self) -> Vec<Value<'a>> {
        // A raw array has been read once already, so reading it again cannot fail.
        serde_json::from_str::<Vec<&'a RawValue>>(self.0.get())
            .unwrap_or_default()
            .into_iter()
            .map(Value)
            .collect()
    }

    /// The JSON array exactly as it came.
    pub fn as_json(self) -> &'a str {
        self.0.get()
    }
}
