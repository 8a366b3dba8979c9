//! The chat for clients without SignalR: one room with the hub's clients, on all servers, and a clear answer to whoever gets it wrong.

use std::time::Duration;

use end_to_end::http::{self, Response, exchange};
use end_to_end::wait::{DEADLINE, until, within};
use end_to_end::wire::{BINARY, CLOSE, PING, PONG, TEXT, closed_with, frame, unmasked};
use end_to_end::{Client, Hubcast, RedisServer, Socket, Wire, envelope};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::io::AsyncReadExt;

/// A raw client of the chat.
struct Raw(Wire);

impl Raw {
    async fn enter(base: &str, query: &str) -> Self {
        let raw = Self(Wire::open(base, &format!("/api/chat?{query}")).await);
        raw.entered().await
    }

    /// Who is answered is in the room.
    async fn entered(mut self) -> Self {
        self.0.send(&frame(PING, b"in?")).await;
        self.0.hears(&unmasked(PONG, b"in?"), "the place").await;
        self
    }

    async fn says(&mut self, text: &str) {
        self.0.send(&frame(TEXT, text.as_bytes())).await;
    }

    /// Fails the test unless this is the next that it is told.
    async fn hears(&mut self, text: &str) {
        let expected = unmasked(TEXT, text.as_bytes());
        self.0.hears(&expected, format_args!("{text:?}")).await;
    }

    /// The server closes it with this code and this text.
    async fn ends_with(self, code: u16, why: &str) {
        let payload = [&code.to_be_bytes(), why.as_bytes()].concat();
        self.0.ends_with(&unmasked(CLOSE, &payload), why).await;
    }
}

#[tokio::test]
async fn all_others_of_a_room_hear_what_is_said_whatever_they_speak_and_wherever_they_are() {
    let redis = RedisServer::start().await;
    let servers: [Hubcast; 2] = Hubcast::cluster(&redis).await;
    let [one, two] = [servers[0].url(), servers[1].url()];
    let mut hub = Client::connect(two).await;
    hub.join("General").await;
    let mut mira = Raw::enter(one, "nickname=Mira").await;
    let mut ada = Raw::enter(one, "nickname=%C3%84da+L&room=General").await;
    let mut bob = Raw::enter(two, "nickname=Bob").await;
    let mut elsewhere = Raw::enter(one, "nickname=Mira&room=general").await;

    let all = ["hello", "", "several\nlines", "{\"type\":6}\u{1e}", "ü世🦀"];
    for text in all {
        mira.says(text).await;
        ada.hears(text).await;
        bob.hears(text).await;
        assert_eq!(hub.chat().await, ("Mira".to_owned(), text.to_owned()));
    }
    ada.says("I am Äda").await;
    assert_eq!(
        hub.chat().await,
        ("Äda L".to_owned(), "I am Äda".to_owned())
    );
    mira.hears("I am Äda").await;
    bob.hears("I am Äda").await;

    // Nobody is told who comes and goes.
    let mut guest = Client::connect(one).await;
    guest.join("General").await;
    guest.leave("General").await;
    hub.say("General", "Hugo", "and I am Hugo").await;
    for raw in [&mut mira, &mut ada, &mut bob] {
        raw.hears("Hugo: and I am Hugo").await;
    }
    // Whoever had got something else would have it before this.
    let nobody = json!(["general", null, null]);
    let said = hub.invoke("SendMessage", nobody).await;
    said.expect("texts may be null");
    elsewhere.hears(": ").await;
}

