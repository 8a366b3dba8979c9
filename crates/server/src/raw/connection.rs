//! The life of one raw WebSocket: messages come in and go back, until somebody says goodbye.
//!
//! One task reads and writes in turns. So while an echo cannot be written nothing more is read, and a connection keeps one message, its answer,
//! and what one read brings.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::Echo;
use super::reader::{Event, Message, MessageReader};

/// How long a peer may take nothing of what is written to it.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a peer may take to hang up after both have said goodbye, as for hubs.
const PARTING: Duration = Duration::from_secs(5);

/// How much is read at once.
const READ: usize = 8 * 1024;

/// How much is gathered before it is written, though more may have come in the same read. A buffer that has grown larger is not kept.
const GATHERED: usize = 16 * 1024;

/// The code with which a server says that it stops (RFC 6455, section 7.4.1).
const GOING_AWAY: u16 = 1001;

/// The code with which a peer is closed that has not answered a ping.
const UNEXPECTED: u16 = 1011;

/// A WebSocket whose messages come back.
pub(super) struct Connection<S> {
    socket: S,
    echo: Echo,
    reader: MessageReader,
    /// Frames that have yet to be written.
    outgoing: Vec<u8>,
}

/// How a connection comes to its end: the code of the close frame, if there is one to send.
enum Goodbye {
    With(u16),
    /// In answer to a close frame without a code.
    WithoutCode,
    /// The peer has hung up.
    None,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(super) fn new(socket: S, echo: Echo, max_message: usize) -> Self {
        Self {
            socket,
            echo,
            reader: MessageReader::new(max_message),
            outgoing: Vec::new(),
        }
    }

    /// Echoes until one of both says goodbye, or `stopping` becomes true; an error is a peer that is gone, or might as well be.
    pub(super) async fn run(
        mut self,
        keep_alive: Duration,
        mut stopping: watch::Receiver<bool>,
    ) -> io::Result<()> {
        let close = OpCode::Control(Control::Close);
        match self.converse(keep_alive, &mut stopping).await? {
            Goodbye::None => return Ok(()),
            Goodbye::With(code) => self.gather(close, &[], &code.to_be_bytes())?,
            Goodbye::WithoutCode => self.gather(close, &[], &[])?,
        }
        self.write().await?;
        self.part().await
    }

    async fn converse(
        &mut self,
        keep_alive: Duration,
        stopping: &mut watch::Receiver<bool>,
    ) -> io::Result<Goodbye> {
        let mut ticks = interval_at(Instant::now() + keep_alive, keep_alive);
        // While a peer takes nothing it is not asked, either.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut owes_answer = false;
        let mut scratch = vec![0; READ];
        loop {
            let read = tokio::select! {
                biased;
                _ = stopping.wait_for(|stopping| *stopping) => return Ok(Goodbye::With(GOING_AWAY)),
                length = self.socket.read(&mut scratch) => Some(length?),
                _ = ticks.tick() => None,
            };
            let Some(length) = read else {
                if owes_answer {
                    tracing::debug!("a raw WebSocket did not answer a ping");
                    return Ok(Goodbye::With(UNEXPECTED));
                }
                owes_answer = true;
                self.gather(OpCode::Control(Control::Ping), &[], &[])?;
                self.write().await?;
                continue;
            };
            // Whatever a peer says shows that it is there.
            owes_answer = false;
            let mut input = scratch.get(..length).unwrap_or_default();
            if input.is_empty() {
                return Ok(Goodbye::None);
            }
            if let Some(goodbye) = self.hear(&mut input).await? {
                return Ok(goodbye);
            }
            self.write().await?;
        }
    }

    /// Answers what has arrived.
    async fn hear(&mut self, input: &mut &[u8]) -> io::Result<Option<Goodbye>> {
        loop {
            match self.reader.next(input) {
                Ok(None) => return Ok(None),
                Ok(Some(Event::Message(message))) => self.answer(&message)?,
                Ok(Some(Event::Ping(said))) => {
                    self.gather(OpCode::Control(Control::Pong), &[], &said)?;
                }
                Ok(Some(Event::Close(code))) => {
                    return Ok(Some(code.map_or(Goodbye::WithoutCode, Goodbye::With)));
                }
                Err(offence) => {
                    tracing::debug!(?offence, "a raw WebSocket broke the rules");
                    return Ok(Some(Goodbye::With(offence.close_code())));
                }
            }
            if self.outgoing.len() >= GATHERED {
                self.write().await?;
            }
        }
    }

    fn answer(&mut self, message: &Message) -> io::Result<()> {
        let (kind, greeting) = if message.is_text {
            (Data::Text, self.echo.greeting())
        } else {
            (Data::Binary, "")
        };
        self.gather(OpCode::Data(kind), greeting.as_bytes(), &message.bytes)
    }

