//! Values of a message that nobody has given a type yet.

use std::fmt::Display;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{Encoding, InvalidMessage, messagepack};

/// One argument, item or result, still in the encoding it came in.
#[derive(Debug, Clone, Copy)]
pub struct Value<'a>(Raw<'a>);

#[derive(Debug, Clone, Copy)]
enum Raw<'a> {
    Json(&'a RawValue),
    /// One whole value, its structure checked.
    MessagePack(&'a [u8]),
}

impl<'a> Value<'a> {
    pub(crate) fn json(raw: &'a RawValue) -> Self {
        Self(Raw::Json(raw))
    }

    pub(crate) fn messagepack(raw: &'a [u8]) -> Self {
        Self(Raw::MessagePack(raw))
    }

    /// Null: what a completion without a result stands for where somebody wants one.
    pub fn null(encoding: Encoding) -> Value<'static> {
        match encoding {
            Encoding::Json => Value::json(RawValue::NULL),
            Encoding::MessagePack => Value::messagepack(messagepack::NIL),
        }
    }

    /// Gives the value its type. The error says what did not fit, in the decoder's words.
    pub fn decode<T: Deserialize<'a>>(self) -> Result<T, DecodeError> {
        match self.0 {
            Raw::Json(raw) => serde_json::from_str(raw.get()).map_err(DecodeError::new),
            Raw::MessagePack(raw) => messagepack::decode(raw),
        }
    }

    /// The value's encoding, exactly as it came.
    pub fn as_bytes(self) -> &'a [u8] {
        match self.0 {
            Raw::Json(raw) => raw.get().as_bytes(),
            Raw::MessagePack(raw) => raw,
        }
    }
}

/// A value that does not have the type it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DecodeError(String);

impl DecodeError {
    pub(crate) fn new(reason: impl Display) -> Self {
        Self(reason.to_string())
    }
}

/// The arguments of an invocation, in order, none of them decoded.
#[derive(Debug, Clone, Copy)]
pub struct Arguments<'a>(RawArguments<'a>);

#[derive(Debug, Clone, Copy)]
enum RawArguments<'a> {
    /// A JSON array.
    Json(&'a RawValue),
    /// JSON of which is known only that no text can be made of it: its bytes are not UTF-8.
    UnreadableJson,
    /// One whole value, its structure checked; not necessarily an array.
    MessagePack(&'a [u8]),
}

impl<'a> Arguments<'a> {
    pub(crate) const UNREADABLE: Arguments<'static> = Arguments(RawArguments::UnreadableJson);

    /// The raw value must be an array.
    pub(crate) fn json(raw: &'a RawValue) -> Result<Self, InvalidMessage> {
        if raw.get().starts_with('[') {
            Ok(Self(RawArguments::Json(raw)))
        } else {
            Err(InvalidMessage::new(
                "Expected 'arguments' to be of type Array.",
            ))
        }
    }

    pub(crate) fn messagepack(raw: &'a [u8]) -> Self {
        Self(RawArguments::MessagePack(raw))
    }

    /// The arguments one by one.
    ///
    /// An error if they are JSON that is not UTF-8, or MessagePack that is no array: both fail the call, and not the
    /// connection, in ASP.NET Core.
    pub fn values(self) -> Result<Vec<Value<'a>>, DecodeError> {
        match self.0 {
            RawArguments::Json(raw) => {
                let values = serde_json::from_str::<Vec<&'a RawValue>>(raw.get());
                let values = values.map_err(DecodeError::new)?;
                Ok(values.into_iter().map(Value::json).collect())
            }
            RawArguments::UnreadableJson => Err(DecodeError::new("invalid UTF-8")),
            RawArguments::MessagePack(raw) => {
                let values = messagepack::elements(raw)?;
                Ok(values.into_iter().map(Value::messagepack).collect())
            }
        }
    }
}
