//! A raw WebSocket to the hub, for tests that send what no proper client would, or do not read what they get.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::http::authority;
use crate::wait::{DEADLINE, within};

/// Ends every hub message in JSON.
pub const RECORD_SEPARATOR: char = '\u{1e}';

/// The handshake request of a client that speaks JSON.
pub const HANDSHAKE: &str = "{\"protocol\":\"json\",\"version\":1}\u{1e}";

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct End {
    /// The hub's Close message, if there was one.
    pub close: Option<Value>,
    /// The code in the WebSocket's close frame; `None` if the connection broke off without one.
    pub code: Option<u16>,
}

/// An open WebSocket, on which nothing happens by itself.
pub struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    /// Opens `/chatHub` at a base address, with the connection token of a negotiation or without negotiation.
    /// The error is the status with which the server refused.
    pub async fn open(base: &str, token: Option<&str>) -> Result<Self, u16> {
        let path = token.map_or_else(
            || String::from("/chatHub"),
            |token| format!("/chatHub?id={}", encode(token)),
        );
        Self::open_with(base, &path, &[]).await
    }

    /// Opens any path, with further request headers.
    pub async fn open_with(
        base: &str,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, u16> {
        let stream = within(
            DEADLINE,
            "a TCP connection",
            TcpStream::connect(authority(base)),
        )
        .await;
        let stream = stream.unwrap_or_else(|error| panic!("{base}: {error}"));
        Self::upgrade(stream, base, path, headers).await
    }

    /// Opens any path of a server that may have gone: `None` if it has, or goes meanwhile.
    pub async fn open_if_there(base: &str, path: &str) -> Option<Self> {
        let opening = async {
            let stream = TcpStream::connect(authority(base)).await.ok()?;
            let url = format!("ws://{}{path}", authority(base));
            let (socket, _) = client_async(url, stream).await.ok()?;
            Some(Self(socket))
        };
        within(DEADLINE, "a WebSocket, or none", opening).await
    }

    /// Opens `/chatHub` without negotiation on a connection for which the system buffers as little as it can at this end.
    pub async fn open_narrow(base: &str) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket
            .set_recv_buffer_size(4096)
            .expect("a receive buffer may be small");
        let stream = socket
            .connect(authority(base).parse().expect("an address"))
            .await
            .expect("the server accepts");
        Self::upgrade(stream, base, "/chatHub", &[])
            .await
            .expect("the server upgrades")
    }

    async fn upgrade(
        stream: TcpStream,
        base: &str,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, u16> {
        let mut request = format!("ws://{}{path}", authority(base))
            .into_client_request()
            .expect("a valid address");
        for (name, value) in headers {
            let value = HeaderValue::from_str(value).expect("a valid value");
            request
                .headers_mut()
                .insert(HeaderName::from_static(name), value);
        }
        match within(
            DEADLINE,
            "the answer to a WebSocket upgrade",
            client_async(request, stream),
        )
        .await
        {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{base}{path}: {error}"),
        }
    }

    /// Opens `/chatHub` without negotiation and completes the handshake.
    pub async fn shaken(base: &str) -> Self {
        let mut socket = Self::open(base, None)
            .await
            .unwrap_or_else(|status| panic!("{base} refused with {status}"));
        socket.shake().await;
        socket
    }

    /// Completes the handshake, and fails the test if the server does not.
    pub async fn shake(&mut self) {
        self.send(HANDSHAKE).await;
        assert_eq!(
            self.records().await,
            [serde_json::json!({})],
            "the answer to a handshake request"
        );
    }

    /// Sends a WebSocket message: a text, or any [`Message`].
    pub async fn send(&mut self, message: impl Into<Message>) {
        self.try_send(message)
            .await
            .unwrap_or_else(|error| panic!("sending on a WebSocket: {error}"));
    }

    /// The same where the server may have closed the connection already.
    pub async fn try_send(&mut self, message: impl Into<Message>) -> Result<(), Error> {
        within(
            DEADLINE,
            "sending on a WebSocket",
            self.0.send(message.into()),
        )
        .await
    }

    /// Sends bytes below the WebSocket, such as frames that no proper client makes. The server may not want them all.
    pub async fn send_raw(&mut self, bytes: &[u8]) {
        let _ = within(
            DEADLINE,
            "sending raw bytes",
            self.0.get_mut().write_all(bytes),
        )
        .await;
    }

    /// The hub messages in the next WebSocket message.
    pub async fn records(&mut self) -> Vec<Value> {
        match within(DEADLINE, "the next WebSocket message", self.0.next()).await {
            Some(Ok(message)) => records(&message),
            other => panic!("instead of a message: {other:?}"),
        }
    }

    /// Reads everything up to the end: all hub messages, pings left out, and how the connection ended.
    pub async fn rest(mut self) -> (Vec<Value>, End) {
        self.rest_within(DEADLINE).await
    }

    /// The same for an end that takes its time.
    pub async fn rest_within(&mut self, limit: Duration) -> (Vec<Value>, End) {
        let (mut all, mut end) = (Vec::new(), End::default());
        let reading = async {
            while let Some(Ok(message)) = self.0.next().await {
                if let Message::Close(frame) = &message {
                    end.code = frame.as_ref().map(|frame| frame.code.into());
                }
                all.extend(
                    records(&message)
                        .into_iter()
                        .filter(|record| record["type"] != 6),
                );
            }
        };
        let ended = timeout(limit, reading).await.is_ok();
        assert!(
            ended,
            "a WebSocket did not end within {limit:?}; it received {all:?} and the close code {:?}",
            end.code
        );
        end.close = all.iter().find(|record| record["type"] == 7).cloned();
        (all, end)
    }

    /// The WebSocket itself.
    pub fn into_inner(self) -> WebSocketStream<TcpStream> {
        self.0
    }
}

/// The hub messages in a WebSocket message; none in control frames.
///
/// # Panics
/// If the server split a hub message over two WebSocket messages, or sent JSON in a binary frame: stock clients fail on both.
pub fn records(message: &Message) -> Vec<Value> {
    match message {
        Message::Text(text) => {
            let text = text.as_str();
            assert!(
                text.ends_with(RECORD_SEPARATOR),
                "a WebSocket message ends in the middle of a hub message: {text:?}"
            );
            let parse = |record| {
                serde_json::from_str(record).unwrap_or_else(|error| panic!("{error} in {record:?}"))
            };
            text.split_terminator(RECORD_SEPARATOR).map(parse).collect()
        }
        Message::Binary(bytes) => panic!("a binary frame for a client that speaks JSON: {bytes:?}"),
        _ => Vec::new(),
    }
}

/// A token as it may stand in a query, whatever characters the server makes tokens of.
fn encode(token: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    token
        .bytes()
        .map(|byte| {
            if plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}
