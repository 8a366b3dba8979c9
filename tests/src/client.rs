//! A small SignalR client for `ChatHub`, written from the specification: it always reads, and remembers what it has got.

use std::collections::{HashMap, VecDeque};

use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::http;
use crate::socket::{RECORD_SEPARATOR, Socket, records};
use crate::wait::{DEADLINE, within};

pub use crate::socket::End;

/// What a negotiation gave.
#[derive(Debug, Clone)]
pub struct Negotiated {
    /// The public id of the connection.
    pub connection_id: String,
    /// The secret with which its transport is opened.
    pub connection_token: String,
}

/// Negotiates, as version 1, at a base address.
pub async fn negotiate(base: &str) -> Result<Negotiated, String> {
    let answer = http::request(
        base,
        "POST",
        "/chatHub/negotiate?negotiateVersion=1",
        &[],
        "",
    )
    .await;
    let answer = answer.map_err(|error| format!("negotiate: {error}"))?;
    let body: Value = serde_json::from_str(&answer.body)
        .map_err(|error| format!("negotiate: {error} in {answer:?}"))?;
    match (
        answer.status,
        body["connectionId"].as_str(),
        body["connectionToken"].as_str(),
    ) {
        (200, Some(id), Some(token)) => Ok(Negotiated {
            connection_id: id.to_owned(),
            connection_token: token.to_owned(),
        }),
        _ => Err(format!("negotiate: {answer:?}")),
    }
}

/// A message of the chat: who, and what.
pub type Chat = (String, String);

/// A connection to `ChatHub`. Dropping it breaks the connection off without a goodbye.
pub struct Client {
    id: String,
    sink: SplitSink<WebSocketStream<TcpStream>, Message>,
    events: mpsc::UnboundedReceiver<Event>,
    reader: AbortHandle,
    calls: u64,
    completions: HashMap<String, Result<Value, String>>,
    chats: VecDeque<Chat>,
    notices: VecDeque<String>,
    transcript: Vec<Chat>,
    close: Option<Value>,
    end: Option<End>,
}

impl Drop for Client {
    fn drop(&mut self) {
        // It owns the other half of the socket, which would stay open.
        self.reader.abort();
    }
}

enum Event {
    Hub(Value),
    End(Option<u16>),
}

impl Client {
    /// Negotiates, opens the WebSocket and shakes hands, all at one base address.
    pub async fn connect(base: &str) -> Self {
        Self::connect_across(base, base).await
    }

    /// Negotiates at one address and opens the WebSocket at another.
    pub async fn connect_across(negotiate_at: &str, open_at: &str) -> Self {
        let negotiated = negotiate(negotiate_at)
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        let opened = Self::open(open_at, &negotiated).await;
        opened.unwrap_or_else(|status| {
            panic!("{open_at} refused a connection negotiated at {negotiate_at}: {status}")
        })
    }

    /// Opens the WebSocket of a negotiated connection and shakes hands. The error is the status with which it was refused.
    pub async fn open(base: &str, negotiated: &Negotiated) -> Result<Self, u16> {
        let mut socket = Socket::open(base, Some(&negotiated.connection_token)).await?;
        socket.shake().await;
        let (sink, mut stream) = socket.into_inner().split();
        let (sender, events) = mpsc::unbounded_channel();
        let reader = tokio::spawn(async move {
            let mut code = None;
            while let Some(Ok(message)) = stream.next().await {
                if let Message::Close(frame) = &message {
                    code = frame.as_ref().map(|frame| frame.code.into());
                }
                for record in records(&message) {
                    // Fails when the client is gone; then nobody wants to know.
                    let _ = sender.send(Event::Hub(record));
                }
            }
            let _ = sender.send(Event::End(code));
        });
        Ok(Self {
            id: negotiated.connection_id.clone(),
            sink,
            events,
            reader: reader.abort_handle(),
            calls: 0,
            completions: HashMap::new(),
            chats: VecDeque::new(),
            notices: VecDeque::new(),
            transcript: Vec::new(),
            close: None,
            end: None,
        })
    }

    /// Its connection id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Sends an invocation and does not wait; gives its id.
    pub async fn begin(&mut self, target: &str, arguments: Value) -> String {
        let begun = self.try_begin(target, arguments).await;
        begun.unwrap_or_else(|error| panic!("{}: {target} cannot be sent: {error}", self.id))
    }

    async fn try_begin(&mut self, target: &str, arguments: Value) -> Result<String, Error> {
        self.calls += 1;
        let id = self.calls.to_string();
        let message =
            json!({"type": 1, "invocationId": id, "target": target, "arguments": arguments});
        let sending = self
            .sink
            .send(format!("{message}{RECORD_SEPARATOR}").into());
        within(
            DEADLINE,
            format_args!("{}: sending {target}", self.id),
            sending,
        )
        .await?;
        Ok(id)
    }

    /// The result or error of an invocation that was begun.
    pub async fn completion(&mut self, id: &str) -> Result<Value, String> {
        self.next(&format!("the completion of call {id}"), |client| {
            client.completions.remove(id)
        })
        .await
    }

    /// Invokes a method and waits for its result or error.
    pub async fn invoke(&mut self, target: &str, arguments: Value) -> Result<Value, String> {
        let id = self.begin(target, arguments).await;
        self.completion(&id).await
    }

