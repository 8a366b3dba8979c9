//! What is true of every encoding: what is written can be read, however the bytes are cut on their way.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic is the report of a test"
)]

use std::borrow::Cow;

use hubcast_protocol::framing::{FramingError, Records};
use hubcast_protocol::handshake::HandshakeRequest;
use hubcast_protocol::{CompletionPayload, Encoding, HubMessage, Invocation, Value};
use proptest::prelude::*;

/// A message as tests make it up.
#[derive(Debug, Clone, PartialEq)]
enum Message {
    Invocation(Option<String>, String, (String, i64), Vec<String>),
    StreamInvocation(String, String, (String, i64), Vec<String>),
    StreamItem(String, Vec<f64>),
    Result(String, Option<bool>),
    Error(String, String),
    Void(String),
    Cancel(String),
    Ping,
    Close(Option<String>, bool),
    Ack(i64),
    Sequence(i64),
}

impl Message {
    fn write(&self, encoding: Encoding, out: &mut Vec<u8>) {
        match self {
            Self::Invocation(id, target, arguments, streams) => {
                let streams: Vec<_> = streams.iter().map(String::as_str).collect();
                let id = id.as_deref();
                encoding
                    .write_invocation(out, id, target, arguments, &streams)
                    .unwrap();
            }
            Self::StreamInvocation(id, target, arguments, streams) => {
                let streams: Vec<_> = streams.iter().map(String::as_str).collect();
                encoding
                    .write_stream_invocation(out, id, target, arguments, &streams)
                    .unwrap();
            }
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

    fn read(encoding: Encoding, message: &[u8]) -> Self {
        let call = |call: &Invocation<'_>| {
            let values = call.arguments.values().unwrap();
            assert_eq!(values.len(), 2);
            (
                call.target.to_string(),
                (values[0].decode().unwrap(), values[1].decode().unwrap()),
                call.stream_ids.iter().map(ToString::to_string).collect(),
            )
        };
        match encoding.parse(message).unwrap() {
            HubMessage::Invocation(invocation) => {
                let (target, arguments, streams) = call(&invocation);
                let id = invocation.invocation_id.map(String::from);
                Self::Invocation(id, target, arguments, streams)
            }
            HubMessage::StreamInvocation(invocation) => {
                let (target, arguments, streams) = call(&invocation);
                let id = invocation.invocation_id.unwrap().into();
                Self::StreamInvocation(id, target, arguments, streams)
            }
            HubMessage::StreamItem(item) => {
                Self::StreamItem(item.invocation_id.into(), item.item.decode().unwrap())
            }
            HubMessage::Completion(completion) => {
                let id = completion.invocation_id.into();
                match completion.payload {
                    CompletionPayload::Result(result) => Self::Result(id, result.decode().unwrap()),
                    CompletionPayload::Void => Self::Void(id),
                    CompletionPayload::Error(error) => Self::Error(id, error.into()),
                }
            }
            HubMessage::CancelInvocation(cancel) => Self::Cancel(cancel.invocation_id.into()),
            HubMessage::Ping => Self::Ping,
            HubMessage::Close(close) => {
                Self::Close(close.error.map(String::from), close.allow_reconnect)
            }
            HubMessage::Ack { sequence_id } => Self::Ack(sequence_id),
            HubMessage::Sequence { sequence_id } => Self::Sequence(sequence_id),
            HubMessage::Unknown { kind } => panic!("{kind}"),
        }
    }
}

/// Every number that JSON has.
fn number() -> impl Strategy<Value = f64> {
    use proptest::num::f64::{NEGATIVE, NORMAL, POSITIVE, SUBNORMAL, ZERO};
    POSITIVE | NEGATIVE | NORMAL | SUBNORMAL | ZERO
}

/// Ids and names: never empty.
fn name() -> impl Strategy<Value = String> {
    "\\PC{1,40}"
}

fn message() -> impl Strategy<Value = Message> {
    let arguments = || (any::<String>(), any::<i64>());
    let streams = || prop::collection::vec(name(), 0..3);
    prop_oneof![
        (proptest::option::of(name()), name(), arguments(), streams())
            .prop_map(|(id, target, args, streams)| Message::Invocation(id, target, args, streams)),
        (name(), name(), arguments(), streams()).prop_map(|(id, target, args, streams)| {
            Message::StreamInvocation(id, target, args, streams)
        }),
        (name(), prop::collection::vec(number(), 0..50))
            .prop_map(|(id, item)| Message::StreamItem(id, item)),
        (name(), any::<Option<bool>>()).prop_map(|(id, result)| Message::Result(id, result)),
        (name(), name()).prop_map(|(id, error)| Message::Error(id, error)),
        name().prop_map(Message::Void),
        name().prop_map(Message::Cancel),
        Just(Message::Ping),
        (proptest::option::of(name()), any::<bool>())
            .prop_map(|(error, again)| Message::Close(error, again)),
        any::<i64>().prop_map(Message::Ack),
        any::<i64>().prop_map(Message::Sequence),
    ]
}

/// What a connection says: its handshake, and then messages in the encoding that was agreed on. Each with the bytes
/// that it takes.
fn conversation(encoding: Encoding, messages: &[Message]) -> Vec<Vec<u8>> {
    let handshake = HandshakeRequest {
        protocol: Cow::Borrowed(encoding.name()),
        version: 1,
    };
    let mut written = vec![handshake.to_bytes()];
    written.extend(messages.iter().map(|message| {
        let mut bytes = Vec::new();
        message.write(encoding, &mut bytes);
        bytes
    }));
    written
}

/// Reads a conversation from pieces of the given lengths, over and over.
fn overhear(
    bytes: &[u8],
    pieces: &[usize],
    limit: usize,
) -> Result<(Encoding, Vec<Message>), FramingError> {
    let mut records = Records::new();
    let mut encoding = None;
    let mut messages = Vec::new();
    let mut rest = bytes;
    for piece in pieces.iter().cycle() {
        let (piece, behind) = rest.split_at(rest.len().min(*piece));
        records.push(piece);
        while let Some(message) = records.next(Some(limit))? {
            if let Some(encoding) = encoding {
                messages.push(Message::read(encoding, &message));
                continue;
            }
            let handshake = HandshakeRequest::parse(&message).unwrap();
            let agreed = Encoding::from_name(&handshake.protocol).unwrap();
            records.switch_to(agreed);
            encoding = Some(agreed);
        }
        rest = behind;
        if rest.is_empty() {
            break;
        }
    }
    assert!(records.is_empty());
    Ok((encoding.unwrap(), messages))
}

proptest! {
    #[test]
    fn messages_survive_being_written_cut_anywhere_and_read(
        messages in prop::collection::vec(message(), 0..8),
        pieces in prop::collection::vec(1usize..60, 1..20),
    ) {
        for encoding in Encoding::ALL {
            let written = conversation(encoding, &messages);
            let bytes = written.concat();
            let longest = written.iter().map(Vec::len).max().unwrap();
            let read = overhear(&bytes, &pieces, longest).unwrap();
            prop_assert_eq!(read, (encoding, messages.clone()));
            // One byte less than the longest needs is too little, however it is cut.
            let limit = longest - 1;
            let refused = overhear(&bytes, &pieces, limit);
            prop_assert_eq!(refused, Err(FramingError::TooLarge { limit }));
        }
    }
}

#[test]
fn the_nearest_number_is_read_for_every_text() {
    for (text, nearest) in [
        ("31.245270191439438", 31.245_270_191_439_438_f64),
        ("7.470384801104354e71", 7.470_384_801_104_354e71),
    ] {
        let record = format!(r#"{{"type":2,"invocationId":"1","item":{text}}}"#);
        match Encoding::Json.parse(record.as_bytes()).unwrap() {
            HubMessage::StreamItem(item) => {
                let read: f64 = item.item.decode().unwrap();
                assert_eq!(read.to_bits(), nearest.to_bits(), "{text}: {read}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn encodings_are_found_by_their_names_in_any_case() {
    for encoding in Encoding::ALL {
        assert_eq!(Encoding::from_name(encoding.name()), Some(encoding));
        let loud = encoding.name().to_uppercase();
        assert_eq!(Encoding::from_name(&loud), Some(encoding));
    }
    assert_eq!(
        Encoding::from_name("messagepack"),
        Some(Encoding::MessagePack)
    );
    for unknown in ["", "json ", "msgpack", "ｊｓｏｎ"] {
        assert_eq!(Encoding::from_name(unknown), None);
    }
}

#[test]
fn null_is_what_an_option_has_for_none_in_every_encoding() {
    for encoding in Encoding::ALL {
        let null = Value::null(encoding);
        assert_eq!(null.decode::<Option<i32>>().unwrap(), None);
        null.decode::<()>().unwrap();
        assert!(null.decode::<i32>().is_err());
        let mut written = Vec::new();
        encoding.write_result(&mut written, "1", &()).unwrap();
        let null = null.as_bytes();
        assert!(written.windows(null.len()).any(|bytes| bytes == null));
    }
}
