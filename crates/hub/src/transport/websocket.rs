//! WebSockets (RFC 6455): frames to bytes, and an outbox to frames.
//!
//! What comes in is taken apart where it was read ([`FrameReader`]), in memory that belongs to the thread. What goes out
//! is framed already and leaves through the outbox, so data and control frames cannot cut into each other, and everything that waits leaves
//! in one vectored write.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use hubcast_websocket::{Event, FrameReader, Unread};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;

use crate::close_reason::CloseReason;
use crate::connection::Connection;
use crate::frame::Frame;
use crate::pipe::Pipe;

/// How much is read from a socket at once, into memory that belongs to the thread and not to the connection.
const SCRATCH: usize = 64 * 1024;

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
    early: Option<Box<[u8]>>,
    connection: &Connection,
    input: &Pipe,
) -> Carried
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match pump(&mut socket, early, connection, input).await {
        // In boxes of their own, here and below: the end should not make every connection larger.
        Ok(()) => Box::pin(part(socket, connection)).await,
        Err(_) if connection.is_resumable() => return Carried::Lost,
        Err(_) => give_up(connection, input),
    }
    Carried::Over
}

/// There is nobody left to write to.
fn give_up(connection: &Connection, input: &Pipe) {
    input.end(CloseReason::ConnectionLost);
    connection.end(CloseReason::ConnectionLost);
    connection.outbox.kill();
}

/// Carries bytes until all has been written that ever will be.
fn pump<'a, S>(
    socket: &'a mut S,
    early: Option<Box<[u8]>>,
    connection: &'a Connection,
    input: &'a Pipe,
) -> impl Future<Output = io::Result<()>> + 'a
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut pump = Pump {
        reader: FrameReader::default(),
        arrived: BytesMut::new(),
        end: None,
        input_ended: false,
        connection,
        input,
    };
    if let Some(mut early) = early {
        pump.feed(&mut early);
    }
    poll_fn(move |context| pump.poll(context, socket))
}

/// A socket that [writers](crate::writers) share: they write what others send.
pub(crate) struct SharedSocket {
    reader: OwnedReadHalf,
    connection: Arc<Connection>,
}

impl SharedSocket {
    pub(crate) fn new(socket: TcpStream, connection: Arc<Connection>) -> Self {
        let (reader, writer) = socket.into_split();
        connection.outbox.share(writer);
        Self { reader, connection }
    }
}

impl SharedSocket {
    /// Tries to write, and waits until the socket takes more if it does not.
    fn poll_try(
        &self,
        context: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let socket = self.reader.as_ref();
        loop {
            ready!(socket.poll_write_ready(context))?;
            match write(socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

impl Drop for SharedSocket {
    fn drop(&mut self) {
        // The connection may be known for longer.
        self.connection.outbox.unshare();
    }
}

impl AsyncRead for SharedSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(context, buffer)
    }
}

impl AsyncWrite for SharedSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_try(context, |socket| socket.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_try(context, |socket| socket.try_write_vectored(slices))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.outbox.unshare();
        Poll::Ready(Ok(()))
    }
}

/// The close handshake. Our half goes out with an end of the stream right behind it, and whatever the peer still
/// sends is read and dropped until it hangs up: closing a socket that has unread data would reset it, and could
/// take the last messages from the peer.
async fn part<S>(mut socket: S, connection: &Connection)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let code = connection
        .end_reason()
        .map_or(1000, CloseReason::websocket_code);
    let parted = async {
        let goodbye = Frame::websocket_close(code);
        socket.write_all(goodbye.websocket()).await?;
        socket.shutdown().await?;
        poll_fn(|context| {
            loop {
                match poll_read(context, &mut socket, |bytes| bytes.len())? {
                    Poll::Ready(0) => return Poll::Ready(io::Result::Ok(())),
                    Poll::Ready(_) => {}
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    };
    if let Err(error) = parted.await {
        tracing::debug!(%error, "a client did not wait for the end");
    }
}

/// Reads into the thread's scratch buffer and shows what came; an empty slice is the end.
fn poll_read<S: AsyncRead + Unpin, T>(
    context: &mut Context<'_>,
    socket: &mut S,
    show: impl FnOnce(&mut [u8]) -> T,
) -> io::Result<Poll<T>> {
    SCRATCH_BUFFER.with_borrow_mut(|scratch| {
        let mut buffer = ReadBuf::new(scratch);
        match Pin::new(socket).poll_read(context, &mut buffer) {
            Poll::Ready(Ok(())) => Ok(Poll::Ready(show(buffer.filled_mut()))),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Ok(Poll::Pending),
        }
    })
}

struct Pump<'a> {
    reader: FrameReader,
    /// Bytes that have arrived and that the pipe had no room for; while there are any, nothing is read.
    arrived: BytesMut,
    /// Set when nothing more can come.
    end: Option<CloseReason>,
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
            if let Some(reason) = self.end.take() {
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

    /// Takes bytes of the socket.
    fn feed(&mut self, bytes: &mut [u8]) {
        let mut bytes = Unread(bytes);
        while self.end.is_none() {
            // How long messages may be is for the hub protocol to say, whatever frames they come in.
            match self.reader.next(&mut bytes, u64::MAX) {
                Ok(None) => return,
                Ok(Some(Event::Data { bytes, .. })) => self.arrived.extend_from_slice(bytes),
                Ok(Some(Event::Ping(said))) => self.connection.answer(Frame::websocket_pong(&said)),
                // Answered when everything before it has been written.
                Ok(Some(Event::Close(_))) => self.end = Some(CloseReason::ClientLeft),
                Err(offence) => {
                    self.end = Some(CloseReason::WebSocketError(offence.close_code()));
                }
            }
        }
        // A goodbye, or an offence, is no lost network.
        self.connection.forgo_resumption();
    }

    fn end_input(&mut self, reason: CloseReason) {
        self.input_ended = true;
        self.input.end(reason);
    }
}
