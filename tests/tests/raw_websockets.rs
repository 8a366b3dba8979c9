//! Raw WebSockets as a whole: what comes back, who is let in, and what others cost. To the letter they are tested in `raw_conformance`.

use std::time::Duration;

use end_to_end::http::{Response, exchange};
use end_to_end::wait::{DEADLINE, until};
use end_to_end::wire::{
    BINARY, CLOSE, CONTINUATION, FINAL, PING, PONG, TEXT, closed_with, frame, header, unmasked,
};
use end_to_end::{Bystander, Hubcast, Wire};
use nix::sys::signal::Signal;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};

/// Every place where there are raw WebSockets, and what it says before a text.
const PLACES: [(&str, &str); 4] = [
    ("/ws", "Server: Hello. You said: "),
    ("/ws?raw=1", "Server: Hello. You said: "),
    ("/echo", "Server Response: "),
    ("/echo?x=y&raw=1", ""),
];

/// After this a socket that takes nothing is taken for full.
const QUIET: Duration = Duration::from_millis(500);

/// How much of what is not read may be on its way, most of it with the system.
const ON_ITS_WAY: usize = 64 * 1024 * 1024;

#[tokio::test]
async fn what_is_said_comes_back_with_a_greeting() {
    let mut server = Hubcast::start(&[]).await;
    for (path, greeting) in PLACES {
        let mut wire = Wire::open(server.url(), path).await;
        let long = "世界".repeat(50_000);
        // After something long, something short shows whether it is remembered.
        for text in ["Hello", "", &long, "x", "", "{\"type\":6}\u{1e}"] {
            wire.send(&frame(TEXT, text.as_bytes())).await;
            let answer = format!("{greeting}{text}");
            wire.hears(&unmasked(TEXT, answer.as_bytes()), path).await;
        }
        wire.send(&frame(BINARY, b"\x00\xff")).await;
        wire.hears(&unmasked(BINARY, b"\x00\xff"), path).await;
        wire.send(&frame(TEXT & !FINAL, b"in two ")).await;
        wire.send(&frame(CONTINUATION, b"pieces")).await;
        let answer = format!("{greeting}in two pieces");
        wire.hears(&unmasked(TEXT, answer.as_bytes()), path).await;
        wire.send(&frame(CLOSE, b"\x0f\xa0bye")).await;
        wire.ends_with(&closed_with(4000), path).await;
    }
    server.assert_calm(&[]);
}

#[tokio::test]
async fn what_is_no_request_for_a_websocket_is_told_that_it_should_be() {
    let server = Hubcast::start(&[]).await;
    // The answer is complete when the server hangs up.
    let plain = "Host: x\r\nConnection: close\r\n";
    let upgrade = "Host: x\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let version = "Sec-WebSocket-Version: 13\r\n";
    for (path, _) in PLACES {
        for (method, http, headers) in [
            ("GET", "1.1", [plain, "", ""]),
            ("POST", "1.1", [plain, "", ""]),
            ("GET", "1.0", ["", "", ""]),
            ("GET", "1.0", [upgrade, key, version]),
            ("POST", "1.1", [upgrade, key, version]),
            ("GET", "1.1", [plain, key, version]),
            ("GET", "1.1", [upgrade, key, ""]),
            ("GET", "1.1", [upgrade, "", version]),
            ("GET", "1.1", [upgrade, key, "Sec-WebSocket-Version: 8\r\n"]),
            (
                "GET",
                "1.1",
                [upgrade, "Sec-WebSocket-Key: short\r\n", version],
            ),
        ] {
            let headers = headers.concat();
            let request = format!("{method} {path} HTTP/{http}\r\n{headers}\r\n");
            let answer = exchange(server.authority(), request.as_bytes()).await;
            let answer = answer.unwrap_or_else(|error| panic!("{request:?}: {error}"));
            let answer = Response::parse(&answer).expect("an HTTP answer");
            assert_eq!(answer.status, 400, "{request:?}: {answer:?}");
            assert!(
                answer.body.contains("WebSocket is expected"),
                "{request:?}: {answer:?}"
            );
            assert_eq!(answer.header("sec-websocket-version"), Some("13"));
        }
    }
}

#[tokio::test]
async fn pages_of_other_origins_are_refused_as_at_the_hub() {
    let friend = "https://friend.example";
    let server = Hubcast::start(&["--allow-origin", friend]).await;
    for path in ["/ws", "/echo"] {
        for stranger in ["https://evil.example", "null", "http://friend.example"] {
            let headers = format!("Origin: {stranger}\r\n");
            let answer = Wire::try_open(server.url(), path, &headers).await;
            let answer = answer.err().expect("a stranger's page");
            assert!(answer.starts_with("HTTP/1.1 403 "), "{stranger}: {answer}");
        }
        for origin in [friend, server.url()] {
            let headers = format!("Origin: {origin}\r\n");
            let opened = Wire::try_open(server.url(), path, &headers).await;
            assert!(opened.is_ok(), "{origin}: {:?}", opened.err());
        }
    }
}

