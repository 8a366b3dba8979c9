//! What has brought other servers down: each costs little memory here, ends in order, and disturbs nobody else.
#![allow(
    clippy::indexing_slicing,
    reason = "a missing member of a JSON object is null"
)]

use std::fmt::Display;
use std::time::Duration;

use end_to_end::socket::{HANDSHAKE, RECORD_SEPARATOR};
use end_to_end::wait::{DEADLINE, within};
use end_to_end::{Conformance, Socket, http};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Bytes, Message};

/// How much the server may grow under any of the attacks, beside what each attack says.
const GROWTH: u64 = 16 * 1024 * 1024;

/// How many attackers there are.
const MANY: usize = 100;

/// A server under attack, and somebody there who must not notice.
struct Scene {
    server: Conformance,
    bystander: Socket,
    before: u64,
}

impl Scene {
    async fn new() -> Self {
        let server = Conformance::start().await;
        let mut bystander = shaken(&server, "/testHub").await;
        echo(&mut bystander, "before").await;
        let before = server.resident_bytes();
        Self {
            server,
            bystander,
            before,
        }
    }

    /// The attack is at its height.
    async fn holds(&mut self, attack: impl Display, allowed: u64) {
        let now = self.server.resident_bytes();
        let grown = now.saturating_sub(self.before);
        assert!(
            grown < allowed,
            "{attack}: the server grew by {grown} bytes, from {} to {now}",
            self.before
        );
        echo(&mut self.bystander, "still here").await;
        self.server.assert_calm();
    }
}

async fn open(server: &Conformance, path: &str) -> Socket {
    let socket = Socket::open_with(server.url(), path, &[]).await;
    socket.unwrap_or_else(|status| panic!("{path} was refused with {status}"))
}

async fn shaken(server: &Conformance, path: &str) -> Socket {
    let mut socket = open(server, path).await;
    socket.shake().await;
    socket
}

fn record(message: &Value) -> String {
    format!("{message}{RECORD_SEPARATOR}")
}

fn invocation(id: &str, target: &str, arguments: &Value) -> String {
    record(&json!({"type": 1, "invocationId": id, "target": target, "arguments": arguments}))
}

/// Reads until a completion with this id comes.
async fn completion(socket: &mut Socket, id: &str) -> Value {
    within(DEADLINE, format_args!("a completion of {id}"), async {
        loop {
            for record in socket.records().await {
                if record["type"] == 3 && record["invocationId"] == id {
                    return record;
                }
            }
        }
    })
    .await
}

async fn echo(socket: &mut Socket, text: &str) {
    socket
        .send(invocation("echo", "Echo", &json!([text])))
        .await;
    assert_eq!(completion(socket, "echo").await["result"], text);
}

/// Ends with a Close message that says why.
async fn is_closed(mut socket: Socket, attack: impl Display) {
    let (_, end) = socket.rest_within(DEADLINE).await;
    assert_eq!(end.code, Some(1000), "{attack}: {end:?}");
    let close = end.close.unwrap_or_default();
    assert_eq!(close["allowReconnect"], true, "{attack}: {close}");
}

#[tokio::test]
async fn deep_nesting_is_refused_before_anybody_descends() {
    let mut scene = Scene::new().await;
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let depth = 30_000 / (open.len() + close.len());
        let deep = format!("{}1{}", open.repeat(depth), close.repeat(depth));
        for message in [
            format!(
                r#"{{"type":1,"invocationId":"1","target":"EchoObject","arguments":[{deep}]}}{RECORD_SEPARATOR}"#
            ),
            format!(r#"{{"type":6,"unknown":{deep}}}{RECORD_SEPARATOR}"#),
        ] {
            for _ in 0..10 {
                let mut socket = shaken(&scene.server, "/testHub").await;
                socket.send(message.clone()).await;
                is_closed(socket, format_args!("{open} {depth} deep")).await;
            }
        }
    }
    scene.holds("deep nesting", GROWTH).await;
}

