//! Hub messages in both encodings.

use std::borrow::Cow;

use hubcast_protocol::framing::Records;
use hubcast_protocol::{
    Arguments, CompletionPayload, DecodeError, Encoding, HubMessage, Invocation, MAX_DEPTH, Value,
};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::anything::decode_as_anything;

/// A record of JSON, without its separator, keeps the promises of `check`.
pub fn json(record: &[u8]) {
    check(Encoding::Json, record);
}

/// A stream of MessagePack keeps those of `check` in every message of it; and items that others can read are read.
pub fn messagepack(bytes: &[u8]) {
    let mut records = Records::new();
    records.switch_to(Encoding::MessagePack);
    records.push(bytes);
    while let Ok(Some(message)) = records.next(Some(bytes.len())) {
        if is_item(&message) {
            let read = Encoding::MessagePack.parse(&message);
            assert!(matches!(read, Ok(HubMessage::StreamItem(_))), "{read:?}");
        }
        check(Encoding::MessagePack, &message);
    }
}

/// Whether a message beyond doubt is an item of a stream, as somebody else reads it.
fn is_item(mut message: &[u8]) -> bool {
    // The reserved byte is nil to them, and an error to us. They may go less deep than we do.
    let depth = MAX_DEPTH - 2;
    if message.contains(&0xC1) {
        return false;
    }
    let Ok(rmpv::Value::Array(items)) =
        rmpv::decode::read_value_with_max_depth(&mut message, depth)
    else {
        return false;
    };
    match &*items {
        [kind, rmpv::Value::Map(headers), rmpv::Value::String(id), _] => {
            kind.as_i64() == Some(2) && headers.is_empty() && !id.as_bytes().is_empty()
        }
        _ => false,
    }
}

/// A message that is read can be written, and is read as the same again. Its values can be asked for as anything.
fn check(encoding: Encoding, message: &[u8]) {
    let Ok(message) = encoding.parse(message) else {
        return;
    };
    let Some(kept) = Kept::of(encoding, &message) else {
        return;
    };
    let mut written = Vec::new();
    kept.write(encoding, &mut written);
    let mut records = Records::new();
    records.switch_to(encoding);
    records.push(&*written);
    let again = records.next(Some(written.len())).unwrap().unwrap();
    assert!(records.is_empty(), "{kept:?} was written as more than one");
    let again = encoding.parse(&again).unwrap();
    let again = Kept::of(encoding, &again).unwrap();
    assert_eq!(format!("{kept:?}"), format!("{again:?}"));
    let mut written_again = Vec::new();
    again.write(encoding, &mut written_again);
    assert_eq!(written, written_again);
}

/// A value of any type, as its encoding has it.
#[derive(Debug)]
enum Any {
    Json(Box<RawValue>),
    MessagePack(rmpv::Value),
}

impl Any {
    fn of(encoding: Encoding, value: Value<'_>) -> Self {
        decode_as_anything(value);
        match encoding {
            Encoding::Json => Self::Json(value.decode().unwrap()),
            Encoding::MessagePack => {
                // Others find the value's end where we do.
                let mut bytes = value.as_bytes();
                rmpv::decode::read_value(&mut bytes).unwrap();
                assert!(bytes.is_empty(), "{bytes:x?} is behind the value");
                Self::MessagePack(value.decode().unwrap())
            }
        }
    }
}

impl Serialize for Any {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Json(value) => value.serialize(serializer),
            Self::MessagePack(value) => value.serialize(serializer),
        }
    }
}

/// A message with its values decoded.
#[derive(Debug)]
enum Kept {
    Invocation(Option<String>, Call),
    StreamItem(String, Any),
    Result(String, Any),
    Error(String, String),
    Void(String),
    StreamInvocation(String, Call),
    Cancel(String),
    Ping,
    Close(Option<String>, bool),
    Ack(i64),
    Sequence(i64),
}

#[derive(Debug)]
struct Call {
    target: String,
    arguments: Vec<Any>,
    streams: Vec<String>,
}

