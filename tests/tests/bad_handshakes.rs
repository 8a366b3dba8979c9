//! WebSockets on which no proper SignalR handshake arrives: each is told why, if anything, and nobody else notices.

use std::time::Duration;

use end_to_end::socket::{End, HANDSHAKE};
use end_to_end::{Bystander, Socket};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

/// How long a server waits for a handshake.
const PATIENCE: Duration = Duration::from_secs(15);

const UNEXPECTED: &str = "An unexpected error occurred during connection handshake.";
const CANCELED: &str = "Handshake was canceled.";

#[tokio::test]
async fn what_is_no_handshake_is_refused_with_the_reason() {
    let mut bystander = Bystander::on_a_server(&[]).await;
    for (sent, error) in [
        ("garbage\u{1e}", UNEXPECTED),
        ("\u{1e}", UNEXPECTED),
        ("{\u{1e}", UNEXPECTED),
        ("[]\u{1e}", UNEXPECTED),
        ("null\u{1e}", UNEXPECTED),
        ("{}\u{1e}", UNEXPECTED),
        ("{\"protocol\":\"json\"}\u{1e}", UNEXPECTED),
        ("{\"version\":1}\u{1e}", UNEXPECTED),
        ("{\"protocol\":null,\"version\":1}\u{1e}", UNEXPECTED),
        ("{\"protocol\":7,\"version\":1}\u{1e}", UNEXPECTED),
        (
            "{\"protocol\":\"json\",\"version\":\"1\"}\u{1e}",
            UNEXPECTED,
        ),
        ("{\"protocol\":\"json\",\"version\":1.5}\u{1e}", UNEXPECTED),
        ("{\"protocol\":\"json\",\"version\":null}\u{1e}", UNEXPECTED),
        ("{\"Protocol\":\"json\",\"Version\":1}\u{1e}", UNEXPECTED),
        (
            "\u{feff}{\"protocol\":\"json\",\"version\":1}\u{1e}",
            UNEXPECTED,
        ),
        (
            "{\"type\":1,\"target\":\"Echo\",\"arguments\":[1]}\u{1e}",
            UNEXPECTED,
        ),
        (
            "{\"protocol\":\"carrier-pigeon\",\"version\":1}\u{1e}",
            "The protocol 'carrier-pigeon' is not supported.",
        ),
        (
            "{\"protocol\":\"\",\"version\":1}\u{1e}",
            "The protocol '' is not supported.",
        ),
        (
            "{\"protocol\":\"json\",\"version\":3}\u{1e}",
            "The server does not support version 3 of the 'json' protocol.",
        ),
        (
            "{\"protocol\":\"json\",\"version\":2147483647}\u{1e}",
            "The server does not support version 2147483647 of the 'json' protocol.",
        ),
    ] {
        let mut socket = open(&bystander).await;
        socket.send(sent).await;
        assert_eq!(socket.rest().await, refused(error), "{sent:?}");
        bystander.is_undisturbed(sent).await;
    }
}

#[tokio::test]
async fn an_oversized_handshake_is_cancelled_as_soon_as_it_is_too_long() {
    let mut bystander = Bystander::on_a_server(&[]).await;

    let mut socket = open(&bystander).await;
    socket.send("x".repeat(32 * 1024 + 1)).await;
    assert_eq!(socket.rest().await, refused(CANCELED), "in one message");

    let mut socket = open(&bystander).await;
    for _ in 0..33 {
        // The server may have had enough before we are done.
        let _ = socket.try_send("x".repeat(1024)).await;
    }
    assert_eq!(socket.rest().await, refused(CANCELED), "in many messages");

    let mut socket = open(&bystander).await;
    let padding = " ".repeat(32 * 1024);
    socket.send(format!("{padding}{HANDSHAKE}")).await;
    assert_eq!(
        socket.rest().await,
        refused(CANCELED),
        "although it would be one"
    );
    bystander.is_undisturbed("oversized handshakes").await;
}

