//! WebSockets (RFC 6455): frames to bytes, and an outbox to frames.
//!
//! Tungstenite reads: masks, fragments, UTF-8, control frames, limits. It works on bytes lent to it and owns no
//! socket. What goes out is framed already and leaves through the outbox, so data and control frames cannot cut
//! into each other, and everything that waits leaves in one vectored write.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig, WebSocketContext};

use crate::close_reason::CloseReason;
use crate::connection::Connection;
use crate::frame::Frame;
use crate::options::HubOptions;
use crate::pipe::Pipe;

/// The most bytes of one WebSocket message, unless one hub message may be larger. It may hold many hub messages, each of them bounded by its own,
/// smaller limit; a whole WebSocket message must fit into memory before it is passed on, hence this one.
const MAX_MESSAGE: usize = 1024 * 1024;

/// How much is read from a socket at once, into memory that belongs to the thread and not to the connection.
const SCRATCH: usize = 64 * 1024;

/// What an engine keeps to read into while a frame is incomplete: small, because an idle connection has it, too.
const ENGINE_BUFFER: usize = 256;

thread_local! {
    static SCRATCH_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH]);
}

/// How a socket ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carried {
    /// With its connection.
    Over,
    /// Without a word, and the connection can go on on another.
    Lost,
}

/// Carries bytes between a socket and a connection until both are done with each other.
///
/// `early` is what the client sent right behind its request. Returns when the socket can be dropped, which a client
/// that does not read can put off for ever: whoever calls this bounds it once the handler is done.
pub(crate) async fn run<S>(
    mut socket: S,
    early: &[u8],
    connection: &Connection,
    input: &Pipe,
    options: &HubOptions,
) -> Carried
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut pump = Pump {
        engine: Engine::new(options.maximum_receive_message_size),
        arrived: BytesMut::new(),
        input_ended: false,
        connection,
        input,
    };
    pump.feed(early);
    let written = poll_fn(|context| pump.poll(context, &mut socket)).await;
    if written.is_err() && connection.is_resumable() {
        return Carried::Lost;
    }
    if written.is_err() {
        // There is nobody left to write to.
        input.end(CloseReason::ConnectionLost);
        connection.end(CloseReason::ConnectionLost);
        connection.outbox.kill();
        return Carried::Over;
    }
    if let Err(error) = part(socket, connection).await {
        tracing::debug!(%error, "a client did not wait for the end");
    }
    Carried::Over
}

