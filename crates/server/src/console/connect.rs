//! A WebSocket, as it is.

use std::borrow::Cow;
use std::io::ErrorKind;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hubcast_tls::{Stream, TlsError};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::Console;
use super::args::ConnectArgs;
use super::input::Lines;
use super::screen::Screen;
use super::socket::Address;
use super::text::{one_line, several_lines};

type Socket = WebSocketStream<Box<dyn Stream>>;

/// How long connecting may take, and the server's answer to a close.
const CONNECTING: Duration = Duration::from_secs(15);
const CLOSING: Duration = Duration::from_secs(5);

/// The most bytes of a message that is shown.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// The most bytes of a server's refusal that are shown.
const LONGEST_TOLD: usize = 300;

/// The line that closes.
const EXIT: &str = "exit";

/// Connects, sends lines, shows messages, and closes.
pub(super) async fn run(console: &mut Console, args: &ConnectArgs) -> anyhow::Result<()> {
    let (address, request) = target(&args.url)?;
    let opened = tokio::select! {
        opened = timeout(CONNECTING, open(&address, request)) => opened,
        left = console.left() => {
            left?;
            bail!("stopped before there was a connection");
        }
    };
    let socket =
        opened.map_err(|_| anyhow!("{address} did not answer within {CONNECTING:?}"))??;
    let screen = console.screen.clone();
    if screen.is_interactive {
        let url = one_line(&args.url);
        screen
            .note(&format!("connected to {url}; `{EXIT}` or Ctrl-D closes"))
            .await;
    }
    let (mut sink, stream) = socket.split();
    let mut receiving = pin!(receive(stream, &screen));
    let lines = console.read("> ".to_owned());
    let refused = tokio::select! {
        ended = &mut receiving => return ended?.into_outcome(&screen, false).await,
        refused = send(lines, &mut sink, &screen) => refused,
        left = console.left() => {
            left?;
            0
        }
    };
    let close = async {
        let frame = CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        };
        // Fails where the server has closed meanwhile, which is then read.
        let _ = sink.send(Message::Close(Some(frame))).await;
    };
    let closed = async { tokio::join!(close, &mut receiving).1 };
    let ended = tokio::select! {
        ended = timeout(CLOSING, closed) => ended,
        left = console.left() => return left,
    };
    let ended = ended.map_err(|_| anyhow!("the server did not close within {CLOSING:?}"))?;
    ended?.into_outcome(&screen, true).await?;
    ensure!(
        refused == 0,
        "{refused} of the lines were not sent; see above"
    );
    Ok(())
}

/// Where to ask, and the request for a WebSocket.
fn target(url: &str) -> anyhow::Result<(Address, Request)> {
    let example = "write a URL such as ws://127.0.0.1:8080/path";
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    // In capital letters it means the same, but not to everybody.
    let scheme = scheme.to_lowercase();
    let tls = match &*scheme {
        "ws" => false,
        "wss" => true,
        _ => bail!("the URL of a WebSocket begins with ws:// or wss://: {example}"),
    };
    let request = format!("{scheme}://{rest}")
        .into_client_request()
        .with_context(|| format!("this is no URL: {example}"))?;
    let uri = request.uri();
    let host = uri.host().unwrap_or_default();
    ensure!(!host.is_empty(), "this URL has no host: {example}");
    let port = uri.port_u16();
    let authority = port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let is_whole = uri.authority().is_some_and(|it| it.as_str() == authority);
    ensure!(
        is_whole,
        "between :// and the path stand a host and a port from 1 to 65535, no more: {example}"
    );
    Ok((Address::new(tls, host, port), request))
}

async fn open(address: &Address, request: Request) -> anyhow::Result<Socket> {
    let socket = address.open().await.map_err(|error| {
        let hint = match error.downcast_ref() {
            Some::<&TlsError>(_) => "",
            None => "; is a server running there?",
        };
        anyhow!("cannot connect to {address}: {error}{hint}")
    })?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    match client_async_with_config(request, socket, Some(config)).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(answer)) => bail!(
            "{address} did not switch to WebSockets, but answered with the status {}",
            refusal(
                answer.status().as_u16(),
                answer.body().as_deref().unwrap_or_default()
            )
        ),
        Err(error) => {
            let error = error.to_string();
            bail!(
                "{address} did not switch to WebSockets ({}); is it a WebSocket server?",
                one_line(&error)
            )
        }
    }
}

