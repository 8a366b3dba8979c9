//! What is true of every encoding: what is written can be read, however the bytes are cut on their way.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic is the report of a test"
)]

use hubcast_protocol::framing::Records;
use hubcast_protocol::{CompletionPayload, Encoding, HubMessage, Invocation};
use proptest::prelude::*;

/// A message as tests make it up.
#[derive(Debug, Clone, PartialEq)]
enum Message {
    Invocation(Option<String>, String, (String, i64), Vec<String>),
    StreamInvocation(String, String, (String, i64), Vec<String>),
    StreamItem(String, Vec<i64>),
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
        (name(), prop::collection::vec(any::<i64>(), 0..50))
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

proptest! {
    #[test]
    fn messages_survive_being_written_cut_anywhere_and_read(
        messages in prop::collection::vec(message(), 0..8),
        pieces in prop::collection::vec(1usize..60, 1..20),
    ) {
        for encoding in Encoding::ALL {
            let mut bytes = Vec::new();
            for message in &messages {
                message.write(encoding, &mut bytes);
            }
            let mut records = Records::new();
            records.switch_to(encoding);
            let mut read = Vec::new();
            let mut rest = &*bytes;
            for piece in pieces.iter().cycle() {
                let (piece, behind) = rest.split_at(rest.len().min(*piece));
                records.push(piece);
                while let Some(message) = records.next(Some(bytes.len().max(1))).unwrap() {
                    read.push(Message::read(encoding, &message));
                }
                rest = behind;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert!(records.is_empty());
            prop_assert_eq!(&read, &messages);
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