#[tokio::test]
async fn servers_of_others_on_the_redis_are_understood() {
    let redis = RedisServer::start().await;
    let server = Hubcast::with_redis(&redis).await;
    server.becomes("ready", DEADLINE).await;
    let mut raw = Raw::enter(server.url(), "nickname=Mira&room=tea").await;
    let group = "ChatHub:group:tea";
    // A method of another application, on the same hub.
    let message = "{\"type\":1,\"target\":\"Other\",\"arguments\":[1,2]}\u{1e}";
    let mut other = b"\x92\x90\x81\xa4json\xc4".to_vec();
    other.push(u8::try_from(message.len()).expect("a short message"));
    other.extend(message.as_bytes());
    assert_eq!(redis.publish(group, &other).await, 1);
    let said = envelope::invocation(&[], "from .NET");
    assert_eq!(redis.publish(group, &said).await, 1);
    raw.hears("u: from .NET").await;
    // What a raw client says is for all but itself, and says in a header what it is.
    let mut seen = redis.subscribe(group).await;
    raw.says("hello").await;
    let payload = end_to_end::redis_server::payload(&mut seen).await;
    let payload = String::from_utf8_lossy(&payload);
    let json = r#"{"type":1,"headers":{"via":"raw"},"target":"ReceiveMessage","arguments":["Mira","hello"]}"#;
    assert!(payload.contains(json), "{payload}");
    drop(seen);
    // Who hangs up has left.
    drop(raw);
    redis.subscribers_become(group, 0).await;
}

#[tokio::test]
async fn nobody_can_pass_for_a_raw_client() {
    let server = Hubcast::start(&[]).await;
    let mut raw = Raw::enter(server.url(), "nickname=Mira").await;
    let mut forger = Socket::shaken(server.url()).await;
    let call = json!({
        "type": 1, "headers": {"via": "raw"}, "target": "SendMessage", "arguments": ["General", "Mallory", "I am nobody"],
    });
    forger.send(format!("{call}\u{1e}")).await;
    raw.hears("Mallory: I am nobody").await;
}

