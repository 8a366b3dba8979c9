//! A worker of the task centre without SignalR.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::socket::Socket;
use crate::wait::{DEADLINE, within};

/// A task as it is in a queue.
pub fn task(name: &str, kind: i64) -> String {
    json!({"TaskName": name, "TaskType": kind}).to_string()
}

/// A raw WebSocket at `/push`.
pub struct RawWorker(WebSocketStream<TcpStream>);

impl RawWorker {
    /// Comes to a server, and says who it is: an id, or JSON with more.
    pub async fn join(base: &str, who: &str) -> Self {
        Self::join_at(base, "/push", who).await
    }

    /// The same for a worker that says when it is done.
    pub async fn join_to_answer(base: &str, who: &str) -> Self {
        Self::join_at(base, "/push?ack=done", who).await
    }

    /// Comes to a path of a server that may have gone: `None` if it has.
    pub async fn join_if_there(base: &str, path: &str, who: &str) -> Option<Self> {
        let socket = Socket::open_if_there(base, path).await?;
        let mut worker = Self(socket.into_inner());
        worker.say(who).await;
        Some(worker)
    }

    async fn join_at(base: &str, path: &str, who: &str) -> Self {
        let socket = Socket::open_with(base, path, &[]).await;
        let socket = socket.unwrap_or_else(|status| panic!("{base}{path} refused with {status}"));
        let mut worker = Self(socket.into_inner());
        worker.say(who).await;
        worker
    }

    /// Sends a text.
    pub async fn say(&mut self, text: &str) {
        self.send(Message::text(text)).await;
    }

    /// Sends any message; the server may have gone.
    pub async fn send(&mut self, message: Message) {
        let _ = within(DEADLINE, "sending as a worker", self.0.send(message)).await;
    }

    /// The next text, which has to come in time.
    pub async fn hears(&mut self) -> String {
        match within(DEADLINE, "a text for a worker", self.next()).await {
            Ok(text) => text,
            Err(end) => panic!("instead of a text: {end:?}"),
        }
    }

    /// The next text as JSON.
    pub async fn hears_json(&mut self) -> Value {
        let text = self.hears().await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// The next text, or the code and the reason with which the server closed, if it did.
    pub async fn next(&mut self) -> Result<String, Option<(u16, String)>> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => return Ok(text.as_str().to_owned()),
                Some(Ok(Message::Close(frame))) => {
                    let end = frame.map(|frame| (frame.code.into(), frame.reason.to_string()));
                    return Err(end);
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(None),
            }
        }
    }

    /// How the server closes, which it has to in time, and without another text.
    pub async fn ends(&mut self) -> Option<(u16, String)> {
        match within(DEADLINE, "the end of a worker", self.next()).await {
            Ok(text) => panic!("instead of an end: {text}"),
            Err(end) => end,
        }
    }
}
