//! The MessagePack hub protocol on bytes: what is read, what is refused, what is written.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "a panic is the report of a test, and its table of cases is as long as it must be"
)]

mod bytes;

use bytes::bytes;
use hubcast_protocol::messagepack::{self, parse};
use hubcast_protocol::{CompletionPayload, HubMessage, Invocation};

fn invocation(message: &[u8]) -> Invocation<'_> {
    match parse(message).unwrap() {
        HubMessage::Invocation(invocation) => invocation,
        other => panic!("{other:?}"),
    }
}

fn integers(invocation: &Invocation<'_>) -> Vec<i32> {
    let values = invocation.arguments.values().unwrap();
    values.iter().map(|value| value.decode().unwrap()).collect()
}

#[test]
fn invocations_of_five_and_of_six_items_are_read() {
    let message = bytes("96 01 80 a378797a a66d6574686f64 91 2a 90");
    let call = invocation(&message);
    assert_eq!(call.invocation_id.as_deref(), Some("xyz"));
    assert_eq!(call.target, "method");
    assert_eq!(integers(&call), [42]);
    assert!(call.stream_ids.is_empty());

    let message = bytes("95 01 80 c0 a16d 91 01");
    let call = invocation(&message);
    assert_eq!(call.invocation_id, None);
    assert_eq!(integers(&call), [1]);
    assert!(call.stream_ids.is_empty());

    let message = bytes("96 01 80 a131 a16d 90 92 a132 a133");
    let call = invocation(&message);
    assert_eq!(call.stream_ids, ["2", "3"]);
}

#[test]
fn a_nil_or_empty_invocation_id_means_that_no_answer_is_wanted() {
    for id in ["c0", "a0", "d900"] {
        let message = bytes(&format!("96 01 80 {id} a16d 90 90"));
        assert_eq!(invocation(&message).invocation_id, None, "{id}");
    }
}

#[test]
fn headers_are_skipped() {
    let message = bytes("96 01 82 a178 a179 a17a a17a a378797a a16d 91 07 90");
    let call = invocation(&message);
    assert_eq!(call.invocation_id.as_deref(), Some("xyz"));
    assert_eq!(integers(&call), [7]);
}

#[test]
fn lengths_and_numbers_may_be_wider_than_they_must() {
    let message = bytes(
        "dd00000006 d200000001 de0000 db00000001 31 da0001 6d dc0001 d3000000000000002a dd00000000",
    );
    let call = invocation(&message);
    assert_eq!(call.invocation_id.as_deref(), Some("1"));
    assert_eq!(call.target, "m");
    assert_eq!(integers(&call), [42]);
}

#[test]
fn further_items_and_bytes_are_not_looked_at() {
    for hex in [
        "97 01 80 c0 a16d 91 01 90 c1",
        "95 01 80 c0 a16d 91 01 c1ffff",
    ] {
        assert_eq!(integers(&invocation(&bytes(hex))), [1], "{hex}");
    }
    for hex in ["91 06 c1", "93 06 c1 c1"] {
        assert!(matches!(parse(&bytes(hex)), Ok(HubMessage::Ping)), "{hex}");
    }
}

