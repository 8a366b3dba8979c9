//! Who a connection belongs to, and what is kept with it.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::backplane::Troubled;
use super::client::{Client, Server};
use crate::backplane::{Backplane, LocalBackplane};
use crate::close_reason::CloseReason;
use crate::options::HubOptions;

fn joined(bus: &LocalBackplane) -> Server {
    let backplane: Arc<dyn Backplane> = Arc::new(bus.join());
    Server::start(HubOptions::default(), Some(backplane))
}

fn message(text: &str) -> String {
    format!(r#"{{"type":1,"target":"Message","arguments":["{text}"]}}"#)
}

/// How many messages a client gets before the marker `end`, all of them `text`.
async fn count(client: &mut Client, text: &str) -> usize {
    let mut count = 0;
    loop {
        match client.next().await {
            next if next == message("end") => return count,
            next => assert_eq!(next, message(text)),
        }
        count += 1;
    }
}

#[tokio::test(start_paused = true)]
async fn messages_to_a_user_reach_all_of_its_connections_and_nobody_elses() {
    let bus = LocalBackplane::new();
    for servers in [vec![Server::alone()], vec![joined(&bus), joined(&bus)]] {
        let (one, other) = (&servers[0], &servers[servers.len() - 1]);
        let mut clients = [
            one.client_of("ada", "a1").await,
            other.client_of("ada", "a2").await,
            other.client_of("ada", "a3").await,
            other.client_of("bob", "b").await,
            one.client_of("", "empty").await,
            one.client("anonymous").await,
        ];
        // A group is no user, whatever its name.
        clients[5].answer("Join", r#"["ada"]"#).await;
        for (to, counts) in [
            ("user:ada", [1, 1, 1, 0, 0, 0]),
            ("user:Ada", [0; 6]),
            ("user:", [0; 6]),
            ("users:ada,bob", [1, 1, 1, 1, 0, 0]),
            ("users:bob,,bob,nobody", [0, 0, 0, 2, 0, 0]),
            ("user-except:ada,a1", [0, 1, 1, 0, 0, 0]),
            ("user-except:ada,a3", [1, 1, 0, 0, 0, 0]),
            ("group:ada", [0, 0, 0, 0, 0, 1]),
        ] {
            for (to, text) in [(to, to), ("all", "end")] {
                clients[3]
                    .send(&format!(
                        r#"{{"type":1,"target":"Send","arguments":["{to}","{text}"]}}"#
                    ))
                    .await;
            }
            for (client, expected) in clients.iter_mut().zip(counts) {
                assert_eq!(count(client, to).await, expected, "{to}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_users_channel_is_subscribed_to_while_a_connection_of_it_is_here() {
    let bus = LocalBackplane::new();
    let server = joined(&bus);
    let listening = async || bus.publish("TestHub:user:ada", "x".into()).await;
    assert_eq!(listening().await, Some(0));
    let first = server.client_of("ada", "1").await;
    let second = server.client_of("ada", "2").await;
    assert_eq!(listening().await, Some(1));
    for (client, after) in [(first, Some(1)), (second, Some(0))] {
        client.send(r#"{"type":7}"#).await;
        client.ended().await;
        assert_eq!(listening().await, after);
    }
    assert!(server.is_user_absent("ada"));
}

#[tokio::test(start_paused = true)]
async fn a_client_is_served_when_messages_to_its_user_cannot_be_missed_any_more() {
    let permits = Arc::new(Semaphore::new(0));
    let slow: Arc<dyn Backplane> = Arc::new(Troubled::slow("TestHub:user:ada", &permits));
    let server = Server::start(HubOptions::default(), Some(slow));
    let mut client = server.client_of("ada", "a").await;
    client.call(1, "Add", "[1,2]").await;
    client.expect_nothing().await;
    permits.add_permits(1);
    assert_eq!(
        client.next().await,
        r#"{"type":3,"invocationId":"1","result":3}"#
    );
}

#[tokio::test(start_paused = true)]
async fn the_hub_knows_whose_connection_it_is() {
    let server = Server::alone();
    for (mut client, user) in [
        (server.client_of("ada", "a").await, r#""ada""#),
        (server.client_of("", "b").await, "null"),
        (server.client("c").await, "null"),
    ] {
        let answer = client.answer("WhoAmI", "[]").await;
        assert_eq!(answer, format!(r#""result":{user}"#));
    }
}

#[tokio::test(start_paused = true)]
async fn items_belong_to_one_connection() {
    let server = Server::alone();
    let mut one = server.client("a").await;
    let mut other = server.client("b").await;
    for number in 1..=3 {
        let answer = one.answer("Count", "[]").await;
        assert_eq!(answer, format!(r#""result":{number}"#));
    }
    assert_eq!(other.answer("Count", "[]").await, r#""result":1"#);
    // The same id again is another connection.
    drop(one);
    let mut again = server.client("a").await;
    assert_eq!(again.answer("Count", "[]").await, r#""result":1"#);
}

#[tokio::test(start_paused = true)]
async fn an_aborted_client_is_told_to_stay_away() {
    let server = Server::alone();
    let mut bystander = server.client("b").await;
    let mut client = server.client("a").await;
    client
        .send(r#"{"type":1,"target":"Abort","arguments":[]}"#)
        .await;
    assert_eq!(client.next().await, r#"{"type":7}"#);
    assert_eq!(client.next().await, "(the end)");
    let reason = client.ended().await;
    assert_eq!((&reason, reason.name()), (&CloseReason::Aborted, "aborted"));
    assert_eq!(bystander.answer("Add", "[1,2]").await, r#""result":3"#);
}
