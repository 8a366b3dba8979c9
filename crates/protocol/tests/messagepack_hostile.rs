//! MessagePack that was made to hurt: it is refused, quickly, in little memory, and without a panic.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic is the report of a test"
)]

mod bytes;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::bytes;
use hubcast_protocol::messagepack::parse;
use hubcast_protocol::{HubMessage, MAX_DEPTH, Value};
use proptest::prelude::*;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// Everything of an invocation but its arguments, with an array of five items.
const CALL: &str = "95 01 80 a131 a16d";

fn call_with(arguments: &[u8]) -> Vec<u8> {
    [&*bytes(CALL), arguments].concat()
}

#[test]
fn lengths_that_are_not_true_are_refused() {
    for value in [
        "ddffffffff",
        "dfffffffff",
        "dbffffffff",
        "c6ffffffff",
        "c9ffffffff 01",
        "dcffff",
        "deffff",
        "daffff",
        "c5ffff",
        "c8ffff 01",
        "d9ff",
        "c4ff",
        "c7ff 01",
        "9f",
        "8f",
        "bf",
        "d4 01",
        "d8 01",
        "cf 01",
        // Each of them is true for itself.
        "93 93 93 01 02 03",
        // The half of them is there.
        "df00000002 01 02 03",
    ] {
        let value = bytes(value);
        for arguments in [value.clone(), [&[0x91], &*value].concat()] {
            assert!(parse(&call_with(&arguments)).is_err(), "{arguments:x?}");
        }
        let result = [&*bytes("95 03 80 a131 03"), &value].concat();
        assert!(parse(&result).is_err(), "{result:x?}");
        assert!(parse(&value).is_err(), "{value:x?}");
        let headers = [&*bytes("95 01"), &value].concat();
        assert!(parse(&headers).is_err(), "{headers:x?}");
    }
}

#[test]
fn nesting_is_refused_beyond_the_depth_that_json_has() {
    // The envelope is a level, too.
    for head in [
        &[0x91][..],
        &[0x81, 0x01],
        &[0xdc, 0, 1],
        &[0xdf, 0, 0, 0, 1, 1],
    ] {
        let nested = |levels: usize| {
            let mut value = vec![0x91];
            (0..levels - 2).for_each(|_| value.extend(head));
            value.push(0x90);
            call_with(&value)
        };
        assert!(parse(&nested(MAX_DEPTH - 1)).is_ok());
        assert!(parse(&nested(MAX_DEPTH)).is_err());
    }
}

#[test]
fn a_megabyte_of_nesting_is_refused_at_once() {
    let begun = Instant::now();
    for head in [0x91, 0x81, 0x9f] {
        let bomb = vec![head; 1 << 20];
        assert!(parse(&call_with(&bomb)).is_err());
        assert!(parse(&bomb).is_err());
        let result = [&*bytes("95 03 80 a131 03"), &bomb].concat();
        let error = parse(&result).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Reading 'result' failed: it nests too deeply."
        );
    }
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[test]
fn a_megabyte_of_arguments_is_read_in_linear_time() {
    let mut arguments = bytes("dd00100000");
    arguments.resize(arguments.len() + (1 << 20), 0xC0);
    let message = call_with(&arguments);
    let HubMessage::Invocation(call) = parse(&message).unwrap() else {
        panic!()
    };
    assert_eq!(call.arguments.values().unwrap().len(), 1 << 20);
}

#[derive(Debug, Deserialize)]
#[serde(rename = "_ExtStruct")]
struct Extension(#[allow(dead_code)] (i8, IgnoredAny));

#[derive(Debug, Deserialize)]
struct Half(#[allow(dead_code)] (i8,));

#[derive(Debug, Deserialize)]
#[allow(dead_code)]
struct Everything {
    a: Option<Box<Everything>>,
    #[serde(flatten)]
    rest: HashMap<String, Untagged>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
#[allow(dead_code)]
enum Untagged {
    Number(i64),
    Text(String),
    List(Vec<Untagged>),
    Other(IgnoredAny),
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)]
enum Tagged {
    A,
    B(u8),
    C(u8, u8),
    D { x: Box<Tagged> },
}

/// Asks for a value as all kinds of things. Any answer will do.
fn decode_as_anything(value: Value<'_>) {
    let _ = value.decode::<serde_json::Value>();
    let _ = value.decode::<Box<RawValue>>();
    let _ = value.decode::<Option<Box<RawValue>>>();
    let _ = value.decode::<IgnoredAny>();
    let _ = value.decode::<Option<Option<u8>>>();
    let _ = value.decode::<()>();
    let _ = value.decode::<&str>();
    let _ = value.decode::<String>();
    let _ = value.decode::<Vec<u8>>();
    let _ = value.decode::<Vec<Half>>();
    let _ = value.decode::<(i128, u128, f32)>();
    let _ = value.decode::<HashMap<String, Tagged>>();
    let _ = value.decode::<Vec<Extension>>();
    let _ = value.decode::<Extension>();
    let _ = value.decode::<Everything>();
    let _ = value.decode::<Untagged>();
    let _ = value.decode::<Tagged>();
}

fn read_as_anything(message: &[u8]) {
    match parse(message) {
        Ok(HubMessage::Invocation(call) | HubMessage::StreamInvocation(call)) => {
            for value in call.arguments.values().unwrap_or_default() {
                decode_as_anything(value);
            }
        }
        Ok(HubMessage::StreamItem(item)) => decode_as_anything(item.item),
        _ => {}
    }
}

proptest! {
    #[test]
    fn no_input_makes_the_reader_panic(message in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&message);
        read_as_anything(&call_with(&message));
        read_as_anything(&[&*bytes("94 02 80 a131"), &message].concat());
    }

    #[test]
    fn no_sequence_of_heads_makes_the_reader_panic(
        heads in prop::collection::vec(
            prop_oneof![0x80u8..0x84, 0x90u8..0x94, 0xa0u8..0xa4, 0xc0u8..0xe2, 0u8..4],
            0..60,
        ),
    ) {
        read_as_anything(&[&*bytes("94 02 80 a131"), &heads].concat());
    }

    #[test]
    fn broken_messages_never_panic(
        changes in prop::collection::vec((0usize..100, any::<u8>()), 1..4),
        end in 0usize..100,
    ) {
        let mut message = bytes(
            "96 01 81 a178 a179 a131 a16d 96 01 a178 82 a161 c0 a162 93 01 cb3ff8000000000000 c3 d6ff6553f100
             c4020102 81 a141 c0 91 a132",
        );
        for (at, byte) in changes {
            let at = at % message.len();
            message[at] = byte;
        }
        read_as_anything(&message);
        message.truncate(end);
        read_as_anything(&message);
    }
}