#[test]
fn a_stream_invocation_has_an_id() {
    let message = bytes("96 04 80 a378797a a66d6574686f64 91 2a 90");
    match parse(&message).unwrap() {
        HubMessage::StreamInvocation(call) => {
            assert_eq!(call.invocation_id.as_deref(), Some("xyz"));
            assert_eq!(integers(&call), [42]);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_item_is_any_value() {
    for item in ["2a", "c0", "90", "81 a161 93 01 02 03", "d6ff6553f100"] {
        let message = bytes(&format!("94 02 80 a378797a {item}"));
        match parse(&message).unwrap() {
            HubMessage::StreamItem(read) => {
                assert_eq!(read.invocation_id, "xyz");
                assert_eq!(read.item.as_bytes(), bytes(item));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_completion_has_a_result_or_an_error_or_neither() {
    let read = |hex: &str| {
        let message = bytes(hex);
        match parse(&message).unwrap() {
            HubMessage::Completion(completion) => {
                assert_eq!(completion.invocation_id, "xyz");
                match completion.payload {
                    CompletionPayload::Result(value) => format!("result {:?}", value.as_bytes()),
                    CompletionPayload::Void => "void".to_owned(),
                    CompletionPayload::Error(text) => format!("error {text}"),
                }
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(read("95 03 80 a378797a 01 a54572726f72"), "error Error");
    assert_eq!(read("95 03 80 a378797a 01 a0"), "error ");
    assert_eq!(read("95 03 80 a378797a 01 c0"), "void");
    assert_eq!(read("94 03 80 a378797a 02"), "void");
    assert_eq!(read("95 03 80 a378797a 03 2a"), "result [42]");
    assert_eq!(read("95 03 80 a378797a 03 c0"), "result [192]");
}

#[test]
fn the_small_messages_are_read() {
    let close = |hex: &str| match parse(&bytes(hex)).unwrap() {
        HubMessage::Close(close) => (close.error.map(String::from), close.allow_reconnect),
        other => panic!("{other:?}"),
    };
    assert_eq!(close("92 07 a378797a"), (Some("xyz".into()), false));
    assert_eq!(close("93 07 a378797a c3"), (Some("xyz".into()), true));
    assert_eq!(close("92 07 c0"), (None, false));
    assert_eq!(close("93 07 c0 c2"), (None, false));

    for (hex, number) in [
        ("92 08 24", 36),
        ("92 08 cc24", 36),
        ("92 08 d30000000000000024", 36),
        ("92 08 ff", -1),
        ("92 08 cf7fffffffffffffff", i64::MAX),
    ] {
        assert!(
            matches!(parse(&bytes(hex)), Ok(HubMessage::Ack { sequence_id }) if sequence_id == number),
            "{hex}"
        );
    }
    for hex in ["92 09 13", "92 09 cc13"] {
        let message = bytes(hex);
        assert!(
            matches!(
                parse(&message),
                Ok(HubMessage::Sequence { sequence_id: 19 })
            ),
            "{hex}"
        );
    }
    assert!(matches!(
        parse(&bytes("93 05 80 a378797a")),
        Ok(HubMessage::CancelInvocation(cancel)) if cancel.invocation_id == "xyz"
    ));
}

#[test]
fn unknown_types_are_told_apart_from_errors() {
    for (hex, expected) in [("91 00", 0), ("92 0a c1", 10), ("91 ff", -1), ("91 63", 99)] {
        match parse(&bytes(hex)).unwrap() {
            HubMessage::Unknown { kind } => assert_eq!(kind, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn text_that_is_not_utf8_is_mended_as_by_dotnet() {
    let message = bytes("95 01 80 a2ff31 a2c328 90");
    let call = invocation(&message);
    assert_eq!(call.invocation_id.as_deref(), Some("\u{fffd}1"));
    assert_eq!(call.target, "\u{fffd}(");
}

#[test]
fn arguments_that_are_no_array_fail_the_call_and_not_the_connection() {
    for arguments in ["c0", "2a", "80", "a161", "c400"] {
        let message = bytes(&format!("95 01 80 a131 a16d {arguments}"));
        let error = invocation(&message).arguments.values().unwrap_err();
        assert_eq!(
            error.to_string(),
            "Reading array length for 'arguments' failed.",
            "{arguments}"
        );
    }
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    assert_eq!(usize::from(out.remove(0)), out.len(), "the length in front");
    out
}

#[test]
fn messages_are_written_as_dotnet_writes_them() {
    let cases = [
        (
            written(|out| {
                messagepack::write_invocation(out, Some("xyz"), "method", &(42,), &[]).unwrap();
            }),
            "96 01 80 a378797a a66d6574686f64 91 2a 90",
        ),
        (
            written(|out| {
                messagepack::write_invocation(out, None, "method", &(42,), &[]).unwrap();
            }),
            "96 01 80 c0 a66d6574686f64 91 2a 90",
        ),
        (
            written(|out| {
                messagepack::write_invocation(out, Some("1"), "m", &(1,), &["2"]).unwrap();
            }),
            "96 01 80 a131 a16d 91 01 91 a132",
        ),
        (
            written(|out| {
                let headers = [("x", "y"), ("z", "z")];
                messagepack::write_invocation_with_headers(out, &headers, None, "m", &(1,), &[])
                    .unwrap();
            }),
            "96 01 82 a178 a179 a17a a17a c0 a16d 91 01 90",
        ),
        (
            written(|out| {
                messagepack::write_stream_invocation(out, "xyz", "method", &(42,), &[]).unwrap();
            }),
            "96 04 80 a378797a a66d6574686f64 91 2a 90",
        ),
        (
            written(|out| messagepack::write_stream_item(out, "xyz", &42).unwrap()),
            "94 02 80 a378797a 2a",
        ),
        (
            written(|out| messagepack::write_error(out, "xyz", "Error")),
            "95 03 80 a378797a 01 a54572726f72",
        ),
        (
            written(|out| messagepack::write_error(out, "xyz", "")),
            "95 03 80 a378797a 01 a0",
        ),
        (
            written(|out| messagepack::write_void(out, "xyz")),
            "94 03 80 a378797a 02",
        ),
        (
            written(|out| messagepack::write_result(out, "xyz", &42).unwrap()),
            "95 03 80 a378797a 03 2a",
        ),
        (
            written(|out| messagepack::write_result(out, "xyz", &()).unwrap()),
            "95 03 80 a378797a 03 c0",
        ),
        (
            written(|out| messagepack::write_cancel(out, "xyz")),
            "93 05 80 a378797a",
        ),
        (messagepack::PING[1..].to_vec(), "91 06"),
        (
            written(|out| messagepack::write_close(out, Some("xyz"), true)),
            "93 07 a378797a c3",
        ),
        (
            written(|out| messagepack::write_close(out, Some(""), false)),
            "93 07 c0 c2",
        ),
        (
            written(|out| messagepack::write_close(out, None, false)),
            "93 07 c0 c2",
        ),
        (written(|out| messagepack::write_ack(out, 36)), "92 08 24"),
        (
            written(|out| messagepack::write_sequence(out, 19)),
            "92 09 13",
        ),
        (
            written(|out| messagepack::write_sequence(out, 200)),
            "92 09 ccc8",
        ),
    ];
    for (written, expected) in cases {
        assert_eq!(written, bytes(expected), "{expected}");
    }
}