#[tokio::test]
async fn lengths_that_are_only_declared_cost_nothing() {
    let mut scene = Scene::new().await;
    let mut sockets = Vec::new();
    // MessagePack: an invocation whose arguments are an array, a map, a text, bytes of four thousand million.
    for marker in [0xDD, 0xDF, 0xDB, 0xC6] {
        for _ in 0..MANY / 4 {
            let mut socket = open(&scene.server, "/testHub").await;
            socket
                .send(format!(
                    "{{\"protocol\":\"messagepack\",\"version\":1}}{RECORD_SEPARATOR}"
                ))
                .await;
            let mut body = vec![0x96, 1, 0x80, 0xA1, b'1', 0xA1, b'm', marker];
            body.extend([0xFF; 4]);
            let mut message = vec![u8::try_from(body.len()).expect("a short message")];
            message.append(&mut body);
            socket.send(Message::Binary(Bytes::from(message))).await;
            sockets.push(socket);
        }
    }
    // A message of two gigabytes that is to come, and a WebSocket frame of a mebibyte.
    for _ in 0..MANY / 2 {
        let mut socket = open(&scene.server, "/testHub").await;
        socket
            .send(format!(
                "{{\"protocol\":\"messagepack\",\"version\":1}}{RECORD_SEPARATOR}"
            ))
            .await;
        let beginning = Bytes::from_static(&[0xFF, 0xFF, 0xFF, 0xFF, 0x07, 0x96]);
        socket.send(Message::Binary(beginning)).await;
        sockets.push(socket);
        let mut socket = shaken(&scene.server, "/testHub").await;
        let mut frame = vec![0x81, 0xFF];
        frame.extend((1_u64 << 20).to_be_bytes());
        frame.extend([0, 0, 0, 0, b'x']);
        socket.send_raw(&frame).await;
        sockets.push(socket);
    }
    scene.holds("declared lengths", GROWTH).await;
}

#[tokio::test]
async fn streams_without_end_are_bounded_in_number_and_in_what_they_hold() {
    let mut scene = Scene::new().await;
    let mut attacker = shaken(&scene.server, "/testHub").await;
    for first in (0..5_000).step_by(500) {
        let calls: String = (first..first + 500)
            .map(|number| {
                record(&json!({"type": 4, "invocationId": number.to_string(), "target": "InfiniteStream", "arguments": []}))
            })
            .collect();
        attacker.send(calls).await;
    }
    let last = completion(&mut attacker, "4999").await;
    let refused = last["error"].as_str().unwrap_or_default();
    assert!(refused.contains("at most 100"), "{last}");

    // Uploads that nobody reads any more, and items for streams that never were.
    let mut uploader = shaken(&scene.server, "/testHub").await;
    let item = record(&json!({"type": 2, "invocationId": "s", "item": "x".repeat(30_000)}));
    let unknown = record(&json!({"type": 2, "invocationId": "nobody", "item": "x".repeat(30_000)}));
    uploader
        .send(record(&json!({"type": 1, "invocationId": "1", "target": "UploadThenNotify", "arguments": [], "streamIds": ["s"]})))
        .await;
    for _ in 0..500 {
        uploader.send(item.clone()).await;
        uploader.send(unknown.clone()).await;
    }
    uploader
        .send(record(&json!({"type": 3, "invocationId": "s"})))
        .await;
    completion(&mut uploader, "1").await;
    scene.holds("endless streams", GROWTH).await;
}

#[tokio::test]
async fn negotiations_leave_nothing_behind() {
    let mut scene = Scene::new().await;
    let one =
        "POST /testHub/negotiate?negotiateVersion=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n";
    for _ in 0..10 {
        let mut requests = format!("{one}\r\n").repeat(1_999);
        requests.extend([one, "Connection: close\r\n\r\n"]);
        let answers =
            http::exchange(http::authority(scene.server.url()), requests.as_bytes()).await;
        let answers = answers.expect("answers");
        let tokens = answers
            .windows(b"connectionToken".len())
            .filter(|window| *window == b"connectionToken");
        assert_eq!(tokens.count(), 2_000);
    }
    scene.holds("20,000 negotiations", GROWTH).await;
}