    /// Puts a frame behind those that have yet to be written.
    fn gather(&mut self, opcode: OpCode, first: &[u8], then: &[u8]) -> io::Result<()> {
        let header = FrameHeader {
            opcode,
            ..FrameHeader::default()
        };
        let length = first.len() + then.len();
        header
            .format(length as u64, &mut self.outgoing)
            .map_err(io::Error::other)?;
        self.outgoing.extend_from_slice(first);
        self.outgoing.extend_from_slice(then);
        Ok(())
    }

    /// Writes what has been gathered. How long that takes is up to the peer, as long as it takes something now and then.
    async fn write(&mut self) -> io::Result<()> {
        let mut left = self.outgoing.as_slice();
        while !left.is_empty() {
            let written = timeout(PATIENCE, self.socket.write(left)).await??;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            left = left.get(written..).unwrap_or_default();
        }
        self.outgoing.clear();
        self.outgoing.shrink_to(GATHERED);
        timeout(PATIENCE, self.socket.flush()).await?
    }

    /// Ends the stream behind the goodbye, and reads what still comes until the peer hangs up: a socket that is closed with unread data is reset,
    /// and could take the goodbye along.
    async fn part(mut self) -> io::Result<()> {
        let parted = async {
            self.socket.shutdown().await?;
            let mut scratch = vec![0; READ];
            while self.socket.read(&mut scratch).await? > 0 {}
            io::Result::Ok(())
        };
        timeout(PARTING, parted).await?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{DuplexStream, duplex};
    use tokio::task::JoinHandle;

    const KEEP_ALIVE: Duration = Duration::from_mins(2);

    /// What the system keeps of what was written.
    const KEPT: usize = 1024;

    struct Peer {
        socket: DuplexStream,
        ended: JoinHandle<io::Result<()>>,
        stop: watch::Sender<bool>,
    }

    fn connect() -> Peer {
        let (ours, socket) = duplex(KEPT);
        let (stop, stopping) = watch::channel(false);
        let connection = Connection::new(ours, Echo::Unchanged, 100_000);
        let ended = tokio::spawn(connection.run(KEEP_ALIVE, stopping));
        Peer {
            socket,
            ended,
            stop,
        }
    }

    impl Peer {
        async fn hears(&mut self, expected: &[u8]) {
            let mut heard = vec![0; expected.len()];
            self.socket.read_exact(&mut heard).await.unwrap();
            assert_eq!(heard, expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_says_nothing_at_all_is_closed_at_the_second_ping() {
        let mut peer = connect();
        let start = Instant::now();
        peer.hears(b"\x89\0").await;
        assert_eq!(start.elapsed(), KEEP_ALIVE);
        peer.hears(b"\x88\x02\x03\xf3").await;
        assert_eq!(start.elapsed(), KEEP_ALIVE * 2);
        assert!(peer.ended.await.unwrap().is_err(), "it never hung up");
        assert_eq!(start.elapsed(), KEEP_ALIVE * 2 + PARTING);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_answers_pings_stays() {
        let mut peer = connect();
        // Any byte is an answer, of the beginning of a frame, too.
        for answer in [b"\x8a\x80\0\0\0\0".as_slice(), b"\x82", b"\x81", b"\0"] {
            peer.hears(b"\x89\0").await;
            peer.socket.write_all(answer).await.unwrap();
        }
        peer.hears(b"\x89\0").await;
        assert!(!peer.ended.is_finished());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_for_thirty_seconds_is_dropped() {
        let mut peer = connect();
        let frame = [b"\x82\xfe\x10\0\0\0\0\0".as_slice(), &[7; 4096]].concat();
        peer.socket.write_all(&frame).await.unwrap();
        // Slow, but it takes something now and then.
        let start = Instant::now();
        for _ in 0..3 {
            tokio::time::sleep(PATIENCE * 9 / 10).await;
            peer.socket.read_exact(&mut [0; 100]).await.unwrap();
        }
        let last = Instant::now();
        assert!(start.elapsed() > PATIENCE * 2);
        let error = peer.ended.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(last.elapsed(), PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_more_is_read_while_an_echo_waits() {
        let mut peer = connect();
        let frame = [b"\x82\xfe\x10\0\0\0\0\0".as_slice(), &[7; 4096]].concat();
        let many = frame.repeat(20);
        let sending = timeout(PATIENCE / 2, peer.socket.write_all(&many)).await;
        assert!(sending.is_err(), "82,000 bytes were taken");
        assert!(!peer.ended.is_finished());
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_stops_says_so_and_waits_until_the_peer_hangs_up() {
        let mut peer = connect();
        peer.stop.send_replace(true);
        peer.hears(b"\x88\x02\x03\xe9").await;
        assert_eq!(peer.socket.read(&mut [0; 1]).await.unwrap(), 0);
        assert!(!peer.ended.is_finished());
        peer.socket
            .write_all(b"\x88\x82\0\0\0\0\x03\xe9")
            .await
            .unwrap();
        drop(peer.socket);
        assert!(peer.ended.await.unwrap().is_ok());
    }
}
