//! Values that differ between the encodings, bytes among them: base64 in JSON, `bin` in MessagePack.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that meets the unexpected has to fail"
)]

use hubcast_protocol::{ByEncoding, ByteArray, Encoding, HubMessage};

/// The arguments of an invocation that was written with this one argument.
fn written(encoding: Encoding, bytes: &ByteArray) -> Vec<u8> {
    let mut out = Vec::new();
    encoding
        .write_invocation(&mut out, None, "m", &(bytes,), &[])
        .unwrap();
    out
}

fn read(encoding: Encoding, message: &[u8]) -> Result<ByteArray, String> {
    let HubMessage::Invocation(invocation) = encoding.parse(message).unwrap() else {
        panic!("not an invocation")
    };
    let values = invocation.arguments.values().unwrap();
    values[0].decode().map_err(|error| error.to_string())
}

#[test]
fn bytes_are_base64_in_json() {
    let bytes = ByteArray(vec![0, 1, 0xFF, 0xFE]);
    let message = written(Encoding::Json, &bytes);
    let expected = "{\"type\":1,\"target\":\"m\",\"arguments\":[\"AAH//g==\"]}\u{1e}";
    assert_eq!(String::from_utf8(message.clone()).unwrap(), expected);
    assert_eq!(
        read(Encoding::Json, &message[..message.len() - 1]),
        Ok(bytes)
    );
}

#[test]
fn bytes_are_bin_in_messagepack() {
    for length in [0_usize, 1, 255, 256, 70_000] {
        let bytes = ByteArray([0, 1, 2, 0xFF].into_iter().cycle().take(length).collect());
        let message = written(Encoding::MessagePack, &bytes);
        let marker = match length {
            0..=0xFF => 0xC4,
            0x100..=0xFFFF => 0xC5,
            _ => 0xC6,
        };
        let prefix = message.iter().position(|byte| *byte < 0x80).unwrap() + 1;
        let body = &message[prefix..];
        // An array of six, the type, no headers, no id, the target, an array of one.
        assert_eq!(body[..8], [0x96, 1, 0x80, 0xC0, 0xA1, b'm', 0x91, marker]);
        assert_eq!(read(Encoding::MessagePack, body), Ok(bytes));
    }
}

#[test]
fn a_list_of_numbers_is_read_and_what_is_no_bytes_is_not() {
    let invocation =
        |argument: &str| format!(r#"{{"type":1,"target":"m","arguments":[{argument}]}}"#);
    let read = |argument: &str| read(Encoding::Json, invocation(argument).as_bytes());
    assert_eq!(read("[1,2,255]"), Ok(ByteArray(vec![1, 2, 255])));
    assert_eq!(read(r#""""#), Ok(ByteArray::default()));
    for wrong in [
        "[256]",
        "[-1]",
        "1",
        "null",
        "{}",
        r#""%%%%""#,
        r#""AAH//g""#,
    ] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_value_may_be_another_in_each_encoding_and_so_may_what_is_in_it() {
    let inner = ByEncoding {
        json: 1,
        messagepack: "one",
    };
    let both = ByEncoding {
        json: vec![inner],
        messagepack: (inner, ByteArray(vec![7])),
    };
    let mut json = Vec::new();
    let written = Encoding::Json.write_stream_item(&mut json, "s", &both);
    written.unwrap();
    assert_eq!(
        json,
        b"{\"type\":2,\"invocationId\":\"s\",\"item\":[1]}\x1e"
    );
    let mut messagepack = Vec::new();
    let written = Encoding::MessagePack.write_stream_item(&mut messagepack, "s", &both);
    written.unwrap();
    // An array of the text "one" and of one byte.
    assert!(messagepack.ends_with(b"\x92\xA3one\xC4\x01\x07"));
}
