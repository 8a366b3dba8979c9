//! What backplanes of SignalR commonly get wrong: a test for each row of the table in the reference that needs a real Redis, named after it.
//! The other rows are in the file of the same name among the tests of the hub.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a panic is the report of a test"
)]

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use end_to_end::socket::RECORD_SEPARATOR;
use end_to_end::wait::{DEADLINE, within};
use end_to_end::{Client, Hubcast, RedisServer, Socket, http};
use hubcast::{Backplane, BackplaneStatus, Receiver};
use hubcast_backplane::RedisBackplane;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// Row: a group or user name with `*` becomes a pattern subscription.
#[tokio::test]
async fn a_room_whose_name_has_an_asterisk_is_no_pattern() {
    let redis = RedisServer::start().await;
    let [one, two]: [Hubcast; 2] = Hubcast::cluster(&redis).await;
    let mut speaker = Client::connect(one.url()).await;
    for (odd, plain) in [("ro*m", "room"), ("*", "x"), ("r?om[s]", "rooms")] {
        let mut of_odd = Client::connect(two.url()).await;
        let mut of_plain = Client::connect(two.url()).await;
        of_odd.join(odd).await;
        of_plain.join(plain).await;
        // Patterns would not be listed.
        for room in [odd, plain] {
            let channel = format!("ChatHub:group:{room}");
            assert_eq!(redis.subscribers(&channel).await, 1, "{channel}");
        }
        for room in [plain, odd, "room and more", plain, odd] {
            speaker.say(room, "speaker", room).await;
        }
        speaker.say(odd, "speaker", "end").await;
        speaker.say(plain, "speaker", "end").await;
        for (member, room) in [(&mut of_odd, odd), (&mut of_plain, plain)] {
            let heard = member.chats_until("end").await;
            let heard: Vec<&str> = heard.iter().map(|(_, text)| text.as_str()).collect();
            assert_eq!(heard, [room, room, "end"]);
        }
    }
}

/// Row: two applications with equal hub names on one Redis exchange messages.
#[tokio::test]
async fn two_applications_with_equal_hub_names_exchange_messages_only_if_their_prefixes_are_equal()
{
    let redis = RedisServer::start().await;
    for (first, second, exchange) in [
        ("shop", "bank", false),
        ("", "bank", false),
        ("shop", "shop:", false),
        ("shop", "shop", true),
        ("", "", true),
    ] {
        let (one, two) = (
            with_prefix(&redis, first).await,
            with_prefix(&redis, second).await,
        );
        let mut ada = Client::connect(one.url()).await;
        let mut bob = Client::connect(two.url()).await;
        ada.join("room").await;
        bob.join("room").await;
        let channel = format!("{first}ChatHub:group:room");
        let subscribers = if exchange { 2 } else { 1 };
        assert_eq!(redis.subscribers(&channel).await, subscribers);
        ada.say("room", "ada", "of ada").await;
        bob.say("room", "bob", "of bob").await;
        bob.say("room", "bob", "end").await;
        let heard = bob.chats_until("end").await;
        let heard: Vec<&str> = heard.iter().map(|(_, text)| text.as_str()).collect();
        if exchange {
            assert_eq!(heard, ["of ada", "of bob", "end"]);
            ada.chats_until("end").await;
        } else {
            assert_eq!(heard, ["of bob", "end"], "{first:?} and {second:?}");
            ada.say("room", "ada", "end").await;
            let heard = ada.chats_until("end").await;
            let heard: Vec<&str> = heard.iter().map(|(_, text)| text.as_str()).collect();
            assert_eq!(heard, ["of ada", "end"], "{first:?} and {second:?}");
        }
    }
}

async fn with_prefix(redis: &RedisServer, prefix: &str) -> Hubcast {
    let url = redis.url();
    let mut arguments = vec!["--redis", &url];
    if !prefix.is_empty() {
        arguments.extend(["--redis-prefix", prefix]);
    }
    let server = Hubcast::start(&arguments).await;
    server.becomes("ready", DEADLINE).await;
    server
}

/// Row: messages published during a Redis outage are gone; no replay. Members on the same server have got them.
#[tokio::test]
async fn what_was_published_while_redis_was_away_is_gone_for_other_servers_and_is_not_repeated() {
    let mut redis = RedisServer::start().await;
    let servers: [Hubcast; 2] = Hubcast::cluster(&redis).await;
    let mut ada = Client::connect(servers[0].url()).await;
    let mut bob = Client::connect(servers[0].url()).await;
    let mut cyd = Client::connect(servers[1].url()).await;
    for member in [&mut ada, &mut bob, &mut cyd] {
        member.join("room").await;
    }
    ada.say("room", "ada", "before").await;
    cyd.chats_until("before").await;

    redis.vanish();
    for server in &servers {
        server.becomes("degraded", DEADLINE).await;
    }
    for text in ["one", "two", "three"] {
        ada.say("room", "ada", text).await;
    }
    for member in [&mut ada, &mut bob] {
        member.chats_until("three").await;
    }
    redis.appear().await;
    for server in &servers {
        server.becomes("ready", DEADLINE).await;
    }

    // Whatever were repeated would be so before this, on the same connection to Redis.
    ada.say("room", "ada", "after").await;
    for member in [&mut ada, &mut bob, &mut cyd] {
        member.chats_until("after").await;
    }
    let texts = |member: &mut Client| -> Vec<String> {
        let transcript = member.transcript();
        transcript.iter().map(|(_, text)| text.clone()).collect()
    };
    assert_eq!(texts(&mut cyd), ["before", "after"]);
    for local in [&mut ada, &mut bob] {
        assert_eq!(texts(local), ["before", "one", "two", "three", "after"]);
    }
}

