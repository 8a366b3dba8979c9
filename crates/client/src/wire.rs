//! The hub protocol on one WebSocket: handshake, reading, writing, pings, and the end.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{FuturesUnordered, SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hubcast_protocol::framing::{FramingError, Records};
use hubcast_protocol::handshake::{HandshakeRequest, parse_response};
use hubcast_protocol::{CompletionPayload, Encoding, HubMessage, StreamItem, Value};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::connector::{Opened, Socket};
use crate::error::{ConnectionError, InvokeError, StartError};
use crate::handlers::Job;
use crate::lifecycle::Stop;
use crate::queue::{self, Room};
use crate::session::{Outgoing, Pump, Session};

/// How long a server may take to hang up after a goodbye, as long as ASP.NET Core gives its clients.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a server that misbehaves is waited for until it has our close frame, and one that takes nothing more until it has
/// said why.
const FAREWELL: Duration = Duration::from_secs(1);

/// How much is put together before it is written.
const BATCH: usize = 64 * 1024;

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

/// The next bytes of hub messages.
async fn receive(
    stream: &mut (impl StreamExt<Item = Result<Message, Error>> + Unpin),
    settings: &Settings,
) -> Result<Bytes, ConnectionError> {
    loop {
        match stream.next().await {
            Some(Ok(Message::Text(text))) => return Ok(text.into()),
            Some(Ok(Message::Binary(bytes))) => return Ok(bytes),
            Some(Ok(Message::Close(_))) | None => return Err(ConnectionError::Ended),
            // Signs of life of the WebSocket, not of the hub.
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(lost(error, settings)),
        }
    }
}

fn lost(error: Error, settings: &Settings) -> ConnectionError {
    match error {
        Error::ConnectionClosed | Error::AlreadyClosed => ConnectionError::Ended,
        Error::Capacity(CapacityError::MessageTooLong { .. }) => ConnectionError::TooLarge {
            limit: settings.max_message_size,
        },
        other => ConnectionError::WebSocket(other.to_string()),
    }
}

fn next_record(
    records: &mut Records,
    settings: &Settings,
) -> Result<Option<Bytes>, ConnectionError> {
    records
        .next(Some(settings.max_message_size))
        .map_err(|error| match error {
            FramingError::TooLarge { limit } => ConnectionError::TooLarge { limit },
            FramingError::Over2Gb => ConnectionError::TooLarge {
                limit: settings.max_message_size,
            },
        })
}

/// The reading half.
struct Reader<'a> {
    stream: SplitStream<Socket>,
    records: Records,
    session: &'a Arc<Session>,
    jobs: &'a queue::Sender<Job>,
    settings: &'a Settings,
}

impl Reader<'_> {
    async fn run(mut self) -> End {
        loop {
            match self.step().await {
                Ok(None) => {}
                Ok(Some(end)) => return end,
                Err(error) => return End::Lost(Some(error)),
            }
        }
    }

    /// Takes what has arrived, and waits for more.
    async fn step(&mut self) -> Result<Option<End>, ConnectionError> {
        while let Some(record) = next_record(&mut self.records, self.settings)? {
            if let Some(end) = self.dispatch(record).await? {
                return Ok(Some(end));
            }
        }
        // Begins only now: while handlers and streams were waited for, nobody listened to the server.
        let limit = self.settings.server_timeout;
        let receiving = receive(&mut self.stream, self.settings);
        let bytes = timeout(limit, receiving).await;
        let bytes = bytes.unwrap_or(Err(ConnectionError::ServerTimeout { limit }))?;
        self.records.push(BytesMut::from(bytes));
        Ok(None)
    }

    async fn dispatch(&mut self, record: Bytes) -> Result<Option<End>, ConnectionError> {
        let encoding = self.session.encoding;
        match encoding.parse(&record)? {
            // A copy, because the record keeps everything in memory that arrived with it.
            HubMessage::Invocation(_) => self.enqueue(Bytes::copy_from_slice(&record)).await?,
            HubMessage::StreamItem(item) => self.item(item).await,
            HubMessage::Completion(completion) => {
                let outcome = match completion.payload {
                    CompletionPayload::Result(value) => Ok(Some(value)),
                    CompletionPayload::Void => Ok(None),
                    CompletionPayload::Error(text) => Err(InvokeError::Server(text.into_owned())),
                };
                self.session.complete(&completion.invocation_id, outcome);
            }
            HubMessage::Close(close) => {
                let text = close.error.map(std::borrow::Cow::into_owned);
                let error = text.map(ConnectionError::ClosedByServer);
                return Ok(Some(if close.allow_reconnect {
                    End::Lost(error)
                } else {
                    End::Closed(error)
                }));
            }
            HubMessage::Ping => {}
            // Nothing that a server has to say to this client, and what only newer ones know.
            HubMessage::StreamInvocation(_)
            | HubMessage::CancelInvocation(_)
            | HubMessage::Ack { .. }
            | HubMessage::Sequence { .. }
            | HubMessage::Unknown { .. } => tracing::debug!("a message of the server is skipped"),
        }
        Ok(None)
    }

    /// Hands a call to the handlers. Nothing is read while there is no room for it.
    async fn enqueue(&self, record: Bytes) -> Result<(), ConnectionError> {
        let length = record.len();
        let job = Job {
            record,
            session: Arc::clone(self.session),
        };
        let limit = self.settings.server_timeout;
        match timeout(limit, self.jobs.send(job, length)).await {
            // An error cannot be: the handlers outlive the connection.
            Ok(_) => Ok(()),
            Err(_) => Err(ConnectionError::HandlersTooSlow { limit }),
        }
    }

    /// Hands an item to its stream. Nothing is read while there is no room for it.
    async fn item(&self, item: StreamItem<'_>) {
        let id = &*item.invocation_id;
        let Some(items) = self.session.items(id) else {
            return;
        };
        let limit = self.settings.server_timeout;
        let value: Value<'_> = item.item;
        match timeout(limit, items.room(value.as_bytes().len())).await {
            Ok(Ok(room)) => {
                if !items.item(value, room) {
                    self.session.cancel(id);
                }
            }
            Ok(Err(queue::Closed)) => {}
            Err(_) => self.session.fail_stream(id, InvokeError::NotRead { limit }),
        }
    }
}