/// The close handshake. Our half goes out with an end of the stream right behind it, and whatever the peer still
/// sends is read and dropped until it hangs up: closing a socket that has unread data would reset it, and could
/// take the last messages from the peer.
async fn part<S>(mut socket: S, connection: &Connection) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let code = connection
        .end_reason()
        .map_or(1000, CloseReason::websocket_code);
    let goodbye = Frame::websocket_close(code);
    socket.write_all(goodbye.websocket()).await?;
    socket.shutdown().await?;
    poll_fn(|context| {
        loop {
            match poll_read(context, &mut socket, <[u8]>::len)? {
                Poll::Ready(0) => return Poll::Ready(Ok(())),
                Poll::Ready(_) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}

/// Reads into the thread's scratch buffer and shows what came; an empty slice is the end.
fn poll_read<S: AsyncRead + Unpin, T>(
    context: &mut Context<'_>,
    socket: &mut S,
    show: impl FnOnce(&[u8]) -> T,
) -> io::Result<Poll<T>> {
    SCRATCH_BUFFER.with_borrow_mut(|scratch| {
        let mut buffer = ReadBuf::new(scratch);
        match Pin::new(socket).poll_read(context, &mut buffer) {
            Poll::Ready(Ok(())) => Ok(Poll::Ready(show(buffer.filled()))),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Ok(Poll::Pending),
        }
    })
}

struct Pump<'a> {
    engine: Engine,
    /// Bytes that have arrived and that the pipe had no room for; while there are any, nothing is read.
    arrived: BytesMut,
    input_ended: bool,
    connection: &'a Connection,
    input: &'a Pipe,
}

impl Pump<'_> {
    /// Writes and reads as much as can be. Ready when all has been written that ever will be.
    fn poll<S>(&mut self, context: &mut Context<'_>, socket: &mut S) -> Poll<io::Result<()>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        loop {
            let written = self.connection.outbox.poll_write_to(context, socket)?;
            if written.is_ready() {
                return Poll::Ready(Ok(()));
            }
            if self.input_ended
                || self
                    .input
                    .poll_write(context, &mut self.arrived)
                    .is_pending()
            {
                return Poll::Pending;
            }
            // Only now: whole messages that came before the end count.
            if let Some(reason) = self.engine.end.take() {
                self.end_input(reason);
                continue;
            }
            match poll_read(context, socket, |bytes| {
                self.feed(bytes);
                bytes.len()
            })? {
                Poll::Ready(0) if self.connection.is_resumable() => {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                Poll::Ready(0) => self.end_input(CloseReason::ConnectionLost),
                Poll::Ready(_) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        if let Some(control) = self.engine.feed(bytes, &mut self.arrived) {
            self.connection.send(control);
        }
        if self.engine.end.is_some() {
            // A goodbye, or an offence, is no lost network.
            self.connection.forgo_resumption();
        }
    }

    fn end_input(&mut self, reason: CloseReason) {
        self.input_ended = true;
        self.input.end(reason);
    }
}

/// A WebSocket without a socket.
struct Engine {
    websocket: WebSocketContext,
    /// Set when nothing more can come.
    end: Option<CloseReason>,
}

impl Engine {
    /// `hub_limit` is that of one hub message, which a WebSocket message must be able to hold.
    fn new(hub_limit: Option<usize>) -> Self {
        let limit = hub_limit.map(|limit| limit.saturating_add(1).max(MAX_MESSAGE));
        let config = WebSocketConfig::default()
            .read_buffer_size(ENGINE_BUFFER)
            .write_buffer_size(0)
            .max_message_size(limit)
            .max_frame_size(limit);
        Self {
            websocket: WebSocketContext::new(Role::Server, Some(config)),
            end: None,
        }
    }

    /// Takes bytes of the socket, appends the messages in them to `out`, and returns what must be answered by the
    /// WebSocket itself, such as a pong.
    fn feed(&mut self, bytes: &[u8], out: &mut BytesMut) -> Option<Frame> {
        let mut lent = Lent {
            input: bytes,
            output: Vec::new(),
        };
        while self.end.is_none() {
            match self.websocket.read(&mut lent) {
                Ok(Message::Text(text)) => out.extend_from_slice(text.as_bytes()),
                Ok(Message::Binary(bytes)) => out.extend_from_slice(&bytes),
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                // What the engine makes of a code that may not be sent (RFC 6455, section 7.4).
                Ok(Message::Close(Some(close)))
                    if close.code == CloseCode::Protocol
                        && close.reason.as_str() == "Protocol violation" =>
                {
                    self.end = Some(CloseReason::WebSocketError(1002));
                }
                // The answer is ours to give once everything before it has been written, so the engine is not
                // asked to go on.
                Ok(Message::Close(_)) => self.end = Some(CloseReason::ClientLeft),
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => self.end = Some(reason_for(&error)),
            }
        }
        (!lent.output.is_empty()).then(|| Frame::control(lent.output))
    }
}

fn reason_for(error: &Error) -> CloseReason {
    match error {
        // Larger than any hub message may be, so told like one that is too large.
        Error::Capacity(_) => CloseReason::ProtocolError(
            "The maximum message size was exceeded. The message size can be configured in AddHubOptions."
                .to_owned(),
        ),
        Error::Utf8(_) => CloseReason::WebSocketError(1007),
        Error::ConnectionClosed | Error::AlreadyClosed => CloseReason::ClientLeft,
        _ => CloseReason::WebSocketError(1002),
    }
}

/// Bytes lent to the engine for one call, and what it wants to say.
struct Lent<'a> {
    input: &'a [u8],
    output: Vec<u8>,
}

impl Read for Lent<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.input.read(buffer)
    }
}

impl Write for Lent<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
