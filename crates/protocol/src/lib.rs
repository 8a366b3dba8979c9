//! The SignalR hub protocol as functions over bytes.
//!
//! What a transport carries is a stream of bytes; this crate turns it into hub messages and back:
//!
//! 1. [`framing::Records`] cuts the stream into messages, wherever the transport happened to split it;
//! 2. [`handshake`] reads and writes the one record that each side sends first, and that agrees on an [`Encoding`];
//! 3. the encoding, [`json`] or [`messagepack`], turns a message into a [`HubMessage`] and writes every kind of message.
//!
//! The arguments of a message stay raw ([`Arguments`], [`Value`]) until somebody knows their types.
//!
//! There is no I/O here, no clock and no async; nothing panics, whatever the input, and nothing is
//! allocated from a length that a peer declared.

mod by_encoding;
mod byte_array;
mod encoding;
pub mod framing;
pub mod handshake;
pub mod json;
mod json_fields;
mod message;
pub mod messagepack;
mod timestamp;
mod value;

pub use by_encoding::ByEncoding;
pub use byte_array::ByteArray;
pub use encoding::Encoding;
pub use message::{
    CancelInvocation, Close, Completion, CompletionPayload, HubMessage, Invocation, StreamItem,
};
pub use timestamp::{InvalidTimestamp, Timestamp};
pub use value::{Arguments, DecodeError, Value};

/// The most levels of objects and arrays that a message may nest, the envelope included.
///
/// The default of `System.Text.Json`, which ASP.NET Core reads with; deeper messages end the connection. MessagePack
/// is held to the same here, although ASP.NET Core would read 500 levels of it.
pub const MAX_DEPTH: usize = 64;

/// Bytes that are not a hub message: whoever sent it does not speak the protocol, and the connection ends.
///
/// The text names the offence in the words of ASP.NET Core (`InvalidDataException`). It may quote names
/// of fields, never their values, so it can be shown to the peer when detailed errors are on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidMessage(std::borrow::Cow<'static, str>);

impl InvalidMessage {
    pub(crate) fn new(text: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        Self(text.into())
    }
}

/// A value that an encoding has no way to write: a `Serialize` that refuses or, as JSON, a map whose keys are not
/// strings.
#[derive(Debug, thiserror::Error)]
#[error("cannot be written as {encoding}: {reason}")]
pub struct EncodeError {
    encoding: &'static str,
    reason: String,
}

impl EncodeError {
    pub(crate) fn new(encoding: &'static str, reason: impl std::fmt::Display) -> Self {
        Self {
            encoding,
            reason: reason.to_string(),
        }
    }
}
