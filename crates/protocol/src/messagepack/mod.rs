//! The MessagePack hub protocol: one MessagePack array a message, with its length in front.
//!
//! Reading follows ASP.NET Core's `MessagePackHubProtocol`: items have their places, further items and bytes are not
//! looked at, text that is not UTF-8 is mended. Nothing is decoded before its structure has been checked against the
//! bytes that are there.
//!
//! # Values
//!
//! Arguments, items and results are what `MessagePack-CSharp` makes of the like in ASP.NET Core: a struct is a map
//! with its fields' names as declared, an enum's variant is its name, `()` and `None` are nil, bytes (`serialize_bytes`,
//! as of `serde_bytes`) are bin, integers take their smallest form. Types are told that the format is meant for people
//! (`is_human_readable`), so a `Uuid` is the same text here as in JSON, and so are most libraries' dates and addresses.
//! A date and time that .NET and JavaScript know for one is a [`Timestamp`](crate::Timestamp).
//!
//! `serde_json::Value` is anything that JSON has: bin and extensions, such as the timestamps that a `Date` of
//! JavaScript becomes, do not fit into it. A `serde_json::value::RawValue` is written as the value that its text says;
//! read it can be as an argument, item or result of its own (or in an `Option`), but not within other types. Extensions
//! are `rmp-serde`'s: a newtype `_ExtStruct` of a `(i8, bytes)`.

mod compound;
mod deserialize;
mod reader;
mod serialize;
mod write;

use std::borrow::Cow;

use self::reader::{Items, Reader};
use crate::value::{Arguments, DecodeError, Value};
use crate::{
    CancelInvocation, Close, Completion, CompletionPayload, HubMessage, InvalidMessage, Invocation,
    StreamItem,
};

pub(crate) use deserialize::decode;
pub use write::{
    write_ack, write_cancel, write_close, write_error, write_invocation,
    write_invocation_with_headers, write_result, write_sequence, write_stream_invocation,
    write_stream_item, write_void,
};

/// The name that the handshake knows this protocol by.
pub const NAME: &str = "messagepack";

/// A ping, ready to be sent.
pub const PING: &[u8] = &[0x02, 0x91, 0x06];

/// The value nil.
pub(crate) const NIL: &[u8] = &[0xC0];

/// Reads a message without its length prefix.
///
/// An error ends the connection, as in ASP.NET Core, whose words it has. Arguments that are not an array are no such
/// error: their call fails, when somebody asks for [`Arguments::values`].
pub fn parse(message: &[u8]) -> Result<HubMessage<'_>, InvalidMessage> {
    let mut items = Items::open(message)?;
    Ok(match items.int32("messageType")? {
        1 => {
            items.headers()?;
            // No id is written as nil or as an empty string, by the client's taste.
            let id = items.string("invocationId")?.filter(|id| !id.is_empty());
            HubMessage::Invocation(invocation(items, id, "target for Invocation message")?)
        }
        2 => HubMessage::StreamItem(StreamItem {
            invocation_id: id(&mut items, "invocation ID for StreamItem message")?,
            item: Value::messagepack(items.value("item")?),
        }),
        3 => HubMessage::Completion(Completion {
            invocation_id: id(&mut items, "invocation ID for Completion message")?,
            payload: payload(&mut items)?,
        }),
        4 => {
            let id = id(&mut items, "invocation ID for StreamInvocation message")?;
            HubMessage::StreamInvocation(invocation(
                items,
                Some(id),
                "target for StreamInvocation message",
            )?)
        }
        5 => HubMessage::CancelInvocation(CancelInvocation {
            invocation_id: id(&mut items, "invocation ID for CancelInvocation message")?,
        }),
        6 => HubMessage::Ping,
        7 => HubMessage::Close(Close {
            error: items.string("error")?,
            allow_reconnect: items.has_more() && items.boolean("allowReconnect")?,
        }),
        8 => HubMessage::Ack {
            sequence_id: items.int64("sequenceId")?,
        },
        9 => HubMessage::Sequence {
            sequence_id: items.int64("sequenceId")?,
        },
        kind => HubMessage::Unknown { kind },
    })
}

/// The headers, which are checked and forgotten, and an id that must be there. `what` names it in the error.
fn id<'a>(items: &mut Items<'a>, what: &'static str) -> Result<Cow<'a, str>, InvalidMessage> {
    items.headers()?;
    items.required_string("invocationId", what)
}

/// What types 1 and 4 have in common. `target` names the target in an error.
fn invocation<'a>(
    mut items: Items<'a>,
    invocation_id: Option<Cow<'a, str>>,
    target: &'static str,
) -> Result<Invocation<'a>, InvalidMessage> {
    Ok(Invocation {
        invocation_id,
        target: items.required_string("target", target)?,
        arguments: Arguments::messagepack(items.value("arguments")?),
        // Clients that send no streams, among them JavaScript's, leave the item out.
        stream_ids: if items.has_more() {
            items.strings("streamIds", "value in streamIds received")?
        } else {
            Vec::new()
        },
    })
}

fn payload<'a>(items: &mut Items<'a>) -> Result<CompletionPayload<'a>, InvalidMessage> {
    match items.int32("resultKind")? {
        // A nil error is none, in ASP.NET Core too; an empty one is one.
        1 => Ok(match items.string("error")? {
            Some(error) => CompletionPayload::Error(error),
            None => CompletionPayload::Void,
        }),
        2 => Ok(CompletionPayload::Void),
        3 => Ok(CompletionPayload::Result(Value::messagepack(
            items.value("result")?,
        ))),
        _ => Err(InvalidMessage::new("Invalid invocation result kind.")),
    }
}

/// The elements of an array whose structure [`parse`] has checked.
pub(crate) fn elements(array: &[u8]) -> Result<Vec<&[u8]>, DecodeError> {
    let failed = || DecodeError::new("Reading array length for 'arguments' failed.");
    let mut reader = Reader::new(array);
    let count = reader.array_len().ok_or_else(failed)?;
    (0..count)
        .map(|_| reader.value().map_err(DecodeError::new))
        .collect()
}
