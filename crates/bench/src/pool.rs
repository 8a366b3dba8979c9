//! Many client connections on one thread: one poll, one read buffer, and no more per connection than it needs.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use mio::event::Event;
use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use socket2::{Domain, Protocol, Socket, Type};

use crate::frames::{Decoder, Piece, client_close, client_pong, client_text};
use crate::target::Target;

/// The token of the timer; connections have their number.
const TIMER: Token = Token(usize::MAX);

/// The read buffer, for all connections together.
const SCRATCH: usize = 256 * 1024;

/// How long the head of an answer to an upgrade may be.
const MAX_HEAD: usize = 16 * 1024;

/// What a hub connection begins with.
const HANDSHAKE: &[u8] = b"{\"protocol\":\"json\",\"version\":1}\x1e";

/// A client's keep-alive.
const PING: &[u8] = b"{\"type\":6}\x1e";

/// How often a connection says that it lives: as stock clients do. Servers give up on those silent for 30 seconds.
const PING_INTERVAL: Duration = Duration::from_secs(15);

/// Whoever is told what the connections of a [`Pool`] hear. What is appended to `out` is sent on that connection.
pub(crate) trait Listener {
    /// The handshake of the hub is done.
    fn opened(&mut self, id: usize, out: &mut Vec<u8>);
    /// A hub message after that.
    fn record(&mut self, id: usize, record: &[u8], out: &mut Vec<u8>);
    /// The connection has ended, and its number is free. `None` if it was asked to end.
    fn closed(&mut self, id: usize, reason: Option<String>);
    /// The time of what is told next: once per read, not once per message.
    fn now(&mut self, now: Instant);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting,
    Upgrading,
    Handshaking,
    Open,
    Closing,
}

#[derive(Debug)]
struct Link {
    stream: TcpStream,
    stage: Stage,
    decoder: Decoder,
    /// The head of the answer to the upgrade, while it is not complete.
    head: Vec<u8>,
    /// What waits to be written.
    out: Vec<u8>,
    target: usize,
}

/// Client connections, each with a number below `links.len()`.
#[derive(Debug)]
pub(crate) struct Pool {
    targets: Vec<Target>,
    poll: Poll,
    events: Events,
    timer: TimerFd,
    links: Vec<Option<Link>>,
    scratch: Vec<u8>,
    /// How many have been begun, which decides the target and the source address of the next.
    begun: usize,
    /// How often something was read.
    reads: u64,
    /// The next connection to ping, and when.
    ping: (usize, Instant),
}