/// The same row: what is gone for other servers is counted.
#[tokio::test]
async fn what_was_published_while_redis_was_away_is_counted() {
    let gone = Arc::new(AtomicU64::new(0));
    let recorder = LocalOnly(Arc::clone(&gone));
    // For this thread, on which all of this test runs.
    let _recording = metrics::set_default_local_recorder(&recorder);
    let mut redis = RedisServer::start().await;
    let (here, mut local) = backplane(&redis).await;
    let (there, mut remote) = backplane(&redis).await;
    let publish = |text: &'static str| here.publish("c", Bytes::from_static(text.as_bytes()));

    assert_eq!(publish("before").await, Some(2));
    assert_eq!(gone.load(Ordering::Relaxed), 0);
    redis.vanish();
    for backplane in [&here, &there] {
        let away = |status: &BackplaneStatus| *status != BackplaneStatus::Connected;
        becomes(backplane, away).await;
    }
    for text in ["one", "two", "three"] {
        assert_eq!(publish(text).await, None, "nobody else is known to have it");
    }
    assert_eq!(gone.load(Ordering::Relaxed), 3);
    redis.appear().await;
    for backplane in [&here, &there] {
        let back = |status: &BackplaneStatus| *status == BackplaneStatus::Connected;
        becomes(backplane, back).await;
    }
    assert_eq!(publish("after").await, Some(2));
    assert_eq!(gone.load(Ordering::Relaxed), 3);

    for (heard, expected) in [
        (
            &mut local,
            ["before", "one", "two", "three", "after"].as_slice(),
        ),
        (&mut remote, &["before", "after"]),
    ] {
        for text in expected {
            let next = within(DEADLINE, text, heard.recv()).await;
            assert_eq!(next.as_deref(), Some(text.as_bytes()));
        }
    }
}

/// A backplane that is connected and subscribed to `c`, and what arrives there.
async fn backplane(redis: &RedisServer) -> (RedisBackplane, mpsc::UnboundedReceiver<Bytes>) {
    let backplane = RedisBackplane::new(&redis.url()).unwrap();
    let (inbox, arrived) = mpsc::unbounded_channel();
    backplane.start(Arc::new(Inbox(inbox)));
    backplane.subscribe("c").await;
    let back = |status: &BackplaneStatus| *status == BackplaneStatus::Connected;
    becomes(&backplane, back).await;
    (backplane, arrived)
}

async fn becomes(backplane: &RedisBackplane, wanted: impl Fn(&BackplaneStatus) -> bool) {
    let mut status = backplane.status();
    let changed = within(DEADLINE, "another status", status.wait_for(wanted)).await;
    changed.unwrap();
}

struct Inbox(mpsc::UnboundedSender<Bytes>);

impl Receiver for Inbox {
    fn receive(&self, _: &str, payload: Bytes) {
        let _ = self.0.send(payload);
    }
}

/// Counts publications that only clients of the own server got.
struct LocalOnly(Arc<AtomicU64>);

