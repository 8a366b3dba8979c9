//! The JSON hub protocol: one JSON object a record.
//!
//! Reading follows ASP.NET Core's `JsonHubProtocol`: names are case-sensitive, order is free, unknown
//! properties are skipped, `null` is never "absent". Writing gives the properties in its order.

use std::io::Write;

use serde::Serialize;

pub use crate::EncodeError;
use crate::framing::RECORD_SEPARATOR;
use crate::json_fields::{Fields, Present, missing};
use crate::{
    Arguments, CancelInvocation, Close, Completion, CompletionPayload, HubMessage, InvalidMessage,
    Invocation, StreamItem, Value,
};

/// The name that the handshake knows this protocol by.
pub const NAME: &str = "json";

/// A ping, ready to be sent.
pub const PING: &[u8] = b"{\"type\":6}\x1e";

/// Reads a message from a record without its separator.
///
/// An invocation whose bytes are not UTF-8 somewhere is read, but its arguments are not: it fails, and not the
/// connection, as in ASP.NET Core. (Such bytes come in binary frames only; in text frames they break the WebSocket.)
pub fn parse(record: &[u8]) -> Result<HubMessage<'_>, InvalidMessage> {
    let read = read(record);
    if read.is_ok() || std::str::from_utf8(record).is_ok() {
        return read;
    }
    let readable = String::from_utf8_lossy(record);
    let unreadable = |invocation: Invocation<'_>| Invocation {
        invocation_id: invocation.invocation_id.map(|id| id.into_owned().into()),
        target: invocation.target.into_owned().into(),
        arguments: Arguments::UNREADABLE,
        stream_ids: Vec::new(),
    };
    match self::read(readable.as_bytes())? {
        HubMessage::Invocation(invocation) => Ok(HubMessage::Invocation(unreadable(invocation))),
        HubMessage::StreamInvocation(invocation) => {
            Ok(HubMessage::StreamInvocation(unreadable(invocation)))
        }
        _ => read,
    }
}

fn read(record: &[u8]) -> Result<HubMessage<'_>, InvalidMessage> {
    let [
        kind,
        invocation_id,
        target,
        arguments,
        stream_ids,
        item,
        result,
        error,
        allow_reconnect,
        sequence_id,
        headers,
    ] = Fields::read(
        record,
        [
            "type",
            "invocationId",
            "target",
            "arguments",
            "streamIds",
            "item",
            "result",
            "error",
            "allowReconnect",
            "sequenceId",
            "headers",
        ],
    )?
    .values;

    // Whatever the type, a known property must be of its own type: that is how ASP.NET Core reads.
    let kind = kind.required("type")?.integer("type")?;
    let kind = i32::try_from(kind)
        .map_err(|_| InvalidMessage::new("Expected 'type' to be of type Number."))?;
    headers.optional(Present::check_headers)?;
    let invocation_id = invocation_id.optional(|id| id.string("invocationId"))?;
    let target = target.optional(|target| target.string("target"))?;
    let arguments = arguments.optional(|arguments| Arguments::json(arguments.raw()))?;
    let stream_ids = stream_ids.optional(|ids| ids.strings("streamIds"))?;
    let error = error.optional(|error| error.string("error"))?;
    let allow_reconnect = allow_reconnect.optional(|allow| allow.boolean("allowReconnect"))?;
    let sequence_id = sequence_id.optional(|id| id.integer("sequenceId"))?;

    let required_id = || {
        let id = invocation_id.clone().filter(|id| !id.is_empty());
        id.ok_or_else(|| missing("invocationId"))
    };
    let invocation = |invocation_id| {
        let target = target.clone().filter(|target| !target.is_empty());
        Ok::<_, InvalidMessage>(Invocation {
            invocation_id,
            target: target.ok_or_else(|| missing("target"))?,
            arguments: arguments.ok_or_else(|| missing("arguments"))?,
            stream_ids: stream_ids.clone().unwrap_or_default(),
        })
    };
    let sequence_id = || sequence_id.ok_or_else(|| missing("sequenceId"));
    Ok(match kind {
        1 => HubMessage::Invocation(invocation(required_id().ok())?),
        2 => HubMessage::StreamItem(StreamItem {
            invocation_id: required_id()?,
            item: Value::json(item.required("item")?.raw()),
        }),
        3 => HubMessage::Completion(Completion {
            invocation_id: required_id()?,
            payload: match (
                result.optional(|result| Ok(Value::json(result.raw())))?,
                error,
            ) {
                (Some(_), Some(_)) => {
                    return Err(InvalidMessage::new(
                        "The 'error' and 'result' properties are mutually exclusive.",
                    ));
                }
                (Some(result), None) => CompletionPayload::Result(result),
                (None, Some(error)) => CompletionPayload::Error(error),
                (None, None) => CompletionPayload::Void,
            },
        }),
        4 => HubMessage::StreamInvocation(invocation(Some(required_id()?))?),
        5 => HubMessage::CancelInvocation(CancelInvocation {
            invocation_id: required_id()?,
        }),
        6 => HubMessage::Ping,
        7 => HubMessage::Close(Close {
            error,
            allow_reconnect: allow_reconnect.unwrap_or(false),
        }),
        8 => HubMessage::Ack {
            sequence_id: sequence_id()?,
        },
        9 => HubMessage::Sequence {
            sequence_id: sequence_id()?,
        },
        kind => HubMessage::Unknown { kind },
    })
}

