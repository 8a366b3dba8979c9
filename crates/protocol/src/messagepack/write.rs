//! Writing messages, each with its length in front: six items where ASP.NET Core writes six. Only invocations have headers.

use rmp::encode;
use serde::Serialize;

use super::serialize::{Encoder, infallible};
use crate::EncodeError;
use crate::framing::insert_length_prefix;

/// The kinds of a Completion.
const ERROR: u64 = 1;
const VOID: u64 = 2;
const RESULT: u64 = 3;

/// Writes one message: an array of `items`, the type first, the rest by `fill`.
fn message<E>(
    out: &mut Vec<u8>,
    items: u32,
    kind: u64,
    fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let start = out.len();
    infallible(encode::write_array_len(out, items));
    infallible(encode::write_uint(out, kind));
    fill(out)?;
    insert_length_prefix(out, start);
    Ok(())
}

/// A message that nothing can go wrong with.
fn plain_message(out: &mut Vec<u8>, items: u32, kind: u64, fill: impl FnOnce(&mut Vec<u8>)) {
    infallible(message(out, items, kind, |out| {
        fill(out);
        Ok::<(), std::convert::Infallible>(())
    }));
}

fn headers(out: &mut Vec<u8>) {
    infallible(encode::write_map_len(out, 0));
}

fn headers_of(out: &mut Vec<u8>, headers: &[(&str, &str)]) {
    let count = u32::try_from(headers.len()).unwrap_or(u32::MAX);
    infallible(encode::write_map_len(out, count));
    for (name, value) in headers {
        string(out, name);
        string(out, value);
    }
}

fn string(out: &mut Vec<u8>, text: &str) {
    infallible(encode::write_str(out, text));
}

fn value<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) -> Result<(), EncodeError> {
    value
        .serialize(Encoder::new(out))
        .map_err(|error| EncodeError::new("MessagePack", error))
}

fn call<A: Serialize + ?Sized>(
    out: &mut Vec<u8>,
    kind: u64,
    headers: &[(&str, &str)],
    invocation_id: Option<&str>,
    target: &str,
    arguments: &A,
    stream_ids: &[&str],
) -> Result<(), EncodeError> {
    message(out, 6, kind, |out| {
        headers_of(out, headers);
        match invocation_id {
            Some(id) => string(out, id),
            None => infallible(encode::write_nil(out)),
        }
        string(out, target);
        value(out, arguments)?;
        value(out, stream_ids)
    })
}

/// Appends an Invocation (type 1). `arguments` must serialize as an array.
///
/// On an error `out` holds half a message and is of no further use; the same goes for all writers here.
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
    call(
        out,
        1,
        headers,
        invocation_id,
        target,
        arguments,
        stream_ids,
    )
}

/// Appends a `StreamInvocation` (type 4). `arguments` must serialize as an array.
pub fn write_stream_invocation<A: Serialize + ?Sized>(
    out: &mut Vec<u8>,
    invocation_id: &str,
    target: &str,
    arguments: &A,
    stream_ids: &[&str],
) -> Result<(), EncodeError> {
    call(
        out,
        4,
        &[],
        Some(invocation_id),
        target,
        arguments,
        stream_ids,
    )
}

/// Appends a `StreamItem` (type 2).
pub fn write_stream_item<T: Serialize + ?Sized>(
    out: &mut Vec<u8>,
    invocation_id: &str,
    item: &T,
) -> Result<(), EncodeError> {
    message(out, 4, 2, |out| {
        headers(out);
        string(out, invocation_id);
        value(out, item)
    })
}

/// Appends a Completion (type 3) with a result; `()` gives nil, as a method without a result does.
pub fn write_result<T: Serialize + ?Sized>(
    out: &mut Vec<u8>,
    invocation_id: &str,
    result: &T,
) -> Result<(), EncodeError> {
    message(out, 5, 3, |out| {
        headers(out);
        string(out, invocation_id);
        infallible(encode::write_uint(out, RESULT));
        value(out, result)
    })
}

/// Appends a Completion (type 3) with an error; unlike in JSON an empty text is an error, too.
pub fn write_error(out: &mut Vec<u8>, invocation_id: &str, error: &str) {
    plain_message(out, 5, 3, |out| {
        headers(out);
        string(out, invocation_id);
        infallible(encode::write_uint(out, ERROR));
        string(out, error);
    });
}

/// Appends a Completion (type 3) with neither result nor error: the end of a stream.
pub fn write_void(out: &mut Vec<u8>, invocation_id: &str) {
    plain_message(out, 4, 3, |out| {
        headers(out);
        string(out, invocation_id);
        infallible(encode::write_uint(out, VOID));
    });
}

/// Appends a `CancelInvocation` (type 5).
pub fn write_cancel(out: &mut Vec<u8>, invocation_id: &str) {
    plain_message(out, 3, 5, |out| {
        headers(out);
        string(out, invocation_id);
    });
}

/// Appends a Close (type 7); an empty text is written as no error at all.
pub fn write_close(out: &mut Vec<u8>, error: Option<&str>, allow_reconnect: bool) {
    plain_message(out, 3, 7, |out| {
        match error.filter(|error| !error.is_empty()) {
            Some(error) => string(out, error),
            None => infallible(encode::write_nil(out)),
        }
        infallible(encode::write_bool(out, allow_reconnect));
    });
}

/// Appends an Ack (type 8).
pub fn write_ack(out: &mut Vec<u8>, sequence_id: i64) {
    number_message(out, 8, sequence_id);
}

/// Appends a Sequence (type 9).
pub fn write_sequence(out: &mut Vec<u8>, sequence_id: i64) {
    number_message(out, 9, sequence_id);
}

fn number_message(out: &mut Vec<u8>, kind: u64, sequence_id: i64) {
    plain_message(out, 2, kind, |out| {
        infallible(encode::write_sint(out, sequence_id));
    });
}