/// The writing half.
struct Writer<'a> {
    sink: &'a mut SplitSink<Socket, Message>,
    outgoing: queue::Receiver<Outgoing>,
    pumps: UnboundedSender<Pump>,
    settings: &'a Settings,
}

impl Writer<'_> {
    async fn run(mut self) -> ConnectionError {
        let settings = self.settings;
        let Err(error) = self.write().await;
        lost(error, settings)
    }

    async fn write(&mut self) -> Result<Infallible, Error> {
        // From the first ping on a server holds a client to its time-out: the stock clients ping at once.
        self.ping().await?;
        loop {
            let due = Instant::now() + self.settings.keep_alive_interval;
            match timeout_at(due, self.outgoing.next()).await {
                Ok(Some(first)) => self.batch(first).await?,
                // Cannot be: the session is ours, and has the other end.
                Ok(None) => return std::future::pending().await,
                Err(_) => self.ping().await?,
            }
        }
    }

    async fn ping(&mut self) -> Result<(), Error> {
        let encoding = self.settings.encoding;
        let ping = message(encoding, encoding.ping().to_vec());
        self.sink.send(ping).await
    }

    /// Writes what waits, up to a limit, at once. Its room is free when it is written.
    async fn batch(&mut self, first: (Outgoing, Room)) -> Result<(), Error> {
        let (mut next, mut rooms, mut bytes) = (Some(first), Vec::new(), 0);
        while let Some((outgoing, room)) = next {
            rooms.push(room);
            bytes += self.feed(outgoing).await?;
            next = if bytes < BATCH {
                self.outgoing.ready()
            } else {
                None
            };
        }
        self.sink.flush().await
    }

    async fn feed(&mut self, outgoing: Outgoing) -> Result<usize, Error> {
        let encoding = self.settings.encoding;
        let bytes = match outgoing {
            Outgoing::Message(bytes) => bytes,
            Outgoing::Call(bytes, pumps) => {
                for pump in pumps {
                    let _ = self.pumps.send(pump);
                }
                bytes
            }
            Outgoing::Goodbye => {
                let mut close = Vec::new();
                encoding.write_close(&mut close, None, false);
                self.sink.feed(message(encoding, close)).await?;
                self.sink.close().await?;
                // What is left is to wait for the server to hang up.
                return std::future::pending().await;
            }
        };
        let length = bytes.len();
        self.sink.feed(message(encoding, bytes)).await?;
        Ok(length)
    }
}

/// Sends the streams of ours side by side.
async fn pump_all(mut new: UnboundedReceiver<Pump>) -> Infallible {
    let mut running = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(pump) = new.recv() => running.push(pump.run()),
            Some(()) = running.next() => {}
            else => return std::future::pending().await,
        }
    }
}