impl Recorder for LocalOnly {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        match key.name() {
            "hubcast_backplane_local_only_total" => Counter::from_arc(Arc::clone(&self.0)),
            _ => Counter::noop(),
        }
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// Row: a disconnect before the Redis connection was ever up must not throw.
#[tokio::test]
async fn a_client_that_disconnects_before_redis_was_ever_up_disturbs_nothing() {
    let mut redis = RedisServer::absent();
    let mut server = Hubcast::with_redis(&redis).await;
    let mut stays = Client::connect(server.url()).await;
    stays.join("room").await;
    let mut leaves = Client::connect(server.url()).await;
    for room in ["room", "of its own"] {
        leaves.join(room).await;
    }
    drop(leaves);
    stays.say("room", "stays", "alone").await;
    stays.chats_until("alone").await;

    redis.appear().await;
    server.becomes("ready", DEADLINE).await;
    // Whether the server had noticed by then that it is gone or not: soon nothing of it is left.
    redis
        .subscribers_become("ChatHub:group:of its own", 0)
        .await;
    let own = format!("ChatHub:connection:{}", stays.id());
    let connections = async || redis.channels("ChatHub:connection:*").await;
    let ((), _) = end_to_end::wait::until(DEADLINE, "one connection is left", async || {
        let channels = connections().await;
        if channels == [own.as_str()] {
            Ok(())
        } else {
            Err(format!("{channels:?}"))
        }
    })
    .await;
    assert_eq!(
        redis.channels("ChatHub:group:*").await,
        ["ChatHub:group:room"]
    );
    stays.say("room", "stays", "with Redis").await;
    stays.chats_until("with Redis").await;
    server.assert_calm(&[]);
}

/// Row: the backplane does not remove the need for sticky sessions. Ours does: nothing ties a client to the server that it negotiated with.
#[tokio::test]
async fn a_server_takes_a_websocket_that_another_negotiated_without_sticky_sessions() {
    let redis = RedisServer::start().await;
    let servers: [Hubcast; 3] = Hubcast::cluster(&redis).await;
    let mut members = Vec::new();
    for negotiator in &servers {
        for opener in &servers {
            let mut member = Client::connect_across(negotiator.url(), opener.url()).await;
            member.join("room").await;
            members.push(member);
        }
    }
    members[0].say("room", "first", "hello").await;
    for member in &mut members {
        assert_eq!(member.chat().await.1, "hello");
    }
    let answer = negotiate(&servers[0], "").await;
    assert_eq!(answer.header("set-cookie"), None, "nor does a cookie");
}

async fn negotiate(server: &Hubcast, more: &str) -> http::Response {
    let path = format!("/chatHub/negotiate?negotiateVersion=1{more}");
    let answer = http::request(server.url(), "POST", &path, &[], "").await;
    answer.expect("an answer")
}

/// Row: stateful reconnect ignores messages that came from the backplane, so that numbers are wrong and messages are lost.
#[tokio::test]
async fn stateful_reconnect_replays_a_message_of_another_server() {
    let redis = RedisServer::start().await;
    let url = redis.url();
    let flags = ["--redis", &url, "--stateful-reconnect"];
    let [here, there] = [Hubcast::start(&flags).await, Hubcast::start(&flags).await];
    for server in [&here, &there] {
        server.becomes("ready", DEADLINE).await;
    }
    let mut ada = Client::connect(there.url()).await;

    let answer = negotiate(&here, "&useStatefulReconnect=true").await;
    let answer: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!(answer["useStatefulReconnect"], true, "{answer}");
    let token = answer["connectionToken"].as_str().expect("a token");
    let mut lost = Raw::open(&here, token).await;
    lost.send(&json!({"protocol": "json", "version": 2})).await;
    assert_eq!(lost.next().await, json!({}));
    lost.send(&call("1", "JoinRoom", "room")).await;
    // The notice of it and the completion, in either order.
    let mut types = [lost.next().await, lost.next().await].map(|record| record["type"].clone());
    types.sort_unstable_by_key(Value::as_u64);
    assert_eq!(types, [1, 3]);
    ada.say("room", "ada", "third").await;
    assert_eq!(lost.next().await, chat("third"));
    lost.send(&json!({"type": 8, "sequenceId": 2})).await;
    // The answer, number four, says that the acknowledgement before it has been read.
    lost.send(&call("2", "Echo", "fourth")).await;
    let fourth = json!({"type": 3, "invocationId": "2", "result": "fourth"});
    assert_eq!(lost.next().await, fourth);

    // Without a close frame.
    drop(lost);
    ada.say("room", "ada", "fifth").await;

    let mut back = Raw::open(&here, token).await;
    back.send(&json!({"type": 9, "sequenceId": 3})).await;
    assert_eq!(back.next().await, json!({"type": 9, "sequenceId": 3}));
    for again in [chat("third"), fourth, chat("fifth")] {
        assert_eq!(back.next().await, again);
    }
    ada.say("room", "ada", "sixth").await;
    assert_eq!(back.next().await, chat("sixth"));
    back.send(&call("3", "Echo", "seventh")).await;
    let seventh = json!({"type": 3, "invocationId": "3", "result": "seventh"});
    assert_eq!(back.next().await, seventh);
}

fn call(id: &str, target: &str, argument: &str) -> Value {
    json!({"type": 1, "invocationId": id, "target": target, "arguments": [argument]})
}

fn chat(text: &str) -> Value {
    json!({"type": 1, "target": "ReceiveMessage", "arguments": ["ada", text]})
}

/// A socket of which one record is looked at at a time, those that are not counted left out.
struct Raw {
    socket: Socket,
    waiting: VecDeque<Value>,
}

impl Raw {
    async fn open(server: &Hubcast, token: &str) -> Self {
        let opened = Socket::open(server.url(), Some(token)).await;
        let socket = opened.unwrap_or_else(|status| panic!("refused with {status}"));
        let waiting = VecDeque::new();
        Self { socket, waiting }
    }

    async fn send(&mut self, record: &Value) {
        let text = format!("{record}{RECORD_SEPARATOR}");
        self.socket.send(text).await;
    }

    async fn next(&mut self) -> Value {
        loop {
            match self.waiting.pop_front() {
                None => self.waiting.extend(self.socket.records().await),
                // A ping, or an acknowledgement of what was sent here.
                Some(record) if record["type"] == 6 || record["type"] == 8 => {}
                Some(record) => return record,
            }
        }
    }
}