/// Writes one record: `open`, then what `fill` adds, then `}` and the separator.
fn record(
    out: &mut Vec<u8>,
    open: &str,
    fill: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    out.extend_from_slice(open.as_bytes());
    fill(out)?;
    out.extend_from_slice(&[b'}', RECORD_SEPARATOR]);
    Ok(())
}

fn field<T: Serialize + ?Sized>(
    out: &mut Vec<u8>,
    name: &str,
    value: &T,
) -> Result<(), EncodeError> {
    out.extend_from_slice(name.as_bytes());
    serde_json::to_writer(out, value).map_err(|error| EncodeError::new("JSON", error))
}

fn headers_field(out: &mut Vec<u8>, headers: &[(&str, &str)]) {
    let mut before = r#","headers":{"#;
    for (name, value) in headers {
        out.extend_from_slice(before.as_bytes());
        before = ",";
        string(out, name);
        out.push(b':');
        string(out, value);
    }
    if !headers.is_empty() {
        out.push(b'}');
    }
}

fn stream_ids_field(out: &mut Vec<u8>, stream_ids: &[&str]) -> Result<(), EncodeError> {
    if stream_ids.is_empty() {
        return Ok(());
    }
    field(out, r#","streamIds":"#, stream_ids)
}

/// Appends an Invocation (type 1). `arguments` must serialize as an array.
///
/// On an error `out` holds half a record and is of no further use; the same goes for all writers here.
pub fn write_invocation<A: Serialize + ?Sized>(
    out: &mut Vec<u8>,
    invocation_id: Option<&str>,
    target: &str,
    arguments: &A,
    stream_ids: &[&str],
) -> Result<(), EncodeError> {
    write_invocation_with_headers(out, &[], invocation_id, target, arguments, stream_ids)
}

/// The same with headers: names, none twice, and values, all of which should not be empty.
pub fn write_invocation_with_headers<A: Serialize + ?Sized>(
    out: &mut Vec<u8>,
    headers: &[(&str, &str)],
    invocation_id: Option<&str>,
    target: &str,
    arguments: &A,
    stream_ids: &[&str],
) -> Result<(), EncodeError> {
    record(out, r#"{"type":1"#, |out| {
        headers_field(out, headers);
        if let Some(id) = invocation_id {
            field(out, r#","invocationId":"#, id)?;
        }
        field(out, r#","target":"#, target)?;
        field(out, r#","arguments":"#, arguments)?;
        stream_ids_field(out, stream_ids)
    })
}

/// Appends a `StreamInvocation` (type 4). `arguments` must serialize as an array.
pub fn write_stream_invocation<A: Serialize + ?Sized>(
    out: &mut Vec<u8>,
    invocation_id: &str,
    target: &str,
    arguments: &A,
    stream_ids: &[&str],
) -> Result<(), EncodeError> {
    record(out, r#"{"type":4,"invocationId":"#, |out| {
        field(out, "", invocation_id)?;
        field(out, r#","target":"#, target)?;
        field(out, r#","arguments":"#, arguments)?;
        stream_ids_field(out, stream_ids)
    })
}

/// Appends a `StreamItem` (type 2).
pub fn write_stream_item<T: Serialize + ?Sized>(
    out: &mut Vec<u8>,
    invocation_id: &str,
    item: &T,
) -> Result<(), EncodeError> {
    record(out, r#"{"type":2,"invocationId":"#, |out| {
        field(out, "", invocation_id)?;
        field(out, r#","item":"#, item)
    })
}

/// Appends a Completion (type 3) with a result; `()` gives `"result":null`, as a method without a result does.
pub fn write_result<T: Serialize + ?Sized>(
    out: &mut Vec<u8>,
    invocation_id: &str,
    result: &T,
) -> Result<(), EncodeError> {
    record(out, r#"{"type":3,"invocationId":"#, |out| {
        field(out, "", invocation_id)?;
        field(out, r#","result":"#, result)
    })
}

/// Appends a Completion (type 3) with an error; an empty text is written as no error at all.
pub fn write_error(out: &mut Vec<u8>, invocation_id: &str, error: &str) {
    out.extend_from_slice(br#"{"type":3,"invocationId":"#);
    string(out, invocation_id);
    if !error.is_empty() {
        out.extend_from_slice(br#","error":"#);
        string(out, error);
    }
    out.extend_from_slice(&[b'}', RECORD_SEPARATOR]);
}

/// Appends a Completion (type 3) with neither result nor error: the end of a stream.
pub fn write_void(out: &mut Vec<u8>, invocation_id: &str) {
    write_error(out, invocation_id, "");
}

/// Appends a `CancelInvocation` (type 5).
pub fn write_cancel(out: &mut Vec<u8>, invocation_id: &str) {
    out.extend_from_slice(br#"{"type":5,"invocationId":"#);
    string(out, invocation_id);
    out.extend_from_slice(&[b'}', RECORD_SEPARATOR]);
}

/// Appends a Close (type 7); `allowReconnect` is written only when true.
pub fn write_close(out: &mut Vec<u8>, error: Option<&str>, allow_reconnect: bool) {
    out.extend_from_slice(br#"{"type":7"#);
    if let Some(error) = error {
        out.extend_from_slice(br#","error":"#);
        string(out, error);
    }
    if allow_reconnect {
        out.extend_from_slice(br#","allowReconnect":true"#);
    }
    out.extend_from_slice(&[b'}', RECORD_SEPARATOR]);
}

/// Appends an Ack (type 8).
pub fn write_ack(out: &mut Vec<u8>, sequence_id: i64) {
    number_record(out, 8, sequence_id);
}

/// Appends a Sequence (type 9).
pub fn write_sequence(out: &mut Vec<u8>, sequence_id: i64) {
    number_record(out, 9, sequence_id);
}

fn number_record(out: &mut Vec<u8>, kind: u8, sequence_id: i64) {
    // Writing into a Vec cannot fail.
    let _ = write!(out, r#"{{"type":{kind},"sequenceId":{sequence_id}}}"#);
    out.push(RECORD_SEPARATOR);
}

/// A JSON string. A `str` always can be one, and a `Vec` always takes it.
fn string(out: &mut Vec<u8>, text: &str) {
    let _ = serde_json::to_writer(out, text);
}
