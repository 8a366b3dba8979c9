//! Clients that break the rules of WebSockets, or hide in binary frames what is no text.
#![allow(
    clippy::indexing_slicing,
    reason = "a member that a JSON value lacks is null"
)]

use end_to_end::{Bystander, Socket};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

#[tokio::test]
async fn sockets_that_break_the_rules_of_websockets_are_closed() {
    let mut bystander = Bystander::on_a_server(&[]).await;
    let memory = bystander.server.resident_bytes();

    let mut socket = Socket::shaken(bystander.url()).await;
    let invalid = Frame::message(
        b"{\"type\":6, \"\xff\xfe".to_vec(),
        OpCode::Data(Data::Text),
        true,
    );
    socket.send(Message::Frame(invalid)).await;
    let (records, end) = socket.rest().await;
    assert_eq!(
        (records, end.code),
        (vec![], Some(1007)),
        "invalid UTF-8 in a text frame"
    );
    bystander
        .is_undisturbed("invalid UTF-8 in a text frame")
        .await;

    let long_ping = [b"\x89\xfe\x00\x7e".as_slice(), &[0; 4 + 126]].concat();
    for (raw, what) in [
        (b"\x81\x02hi".as_slice(), "a frame without a mask"),
        (
            b"\xc1\x80\x00\x00\x00\x00",
            "a compressed frame that nobody agreed on",
        ),
        (b"\x83\x80\x00\x00\x00\x00", "an opcode that does not exist"),
        (b"\x80\x80\x00\x00\x00\x00", "a continuation of nothing"),
        (b"\x09\x80\x00\x00\x00\x00", "a ping in fragments"),
        (&long_ping, "a ping that is too long"),
    ] {
        let mut socket = Socket::shaken(bystander.url()).await;
        socket.send_raw(raw).await;
        let (records, end) = socket.rest().await;
        assert_eq!((records, end.code), (vec![], Some(1002)), "{what}");
        bystander.is_undisturbed(what).await;
    }

    // A frame that declares exabytes. Its length is nobody's reason to reserve memory; its first bytes are too many anyway.
    let mut socket = Socket::shaken(bystander.url()).await;
    socket
        .send_raw(b"\x81\xff\x3f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00")
        .await;
    socket.send_raw(&b"x".repeat(1024 * 1024)).await;
    socket.rest().await;
    bystander.is_undisturbed("a frame of exabytes").await;
    let grown = bystander.server.resident_bytes().saturating_sub(memory);
    assert!(grown < 16 * 1024 * 1024, "memory grew by {grown} bytes");
}

#[tokio::test]
async fn invalid_utf8_in_a_binary_frame_never_gets_through() {
    let mut bystander = Bystander::on_a_server(&[]).await;
    for bytes in [
        b"{\"type\":1,\"invocationId\":\"1\",\"target\":\"Echo\",\"arguments\":[\"\xff\xfe\"]}\x1e".as_slice(),
        b"{\"type\":1,\"invocationId\":\"1\",\"target\":\"Echo\",\"arguments\":[\"\xed\xa0\x80\"]}\x1e",
        b"{\"type\":1,\"invocationId\":\"1\",\"target\":\"\xc3\",\"arguments\":[1]}\x1e",
    ] {
        let mut socket = Socket::shaken(bystander.url()).await;
        socket.send(Message::Binary(bytes.to_vec().into())).await;
        // The call is refused, or the connection is closed: both say that something was wrong.
        let records = socket.records().await;
        assert!(records.iter().all(|record| record["error"].is_string()), "{records:?}");
        bystander.is_undisturbed("invalid UTF-8").await;
    }
}