#[tokio::test]
async fn who_asks_for_an_impossible_place_is_told_why() {
    let server = Hubcast::start(&["--websocket-max-connections", "1"]).await;
    let taken = Raw::enter(server.url(), "nickname=Mira").await;
    let (name, room) = ("x".repeat(41), "x".repeat(61));
    for (query, why) in [
        ("", "'nickname' is missing"),
        ("?room=tea", "'nickname' is missing"),
        ("?nickname=", "at least one visible character"),
        ("?nickname=%20+", "at least one visible character"),
        ("?nickname=a%00b", "no control characters"),
        ("?nickname=a%0d%0ab", "no control characters"),
        ("?nickname=system", "server's name"),
        (&format!("?nickname={name}"), "at most 40 characters"),
        (&format!("?nickname=a&room={room}"), "at most 60 characters"),
        ("?nickname=a&room=%1b", "no control characters"),
    ] {
        let upgrade = format!(
            "GET /api/chat{query} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let answer = exchange(server.authority(), upgrade.as_bytes()).await;
        let answer = Response::parse(&answer.expect("an answer")).expect("an HTTP answer");
        assert_eq!(answer.status, 400, "{query}: {answer:?}");
        assert!(answer.body.contains(why), "{query}: {answer:?}");
        // It is no WebSocket: that comes first.
        let path = format!("/api/chat{query}");
        let plain = http::request(server.url(), "GET", &path, &[], "");
        let plain = plain.await.expect("an answer");
        assert_eq!(plain.status, 400, "{query}: {plain:?}");
        assert!(plain.body.contains("WebSocket is expected"), "{plain:?}");
    }
    let path = "/api/chat?nickname=Ada";
    for (headers, status) in [("Origin: https://evil.example\r\n", 403), ("", 503)] {
        let refused = Wire::try_open(server.url(), path, headers).await;
        let refused = refused.err().expect("a refusal");
        let expected = format!("HTTP/1.1 {status} ");
        assert!(refused.starts_with(&expected), "{refused}");
    }
    drop(taken);
    let (place, _) = until(DEADLINE, "a place is left", async || {
        Wire::try_open(server.url(), path, "").await
    })
    .await;
    Raw(place).entered().await;
}

#[tokio::test]
async fn what_cannot_be_said_ends_the_connection_and_reaches_nobody() {
    let mut server = Hubcast::start(&["--websocket-max-message", "20000"]).await;
    let mut listener = Raw::enter(server.url(), "nickname=Listener").await;
    let enter = || Raw::enter(server.url(), "nickname=Mira");
    let longest = "🦀".repeat(4000);
    let mut raw = enter().await;
    raw.says(&longest).await;
    listener.hears(&longest).await;
    raw.says(&format!("{longest}!")).await;
    let why = "a message has at most 4000 characters, and this one has 4001";
    raw.ends_with(1009, why).await;

    for (sent, code, why) in [
        (frame(BINARY, b"bytes"), 1003, "only texts can be said here"),
        (frame(TEXT, "x".repeat(20_001).as_bytes()), 1009, ""),
        (frame(TEXT, b"\xff"), 1007, ""),
        (frame(CLOSE, b"\x0f\xa0"), 4000, ""),
    ] {
        let mut raw = enter().await;
        raw.0.send(&sent).await;
        raw.ends_with(code, why).await;
    }
    enter().await.says("the only other thing").await;
    listener.hears("the only other thing").await;
    server.assert_calm(&[]);
}

#[tokio::test]
async fn who_does_not_read_is_closed_and_the_others_miss_nothing() {
    /// Nearly as long as one message may be, and more of them than the server and the system keep for anybody.
    const TEXT_LENGTH: usize = 30_000;
    const MOST: usize = 3_000;

    let mut server = Hubcast::start(&[]).await;
    let mut sender = Client::connect(server.url()).await;
    sender.join("busy").await;
    let mut reader = Raw::enter(server.url(), "nickname=Reader&room=busy").await;
    let slow = Wire::open_narrow(server.url(), "/api/chat?nickname=Slow&room=busy").await;
    let mut slow = Raw(slow).entered().await;
    let before = server.resident_bytes();
    let text = |number: usize| format!("{number:0>TEXT_LENGTH$}");
    let mut number = 0;
    while !server.output().contains("too_slow") {
        assert!(number < MOST, "{number} messages were kept");
        sender.say("busy", "sender", &text(number)).await;
        reader.hears(&format!("sender: {}", text(number))).await;
        assert_eq!(sender.chat().await.1, text(number));
        number += 1;
    }
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 24 * 1024 * 1024, "{grown} bytes");
    // What did get through is the beginning, and then it is told why there is no more.
    let mut rest = Vec::new();
    let reading = within(DEADLINE, "the rest", slow.0.0.read_to_end(&mut rest)).await;
    reading.expect("a whole stream");
    let goodbye = b"\x03\xf0what was said has not been read in time";
    let told = rest.strip_suffix(unmasked(CLOSE, goodbye).as_slice());
    let told = told.unwrap_or_else(|| panic!("{:?}", rest.last_chunk::<60>()));
    let mut expected = Vec::new();
    let mut texts = (0..number).map(|number| format!("sender: {}", text(number)));
    while expected.len() < told.len() {
        let text = texts.next().expect("nothing more than was said");
        expected.extend(unmasked(TEXT, text.as_bytes()));
    }
    assert!(told == expected, "not the beginning, without a gap");
    assert!(!told.is_empty() && texts.next().is_some());

    reader.says("still here").await;
    assert_eq!(sender.chat().await.1, "still here");
    server.assert_calm(&[]);
}

#[tokio::test]
async fn a_server_that_stops_says_so() {
    let mut server = Hubcast::start(&[]).await;
    let raws = [
        Raw::enter(server.url(), "nickname=Mira").await,
        Raw::enter(server.url(), "nickname=Ada&room=tea").await,
    ];
    server.signal(Signal::SIGTERM);
    for raw in raws {
        raw.0
            .ends_with(&closed_with(1001), "a server that stops")
            .await;
    }
    let status = server.exit(Duration::from_secs(2)).await;
    assert_eq!(status.code(), Some(0));
    assert!(!server.output().contains("did not take their leave"));
}

#[tokio::test]
async fn who_is_silent_is_asked_and_stays() {
    let server = Hubcast::start(&["--websocket-keep-alive", "1"]).await;
    let mut raw = Raw::enter(server.url(), "nickname=Mira").await;
    for number in 0..3 {
        raw.0
            .hears(&unmasked(PING, b""), format_args!("ping {number}"))
            .await;
        raw.0.send(&frame(PONG, b"")).await;
    }
    let mut other = Raw::enter(server.url(), "nickname=Ada").await;
    raw.says("still here").await;
    other.hears("still here").await;
}
