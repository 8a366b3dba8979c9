//! Stateful reconnect: connections that outlive their sockets.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, advance};

use super::client::{Client, Server};
use crate::backplane::LocalBackplane;
use crate::close_reason::CloseReason;
use crate::options::HubOptions;

const CLOSED_WITH_ERROR: &str =
    r#"{"type":7,"error":"Connection closed with an error.","allowReconnect":true}"#;
const PING: &str = r#"{"type":6}"#;

fn server() -> Server {
    let options = HubOptions {
        allow_stateful_reconnects: true,
        ..HubOptions::default()
    };
    Server::start(options, None)
}

async fn client(server: &Server, version: i32) -> Client {
    let mut client = server.connect("a");
    client
        .send(&format!(r#"{{"protocol":"json","version":{version}}}"#))
        .await;
    assert_eq!(client.next().await, "{}");
    client
}

async fn say(server: &Server, text: &str) {
    let context = server.context();
    let outcome = context.clients().all().send("Message", (text,)).await;
    outcome.unwrap();
}

fn message(text: &str) -> String {
    format!(r#"{{"type":1,"target":"Message","arguments":["{text}"]}}"#)
}

fn sequence(id: i64) -> String {
    format!(r#"{{"type":9,"sequenceId":{id}}}"#)
}

fn ack(id: i64) -> String {
    format!(r#"{{"type":8,"sequenceId":{id}}}"#)
}

/// Calls something and waits for the answer, so that everything sent before has been taken.
async fn settle(client: &mut Client) {
    assert_eq!(client.answer("Add", "[1,2]").await, r#""result":3"#);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_acknowledged_comes_again_in_order() {
    let server = server();
    let mut client = client(&server, 2).await;
    for text in ["one", "two", "three"] {
        say(&server, text).await;
        assert_eq!(client.next().await, message(text));
    }
    client.send(&ack(1)).await;
    settle(&mut client).await; // number 4
    say(&server, "written, not read").await;
    client.take_bytes();
    client.lose_socket();
    say(&server, "said meanwhile").await;
    assert_eq!(client.come_back().await, sequence(2));
    assert_eq!(client.next().await, message("two"));
    assert_eq!(client.next().await, message("three"));
    assert!(client.next().await.starts_with(r#"{"type":3"#));
    assert_eq!(client.next().await, message("written, not read"));
    assert_eq!(client.next().await, message("said meanwhile"));

    client.send(&ack(6)).await;
    settle(&mut client).await;
    client.send(&ack(7)).await;
    client.call(1, "Wait", r#"["x"]"#).await;
    advance(Duration::from_secs(1)).await;
    client.lose_socket();
    assert_eq!(client.come_back().await, sequence(8), "the next new one");
}

#[tokio::test(start_paused = true)]
async fn what_the_client_sends_again_is_done_once() {
    let mut server = server();
    let mut client = client(&server, 2).await;
    client.call(1, "Note", r#"["first"]"#).await;
    assert_eq!(server.noted().await, "first");
    // Half a message: it comes again, whole.
    client
        .send_bytes(r#"{"type":1,"target":"Note","argu"#)
        .await;
    tokio::task::yield_now().await;
    client.lose_socket();
    client.come_back().await;
    client.send(&sequence(1)).await;
    client.call(1, "Note", r#"["first"]"#).await;
    client.call(2, "Note", r#"["second"]"#).await;
    assert_eq!(server.noted().await, "second");
    // A ping is not counted.
    client.send(PING).await;
    client.lose_socket();
    client.come_back().await;
    client.send(&sequence(3)).await;
    client.call(3, "Note", r#"["third"]"#).await;
    assert_eq!(server.noted().await, "third");
}

#[tokio::test(start_paused = true)]
async fn what_the_client_sent_is_acknowledged_once_a_second() {
    let server = server();
    let mut client = client(&server, 2).await;
    for _ in 0..3 {
        settle(&mut client).await;
    }
    assert_eq!(client.next().await, ack(3));
    let began = Instant::now();
    assert_eq!(client.next().await, PING, "nothing new, no other Ack");
    assert!(began.elapsed() > Duration::from_secs(5));
    settle(&mut client).await;
    assert_eq!(client.next().await, ack(4));

    // The client has not seen the last one.
    client.lose_socket();
    client.come_back().await;
    for _ in 0..4 {
        client.next().await;
    }
    client.send(&sequence(4)).await;
    client.call(7, "Add", "[1,2]").await;
    assert_eq!(client.next().await, ack(4));
}

#[tokio::test(start_paused = true)]
async fn a_sequence_that_cannot_be_ends_the_connection() {
    for id in [0, -1, 3, i64::MAX, i64::MIN] {
        let server = server();
        let mut client = client(&server, 2).await;
        settle(&mut client).await;
        client.send(&sequence(id)).await;
        assert_eq!(client.next().await, CLOSED_WITH_ERROR, "{id}");
        let reason = client.ended().await;
        assert!(matches!(reason, CloseReason::ProtocolError(_)), "{id}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_ack_that_cannot_be_is_harmless() {
    let server = server();
    let mut client = client(&server, 2).await;
    for id in [i64::MIN, -1, 0, 1_000, i64::MAX] {
        client.send(&ack(id)).await;
    }
    settle(&mut client).await;
    say(&server, "kept").await;
    client.take_bytes();
    client.lose_socket();
    assert_eq!(client.come_back().await, sequence(1));
    // In the middle of being written again.
    client.send(&ack(2)).await;
    assert!(client.next().await.starts_with(r#"{"type":3"#));
    assert_eq!(client.next().await, message("kept"));
    client.lose_socket();
    // It has them, but may not have got them on this socket, from where it counts.
    assert_eq!(client.come_back().await, sequence(1));
    client.take_bytes();
    settle(&mut client).await;
    client.send(&ack(3)).await;
    settle(&mut client).await;
    client.lose_socket();
    assert_eq!(client.come_back().await, sequence(4));
}

#[tokio::test(start_paused = true)]
async fn version_1_counts_nothing() {
    let server = server();
    let mut client = client(&server, 1).await;
    client.send(&ack(7)).await;
    client.send(&sequence(-7)).await;
    settle(&mut client).await;
    assert!(!client.connection.is_resumable());
    assert_eq!(client.next().await, PING, "and not an Ack");
}

#[tokio::test(start_paused = true)]
async fn version_2_counts_nothing_where_it_was_not_negotiated() {
    let server = Server::alone();
    let mut client = client(&server, 2).await;
    settle(&mut client).await;
    assert!(!client.connection.is_resumable());
    assert_eq!(client.next().await, PING, "and not an Ack");
}

#[tokio::test(start_paused = true)]
async fn time_stands_still_without_a_socket() {
    let server = server();
    let mut client = client(&server, 2).await;
    client.send(PING).await;
    say(&server, "kept").await;
    client.lose_socket();
    // Longer than a client may be silent, and than it may take nothing.
    advance(Duration::from_mins(10)).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(client.come_back().await, sequence(1));
    assert_eq!(client.next().await, message("kept"));
    assert_eq!(client.next().await, PING, "at once: the last was long ago");
    settle(&mut client).await;
}

#[tokio::test(start_paused = true)]
async fn no_more_is_written_than_can_be_kept() {
    let server = server();
    let mut client = client(&server, 2).await;
    let text = "x".repeat(1_000);
    for _ in 0..150 {
        say(&server, &text).await;
    }
    let taken = client.take_bytes();
    assert!((100_000..=101_100).contains(&taken), "{taken}");
    assert_eq!(client.take_bytes(), 0);
    // One that is acknowledged makes room for another. What is not counted needs none.
    client.call(1, "Note", r#"["x"]"#).await;
    assert_eq!(client.next().await, ack(1));
    client.send(&ack(2)).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    let taken = client.take_bytes();
    assert!((1_000..=2_200).contains(&taken), "{taken}");
    // The goodbye waits for nobody.
    server.shut_down();
    let mut messages = 0;
    loop {
        match client.next().await.as_str() {
            "(the end)" => break,
            record if record.starts_with(r#"{"type":1,"#) => messages += 1,
            _ => {}
        }
    }
    assert!(messages > 45, "{messages}");
    assert_eq!(client.ended().await, CloseReason::ServerShutdown);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_acknowledges_nothing_is_closed_in_the_end() {
    let server = server();
    let mut client = client(&server, 2).await;
    let text = "x".repeat(1_000);
    for _ in 0..300 {
        say(&server, &text).await;
    }
    client.take_bytes();
    let began = Instant::now();
    assert_eq!(client.ended().await, CloseReason::TooSlow);
    assert!((10..=12).contains(&began.elapsed().as_secs()));
}

#[tokio::test(start_paused = true)]
async fn an_ack_is_seen_behind_calls_that_cannot_begin() {
    let mut server = server();
    let mut client = client(&server, 2).await;
    client.call(1, "Wait", r#"["long"]"#).await;
    assert_eq!(server.noted().await, "waiting long");
    // More calls than may wait, and more messages than may be on the way.
    let text = "x".repeat(10_000);
    for id in 2..32 {
        client.call(id, "Note", &format!(r#"["{text}"]"#)).await;
        say(&server, &text).await;
    }
    let taken = client.take_bytes();
    assert!(taken < 111_000, "{taken}");
    client.send(&ack(10)).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(client.take_bytes() > 90_000);
    client.send(&ack(20)).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(client.take_bytes() > 90_000);
    client.send(&ack(30)).await;
    // All the calls are still made, in order, before the goodbye that is behind them.
    client.send(r#"{"type":7}"#).await;
    server.permits.add_permits(1);
    assert_eq!(server.noted().await, "waited long");
    for _ in 2..32 {
        assert_eq!(server.noted().await, text);
    }
    assert_eq!(client.ended().await, CloseReason::ClientLeft);
}

#[tokio::test(start_paused = true)]
async fn what_comes_to_wait_without_a_socket_is_bounded() {
    let server = server();
    let mut client = client(&server, 2).await;
    let text = "x".repeat(1_000);
    // Whatever waited before: who was in the middle of much is not over with the next message.
    for _ in 0..150 {
        say(&server, &text).await;
    }
    client.take_bytes();
    client.lose_socket();
    for _ in 0..95 {
        say(&server, &text).await;
    }
    assert!(client.connection.is_resumable());
    for _ in 0..5 {
        say(&server, &text).await;
    }
    assert!(!client.connection.is_resumable());
    assert_eq!(client.connection.outbox.bytes(), 0);
    assert_eq!(client.ended().await, CloseReason::TooSlow);
}

#[tokio::test(start_paused = true)]
async fn groups_and_calls_outlive_a_socket() {
    let mut server = server();
    let mut client = client(&server, 2).await;
    assert_eq!(
        client.answer("Join", r#"["room"]"#).await,
        r#""result":null"#
    );
    client.call(8, "Wait", r#"["long"]"#).await;
    assert_eq!(server.noted().await, "waiting long");
    client.lose_socket();
    server.permits.add_permits(1);
    assert_eq!(server.noted().await, "waited long");
    let context = server.context();
    let sent = context.clients().group("room").send("Message", ("hi",));
    sent.await.unwrap();
    assert_eq!(client.come_back().await, sequence(1));
    assert!(client.next().await.contains(r#""invocationId":"7""#));
    assert_eq!(
        client.next().await,
        r#"{"type":3,"invocationId":"8","result":"long"}"#
    );
    assert_eq!(client.next().await, message("hi"));
    assert_eq!(context.connection_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_is_leaving_does_not_come_back() {
    let server = server();
    let mut client = client(&server, 2).await;
    client.call(1, "Wait", r#"["long"]"#).await;
    assert!(client.connection.is_resumable());
    client.send(r#"{"type":7}"#).await;
    assert_eq!(client.next().await, "(the end)");
    assert!(!client.connection.is_resumable());
    assert!(!client.connection.attach());
}

#[tokio::test(start_paused = true)]
async fn what_other_servers_send_is_counted() {
    let bus = LocalBackplane::new();
    let options = HubOptions {
        allow_stateful_reconnects: true,
        ..HubOptions::default()
    };
    let here = Server::start(options.clone(), Some(Arc::new(bus.join())));
    let there = Server::start(options, Some(Arc::new(bus.join())));
    let mut client = client(&here, 2).await;
    for text in ["one", "two"] {
        say(&there, text).await;
        assert_eq!(client.next().await, message(text));
    }
    client.send(&ack(1)).await;
    settle(&mut client).await;
    client.lose_socket();
    say(&there, "three").await;
    assert_eq!(client.come_back().await, sequence(2));
    assert_eq!(client.next().await, message("two"));
    assert!(client.next().await.starts_with(r#"{"type":3"#));
    assert_eq!(client.next().await, message("three"));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stops_does_not_wait_for_a_socket() {
    let server = server();
    let mut client = client(&server, 2).await;
    client.lose_socket();
    let began = Instant::now();
    server.shut_down();
    assert_eq!(client.ended().await, CloseReason::ServerShutdown);
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn what_comes_again_on_every_socket_is_bounded() {
    let server = server();
    let mut client = client(&server, 2).await;
    let text = "x".repeat(1_000);
    for round in 1.. {
        for _ in 0..90 {
            say(&server, &text).await;
        }
        client.take_bytes();
        if !client.connection.outbox.detach() {
            break;
        }
        let kept = client.connection.outbox.bytes();
        assert!(kept < 4_500_000, "{kept}");
        client.come_back().await;
        client.take_bytes();
        // All that came again and nothing beyond, which does not say on which socket it came.
        client.send(&ack(90 * round)).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(!client.connection.is_resumable());
}

#[tokio::test(start_paused = true)]
async fn answers_to_calls_under_way_may_come_to_more_than_what_others_send() {
    let mut server = server();
    let mut client = client(&server, 2).await;
    client.call(1, "Wait", r#"["long"]"#).await;
    assert_eq!(server.noted().await, "waiting long");
    client.call(2, "Large", "[60000]").await;
    client.call(3, "Large", "[60000]").await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    client.lose_socket();
    server.permits.add_permits(1);
    assert_eq!(server.noted().await, "waited long");
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(client.come_back().await, sequence(1));
    for id in 1..=3 {
        let start = format!(r#"{{"type":3,"invocationId":"{id}","result":"#);
        assert!(client.next().await.starts_with(&start), "{id}");
    }
}