/// A status, and what the server says of it, or what can be done about it: whoever is told what is wrong need not look elsewhere.
fn refusal(status: u16, body: &[u8]) -> String {
    match (status, told(body)) {
        (404, Some(text)) => format!("404 ({text}); check the path of the URL"),
        (status, Some(text)) => format!("{status} ({text})"),
        (status, None) => format!("{status}; check the path of the URL"),
    }
}

/// The text of an answer, if there is one that people can read: a short one, and no page.
fn told(body: &[u8]) -> Option<Cow<'_, str>> {
    let text = str::from_utf8(body).ok()?.trim();
    let is_told = (1..=LONGEST_TOLD).contains(&text.len()) && !text.starts_with('<');
    is_told.then(|| one_line(text))
}

/// Sends lines up to the end, or to the one that closes. Returns how many could not be taken.
async fn send(mut lines: Lines, sink: &mut SplitSink<Socket, Message>, screen: &Screen) -> usize {
    let mut refused = 0;
    while let Some(line) = lines.recv().await {
        match line {
            Ok(line) if line == EXIT => break,
            // A connection that has ended tells why where it is read.
            Ok(line) => drop(sink.send(Message::text(line)).await),
            Err(error) => {
                let text = format!("not sent: {error}");
                screen.trouble(&text).await;
                refused += 1;
            }
        }
    }
    refused
}

/// How the server ended the connection: its close frame may have nothing in it.
struct Closed(Option<CloseFrame>);

/// Shows messages until the server closes.
async fn receive(mut stream: SplitStream<Socket>, screen: &Screen) -> anyhow::Result<Closed> {
    let mut closed = None;
    while let Some(message) = stream.next().await {
        match message {
            Ok(Message::Text(text)) if screen.is_terminal => {
                screen.line(several_lines(&text).into_owned()).await;
            }
            Ok(Message::Text(text)) => screen.line(text.to_string()).await,
            Ok(Message::Binary(bytes)) => {
                screen
                    .line(format!("<binary, {} bytes>", bytes.len()))
                    .await;
            }
            Ok(Message::Close(frame)) => {
                closed = Some(Closed(frame));
                // Reading on sends the answer. The server hangs up then, or is not waited for.
                let _ = timeout(CLOSING, stream.next()).await;
                break;
            }
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
            // With TLS, what ends without a word does so like this.
            Err(Error::Io(error)) if error.kind() == ErrorKind::UnexpectedEof => break,
            Err(error) => {
                let error = error.to_string();
                bail!("the connection is lost: {}", one_line(&error));
            }
        }
    }
    closed.context("the connection ended without a close frame from the server")
}

impl Closed {
    /// Tells how it was closed, and whether that is as it should be.
    async fn into_outcome(self, screen: &Screen, by_us: bool) -> anyhow::Result<()> {
        let (code, text) = match self.0 {
            None => (None, "without a code".to_owned()),
            Some(CloseFrame { code, reason }) => {
                let number = u16::from(code);
                let reason = one_line(&reason);
                let text = match &*reason {
                    "" => format!("with {number}"),
                    reason => format!("with {number}: {reason}"),
                };
                (Some(code), text)
            }
        };
        if by_us || code == Some(CloseCode::Normal) {
            screen.note(&format!("closed {text}")).await;
            return Ok(());
        }
        bail!("the server closed the connection {text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_told_what_is_wrong_is_given_no_other_advice() {
        let path = "; check the path of the URL";
        for (status, body, text) in [
            (404, &b""[..], format!("404{path}")),
            (404, b"no such room", format!("404 (no such room){path}")),
            (400, b" no\nname ", "400 (no⏎name)".to_owned()),
            (400, b"<html>", format!("400{path}")),
            (403, b"\xff", format!("403{path}")),
        ] {
            assert_eq!(refusal(status, body), text);
        }
    }

    #[test]
    fn a_scheme_may_be_in_capital_letters() {
        for (url, with) in [
            ("WS://Host/Path?A", "Host:80"),
            ("Wss://Host/Path?A", "Host:443"),
        ] {
            let (address, request) = target(url).unwrap();
            assert_eq!(address.to_string(), with, "{url}");
            assert_eq!(request.uri().path_and_query().unwrap(), "/Path?A", "{url}");
        }
        for wrong in ["HTTP://host/", "ws:/host", "://host", ""] {
            let error = target(wrong).unwrap_err().to_string();
            assert!(error.contains("begins with ws://"), "{wrong}: {error}");
        }
    }
}