#[tokio::test]
async fn there_are_only_so_many_and_a_place_that_is_left_is_taken_again() {
    let server = Hubcast::start(&["--websocket-max-connections", "2"]).await;
    let first = Wire::open(server.url(), "/ws").await;
    let mut second = Wire::open(server.url(), "/echo").await;
    for path in ["/ws", "/echo"] {
        let answer = Wire::try_open(server.url(), path, "").await;
        let answer = answer.err().expect("one too many");
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    }
    drop(first);
    let (mut third, _) = until(DEADLINE, "a place is left", async || {
        Wire::try_open(server.url(), "/echo?raw=1", "").await
    })
    .await;
    second.send(&frame(PING, b"2")).await;
    second.hears(&unmasked(PONG, b"2"), "the second").await;
    third.send(&frame(PING, b"3")).await;
    third.hears(&unmasked(PONG, b"3"), "the third").await;
}

#[tokio::test]
async fn who_does_not_read_is_not_read_from_and_misses_nothing() {
    let mut bystander = Bystander::on_a_server(&[]).await;
    let mut wire = Wire::open_narrow(bystander.url(), "/echo?raw=1").await;
    let message = |number: usize| format!("{number:0>30000}").into_bytes();
    let before = bystander.server.resident_bytes();
    let (mut count, mut sent) = (0, 0);
    let rest = 'full: loop {
        let bytes = frame(TEXT, &message(count));
        count += 1;
        let mut left = bytes.as_slice();
        while !left.is_empty() {
            let Ok(written) = timeout(QUIET, wire.0.write(left)).await else {
                break 'full left.to_vec();
            };
            left = &left[written.expect("the server is there")..];
        }
        sent += bytes.len();
        assert!(sent < ON_ITS_WAY, "{sent} bytes were taken");
    };
    let grown = bystander.server.resident_bytes().saturating_sub(before);
    assert!(grown < 4 * 1024 * 1024, "{grown} bytes for {sent}");
    bystander.is_undisturbed("somebody who does not read").await;

    let answers = (0..count).map(|number| unmasked(TEXT, &message(number)));
    let answers: Vec<_> = answers.chain([closed_with(1000)]).collect();
    let goodbye = frame(CLOSE, b"\x03\xe8");
    wire.exchange(
        &[&rest, &goodbye],
        &answers.concat(),
        "everything, in order",
    )
    .await;
    bystander.is_undisturbed("much at once").await;
}

#[tokio::test]
async fn messages_that_only_begin_cost_what_has_come_of_them() {
    let mut bystander = Bystander::on_a_server(&[]).await;
    let before = bystander.server.resident_bytes();
    let mut wires = Vec::new();
    for _ in 0..200 {
        let mut wire = Wire::open(bystander.url(), "/ws").await;
        let begun = [frame(PING, b"?"), header(BINARY, 1024 * 1024), vec![7; 100]];
        wire.send(&begun.concat()).await;
        wire.hears(&unmasked(PONG, b"?"), "a begun message").await;
        wires.push(wire);
    }
    let grown = bystander.server.resident_bytes().saturating_sub(before);
    assert!(grown < 16 * 1024 * 1024, "{grown} bytes");
    bystander.is_undisturbed("begun messages").await;
    drop(wires);
    bystander.is_undisturbed("the end of them").await;
}

#[tokio::test]
async fn who_does_not_answer_a_ping_is_closed() {
    let server = Hubcast::start(&["--websocket-keep-alive", "1"]).await;
    let mut wire = Wire::open(server.url(), "/ws").await;
    let ping = unmasked(PING, b"");
    for number in 0..2 {
        wire.hears(&ping, format_args!("ping {number}")).await;
        wire.send(&frame(PONG, b"")).await;
    }
    let silence = [ping, closed_with(1011)].concat();
    wire.ends_with(&silence, "the end of patience").await;
}

#[tokio::test]
async fn a_server_that_stops_says_goodbye_and_waits_for_nobody_long() {
    let mut server = Hubcast::start(&[]).await;
    let idle = Wire::open(server.url(), "/ws").await;
    let mut begun = Wire::open(server.url(), "/echo").await;
    begun.send(&frame(TEXT & !FINAL, b"begun")).await;
    // Never reads, so that its goodbye never leaves.
    let mut stuck = Wire::open_narrow(server.url(), "/echo").await;
    let large = frame(BINARY, &[7; 10_000]);
    while let Ok(written) = timeout(QUIET, stuck.0.write_all(&large)).await {
        written.expect("the server reads");
    }
    server.signal(Signal::SIGTERM);
    let asked = Instant::now();
    idle.ends_with(&closed_with(1001), "an idle WebSocket")
        .await;
    begun
        .ends_with(&closed_with(1001), "a WebSocket with a message begun")
        .await;
    let limit = Duration::from_secs(5).saturating_sub(asked.elapsed());
    assert_eq!(server.exit(limit).await.code(), Some(0));
    assert!(!server.output().contains("panicked"));
}

#[tokio::test]
async fn a_server_ends_as_soon_as_all_have_hung_up() {
    let mut server = Hubcast::start(&[]).await;
    let mut wires = Vec::new();
    for _ in 0..50 {
        wires.push(Wire::open(server.url(), "/ws").await);
    }
    server.signal(Signal::SIGTERM);
    for wire in wires {
        wire.ends_with(&closed_with(1001), "one of many").await;
    }
    let status = server.exit(Duration::from_secs(2)).await;
    assert_eq!(status.code(), Some(0));
    assert!(!server.output().contains("did not take their leave"));
}