impl Pool {
    pub(crate) fn new(targets: &[Target]) -> anyhow::Result<Self> {
        if targets.is_empty() {
            bail!("no server to load");
        }
        let poll = Poll::new()?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::all())?;
        poll.registry().register(
            &mut SourceFd(&timer.as_fd().as_raw_fd()),
            TIMER,
            Interest::READABLE,
        )?;
        Ok(Self {
            targets: targets.to_vec(),
            poll,
            events: Events::with_capacity(1024),
            timer,
            links: Vec::new(),
            scratch: vec![0; SCRATCH],
            begun: 0,
            reads: 0,
            ping: (0, Instant::now()),
        })
    }

    /// How often something was read, on any connection.
    pub(crate) fn reads(&self) -> u64 {
        self.reads
    }

    /// Begins the connection of this number.
    pub(crate) fn connect(&mut self, id: usize) -> anyhow::Result<()> {
        let index = self.begun % self.targets.len();
        let target = self.targets.get(index).context("no such server")?;
        let stream = connect(target.address, target.source(self.begun))
            .with_context(|| format!("cannot connect to {}", target.address))?;
        self.begun += 1;
        let mut link = Link {
            stream,
            stage: Stage::Connecting,
            decoder: Decoder::default(),
            head: Vec::new(),
            out: Vec::new(),
            target: index,
        };
        self.poll.registry().register(
            &mut link.stream,
            Token(id),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        while self.links.len() <= id {
            self.links.push(None);
        }
        if let Some(slot) = self.links.get_mut(id) {
            *slot = Some(link);
        }
        Ok(())
    }

    /// Appends to what a connection sends, and says how much waits in all. It leaves with [`Pool::flush`].
    pub(crate) fn send(&mut self, id: usize, write: impl FnOnce(&mut Vec<u8>)) -> usize {
        match self.links.get_mut(id) {
            Some(Some(link)) => {
                write(&mut link.out);
                link.out.len()
            }
            _ => 0,
        }
    }

    /// Lets a connection read, or not: then what it is sent stays in the system until the server can send no more.
    pub(crate) fn listen(&mut self, id: usize, listen: bool) -> io::Result<()> {
        let Some(Some(link)) = self.links.get_mut(id) else {
            return Ok(());
        };
        let interest = if listen {
            Interest::READABLE | Interest::WRITABLE
        } else {
            Interest::WRITABLE
        };
        let registry = self.poll.registry();
        registry.reregister(&mut link.stream, Token(id), interest)
    }

    /// Writes what waits on a connection, as far as its socket takes it.
    pub(crate) fn flush(&mut self, id: usize, listener: &mut impl Listener) {
        if let Some(Some(link)) = self.links.get_mut(id)
            && let Err(error) = link.flush()
        {
            self.end(id, Some(error.to_string()), listener);
        }
    }

    /// Says goodbye on a connection, which ends once the server has answered.
    pub(crate) fn close(&mut self, id: usize, listener: &mut impl Listener) {
        if let Some(Some(link)) = self.links.get_mut(id) {
            link.stage = Stage::Closing;
            client_close(&mut link.out);
        }
        self.flush(id, listener);
    }

    /// Waits for something to happen, at most until then, and tells the listener. It returns after each batch.
    pub(crate) fn turn(
        &mut self,
        until: Instant,
        listener: &mut impl Listener,
    ) -> anyhow::Result<()> {
        // The poll counts in milliseconds, which is too coarse for a message that is due.
        let wait = until.saturating_duration_since(Instant::now());
        let precise = !wait.is_zero() && wait < Duration::from_millis(100);
        if precise {
            self.timer
                .set(Expiration::OneShot(wait.into()), TimerSetTimeFlags::empty())?;
        }
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let wait = if precise {
            wait * 2 + Duration::from_millis(2)
        } else {
            wait
        };
        let polled = self.poll.poll(&mut events, Some(wait));
        if let Err(error) = polled
            && error.kind() != ErrorKind::Interrupted
        {
            bail!("cannot wait for the server: {error}");
        }
        for event in &events {
            if event.token() == TIMER {
                continue;
            }
            let Token(id) = event.token();
            if let Err(reason) = self.ready(id, event, listener) {
                self.end(id, reason, listener);
            }
        }
        self.events = events;
        self.keep_alive(listener);
        Ok(())
    }

    /// A connection can be read or written.
    fn ready(
        &mut self,
        id: usize,
        event: &Event,
        listener: &mut impl Listener,
    ) -> Result<(), Option<String>> {
        // An event may be about a connection that has ended in this very batch.
        let Some(Some(link)) = self.links.get_mut(id) else {
            return Ok(());
        };
        if link.stage == Stage::Connecting {
            if let Ok(Some(error)) = link.stream.take_error() {
                return Err(Some(format!("cannot connect: {error}")));
            }
            if link.stream.peer_addr().is_err() {
                return Ok(());
            }
            link.stage = Stage::Upgrading;
            if let Some(target) = self.targets.get(link.target) {
                link.out.extend_from_slice(&target.upgrade);
            }
        }
        let mut reading = event.is_readable();
        while reading {
            match link.stream.read(&mut self.scratch) {
                Ok(0) if link.stage == Stage::Closing => return Err(None),
                Ok(0) => return Err(Some("the server has closed the connection".to_owned())),
                Ok(length) => {
                    self.reads += 1;
                    listener.now(Instant::now());
                    let read = self.scratch.get_mut(..length).unwrap_or_default();
                    link.read(id, read, listener).map_err(Some)?;
                    // Less than there was room for: the socket is empty, and tells when it is not. Its end it has told already.
                    reading = length == SCRATCH || event.is_read_closed();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => reading = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A server that does not wait for the rest of a goodbye.
                Err(_) if link.stage == Stage::Closing => return Err(None),
                Err(error) => return Err(Some(error.to_string())),
            }
        }
        link.flush().map_err(|error| Some(error.to_string()))
    }

    fn end(&mut self, id: usize, reason: Option<String>, listener: &mut impl Listener) {
        if let Some(slot) = self.links.get_mut(id)
            && slot.take().is_some()
        {
            listener.closed(id, reason);
        }
    }

    /// Sends the pings that are due, spread evenly over the interval.
    fn keep_alive(&mut self, listener: &mut impl Listener) {
        let Ok(count @ 1..) = u32::try_from(self.links.len()) else {
            return;
        };
        let now = Instant::now();
        let spacing = PING_INTERVAL / count;
        while self.ping.1 + spacing <= now {
            let id = self.ping.0 % self.links.len();
            self.ping = (id + 1, self.ping.1 + spacing);
            if let Some(Some(link)) = self.links.get_mut(id)
                && link.stage == Stage::Open
            {
                client_text(&mut link.out, PING.len(), |out| {
                    out.extend_from_slice(PING);
                });
                self.flush(id, listener);
            }
        }
    }
}

impl Link {
    fn read(
        &mut self,
        id: usize,
        bytes: &mut [u8],
        listener: &mut impl Listener,
    ) -> Result<(), String> {
        let mut whole;
        let mut bytes: &mut [u8] = bytes;
        if self.stage == Stage::Upgrading {
            whole = std::mem::take(&mut self.head);
            whole.extend_from_slice(bytes);
            let Some(end) = memchr::memmem::find(&whole, b"\r\n\r\n") else {
                if whole.len() > MAX_HEAD {
                    return Err("the answer to the upgrade has no end".to_owned());
                }
                self.head = whole;
                return Ok(());
            };
            if !whole.starts_with(b"HTTP/1.1 101 ") {
                let line = whole
                    .split(|byte| *byte == b'\r')
                    .next()
                    .unwrap_or_default();
                let line = String::from_utf8_lossy(line).into_owned();
                return Err(format!("the server refuses the WebSocket: {line}"));
            }
            self.stage = Stage::Handshaking;
            client_text(&mut self.out, HANDSHAKE.len(), |out| {
                out.extend_from_slice(HANDSHAKE);
            });
            bytes = whole.get_mut(end + 4..).unwrap_or_default();
        }
        let (stage, out) = (&mut self.stage, &mut self.out);
        let mut refused = None;
        self.decoder
            .feed(bytes, |piece| match piece {
                Piece::Record(record) => match stage {
                    // A server may have something left to say after a goodbye.
                    Stage::Open | Stage::Closing => listener.record(id, record, out),
                    Stage::Handshaking if record.starts_with(b"{") && !has_error(record) => {
                        *stage = Stage::Open;
                        listener.opened(id, out);
                    }
                    Stage::Handshaking => {
                        let said = String::from_utf8_lossy(record).into_owned();
                        refused = Some(format!("the hub refuses the handshake: {said}"));
                    }
                    _ => {}
                },
                Piece::Ping(payload) => client_pong(out, payload),
                Piece::Close => {}
            })
            .map_err(|what| format!("the server sends {what}"))?;
        refused.map_or(Ok(()), Err)
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut written = 0;
        while let Some(rest @ [_, ..]) = self.out.get(written..) {
            match self.stream.write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(length) => written += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if written == self.out.len() {
            // Quiet connections hold no buffer; busy ones keep theirs.
            if self.out.capacity() > 4096 || self.stage != Stage::Open {
                self.out = Vec::new();
            }
            self.out.clear();
        } else {
            self.out.drain(..written);
        }
        Ok(())
    }
}

fn has_error(handshake: &[u8]) -> bool {
    memchr::memmem::find(handshake, b"\"error\"").is_some()
}

fn connect(to: SocketAddr, from: Option<SocketAddr>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(from) = from {
        // The port is chosen when the destination is known, so that one that is still closing elsewhere can be used.
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
        socket.bind(&from.into())?;
    }
    match socket.connect(&to.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EINPROGRESS as i32) => {}
        Err(error) => return Err(error),
    }
    Ok(TcpStream::from_std(socket.into()))
}
