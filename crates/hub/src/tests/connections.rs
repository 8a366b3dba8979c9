//! Connections: how they begin, stay and end.

use std::time::Duration;

use tokio::time::{Instant, advance};

use super::client::Server;
use crate::close_reason::CloseReason;
use crate::options::HubOptions;
use crate::users::AuthenticationExpiration;

const CLOSED_WITH_ERROR: &str =
    r#"{"type":7,"error":"Connection closed with an error.","allowReconnect":true}"#;

#[tokio::test(start_paused = true)]
async fn handshakes_are_taken_as_aspnet_core_takes_them() {
    let server = Server::alone();
    for request in [
        r#"{"protocol":"json","version":1}"#,
        r#"{"protocol":"JSON","version":2}"#,
        r#"{"version":-3,"x":{},"protocol":"json"}"#,
    ] {
        let mut client = server.connect(request);
        client.send(request).await;
        assert_eq!(client.next().await, "{}", "{request}");
    }
    for (request, error) in [
        (
            r#"{"protocol":"nope","version":1}"#,
            "The protocol 'nope' is not supported.",
        ),
        (
            r#"{"protocol":"","version":1}"#,
            "The protocol '' is not supported.",
        ),
        (
            r#"{"protocol":"json","version":3}"#,
            "The server does not support version 3 of the 'json' protocol.",
        ),
        (
            "nonsense",
            "An unexpected error occurred during connection handshake.",
        ),
        (
            "",
            "An unexpected error occurred during connection handshake.",
        ),
        (
            r#"{"type":1,"target":"Add","arguments":[]}"#,
            "An unexpected error occurred during connection handshake.",
        ),
    ] {
        let mut client = server.connect("a");
        client.send(request).await;
        assert_eq!(
            client.next().await,
            format!(r#"{{"error":"{error}"}}"#),
            "{request}"
        );
        assert_eq!(client.next().await, "(the end)");
    }
    assert_eq!(server.context().connection_count(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_given_up_after_fifteen_seconds() {
    let server = Server::alone();
    let began = Instant::now();
    let mut client = server.connect("a");
    assert_eq!(
        client.next().await,
        r#"{"error":"Handshake was canceled."}"#
    );
    assert_eq!(began.elapsed().as_secs(), 15);
    assert_eq!(client.ended().await, CloseReason::HandshakeCanceled);
}

#[tokio::test(start_paused = true)]
async fn an_endless_handshake_is_given_up_at_the_limit() {
    let server = Server::alone();
    let mut client = server.connect("a");
    client.send(&"x".repeat(32_768)).await;
    assert_eq!(
        client.next().await,
        r#"{"error":"Handshake was canceled."}"#
    );
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_during_the_handshake_sends_no_hub_message() {
    let server = Server::alone();
    let mut client = server.connect("a");
    tokio::task::yield_now().await;
    server.shut_down();
    assert_eq!(client.next().await, "(the end)");
    assert_eq!(client.ended().await, CloseReason::ServerShutdown);
}

#[tokio::test(start_paused = true)]
async fn messages_behind_the_handshake_are_read_after_it() {
    let server = Server::alone();
    let mut client = server.connect("a");
    client.send("{\"protocol\":\"json\",\"version\":1}\x1e{\"type\":1,\"invocationId\":\"1\",\"target\":\"Add\",\"arguments\":[1,2]}").await;
    assert_eq!(client.next().await, "{}");
    assert_eq!(
        client.next().await,
        r#"{"type":3,"invocationId":"1","result":3}"#
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_no_message_ends_the_connection_and_nobody_elses() {
    let server = Server::alone();
    let mut bystander = server.client("b").await;
    for record in [
        "",
        "[]",
        "{}",
        r#"{"type":1,"target":"Add","arguments":null}"#,
        &"x".repeat(32_768),
    ] {
        let mut client = server.client("a").await;
        client.send(record).await;
        client.call(1, "Add", "[1,2]").await;
        assert_eq!(client.next().await, CLOSED_WITH_ERROR);
        assert_eq!(client.next().await, "(the end)");
        assert!(matches!(
            client.ended().await,
            CloseReason::ProtocolError(_)
        ));
        assert_eq!(bystander.answer("Add", "[1,2]").await, r#""result":3"#);
    }
    assert_eq!(server.context().connection_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_message_of_exactly_the_limit_passes() {
    let server = Server::alone();
    let mut client = server.client("a").await;
    let call = r#"{"type":1,"invocationId":"1","target":"Add","arguments":[1,2]}"#;
    let padding = " ".repeat(32_767 - call.len());
    client.send(&format!("{padding}{call}")).await;
    assert_eq!(
        client.next().await,
        r#"{"type":3,"invocationId":"1","result":3}"#
    );
    client.send(&format!(" {padding}{call}")).await;
    assert_eq!(client.next().await, CLOSED_WITH_ERROR);
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_of_the_client_is_not_answered() {
    let server = Server::alone();
    let mut client = server.client("a").await;
    client.send(r#"{"type":7}"#).await;
    assert_eq!(client.next().await, "(the end)");
    assert_eq!(client.ended().await, CloseReason::ClientLeft);

    let client = server.client("a").await;
    client.input.end(CloseReason::ConnectionLost);
    assert_eq!(client.ended().await, CloseReason::ConnectionLost);
    assert_eq!(server.context().connection_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_ping_is_sent_every_fifteen_seconds_whatever_else_is() {
    let server = Server::alone();
    let mut client = server.client("a").await;
    let began = Instant::now();
    for round in 1..=3 {
        advance(Duration::from_secs(10)).await;
        client.answer("Add", "[1,2]").await;
        assert_eq!(client.next().await, r#"{"type":6}"#);
        let due = round * 15;
        assert!(
            (due..=due + round).contains(&began.elapsed().as_secs()),
            "{:?}",
            began.elapsed()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn silence_counts_only_after_the_first_ping() {
    let server = Server::alone();
    let mut silent = server.client("a").await;
    advance(Duration::from_mins(10)).await;
    while silent.answer_or_ping().await != r#"{"type":3,"invocationId":"7","result":3}"# {}

    let mut client = server.client("b").await;
    client.send(r#"{"type":6}"#).await;
    let began = Instant::now();
    loop {
        match client.next().await.as_str() {
            r#"{"type":6}"# => {}
            last => {
                assert_eq!(last, CLOSED_WITH_ERROR);
                break;
            }
        }
    }
    assert!(
        (30..=32).contains(&began.elapsed().as_secs()),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(client.ended().await, CloseReason::ClientTimeout);
}

#[tokio::test(start_paused = true)]
async fn a_long_call_is_no_silence() {
    let mut server = Server::alone();
    let mut client = server.client("a").await;
    client.send(r#"{"type":6}"#).await;
    client.call(1, "Wait", r#"["long"]"#).await;
    assert_eq!(server.noted().await, "waiting long");
    for _ in 0..10 {
        assert_eq!(client.next().await, r#"{"type":6}"#);
        client.send(r#"{"type":6}"#).await;
    }
    server.permits.add_permits(1);
    assert_eq!(
        client.next().await,
        r#"{"type":3,"invocationId":"1","result":"long"}"#
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_closed_and_nobody_else_notices() {
    let options = HubOptions {
        transport_max_buffer_size: 10_000,
        ..HubOptions::default()
    };
    let server = Server::start(options, None);
    let mut reader = server.client("reader").await;
    let stuck = server.client("stuck").await;
    let text = "x".repeat(1_000);
    for _ in 0..20 {
        reader
            .call(1, "Send", &format!(r#"["all","{text}"]"#))
            .await;
        assert_eq!(reader.next().await.len(), 1_046);
        assert_eq!(
            reader.next().await,
            r#"{"type":3,"invocationId":"1","result":null}"#
        );
        assert!(stuck.connection.outbox.bytes() <= 10_000);
    }
    assert_eq!(stuck.ended().await, CloseReason::TooSlow);
    assert_eq!(server.context().connection_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_for_ten_seconds_is_closed() {
    let server = Server::alone();
    let stuck = server.client("stuck").await;
    server
        .context()
        .clients()
        .all()
        .send("Message", ("hi",))
        .await
        .unwrap();
    let began = Instant::now();
    assert_eq!(stuck.ended().await, CloseReason::TooSlow);
    assert!(
        (10..=12).contains(&began.elapsed().as_secs()),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_its_answers_is_not_read() {
    let server = Server::alone();
    let mut client = server.client("a").await;
    let text = "x".repeat(10_000);
    let answered = 200;
    let calls = async {
        for id in 0..answered {
            let arguments = format!(r#"["caller","{text}"]"#);
            let record = format!(
                r#"{{"type":1,"invocationId":"{id}","target":"Send","arguments":{arguments}}}"#
            );
            client.send(&record).await;
        }
    };
    // The pipe and the outbox fill, and then the writer waits instead of the memory growing.
    assert!(
        tokio::time::timeout(Duration::from_secs(5), calls)
            .await
            .is_err()
    );
    assert!(client.connection.outbox.bytes() < 2 * 65_536 + 20_000);
    assert!(client.next().await.contains("xxx"));
}

#[tokio::test(start_paused = true)]
async fn a_connection_ends_with_its_authentication_where_that_is_asked_for() {
    for (close, reason) in [(true, "authentication_expired"), (false, "client_left")] {
        let server = Server::start(
            HubOptions {
                close_on_authentication_expiration: close,
                ..HubOptions::default()
            },
            None,
        );
        let mut client = server.client("a").await;
        let until = |seconds| {
            let time = std::time::SystemTime::now() + Duration::from_secs(seconds);
            AuthenticationExpiration(time)
        };
        client.connection.authenticated_until(Some(&until(5)));
        // A newer one counts, none changes nothing.
        client.connection.authenticated_until(Some(&until(10)));
        client.connection.authenticated_until(None);
        advance(Duration::from_secs(8)).await;
        assert_eq!(client.answer("Add", "[1,2]").await, r#""result":3"#);
        if close {
            client.expect(r#"{"type":7,"allowReconnect":true}"#).await;
        } else {
            advance(Duration::from_secs(5)).await;
            assert_eq!(client.answer("Add", "[1,2]").await, r#""result":3"#);
            client.send(r#"{"type":7}"#).await;
        }
        assert_eq!(client.ended().await.name(), reason);
    }
}
