//! A server that is asked to end tells its clients to come back, and ends soon, whatever its clients do.

use std::io;
use std::time::Duration;

use end_to_end::wait::{DEADLINE, within};
use end_to_end::{Client, End, Hubcast, Socket};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// How soon a server ends after it was asked to.
const LIMIT: Duration = Duration::from_secs(5);

/// How many clients are connected meanwhile.
const CLIENTS: usize = 50;

#[tokio::test]
async fn sigterm_ends_the_server_in_good_order() {
    drains(Signal::SIGTERM).await;
}

#[tokio::test]
async fn sigint_ends_the_server_in_good_order() {
    drains(Signal::SIGINT).await;
}

async fn drains(signal: Signal) {
    let mut server = Hubcast::start(&[]).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = Client::connect(server.url()).await;
        client.join("room").await;
        clients.push(client);
    }

    server.signal(signal);
    let asked = Instant::now();
    for client in &mut clients {
        assert_told_to_come_back(&client.end().await);
    }
    assert_eq!(
        server
            .exit(LIMIT.saturating_sub(asked.elapsed()))
            .await
            .code(),
        Some(0)
    );
    assert!(
        TcpStream::connect(server.authority()).await.is_err(),
        "nobody listens any more"
    );
    assert!(!server.output().contains("panicked"));
}

#[tokio::test]
async fn clients_that_do_nothing_cannot_keep_a_server_from_ending() {
    let mut server = Hubcast::start(&[]).await;
    let mut client = Client::connect(server.url()).await;
    client.join("busy").await;
    let _reads_nothing = not_reading(&server, &mut client).await;
    let mut never_shook = Socket::open(server.url(), None)
        .await
        .expect("an open WebSocket");
    let _says_nothing = TcpStream::connect(server.authority())
        .await
        .expect("the server accepts");
    let mut says_little = TcpStream::connect(server.authority())
        .await
        .expect("the server accepts");
    says_little
        .write_all(b"GET /healthz HTTP/1.1\r\nHo")
        .await
        .expect("the server reads");
    let mut keeps_alive = KeptAlive::open(&server).await.expect("the server accepts");
    assert_eq!(keeps_alive.get("/readyz").await, Some(200));

    server.signal(Signal::SIGTERM);
    let asked = Instant::now();
    // From the first goodbye on, no request is told that this server is ready.
    client.close_message().await;
    let readiness = keeps_alive.get("/readyz").await;
    assert!(matches!(readiness, None | Some(503)), "{readiness:?}");
    assert_told_to_come_back(&client.end().await);
    let (records, _) = never_shook.rest_within(LIMIT).await;
    assert!(
        !records.iter().any(|record| record["type"] == 7),
        "no hub message before a handshake: {records:?}"
    );
    assert_eq!(
        server
            .exit(LIMIT.saturating_sub(asked.elapsed()))
            .await
            .code(),
        Some(0)
    );
    assert!(!server.output().contains("panicked"));
}

#[tokio::test]
async fn what_was_sent_before_the_end_still_arrives() {
    let mut server = Hubcast::start(&[]).await;
    let mut sender = Client::connect(server.url()).await;
    let mut listener = Client::connect(server.url()).await;
    sender.join("room").await;
    listener.join("room").await;
    let text = "x".repeat(20_000);
    for _ in 0..50 {
        sender.say("room", "sender", &text).await;
    }
    sender.say("room", "sender", "the last").await;
    server.signal(Signal::SIGTERM);
    assert_eq!(listener.chats_until("the last").await.len(), 51);
    assert_told_to_come_back(&listener.end().await);
    assert_eq!(server.exit(LIMIT).await.code(), Some(0));
}

fn assert_told_to_come_back(end: &End) {
    assert_eq!(end.close, Some(json!({"type": 7, "allowReconnect": true})));
    assert!(
        matches!(end.code, Some(1000 | 1001)),
        "closed with {:?}",
        end.code
    );
}

/// A member of a room for whom megabytes wait that it does not read.
async fn not_reading(server: &Hubcast, sender: &mut Client) -> Socket {
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
    let text = "x".repeat(30_000);
    for _ in 0..143 {
        sender.say("busy", "sender", &text).await;
    }
    socket
}

/// An HTTP connection that stays open between requests, as those of browsers and balancers do.
struct KeptAlive {
    stream: TcpStream,
    authority: String,
}

impl KeptAlive {
    async fn open(server: &Hubcast) -> io::Result<Self> {
        let stream = TcpStream::connect(server.authority()).await?;
        let authority = server.authority().to_owned();
        Ok(Self { stream, authority })
    }

    /// The status of an answer; nothing if the server has closed the connection.
    async fn get(&mut self, path: &str) -> Option<u16> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.authority);
        self.stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        let mut chunk = [0; 4096];
        // The bodies of these answers are small JSON objects.
        while !answer.ends_with(b"}") {
            match within(
                DEADLINE,
                format_args!("the answer to {path}"),
                self.stream.read(&mut chunk),
            )
            .await
            {
                Ok(0) | Err(_) => return None,
                Ok(length) => answer.extend(chunk.iter().take(length)),
            }
        }
        std::str::from_utf8(&answer)
            .ok()?
            .strip_prefix("HTTP/1.1 ")?
            .get(..3)?
            .parse()
            .ok()
    }
}