#[tokio::test]
async fn what_waits_for_lost_sockets_is_bounded() {
    let mut scene = Scene::new().await;
    let base = scene.server.url().to_owned();
    let mut lost = Vec::new();
    for _ in 0..MANY {
        let path = "/testHubReconnect/negotiate?negotiateVersion=1&useStatefulReconnect=true";
        let answer = http::request(&base, "POST", path, &[], "")
            .await
            .expect("an answer");
        let answer: Value = serde_json::from_str(&answer.body).expect("JSON");
        assert_eq!(answer["useStatefulReconnect"], true);
        let token = answer["connectionToken"].as_str().expect("a token");
        let path = format!("/testHubReconnect?id={token}");
        let mut socket = open(&scene.server, &path).await;
        socket
            .send(HANDSHAKE.replace("\"version\":1", "\"version\":2"))
            .await;
        assert_eq!(socket.records().await, [json!({})]);
        lost.push((path, socket.into_inner()));
    }
    let paths: Vec<String> = lost
        .into_iter()
        .map(|(path, socket)| {
            // Without a word.
            drop(socket);
            path
        })
        .collect();
    let mut talker = shaken(&scene.server, "/testHubReconnect").await;
    let text = "x".repeat(30_000);
    for number in 0..200 {
        let id = number.to_string();
        talker
            .send(invocation(&id, "CallOthers", &json!([text])))
            .await;
        completion(&mut talker, &id).await;
    }
    scene.holds("lost sockets that wait", GROWTH).await;
    // None of them could wait for six megabytes.
    for path in paths {
        let again = Socket::open_with(&base, &path, &[]).await;
        assert!(matches!(again, Err(404 | 204)), "{:?}", again.err());
    }
}

#[tokio::test]
async fn handshakes_that_do_not_come_are_given_up() {
    let mut scene = Scene::new().await;
    let mut sockets = Vec::new();
    for number in 0..MANY * 5 {
        let mut socket = open(&scene.server, "/testHub").await;
        if number % 2 == 0 {
            socket.send("{\"protocol\":").await;
        }
        sockets.push(socket);
    }
    scene.holds("slow handshakes", GROWTH).await;
    for mut socket in sockets {
        let (records, end) = socket.rest_within(Duration::from_secs(30)).await;
        assert_eq!(records, [json!({"error": "Handshake was canceled."})]);
        assert_eq!(end.code, Some(1000));
    }
}

#[tokio::test]
async fn bodies_that_trickle_are_given_up() {
    let mut scene = Scene::new().await;
    let base = scene.server.url().to_owned();
    let mut posts = Vec::new();
    for _ in 0..MANY {
        let negotiated = http::request(
            &base,
            "POST",
            "/testHub/negotiate?negotiateVersion=1",
            &[],
            "",
        )
        .await;
        let answer: Value =
            serde_json::from_str(&negotiated.expect("an answer").body).expect("JSON");
        let token = answer["connectionToken"].as_str().expect("a token");
        let first = http::request(&base, "GET", &format!("/testHub?id={token}"), &[], "").await;
        assert_eq!(first.expect("an answer").status, 200);
        let mut post = TcpStream::connect(http::authority(&base))
            .await
            .expect("a connection");
        let head = format!(
            "POST /testHub?id={token} HTTP/1.1\r\nHost: x\r\nContent-Length: 30000\r\n\r\n{{"
        );
        post.write_all(head.as_bytes())
            .await
            .expect("the server reads");
        posts.push(post);
    }
    scene.holds("slow bodies", GROWTH).await;
    for mut post in posts {
        let mut answer = Vec::new();
        let read = post.read_to_end(&mut answer);
        let read = within(Duration::from_secs(30), "the end of a slow POST", read).await;
        read.expect("an answer");
        let answer = http::Response::parse(&answer).expect("an answer");
        assert!(matches!(answer.status, 400 | 404), "{answer:?}");
    }
}

#[tokio::test]
async fn a_storm_of_cancellations_and_answers_to_nothing_is_weathered() {
    let mut scene = Scene::new().await;
    let mut attacker = shaken(&scene.server, "/testHub").await;
    // One call runs, hundreds wait, and everything is taken back again and again.
    attacker
        .send(invocation("running", "DelayedEcho", &json!(["x", 1_000])))
        .await;
    let waiting: String = (0..300)
        .map(|number| invocation(&format!("waiting {number}"), "Echo", &json!(["x"])))
        .collect();
    attacker.send(waiting).await;
    let storm: String = (0..500)
        .map(|number| {
            record(&json!({"type": 5, "invocationId": format!("waiting {}", number % 300)}))
                + &record(&json!({"type": 5, "invocationId": number.to_string()}))
                + &record(&json!({"type": 3, "invocationId": number.to_string(), "result": null}))
        })
        .collect();
    for _ in 0..20 {
        attacker.send(storm.clone()).await;
    }
    let answer = completion(&mut attacker, "waiting 299").await;
    assert_eq!(answer["result"], "x");
    scene.holds("a storm of cancellations", GROWTH).await;
}