impl Call {
    /// None if there is nothing that could be written: arguments that are unreadable, or no array.
    fn of(encoding: Encoding, call: &Invocation<'_>) -> Option<Self> {
        let values = |arguments: Arguments<'_>| -> Result<Vec<Any>, DecodeError> {
            let values = arguments.values()?.into_iter();
            Ok(values.map(|value| Any::of(encoding, value)).collect())
        };
        assert!(!call.target.is_empty());
        Some(Self {
            target: call.target.to_string(),
            arguments: values(call.arguments).ok()?,
            streams: call.stream_ids.iter().map(ToString::to_string).collect(),
        })
    }

    fn streams(&self) -> Vec<&str> {
        self.streams.iter().map(String::as_str).collect()
    }
}

impl Kept {
    /// None if it cannot be written: a message of an unknown type, or one whose arguments are not to be had.
    fn of(encoding: Encoding, message: &HubMessage<'_>) -> Option<Self> {
        let id = |id: &Cow<'_, str>| {
            assert!(!id.is_empty());
            id.to_string()
        };
        Some(match message {
            HubMessage::Invocation(call) => {
                let wanted = call.invocation_id.as_ref().map(id);
                Self::Invocation(wanted, Call::of(encoding, call)?)
            }
            HubMessage::StreamInvocation(call) => {
                let id = id(call.invocation_id.as_ref().unwrap());
                Self::StreamInvocation(id, Call::of(encoding, call)?)
            }
            HubMessage::StreamItem(item) => {
                Self::StreamItem(id(&item.invocation_id), Any::of(encoding, item.item))
            }
            HubMessage::Completion(completion) => {
                let id = id(&completion.invocation_id);
                match &completion.payload {
                    CompletionPayload::Result(result) => {
                        Self::Result(id, Any::of(encoding, *result))
                    }
                    // An empty text is no error in JSON.
                    CompletionPayload::Error(error)
                        if error.is_empty() && encoding == Encoding::Json =>
                    {
                        Self::Void(id)
                    }
                    CompletionPayload::Error(error) => Self::Error(id, error.to_string()),
                    CompletionPayload::Void => Self::Void(id),
                }
            }
            HubMessage::CancelInvocation(cancel) => Self::Cancel(id(&cancel.invocation_id)),
            HubMessage::Ping => Self::Ping,
            HubMessage::Close(close) => {
                let error = close.error.as_deref();
                // An empty text is no error in MessagePack.
                let error =
                    error.filter(|error| !(error.is_empty() && encoding == Encoding::MessagePack));
                Self::Close(error.map(str::to_owned), close.allow_reconnect)
            }
            HubMessage::Ack { sequence_id } => Self::Ack(*sequence_id),
            HubMessage::Sequence { sequence_id } => Self::Sequence(*sequence_id),
            HubMessage::Unknown { .. } => return None,
        })
    }

    fn write(&self, encoding: Encoding, out: &mut Vec<u8>) {
        match self {
            Self::Invocation(id, call) => encoding
                .write_invocation(
                    out,
                    id.as_deref(),
                    &call.target,
                    &call.arguments,
                    &call.streams(),
                )
                .unwrap(),
            Self::StreamInvocation(id, call) => encoding
                .write_stream_invocation(out, id, &call.target, &call.arguments, &call.streams())
                .unwrap(),
            Self::StreamItem(id, item) => encoding.write_stream_item(out, id, item).unwrap(),
            Self::Result(id, result) => encoding.write_result(out, id, result).unwrap(),
            Self::Error(id, error) => encoding.write_error(out, id, error),
            Self::Void(id) => encoding.write_void(out, id),
            Self::Cancel(id) => encoding.write_cancel(out, id),
            Self::Ping => out.extend(encoding.ping()),
            Self::Close(error, again) => encoding.write_close(out, error.as_deref(), *again),
            Self::Ack(number) => encoding.write_ack(out, *number),
            Self::Sequence(number) => encoding.write_sequence(out, *number),
        }
    }
}
