//! The other end: WebSockets in memory, and what a test says on them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, SinkExt, StreamExt};
use hubcast_protocol::Encoding;
use serde_json::{Value, json};
use tokio::io::{DuplexStream, duplex};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::connector::{Connect, Io, Opened, socket_config};
use crate::error::StartError;
use crate::lifecycle::Shared;
use crate::retry::RetryPolicy;
use crate::wire::Settings;
use crate::{ConnectionEvent, ConnectionEvents, HubConnection};

/// How many bytes are between client and server before a writer waits.
const PIPE: usize = 16 * 1024;

/// Longer than anything that a connection waits for. The clock is paused, so it costs nothing.
const DEADLINE: Duration = Duration::from_hours(1);

pub(super) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future)
        .await
        .unwrap_or_else(|_| panic!("{what}: did not happen"))
}

pub(super) fn settings() -> Settings {
    Settings {
        encoding: Encoding::Json,
        keep_alive_interval: Duration::from_secs(15),
        server_timeout: Duration::from_secs(30),
        handshake_timeout: Duration::from_secs(15),
        max_message_size: 4 * 1024 * 1024,
    }
}

/// What clients connect to. Gives a server for each connection, or refuses it.
pub(super) struct Listener {
    /// The first of these that is there decides; without one the connection is made.
    refusals: std::sync::mpsc::Sender<()>,
    servers: UnboundedReceiver<Server>,
}

struct Dialer {
    refusals: std::sync::Mutex<std::sync::mpsc::Receiver<()>>,
    servers: UnboundedSender<Server>,
    max_message_size: usize,
}

impl Connect for Dialer {
    fn connect(&self) -> BoxFuture<'_, Result<Opened, StartError>> {
        if self.refusals.lock().unwrap().try_recv().is_ok() {
            return async { Err(StartError::UpgradeStatus { status: 503 }) }.boxed();
        }
        async {
            let (ours, theirs) = duplex(PIPE);
            let server = WebSocketStream::from_raw_socket(theirs, Role::Server, None).await;
            let _ = self.servers.send(Server(server));
            let ours: Box<dyn Io> = Box::new(ours);
            let config = Some(socket_config(self.max_message_size));
            Ok(Opened {
                socket: WebSocketStream::from_raw_socket(ours, Role::Client, config).await,
                connection_id: Some(Arc::from("the-id")),
            })
        }
        .boxed()
    }
}

impl Listener {
    pub(super) fn new(settings: Settings, retry: Option<RetryPolicy>) -> (HubConnection, Self) {
        let (refuse, refusals) = std::sync::mpsc::channel();
        let (sender, servers) = unbounded_channel();
        let dialer = Dialer {
            refusals: std::sync::Mutex::new(refusals),
            servers: sender,
            max_message_size: settings.max_message_size,
        };
        let connection = HubConnection::new(Shared::new(Box::new(dialer), settings, retry));
        let listener = Self {
            refusals: refuse,
            servers,
        };
        (connection, listener)
    }

    /// Lets so many of the next connections fail.
    pub(super) fn refuse(&self, count: usize) {
        for _ in 0..count {
            self.refusals.send(()).unwrap();
        }
    }

    /// The next connection, on which nothing has been said yet.
    pub(super) async fn accept(&mut self) -> Server {
        within("a connection", self.servers.recv()).await.unwrap()
    }

    /// The next connection, through its handshake.
    pub(super) async fn shaken(&mut self) -> Server {
        let mut server = self.accept().await;
        let request = server.text().await;
        assert_eq!(request, r#"{"protocol":"json","version":1}"#);
        server.send("{}").await;
        assert_eq!(server.text().await, r#"{"type":6}"#, "the first ping");
        server
    }
}

/// A connection that is through its handshake, and its server.
pub(super) async fn connected(settings: Settings) -> (HubConnection, Server) {
    let (connection, mut listener) = Listener::new(settings, None);
    let (started, server) = tokio::join!(connection.start(), listener.shaken());
    started.unwrap();
    (connection, server)
}

pub(super) async fn next(events: &mut ConnectionEvents) -> ConnectionEvent {
    within("an event", events.next()).await.expect("an event")
}

/// The server's end of a WebSocket.
pub(super) struct Server(WebSocketStream<DuplexStream>);

impl Server {
    /// Sends records, each without its separator, in one frame.
    pub(super) async fn send_all(&mut self, records: &[&str]) {
        let text: String = records.iter().flat_map(|text| [text, "\u{1e}"]).collect();
        self.send_message(Message::text(text)).await;
    }

    pub(super) async fn send(&mut self, record: &str) {
        self.send_all(&[record]).await;
    }

    pub(super) async fn send_message(&mut self, message: Message) {
        within("sending", self.0.send(message)).await.unwrap();
    }

    /// The same where the client may have hung up before it has it all.
    pub(super) async fn try_send_message(&mut self, message: Message) {
        let _ = within("sending", self.0.send(message)).await;
    }

    /// The next WebSocket message, whatever it is; `None` at the end.
    pub(super) async fn message(&mut self) -> Option<Message> {
        within("a message", self.0.next()).await?.ok()
    }

    /// The next hub message, without its separator.
    pub(super) async fn text(&mut self) -> String {
        match self.message().await {
            Some(Message::Text(text)) => {
                let record = text.strip_suffix('\u{1e}');
                record.expect("one record").to_owned()
            }
            other => panic!("instead of a hub message: {other:?}"),
        }
    }

    /// The same, pings left out.
    pub(super) async fn record(&mut self) -> String {
        loop {
            let text = self.text().await;
            if text != r#"{"type":6}"# {
                return text;
            }
        }
    }

    /// The next hub message but a ping.
    pub(super) async fn json(&mut self) -> Value {
        serde_json::from_str(&self.record().await).unwrap()
    }

    /// Whether the client has nothing to say, though it is given the time for it.
    pub(super) async fn is_silent(&mut self) -> bool {
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.0.next().now_or_never().is_none()
    }

    /// Completes a call with a result.
    pub(super) async fn complete(&mut self, id: &str, result: Value) {
        let completion = json!({"type": 3, "invocationId": id, "result": result});
        self.send(&completion.to_string()).await;
    }

    /// Calls a method of the client.
    pub(super) async fn call(&mut self, target: &str, arguments: Value) {
        let call = json!({"type": 1, "target": target, "arguments": arguments});
        self.send(&call.to_string()).await;
    }

    /// Asks the client for a result, and gives its answer.
    pub(super) async fn ask(&mut self, target: &str, arguments: Value) -> Value {
        let call =
            json!({"type": 1, "invocationId": "s1", "target": target, "arguments": arguments});
        self.send(&call.to_string()).await;
        let mut answer = self.json().await;
        assert_eq!(answer["type"], 3);
        assert_eq!(answer["invocationId"], "s1");
        let fields = answer.as_object_mut().unwrap();
        fields.remove("type");
        fields.remove("invocationId");
        answer
    }
}
