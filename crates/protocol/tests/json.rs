//! The JSON hub protocol on bytes: what is read, what is refused, what is written.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "a panic is the report of a test, and its table of cases is as long as it must be"
)]

use hubcast_protocol::json::{self, parse};
use hubcast_protocol::{CompletionPayload, HubMessage};
use proptest::prelude::*;

fn error_of(record: &str) -> String {
    match parse(record.as_bytes()) {
        Ok(message) => panic!("{record} was read as {message:?}"),
        Err(error) => error.to_string(),
    }
}

fn invocation(record: &str) -> hubcast_protocol::Invocation<'_> {
    match parse(record.as_bytes()).unwrap() {
        HubMessage::Invocation(invocation) => invocation,
        other => panic!("{other:?}"),
    }
}

#[test]
fn properties_come_in_any_order_and_unknown_ones_are_skipped() {
    let call = invocation(
        r#" {"arguments":[1,{"a":[]}],"x":{"type":9},"target":"Echo","Target":"no","invocationId":"7","type":1}"#,
    );
    assert_eq!(call.target, "Echo");
    assert_eq!(call.invocation_id.as_deref(), Some("7"));
    let values = call.arguments.values().unwrap();
    assert_eq!(values.len(), 2);
    assert_eq!(values[0].decode::<i32>().unwrap(), 1);
    assert_eq!(values[1].as_bytes(), br#"{"a":[]}"#);
}

#[test]
fn the_last_of_a_repeated_property_wins() {
    let call = invocation(r#"{"type":1,"target":"A","target":"B","arguments":[]}"#);
    assert_eq!(call.target, "B");
}

#[test]
fn an_empty_invocation_id_means_that_no_answer_is_wanted() {
    let call = invocation(r#"{"type":1,"invocationId":"","target":"A","arguments":[]}"#);
    assert_eq!(call.invocation_id, None);
}

#[test]
fn escaped_names_and_ids_are_unescaped() {
    let call = invocation(
        r#"{"type":1,"invocationId":"\u0031","t\u0061rget":"\"\ud83d\ude00\"","arguments":[]}"#,
    );
    assert_eq!(call.invocation_id.as_deref(), Some("1"));
    assert_eq!(call.target, "\"😀\"");
}

#[test]
fn stream_ids_are_read_in_order() {
    let call = invocation(r#"{"type":1,"target":"A","arguments":[],"streamIds":["2","1"]}"#);
    assert_eq!(call.stream_ids, ["2", "1"]);
}

#[test]
fn what_follows_the_object_is_not_looked_at() {
    for record in [r#"{"type":6}x"#, r#"{"type":6}{"type":7}"#] {
        assert!(matches!(parse(record.as_bytes()), Ok(HubMessage::Ping)));
    }
}

#[test]
fn unknown_types_are_told_apart_from_errors() {
    for kind in [0, 10, -1, 99] {
        let record = format!(r#"{{"type":{kind},"anything":null}}"#);
        match parse(record.as_bytes()).unwrap() {
            HubMessage::Unknown { kind: read } => assert_eq!(read, kind),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_completion_has_a_result_or_an_error_or_neither() {
    let read = |record: &'static str| match parse(record.as_bytes()).unwrap() {
        HubMessage::Completion(completion) => completion.payload,
        other => panic!("{other:?}"),
    };
    assert!(matches!(
        read(r#"{"type":3,"invocationId":"1"}"#),
        CompletionPayload::Void
    ));
    assert!(matches!(
        read(r#"{"type":3,"invocationId":"1","result":null}"#),
        CompletionPayload::Result(value) if value.as_bytes() == b"null"
    ));
    assert!(matches!(
        read(r#"{"type":3,"invocationId":"1","error":"no"}"#),
        CompletionPayload::Error(text) if text == "no"
    ));
}

#[test]
fn every_offence_is_named() {
    let cases = [
        ("", "Unexpected end when reading JSON."),
        ("{", "Unexpected end when reading JSON."),
        (r#"{"type":6"#, "Unexpected end when reading JSON."),
        (r#"{"type":6,}"#, "Error reading JSON."),
        (r#"{/**/"type":6}"#, "Error reading JSON."),
        (
            r#"{"type":99999999999}"#,
            "Expected 'type' to be of type Number.",
        ),
        (
            r#"{"type":6,"invocationId":null}"#,
            "Expected 'invocationId' to be of type String.",
        ),
        (
            r#"{"type":6,"headers":null}"#,
            "Expected 'headers' to be of type StartObject.",
        ),
        (
            r#"{"type":5,"invocationId":"\ud800"}"#,
            "Expected 'invocationId' to be of type String.",
        ),
        ("\u{feff}{\"type\":6}", "Error reading JSON."),
        (
            "[]",
            "Unexpected JSON Token Type 'Array'. Expected a JSON Object.",
        ),
        (
            "7",
            "Unexpected JSON Token Type 'Number'. Expected a JSON Object.",
        ),
        (
            "null",
            "Unexpected JSON Token Type 'Null'. Expected a JSON Object.",
        ),
        ("{}", "Missing required property 'type'."),
        (r#"{"Type":6}"#, "Missing required property 'type'."),
        (r#"{"type":"6"}"#, "Expected 'type' to be of type Number."),
        (r#"{"type":6.0}"#, "Expected 'type' to be of type Number."),
        (r#"{"type":null}"#, "Expected 'type' to be of type Number."),
        (
            r#"{"type":1,"arguments":[]}"#,
            "Missing required property 'target'.",
        ),
        (
            r#"{"type":1,"target":"","arguments":[]}"#,
            "Missing required property 'target'.",
        ),
        (
            r#"{"type":1,"target":null,"arguments":[]}"#,
            "Expected 'target' to be of type String.",
        ),
        (
            r#"{"type":1,"target":"A"}"#,
            "Missing required property 'arguments'.",
        ),
        (
            r#"{"type":1,"target":"A","arguments":null}"#,
            "Expected 'arguments' to be of type Array.",
        ),
        (
            r#"{"type":1,"target":"A","arguments":{}}"#,
            "Expected 'arguments' to be of type Array.",
        ),
        (
            r#"{"type":1,"target":"A","arguments":[],"invocationId":null}"#,
            "Expected 'invocationId' to be of type String.",
        ),
        (
            r#"{"type":1,"target":"A","arguments":[],"invocationId":1}"#,
            "Expected 'invocationId' to be of type String.",
        ),
        (
            r#"{"type":1,"target":"A","arguments":[],"streamIds":null}"#,
            "Expected 'streamIds' to be of type Array.",
        ),
        (
            r#"{"type":1,"target":"A","arguments":[],"headers":null}"#,
            "Expected 'headers' to be of type StartObject.",
        ),
        (
            r#"{"type":1,"target":"A","arguments":[],"headers":{"a":1}}"#,
            "Expected header 'a' to be of type String.",
        ),
        (
            r#"{"type":2,"invocationId":"1"}"#,
            "Missing required property 'item'.",
        ),
        (
            r#"{"type":2,"item":1}"#,
            "Missing required property 'invocationId'.",
        ),
        (
            r#"{"type":3,"invocationId":""}"#,
            "Missing required property 'invocationId'.",
        ),
        (
            r#"{"type":3,"invocationId":"1","result":1,"error":"x"}"#,
            "The 'error' and 'result' properties are mutually exclusive.",
        ),
        (
            r#"{"type":3,"invocationId":"1","error":null}"#,
            "Expected 'error' to be of type String.",
        ),
        (
            r#"{"type":4,"target":"A","arguments":[]}"#,
            "Missing required property 'invocationId'.",
        ),
        (r#"{"type":5}"#, "Missing required property 'invocationId'."),
        (
            r#"{"type":7,"allowReconnect":1}"#,
            "Expected 'allowReconnect' to be true or false.",
        ),
        (r#"{"type":8}"#, "Missing required property 'sequenceId'."),
        (
            r#"{"type":9,"sequenceId":"1"}"#,
            "Expected 'sequenceId' to be of type Number.",
        ),
    ];
    for (record, expected) in cases {
        assert_eq!(error_of(record), expected, "{record}");
    }
}

#[test]
fn nesting_is_refused_beyond_the_depth_that_dotnet_reads() {
    let nested = |levels: usize| {
        let (open, close) = ("[".repeat(levels), "]".repeat(levels));
        format!(r#"{{"type":1,"target":"A","arguments":{open}{close}}}"#)
    };
    assert!(parse(nested(63).as_bytes()).is_ok());
    assert!(parse(nested(64).as_bytes()).is_err());
    assert!(parse(nested(1_000_000).as_bytes()).is_err());
    // Brackets in a string nest nothing.
    let text = format!(
        r#"{{"type":1,"target":"A","arguments":["\"{}"]}}"#,
        "[".repeat(100)
    );
    assert!(parse(text.as_bytes()).is_ok());
}

#[test]
fn an_invocation_that_is_not_utf8_is_read_but_its_arguments_are_not() {
    for record in [
        &b"{\"type\":1,\"invocationId\":\"1\",\"target\":\"A\",\"arguments\":[\"\xff\"]}"[..],
        b"{\"type\":4,\"invocationId\":\"1\",\"target\":\"A\",\"arguments\":[\"\xc3\x28\"]}",
    ] {
        let (HubMessage::Invocation(call) | HubMessage::StreamInvocation(call)) =
            parse(record).unwrap()
        else {
            panic!()
        };
        assert_eq!(call.invocation_id.as_deref(), Some("1"));
        assert_eq!(call.target, "A");
        assert!(call.arguments.values().is_err());
    }
    for record in [
        &b"{\"type\":2,\"invocationId\":\"1\",\"item\":\"\xff\"}"[..],
        b"\xff",
        b"{\"type\":1,\"target\":\"A\",\"arguments\":\xff}",
    ] {
        assert!(parse(record).is_err());
    }
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    let text = String::from_utf8(out).unwrap();
    text.strip_suffix('\x1e').unwrap().to_owned()
}

#[test]
fn messages_are_written_as_dotnet_writes_them() {
    let cases = [
        (
            written(|out| {
                json::write_invocation(out, None, "ReceiveMessage", &("u", "hi"), &[]).unwrap();
            }),
            r#"{"type":1,"target":"ReceiveMessage","arguments":["u","hi"]}"#,
        ),
        (
            written(|out| json::write_invocation(out, Some("s1"), "A", &[0; 0], &["2"]).unwrap()),
            r#"{"type":1,"invocationId":"s1","target":"A","arguments":[],"streamIds":["2"]}"#,
        ),
        (
            written(|out| {
                let headers = [("via", "raw"), ("\"", "ü\u{1e}")];
                json::write_invocation_with_headers(out, &headers, Some("1"), "A", &[0; 0], &[])
                    .unwrap();
            }),
            r#"{"type":1,"headers":{"via":"raw","\"":"ü\u001e"},"invocationId":"1","target":"A","arguments":[]}"#,
        ),
        (
            written(|out| json::write_stream_invocation(out, "1", "A", &(1,), &[]).unwrap()),
            r#"{"type":4,"invocationId":"1","target":"A","arguments":[1]}"#,
        ),
        (
            written(|out| json::write_stream_item(out, "1", &"x").unwrap()),
            r#"{"type":2,"invocationId":"1","item":"x"}"#,
        ),
        (
            written(|out| json::write_result(out, "1", &()).unwrap()),
            r#"{"type":3,"invocationId":"1","result":null}"#,
        ),
        (
            written(|out| json::write_error(out, "1", "no")),
            r#"{"type":3,"invocationId":"1","error":"no"}"#,
        ),
        (
            written(|out| json::write_void(out, "\"")),
            r#"{"type":3,"invocationId":"\""}"#,
        ),
        (
            written(|out| json::write_cancel(out, "1")),
            r#"{"type":5,"invocationId":"1"}"#,
        ),
        (
            written(|out| json::write_close(out, None, false)),
            r#"{"type":7}"#,
        ),
        (
            written(|out| json::write_close(out, Some("no"), true)),
            r#"{"type":7,"error":"no","allowReconnect":true}"#,
        ),
        (
            written(|out| json::write_ack(out, 36)),
            r#"{"type":8,"sequenceId":36}"#,
        ),
        (
            written(|out| json::write_sequence(out, 19)),
            r#"{"type":9,"sequenceId":19}"#,
        ),
    ];
    for (written, expected) in cases {
        assert_eq!(written, expected);
    }
}

proptest! {
    #[test]
    fn no_input_makes_the_reader_panic(record in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&record);
        let _ = hubcast_protocol::handshake::HandshakeRequest::parse(&record);
    }

    #[test]
    fn broken_messages_never_panic(
        at in 0usize..80,
        byte in any::<u8>(),
    ) {
        let mut record = br#"{"type":1,"invocationId":"1","target":"A","arguments":[1,"x",{"a":null}]}"#.to_vec();
        let at = at % record.len();
        record[at] = byte;
        if let Ok(HubMessage::Invocation(call)) = parse(&record) {
            let _ = call.arguments.values();
        }
    }

    #[test]
    fn an_invocation_survives_being_written_and_read(
        id in proptest::option::of("[^\u{0}]{1,20}"),
        target in ".{1,40}",
        text in ".*",
        number in any::<i64>(),
    ) {
        let mut out = Vec::new();
        json::write_invocation(&mut out, id.as_deref(), &target, &(&text, number), &[]).unwrap();
        prop_assert_eq!(out.pop(), Some(0x1e));
        prop_assert!(!out.contains(&0x1e));
        let HubMessage::Invocation(call) = parse(&out).unwrap() else { panic!() };
        prop_assert_eq!(call.invocation_id.as_deref(), id.as_deref());
        prop_assert_eq!(&*call.target, &*target);
        let values = call.arguments.values().unwrap();
        prop_assert_eq!(values[0].decode::<String>().unwrap(), text);
        prop_assert_eq!(values[1].decode::<i64>().unwrap(), number);
    }
}
