//! The hub protocol on one WebSocket: handshake, both directions side by side, and the end.

mod read;
mod write;

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt};
use hubcast_protocol::Encoding;
use hubcast_protocol::framing::Records;
use hubcast_protocol::handshake::{HandshakeRequest, parse_response};
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::{Error, Message};

use self::read::{Reader, next_record, receive};
use self::write::{Writer, pump_all};
use crate::connector::{Opened, Socket};
use crate::error::{ConnectionError, StartError};
use crate::handlers::Job;
use crate::lifecycle::Stop;
use crate::queue;
use crate::session::{Outgoing, Session};

/// How long a server may take to hang up after a goodbye, as long as ASP.NET Core gives its clients.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a server that misbehaves is waited for until it has our close frame, and one that takes nothing more until it has
/// said why.
const FAREWELL: Duration = Duration::from_secs(1);

/// What both sides keep to.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) encoding: Encoding,
    pub(crate) keep_alive_interval: Duration,
    pub(crate) server_timeout: Duration,
    pub(crate) handshake_timeout: Duration,
    pub(crate) max_message_size: usize,
}

/// A WebSocket that is through its handshake.
pub(crate) struct Wire {
    pub(crate) session: Arc<Session>,
    pub(crate) connection_id: Option<Arc<str>>,
    socket: Socket,
    records: Records,
    outgoing: queue::Receiver<Outgoing>,
}

/// How a connection ended.
#[derive(Debug)]
pub(crate) enum End {
    /// We wanted it to.
    Stopped,
    /// The server closed it for good.
    Closed(Option<ConnectionError>),
    /// It was lost, or the server wants us to come back.
    Lost(Option<ConnectionError>),
}

impl End {
    pub(crate) fn error(&self) -> Option<&ConnectionError> {
        match self {
            Self::Stopped => None,
            Self::Closed(error) | Self::Lost(error) => error.as_ref(),
        }
    }
}

impl Wire {
    /// Shakes hands on a new WebSocket.
    pub(crate) async fn shake(opened: Opened, settings: &Settings) -> Result<Self, StartError> {
        let Opened {
            mut socket,
            connection_id,
        } = opened;
        let limit = settings.handshake_timeout;
        let shaking = timeout(limit, handshake(&mut socket, settings)).await;
        let records = shaking.unwrap_or(Err(StartError::TimedOut {
            step: "handshake",
            limit,
        }))?;
        let (session, outgoing) = Session::new(settings.encoding);
        Ok(Self {
            session,
            connection_id,
            socket,
            records,
            outgoing,
        })
    }

    /// Carries the connection to its end. Calls of the server become jobs.
    pub(crate) async fn run(
        self,
        settings: &Settings,
        jobs: &queue::Sender<Job>,
        stop: &mut Stop,
    ) -> End {
        let session = self.session;
        let (mut sink, stream) = self.socket.split();
        let (pumps, new_pumps) = unbounded_channel();
        let reader = Reader {
            stream,
            records: self.records,
            session: &session,
            jobs,
            settings,
        };
        let writer = Writer {
            sink: &mut sink,
            outgoing: self.outgoing,
            pumps,
            settings,
        };
        let writing = async {
            let error = writer.run().await;
            // A server that hangs up has often said why, and that is still to be read.
            sleep(FAREWELL).await;
            error
        };
        let stopping = async {
            stop.requested().await;
            session.leave();
            sleep(CLOSE_TIMEOUT).await;
        };
        let end = tokio::select! {
            end = reader.run() => end,
            error = writing => End::Lost(Some(error)),
            never = pump_all(new_pumps) => match never {},
            () = stopping => End::Stopped,
        };
        if stop.is_requested() {
            return End::Stopped;
        }
        // Before the farewell, so that nobody waits for that.
        session.end(end.error());
        if !matches!(
            end.error(),
            Some(ConnectionError::Ended | ConnectionError::WebSocket(_))
        ) {
            let _ = timeout(FAREWELL, sink.close()).await;
        }
        end
    }
}

/// Says which encoding is to be spoken, and reads the answer. Gives what came behind it.
async fn handshake(socket: &mut Socket, settings: &Settings) -> Result<Records, StartError> {
    let encoding = settings.encoding;
    let request = HandshakeRequest {
        protocol: encoding.name().into(),
        version: 1,
    };
    let request = message(encoding, request.to_bytes());
    let sent = socket.send(request).await;
    sent.map_err(|error| StartError::Handshake(lost(error, settings)))?;
    let mut records = Records::new();
    loop {
        let record = next_record(&mut records, settings).map_err(StartError::Handshake)?;
        if let Some(record) = record {
            let answer = parse_response(&record)
                .map_err(|error| StartError::Handshake(ConnectionError::InvalidMessage(error)))?;
            if let Some(error) = answer {
                return Err(StartError::HandshakeRefused(error.into_owned()));
            }
            records.switch_to(encoding);
            return Ok(records);
        }
        let bytes = receive(socket, settings).await;
        records.push(BytesMut::from(bytes.map_err(StartError::Handshake)?));
    }
}

/// A hub message, or several, as the encoding wants them on a WebSocket.
fn message(encoding: Encoding, bytes: Vec<u8>) -> Message {
    if encoding.is_binary() {
        return Message::binary(bytes);
    }
    match String::from_utf8(bytes) {
        Ok(text) => Message::text(text),
        // Cannot be: JSON is UTF-8. Servers take it in a binary frame, too.
        Err(error) => Message::binary(error.into_bytes()),
    }
}

/// What a failure of the WebSocket means to the connection.
fn lost(error: Error, settings: &Settings) -> ConnectionError {
    match error {
        Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => ConnectionError::Ended,
        // The same with TLS, which has an end of its own.
        Error::Io(error) if error.kind() == ErrorKind::UnexpectedEof => ConnectionError::Ended,
        Error::Capacity(CapacityError::MessageTooLong { .. }) => ConnectionError::TooLarge {
            limit: settings.max_message_size,
        },
        other => ConnectionError::WebSocket(other.to_string()),
    }
}
