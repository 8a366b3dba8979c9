//! Servers that do not speak as they should.

use std::time::Duration;

use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::server::{Listener, connected, next, settings, within};
use crate::wire::Settings;
use crate::{ConnectionError, ConnectionEvent, Encoding, StartError};

/// What comes of a start when the server answers the handshake with these messages, and hangs up behind them.
async fn start_with(settings: Settings, answers: Vec<Message>) -> StartError {
    let (connection, mut listener) = Listener::new(settings, None);
    let serving = async {
        let mut server = listener.accept().await;
        server.message().await;
        for answer in answers {
            server.send_message(answer).await;
        }
    };
    let (started, ()) = tokio::join!(connection.start(), serving);
    started.unwrap_err()
}

#[tokio::test(start_paused = true)]
async fn a_refused_handshake_brings_the_servers_text() {
    let no = Message::text("{\"error\":\"The protocol 'json' is not supported.\"}\u{1e}");
    let error = start_with(settings(), vec![no]).await;
    assert!(
        matches!(&error, StartError::HandshakeRefused(text) if text == "The protocol 'json' is not supported."),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_no_answer_to_a_handshake_fails_the_start() {
    for answer in [
        "\u{1e}",
        "nonsense\u{1e}",
        "[]\u{1e}",
        "{\"type\":6}\u{1e}",
        "{\"error\":5}\u{1e}",
    ] {
        let error = start_with(settings(), vec![Message::text(answer)]).await;
        assert!(
            matches!(
                error,
                StartError::Handshake(ConnectionError::InvalidMessage(_))
            ),
            "{answer}: {error}"
        );
    }
    for answers in [vec![], vec![Message::text("{")], vec![Message::Close(None)]] {
        let error = start_with(settings(), answers).await;
        assert!(
            matches!(
                error,
                StartError::Handshake(ConnectionError::Ended | ConnectionError::WebSocket(_))
            ),
            "{error}"
        );
    }
    let settings = Settings {
        max_message_size: 1000,
        ..settings()
    };
    let error = start_with(settings, vec![Message::text("x".repeat(1001))]).await;
    assert!(
        matches!(
            error,
            StartError::Handshake(ConnectionError::TooLarge { limit: 1000 })
        ),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_waited_for_fifteen_seconds() {
    let (connection, mut listener) = Listener::new(settings(), None);
    let begun = Instant::now();
    let (started, _server) = tokio::join!(connection.start(), listener.accept());
    let error = started.unwrap_err();
    assert!(
        matches!(
            error,
            StartError::TimedOut {
                step: "handshake",
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(begun.elapsed(), Duration::from_secs(15));
}

/// How a connection ends when the server sends this.
async fn end_with(settings: Settings, message: Message) -> Option<ConnectionError> {
    let encoding = settings.encoding;
    let (connection, mut listener) = Listener::new(settings, None);
    let mut events = connection.events();
    let serving = async {
        let mut server = listener.accept().await;
        server.message().await;
        server.send_message(Message::text("{}\u{1e}")).await;
        server.message().await;
        server.try_send_message(message).await;
        while server.message().await.is_some() {}
    };
    let living = async {
        connection.start().await.unwrap();
        match next(&mut events).await {
            ConnectionEvent::Closed(error) => error,
            other => panic!("{encoding:?}: {other:?}"),
        }
    };
    tokio::join!(living, serving).0
}

#[tokio::test(start_paused = true)]
async fn what_is_no_hub_message_ends_the_connection() {
    for record in [
        "",
        "nonsense",
        "[]",
        "{}",
        r#"{"type":"6"}"#,
        r#"{"type":1}"#,
        r#"{"type":1,"target":"X","arguments":{}}"#,
        r#"{"type":2,"item":1}"#,
        r#"{"type":3}"#,
        r#"{"type":3,"invocationId":"1","result":1,"error":"x"}"#,
        r#"{"type":7,"error":5}"#,
        &"[".repeat(100_000),
    ] {
        let error = end_with(settings(), Message::text(format!("{record}\u{1e}"))).await;
        assert!(
            matches!(error, Some(ConnectionError::InvalidMessage(_))),
            "{record:.50}: {error:?}"
        );
    }
    for bytes in [
        &b"\x01\xc0"[..],
        b"\x00",
        b"\x02\x91\x01",
        b"\x05\xdd\xff\xff\xff\xff",
        b"\x03\x93\x03\xc0",
    ] {
        let encoding = Encoding::MessagePack;
        let error = end_with(
            Settings {
                encoding,
                ..settings()
            },
            Message::binary(bytes),
        )
        .await;
        assert!(
            matches!(error, Some(ConnectionError::InvalidMessage(_))),
            "{bytes:?}: {error:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_ends_the_connection_before_it_is_complete() {
    let limited = Settings {
        max_message_size: 1000,
        ..settings()
    };
    let encoding = Encoding::MessagePack;
    for (settings, message) in [
        (limited.clone(), Message::text("x".repeat(1001))),
        // More than the WebSocket takes.
        (limited.clone(), Message::text("x".repeat(1_000_000))),
        (
            Settings {
                encoding,
                ..limited.clone()
            },
            Message::binary(vec![0xff; 1000]),
        ),
        (
            Settings {
                encoding,
                ..limited
            },
            Message::binary(vec![0xff, 0xff, 0xff, 0xff, 0x0f]),
        ),
    ] {
        let error = end_with(settings, message).await;
        assert!(
            matches!(error, Some(ConnectionError::TooLarge { limit: 1000 })),
            "{error:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_of_exactly_the_limit_is_taken() {
    let text = r#"{"type":1,"target":"X","arguments":["#;
    let record = format!("{text}\"{}\"]}}", "x".repeat(1000 - text.len() - 5));
    let (connection, mut server) = connected(Settings {
        max_message_size: 1000,
        ..settings()
    })
    .await;
    let (sender, mut heard) = tokio::sync::mpsc::unbounded_channel();
    connection.on("X", move |text: String| sender.send(text.len()).unwrap());
    assert_eq!(record.len() + 1, 1000);
    server.send(&record).await;
    assert_eq!(
        within("the call", heard.recv()).await,
        Some(1000 - text.len() - 5)
    );
}

#[tokio::test(start_paused = true)]
async fn an_end_without_a_goodbye_is_told_as_that() {
    let frame = CloseFrame {
        code: CloseCode::Error,
        reason: "".into(),
    };
    for message in [Message::Close(None), Message::Close(Some(frame))] {
        let error = end_with(settings(), message).await;
        assert!(matches!(error, Some(ConnectionError::Ended)), "{error:?}");
    }
    let (connection, server) = connected(settings()).await;
    let mut events = connection.events();
    drop(server);
    let event = next(&mut events).await;
    assert!(
        matches!(event, ConnectionEvent::Closed(Some(ConnectionError::Ended))),
        "{event:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_only_newer_servers_know_is_skipped() {
    let (connection, mut server) = connected(settings()).await;
    let (sender, mut heard) = tokio::sync::mpsc::unbounded_channel();
    connection.on("X", move || sender.send(()).unwrap());
    server
        .send_all(&[
            r#"{"type":99,"new":[{}]}"#,
            r#"{"type":-1}"#,
            r#"{"type":4,"invocationId":"1","target":"X","arguments":[]}"#,
            r#"{"type":5,"invocationId":"1"}"#,
            r#"{"type":8,"sequenceId":1}"#,
            r#"{"type":9,"sequenceId":1}"#,
            r#"{"type":3,"invocationId":"1","result":1}"#,
            r#"{"type":1,"target":"X","arguments":[],"new":1}"#,
        ])
        .await;
    assert_eq!(within("the call", heard.recv()).await, Some(()));
    assert!(heard.try_recv().is_err());
}