    /// The same on a connection that may end meanwhile, or have ended: then there is nothing.
    pub async fn try_invoke(
        &mut self,
        target: &str,
        arguments: Value,
    ) -> Option<Result<Value, String>> {
        let id = self.try_begin(target, arguments).await.ok()?;
        while self.end.is_none() {
            if let Some(outcome) = self.completions.remove(&id) {
                return Some(outcome);
            }
            self.receive("a completion or the end").await;
        }
        None
    }

    /// Joins a room and waits for the notice of it.
    pub async fn join(&mut self, room: &str) {
        self.invoke("JoinRoom", json!([room]))
            .await
            .unwrap_or_else(|error| panic!("{}: JoinRoom failed: {error}", self.id));
        let mine = format!("{} has joined the room {room}", self.id);
        self.notice(&mine).await;
    }

    /// Leaves a room. The notice goes to those who are still in it.
    pub async fn leave(&mut self, room: &str) {
        self.invoke("LeaveRoom", json!([room]))
            .await
            .unwrap_or_else(|error| panic!("{}: LeaveRoom failed: {error}", self.id));
    }

    /// Says something in a room; must not fail.
    pub async fn say(&mut self, room: &str, user: &str, text: &str) {
        let said = self.invoke("SendMessage", json!([room, user, text])).await;
        said.unwrap_or_else(|error| {
            panic!(
                "{}: SendMessage({room}, {user}, {text}) failed: {error}",
                self.id
            )
        });
    }

    /// The next message of the chat, notices of the system left out.
    pub async fn chat(&mut self) -> Chat {
        self.next("a message of the chat", |client| client.chats.pop_front())
            .await
    }

    /// All messages of the chat up to and including the one with this text, notices of the system left out.
    pub async fn chats_until(&mut self, last: &str) -> Vec<Chat> {
        let mut all = Vec::new();
        while all.last().is_none_or(|(_, text)| text != last) {
            let what = format!("a message {last:?} after {} others", all.len());
            all.push(self.next(&what, |client| client.chats.pop_front()).await);
        }
        all
    }

    /// Waits for a notice of the system with this text; notices before it are dropped.
    pub async fn notice(&mut self, text: &str) {
        while self
            .next(&format!("the notice {text:?}"), |client| {
                client.notices.pop_front()
            })
            .await
            != text
        {}
    }

    /// The next notice of the system.
    pub async fn next_notice(&mut self) -> String {
        self.next("a notice", |client| client.notices.pop_front())
            .await
    }

    /// Every message of the chat that has arrived since the connection began, asked for or not, notices left out.
    pub fn transcript(&mut self) -> &[Chat] {
        while let Ok(event) = self.events.try_recv() {
            self.take(event);
        }
        &self.transcript
    }

    /// Whether nothing has said that the connection ends.
    pub fn is_open(&mut self) -> bool {
        self.transcript();
        self.close.is_none() && self.end.is_none()
    }

    /// Waits for the connection to end by the server's doing.
    pub async fn end(&mut self) -> End {
        loop {
            if let Some(end) = &self.end {
                return end.clone();
            }
            self.receive("the end of the connection").await;
        }
    }

    /// Waits for the hub's Close message.
    pub async fn close_message(&mut self) -> Value {
        self.next("a Close message", |client| client.close.clone())
            .await
    }

    /// Waits until `pick` finds something in what has arrived.
    async fn next<T>(&mut self, what: &str, mut pick: impl FnMut(&mut Self) -> Option<T>) -> T {
        loop {
            if let Some(value) = pick(self) {
                return value;
            }
            assert!(
                self.end.is_none(),
                "{}: the connection ended ({:?}) before {what}",
                self.id,
                self.end
            );
            self.receive(what).await;
        }
    }

    async fn receive(&mut self, what: &str) {
        let event = within(
            DEADLINE,
            format_args!("{}: {what}", self.id),
            self.events.recv(),
        )
        .await;
        let event = event.unwrap_or_else(|| panic!("{}: reading failed before {what}", self.id));
        self.take(event);
    }

    fn take(&mut self, event: Event) {
        let message = match event {
            Event::Hub(message) => message,
            Event::End(code) => {
                self.end = Some(End {
                    close: self.close.clone(),
                    code,
                });
                return;
            }
        };
        match message["type"].as_u64() {
            Some(1) => self.take_invocation(&message),
            Some(3) => {
                let id = message["invocationId"]
                    .as_str()
                    .expect("a completion has an id")
                    .to_owned();
                let outcome = match message["error"].as_str() {
                    Some(error) => Err(error.to_owned()),
                    None => Ok(message["result"].clone()),
                };
                let earlier = self.completions.insert(id, outcome);
                assert!(
                    earlier.is_none(),
                    "{}: a second completion: {message}",
                    self.id
                );
            }
            Some(6) => {}
            Some(7) => self.close = Some(message),
            _ => panic!("{}: an unexpected hub message: {message}", self.id),
        }
    }

    fn take_invocation(&mut self, message: &Value) {
        let arguments = (
            message["arguments"][0].as_str(),
            message["arguments"][1].as_str(),
        );
        match (message["target"].as_str(), arguments) {
            (Some("ReceiveMessage"), (Some("System"), Some(text))) => {
                self.notices.push_back(text.to_owned());
            }
            (Some("ReceiveMessage"), (Some(user), Some(text))) => {
                self.transcript.push((user.to_owned(), text.to_owned()));
                self.chats.push_back((user.to_owned(), text.to_owned()));
            }
            _ => panic!("{}: an unexpected invocation: {message}", self.id),
        }
    }
}