#[tokio::test]
async fn sockets_that_never_finish_a_handshake_are_cancelled_after_fifteen_seconds() {
    let mut bystander = Bystander::on_a_server(&[]).await;
    let start = Instant::now();
    let mut silent = open(&bystander).await;
    let mut half = open(&bystander).await;
    half.send(&HANDSHAKE[..20]).await;
    let mut pinging = open(&bystander).await;
    // Whatever the WebSocket itself does is no handshake either.
    pinging.send(Message::Ping("still there".into())).await;

    let limit = PATIENCE + Duration::from_secs(5);
    let (silent, half, pinging) = tokio::join!(
        silent.rest_within(limit),
        half.rest_within(limit),
        pinging.rest_within(limit)
    );
    for (ended, what) in [(silent, "silent"), (half, "half"), (pinging, "pinging")] {
        assert_eq!(ended, refused(CANCELED), "{what}");
    }
    let took = start.elapsed();
    assert!(
        took + Duration::from_millis(500) >= PATIENCE,
        "they were given {took:?} only"
    );
    bystander.is_undisturbed("silence").await;
}

#[tokio::test]
async fn a_client_that_leaves_before_the_handshake_is_told_nothing() {
    let mut bystander = Bystander::on_a_server(&[]).await;
    for sent in ["", &HANDSHAKE[..20]] {
        let mut socket = open(&bystander).await;
        socket.send(sent).await;
        socket.send(Message::Close(None)).await;
        let (records, _) = socket.rest().await;
        assert_eq!(records, Vec::<Value>::new());
        // And without a goodbye.
        let mut socket = open(&bystander).await;
        socket.send(sent).await;
        drop(socket);
    }
    bystander.is_undisturbed("those who left").await;
}

#[tokio::test]
async fn unusual_but_proper_handshakes_are_accepted() {
    let mut bystander = Bystander::on_a_server(&[]).await;
    for sent in [
        HANDSHAKE,
        "{\"version\":1,\"protocol\":\"json\"}\u{1e}",
        " \r\n{ \"protocol\" : \"JSON\", \"version\" : 1 }\t\u{1e}",
        "{\"extra\":{\"protocol\":[null]},\"protocol\":\"json\",\"version\":1,\"type\":7}\u{1e}",
        "{\"protocol\":\"json\",\"version\":2}\u{1e}",
        "{\"protocol\":\"json\",\"version\":0}\u{1e}",
    ] {
        let mut whole = open(&bystander).await;
        whole.send(sent).await;
        assert_eq!(whole.records().await, [json!({})], "{sent:?}");

        let mut in_pieces = open(&bystander).await;
        for character in sent.chars() {
            in_pieces.send(character.to_string()).await;
        }
        assert_eq!(in_pieces.records().await, [json!({})], "{sent:?} in pieces");

        let mut binary = open(&bystander).await;
        binary
            .send(Message::Binary(sent.as_bytes().to_vec().into()))
            .await;
        assert_eq!(
            binary.records().await,
            [json!({})],
            "{sent:?} in a binary frame"
        );
    }
    bystander.is_undisturbed("handshakes").await;
}

#[tokio::test]
async fn messages_in_the_same_frame_as_the_handshake_are_taken_after_it() {
    let mut bystander = Bystander::on_a_server(&[]).await;
    let mut socket = open(&bystander).await;
    let echo =
        "{\"type\":1,\"invocationId\":\"1\",\"target\":\"Echo\",\"arguments\":[\"hello\"]}\u{1e}";
    socket
        .send(format!("{HANDSHAKE}{echo}{}", &echo[..10]))
        .await;
    socket.send(&echo[10..]).await;
    let mut received = Vec::new();
    while received.len() < 3 {
        received.extend(socket.records().await);
    }
    let completion = json!({"type": 3, "invocationId": "1", "result": "hello"});
    assert_eq!(received, [json!({}), completion.clone(), completion]);
    bystander.is_undisturbed("an eager client").await;
}

async fn open(bystander: &Bystander) -> Socket {
    Socket::open(bystander.url(), None)
        .await
        .unwrap_or_else(|status| panic!("refused with {status}"))
}

/// A handshake response with an error, no Close message, and a normal end.
fn refused(error: &str) -> (Vec<Value>, End) {
    (
        vec![json!({"error": error})],
        End {
            close: None,
            code: Some(1000),
        },
    )
}
