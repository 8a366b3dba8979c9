//! The hub protocols that there are, behind one type.

use serde::Serialize;

use crate::framing::{RECORD_SEPARATOR, insert_length_prefix};
use crate::{EncodeError, HubMessage, InvalidMessage, json, messagepack};

/// How hub messages are written on a connection, agreed on in its handshake. ASP.NET Core's `IHubProtocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// [`json`], whose messages are text.
    Json,
    /// [`messagepack`], whose messages are binary.
    MessagePack,
}

impl Encoding {
    /// Every encoding that there is.
    pub const ALL: [Self; 2] = [Self::Json, Self::MessagePack];

    /// The name that the handshake, and the messages between servers, know this encoding by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => json::NAME,
            Self::MessagePack => messagepack::NAME,
        }
    }

    /// The encoding of that name in any ASCII case, as ASP.NET Core compares; `None` if there is none.
    pub fn from_name(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|encoding| encoding.name().eq_ignore_ascii_case(name))
    }

    /// Whether messages are bytes, each with its length in front, that only a binary transport carries; otherwise they
    /// are text, each with a [separator](crate::framing::RECORD_SEPARATOR) behind it.
    pub fn is_binary(self) -> bool {
        match self {
            Self::Json => false,
            Self::MessagePack => true,
        }
    }

    /// A ping, ready to be sent.
    pub fn ping(self) -> &'static [u8] {
        match self {
            Self::Json => json::PING,
            Self::MessagePack => messagepack::PING,
        }
    }

    /// Reads a message without its separator or length prefix. An error ends the connection.
    pub fn parse(self, message: &[u8]) -> Result<HubMessage<'_>, InvalidMessage> {
        match self {
            Self::Json => json::parse(message),
            Self::MessagePack => messagepack::parse(message),
        }
    }

    /// Appends a message that was taken out of its framing, exactly as it came, with its framing around it again.
    pub fn write_message(self, out: &mut Vec<u8>, message: &[u8]) {
        let start = out.len();
        out.extend_from_slice(message);
        match self {
            Self::Json => out.push(RECORD_SEPARATOR),
            Self::MessagePack => insert_length_prefix(out, start),
        }
    }

    /// Appends an Invocation (type 1). `arguments` must serialize as an array.
    ///
    /// On an error `out` holds half a message and is of no further use; the same goes for all writers here.
    pub fn write_invocation<A: Serialize + ?Sized>(
        self,
        out: &mut Vec<u8>,
        invocation_id: Option<&str>,
        target: &str,
        arguments: &A,
        stream_ids: &[&str],
    ) -> Result<(), EncodeError> {
        match self {
            Self::Json => json::write_invocation(out, invocation_id, target, arguments, stream_ids),
            Self::MessagePack => {
                messagepack::write_invocation(out, invocation_id, target, arguments, stream_ids)
            }
        }
    }

    /// The same with headers: names, none twice, and values, all of which should not be empty.
    pub fn write_invocation_with_headers<A: Serialize + ?Sized>(
        self,
        out: &mut Vec<u8>,
        headers: &[(&str, &str)],
        invocation_id: Option<&str>,
        target: &str,
        arguments: &A,
        stream_ids: &[&str],
    ) -> Result<(), EncodeError> {
        match self {
            Self::Json => json::write_invocation_with_headers(
                out,
                headers,
                invocation_id,
                target,
                arguments,
                stream_ids,
            ),
            Self::MessagePack => messagepack::write_invocation_with_headers(
                out,
                headers,
                invocation_id,
                target,
                arguments,
                stream_ids,
            ),
        }
    }

    /// Appends a `StreamInvocation` (type 4). `arguments` must serialize as an array.
    pub fn write_stream_invocation<A: Serialize + ?Sized>(
        self,
        out: &mut Vec<u8>,
        invocation_id: &str,
        target: &str,
        arguments: &A,
        stream_ids: &[&str],
    ) -> Result<(), EncodeError> {
        match self {
            Self::Json => {
                json::write_stream_invocation(out, invocation_id, target, arguments, stream_ids)
            }
            Self::MessagePack => messagepack::write_stream_invocation(
                out,
                invocation_id,
                target,
                arguments,
                stream_ids,
            ),
        }
    }

    /// Appends a `StreamItem` (type 2).
    pub fn write_stream_item<T: Serialize + ?Sized>(
        self,
        out: &mut Vec<u8>,
        invocation_id: &str,
        item: &T,
    ) -> Result<(), EncodeError> {
        match self {
            Self::Json => json::write_stream_item(out, invocation_id, item),
            Self::MessagePack => messagepack::write_stream_item(out, invocation_id, item),
        }
    }

    /// Appends a Completion (type 3) with a result; `()` gives a null, as a method without a result does.
    pub fn write_result<T: Serialize + ?Sized>(
        self,
        out: &mut Vec<u8>,
        invocation_id: &str,
        result: &T,
    ) -> Result<(), EncodeError> {
        match self {
            Self::Json => json::write_result(out, invocation_id, result),
            Self::MessagePack => messagepack::write_result(out, invocation_id, result),
        }
    }

    /// Appends a Completion (type 3) with an error. An empty text is no error in JSON, and one in MessagePack.
    pub fn write_error(self, out: &mut Vec<u8>, invocation_id: &str, error: &str) {
        match self {
            Self::Json => json::write_error(out, invocation_id, error),
            Self::MessagePack => messagepack::write_error(out, invocation_id, error),
        }
    }

    /// Appends a Completion (type 3) with neither result nor error: the end of a stream.
    pub fn write_void(self, out: &mut Vec<u8>, invocation_id: &str) {
        match self {
            Self::Json => json::write_void(out, invocation_id),
            Self::MessagePack => messagepack::write_void(out, invocation_id),
        }
    }

    /// Appends a `CancelInvocation` (type 5).
    pub fn write_cancel(self, out: &mut Vec<u8>, invocation_id: &str) {
        match self {
            Self::Json => json::write_cancel(out, invocation_id),
            Self::MessagePack => messagepack::write_cancel(out, invocation_id),
        }
    }

    /// Appends a Close (type 7).
    pub fn write_close(self, out: &mut Vec<u8>, error: Option<&str>, allow_reconnect: bool) {
        match self {
            Self::Json => json::write_close(out, error, allow_reconnect),
            Self::MessagePack => messagepack::write_close(out, error, allow_reconnect),
        }
    }

    /// Appends an Ack (type 8).
    pub fn write_ack(self, out: &mut Vec<u8>, sequence_id: i64) {
        match self {
            Self::Json => json::write_ack(out, sequence_id),
            Self::MessagePack => messagepack::write_ack(out, sequence_id),
        }
    }

    /// Appends a Sequence (type 9).
    pub fn write_sequence(self, out: &mut Vec<u8>, sequence_id: i64) {
        match self {
            Self::Json => json::write_sequence(out, sequence_id),
            Self::MessagePack => messagepack::write_sequence(out, sequence_id),
        }
    }
}
