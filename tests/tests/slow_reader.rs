//! Who does not read what is sent to them is disconnected, before it costs much memory; nobody else is slowed down.

use std::time::Duration;

use end_to_end::{Client, Hubcast, Socket};
use serde_json::json;
use tokio::time::{Instant, sleep};

/// Nearly as long as one message may be.
const TEXT: usize = 30_000;

/// How many messages it takes to fill all that may wait for one connection in the server (4 MiB) and whatever the system
/// keeps (a few MiB more), several times over.
const MANY: usize = 1500;

/// How many messages certainly do not all fit into what the system keeps, and yet do not fill what may wait in the server.
const FEW: usize = 143;

/// How much the server may grow while it deals with somebody who does not read: their share, and room to breathe.
const GROWTH: u64 = 24 * 1024 * 1024;

#[tokio::test]
async fn who_stops_reading_is_closed_in_bounded_memory_and_the_others_get_everything() {
    let mut server = Hubcast::start(&[]).await;
    let mut sender = Client::connect(server.url()).await;
    let mut listeners = [
        Client::connect(server.url()).await,
        Client::connect(server.url()).await,
    ];
    for member in listeners.iter_mut().chain([&mut sender]) {
        member.join("busy").await;
    }
    let mut slow = not_reading(&server).await;

    let before = server.resident_bytes();
    let mut peak = before;
    for number in 0..MANY {
        let text = message(number);
        sender.say("busy", "sender", &text).await;
        for member in listeners.iter_mut().chain([&mut sender]) {
            assert_eq!(member.chat().await.1, text, "everything, in order");
        }
        peak = peak.max(server.resident_bytes());
    }
    server.logs(Duration::from_secs(5), &["too_slow"]).await;
    assert!(
        peak - before < GROWTH,
        "memory grew from {before} to {peak} bytes while {} were sent",
        MANY * TEXT
    );

    // What did get through to the slow one is the beginning, without a gap.
    let (records, _) = slow.rest_within(Duration::from_secs(15)).await;
    let got = records
        .iter()
        .filter(|record| record["arguments"][0] == "sender");
    let count = got
        .enumerate()
        .map(|(number, record)| assert_eq!(record["arguments"][1], message(number)))
        .count();
    assert!(
        (1..MANY).contains(&count),
        "{count} of {MANY} messages reached somebody who did not read"
    );

    sender.say("busy", "sender", "still here?").await;
    for member in listeners.iter_mut().chain([&mut sender]) {
        assert_eq!(member.chat().await.1, "still here?");
        assert!(member.is_open());
    }
    server.assert_calm(&[]);
}

#[tokio::test]
async fn who_takes_nothing_for_ten_seconds_is_closed_although_little_waits_for_them() {
    let mut server = Hubcast::start(&[]).await;
    let mut sender = Client::connect(server.url()).await;
    sender.join("busy").await;
    let _slow = not_reading(&server).await;
    let start = Instant::now();
    for number in 0..FEW {
        sender.say("busy", "sender", &message(number)).await;
    }
    let sent = Instant::now();
    server.logs(Duration::from_secs(15), &["too_slow"]).await;
    assert!(
        start.elapsed() > Duration::from_secs(9),
        "closed after {:?}, so not for lack of progress",
        start.elapsed()
    );
    assert!(
        sent.elapsed() < Duration::from_secs(13),
        "closed only {:?} after the last message",
        sent.elapsed()
    );
    sender.chats_until(&message(FEW - 1)).await;
    assert!(sender.is_open());
    server.assert_calm(&[]);
}

#[tokio::test]
async fn who_pauses_for_a_moment_misses_nothing() {
    let mut server = Hubcast::start(&[]).await;
    let mut sender = Client::connect(server.url()).await;
    sender.join("busy").await;
    let mut pausing = not_reading(&server).await;
    for number in 0..FEW {
        sender.say("busy", "sender", &message(number)).await;
    }
    // The length of the pause is what this is about: less than what counts as no progress.
    sleep(Duration::from_secs(5)).await;

    let mut number = 0;
    while number < FEW {
        for record in pausing.records().await {
            if record["arguments"][0] == "sender" {
                assert_eq!(record["arguments"][1], message(number));
                number += 1;
            }
        }
    }
    assert!(!server.output().contains("too_slow"));
    server.assert_calm(&[]);
}

/// A member of the room that has read up to its own arrival, and from now on does not read.
async fn not_reading(server: &Hubcast) -> Socket {
    let mut socket = Socket::open_narrow(server.url()).await;
    socket.shake().await;
    let call = json!({"type": 1, "invocationId": "1", "target": "JoinRoom", "arguments": ["busy"]});
    socket.send(format!("{call}\u{1e}")).await;
    while !socket
        .records()
        .await
        .iter()
        .any(|record| record["type"] == 3)
    {}
    socket
}

fn message(number: usize) -> String {
    format!("{number:0>TEXT$}")
}
