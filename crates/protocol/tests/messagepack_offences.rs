//! What is wrong with MessagePack that is not a hub message, in the words of ASP.NET Core where it has any.

#![allow(
    clippy::too_many_lines,
    reason = "the table of cases is as long as it must be"
)]

mod bytes;

use bytes::bytes;
use hubcast_protocol::messagepack::parse;

fn error_of(hex: &str) -> String {
    match parse(&bytes(hex)) {
        Ok(message) => panic!("{hex} was read as {message:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn every_offence_is_named() {
    let cases = [
        ("", "Reading array length for 'message' failed."),
        ("c0", "Reading array length for 'message' failed."),
        ("80", "Reading array length for 'message' failed."),
        ("a0", "Reading array length for 'message' failed."),
        ("c1", "Reading array length for 'message' failed."),
        ("92 06", "Reading array length for 'message' failed."),
        ("90", "Reading 'messageType' as Int32 failed."),
        ("91 c0", "Reading 'messageType' as Int32 failed."),
        ("91 a131", "Reading 'messageType' as Int32 failed."),
        ("91 ca3f800000", "Reading 'messageType' as Int32 failed."),
        ("91 ce80000000", "Reading 'messageType' as Int32 failed."),
        ("91 cd00", "Reading 'messageType' as Int32 failed."),
        ("91 01", "Reading map length for 'headers' failed."),
        (
            "95 01 c0 c0 a16d 90",
            "Reading map length for 'headers' failed.",
        ),
        (
            "95 01 90 c0 a16d 90",
            "Reading map length for 'headers' failed.",
        ),
        (
            "95 01 8f c0 a16d 90",
            "Reading map length for 'headers' failed.",
        ),
        (
            "95 01 81 01 a161 c0 a16d 90",
            "Reading 'headers[0].Key' as String failed.",
        ),
        (
            "95 01 82 a161 a161 a162 01 c0 a16d 90",
            "Reading 'headers[1].Value' as String failed.",
        ),
        (
            "95 01 81 a0 a161 c0 a16d 90",
            "Null or empty key in header.",
        ),
        (
            "95 01 81 c0 a161 c0 a16d 90",
            "Null or empty key in header.",
        ),
        (
            "95 01 81 a161 a0 c0 a16d 90",
            "Null or empty value in header.",
        ),
        (
            "95 01 81 a161 c0 c0 a16d 90",
            "Null or empty value in header.",
        ),
        (
            "95 01 80 01 a16d 90",
            "Reading 'invocationId' as String failed.",
        ),
        (
            "95 01 80 c40131 a16d 90",
            "Reading 'invocationId' as String failed.",
        ),
        ("95 01 80 c0 01 90", "Reading 'target' as String failed."),
        ("95 01 80 c0 af6d 90", "Reading 'target' as String failed."),
        (
            "95 01 80 c0 c0 90",
            "Null or empty target for Invocation message.",
        ),
        (
            "95 01 80 c0 a0 90",
            "Null or empty target for Invocation message.",
        ),
        (
            "95 04 80 a131 a0 90",
            "Null or empty target for StreamInvocation message.",
        ),
        (
            "94 01 80 c0 a16d",
            "Reading 'arguments' failed: it declares more than there is.",
        ),
        (
            "95 01 80 c0 a16d 92 01",
            "Reading 'arguments' failed: it declares more than there is.",
        ),
        (
            "95 01 80 c0 a16d 91 a3",
            "Reading 'arguments' failed: it declares more than there is.",
        ),
        (
            "95 01 80 c0 a16d 91 c1",
            "Reading 'arguments' failed: it has the reserved byte 0xC1.",
        ),
        (
            "96 01 80 c0 a16d 90 c0",
            "Reading array length for 'streamIds' failed.",
        ),
        (
            "96 01 80 c0 a16d 90 91",
            "Reading array length for 'streamIds' failed.",
        ),
        (
            "96 01 80 c0 a16d 90 91 01",
            "Reading 'streamIds' as String failed.",
        ),
        (
            "96 01 80 c0 a16d 90 91 a0",
            "Null or empty value in streamIds received.",
        ),
        (
            "96 01 80 c0 a16d 90 91 c0",
            "Null or empty value in streamIds received.",
        ),
        (
            "94 02 80 c0 2a",
            "Null or empty invocation ID for StreamItem message.",
        ),
        (
            "94 02 80 a0 2a",
            "Null or empty invocation ID for StreamItem message.",
        ),
        (
            "93 02 80 a131",
            "Reading 'item' failed: it declares more than there is.",
        ),
        (
            "95 03 80 c0 03 2a",
            "Null or empty invocation ID for Completion message.",
        ),
        (
            "95 03 80 a131 c0 2a",
            "Reading 'resultKind' as Int32 failed.",
        ),
        ("95 03 80 a131 00 2a", "Invalid invocation result kind."),
        ("95 03 80 a131 04 2a", "Invalid invocation result kind."),
        ("95 03 80 a131 01 2a", "Reading 'error' as String failed."),
        (
            "94 03 80 a131 03",
            "Reading 'result' failed: it declares more than there is.",
        ),
        (
            "95 04 80 c0 a16d 90",
            "Null or empty invocation ID for StreamInvocation message.",
        ),
        (
            "93 05 80 c0",
            "Null or empty invocation ID for CancelInvocation message.",
        ),
        // What is behind the array is none of its items.
        ("92 05 80 a131", "Reading 'invocationId' as String failed."),
        ("91 07", "Reading 'error' as String failed."),
        ("92 07 01", "Reading 'error' as String failed."),
        ("93 07 c0 c0", "Reading 'allowReconnect' as Boolean failed."),
        ("91 08", "Reading 'sequenceId' as Int64 failed."),
        (
            "92 08 cf8000000000000000",
            "Reading 'sequenceId' as Int64 failed.",
        ),
        ("92 09 a131", "Reading 'sequenceId' as Int64 failed."),
    ];
    for (hex, expected) in cases {
        assert_eq!(error_of(hex), expected, "{hex}");
    }
}
