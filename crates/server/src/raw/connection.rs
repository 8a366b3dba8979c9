//! The life of one raw WebSocket: messages come in, are answered, and others go out unasked, until somebody says goodbye.
//!
//! One task reads and writes in turns. So while something cannot be written nothing more is read, and a connection keeps one message, its answer,
//! and what one read brings. While there is nothing to write it is read, whatever the conversation waits for.

use std::io;
use std::time::Duration;

use hubcast_websocket::Unread;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::conversation::{Conversation, Goodbye, Message};
use super::reader::{Event, MessageReader};

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

/// The socket of a conversation.
pub(super) struct Connection<S> {
    socket: S,
    reader: MessageReader,
    /// Frames that have yet to be written.
    outgoing: Vec<u8>,
}

/// How a connection comes to its end.
enum Ending {
    /// With a close frame of ours.
    Goodbye(Goodbye),
    /// With the answer to a close frame without a code.
    WithoutCode,
    /// The peer has hung up.
    HungUp,
}

impl From<Goodbye> for Ending {
    fn from(goodbye: Goodbye) -> Self {
        Self::Goodbye(goodbye)
    }
}

/// What happens next on a connection.
enum Happening {
    Stopping,
    /// So many bytes have been read.
    Read(usize),
    /// There is something to say unasked.
    Saying(Result<Message, Goodbye>),
    /// It is time to ask whether the peer is there.
    Tick,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(super) fn new(socket: S, max_message: usize) -> Self {
        Self {
            socket,
            reader: MessageReader::new(max_message),
            outgoing: Vec::new(),
        }
    }

    /// Begins a conversation and carries it until one of both says goodbye, or `stopping` becomes true; an error is a peer that is gone, or
    /// might as well be.
    pub(super) async fn run<C: Conversation>(
        mut self,
        begins: impl Future<Output = Result<C, Goodbye>>,
        keep_alive: Duration,
        mut stopping: watch::Receiver<bool>,
    ) -> io::Result<()> {
        let close = OpCode::Control(Control::Close);
        let ending = match begins.await {
            // Gone when this returns: a peer that takes its time to part has left all the same.
            Ok(conversation) => self.carry(conversation, keep_alive, &mut stopping).await?,
            Err(goodbye) => goodbye.into(),
        };
        match ending {
            Ending::HungUp => return Ok(()),
            Ending::Goodbye(goodbye) => self.gather(close, &goodbye.payload())?,
            Ending::WithoutCode => self.gather(close, &[])?,
        }
        self.write().await?;
        self.part().await
    }

    async fn carry(
        &mut self,
        mut conversation: impl Conversation,
        keep_alive: Duration,
        stopping: &mut watch::Receiver<bool>,
    ) -> io::Result<Ending> {
        let mut ticks = interval_at(Instant::now() + keep_alive, keep_alive);
        // While a peer takes nothing it is not asked, either.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut owes_answer = false;
        let mut scratch = vec![0; READ];
        loop {
            // In no order: neither those who say much nor those who are told much keep anything else from happening.
            let happening = tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => Happening::Stopping,
                length = self.socket.read(&mut scratch) => Happening::Read(length?),
                said = conversation.next() => Happening::Saying(said),
                _ = ticks.tick() => Happening::Tick,
            };
            match happening {
                Happening::Stopping => return Ok(Goodbye::from(GOING_AWAY).into()),
                Happening::Read(0) => return Ok(Ending::HungUp),
                Happening::Read(length) => {
                    // Whatever a peer says shows that it is there.
                    owes_answer = false;
                    let mut input = Unread(scratch.get_mut(..length).unwrap_or_default());
                    if let Some(ending) = self.hear(&mut input, &mut conversation).await? {
                        return Ok(ending);
                    }
                    self.write().await?;
                }
                Happening::Saying(Ok(message)) => {
                    self.say(&message)?;
                    // Not kept twice for as long as the peer takes.
                    drop(message);
                    self.write().await?;
                    conversation.written().await;
                }
                Happening::Saying(Err(goodbye)) => return Ok(goodbye.into()),
                Happening::Tick if owes_answer => {
                    tracing::debug!("a raw WebSocket did not answer a ping");
                    return Ok(Goodbye::from(UNEXPECTED).into());
                }
                Happening::Tick => {
                    owes_answer = true;
                    self.gather(OpCode::Control(Control::Ping), &[])?;
                    self.write().await?;
                }
            }
        }
    }

    /// Answers what has arrived.
    async fn hear(
        &mut self,
        input: &mut Unread<'_>,
        conversation: &mut impl Conversation,
    ) -> io::Result<Option<Ending>> {
        loop {
            match self.reader.next(input) {
                Ok(None) => return Ok(None),
                Ok(Some(Event::Message(message))) => match conversation.hear(message).await {
                    Ok(None) => {}
                    Ok(Some(answer)) => self.say(&answer)?,
                    Err(goodbye) => return Ok(Some(goodbye.into())),
                },
                Ok(Some(Event::Ping(said))) => {
                    self.gather(OpCode::Control(Control::Pong), &said)?;
                }
                Ok(Some(Event::Close(code))) => {
                    let answer =
                        code.map_or(Ending::WithoutCode, |code| Goodbye::from(code).into());
                    return Ok(Some(answer));
                }
                Err(offence) => {
                    tracing::debug!(?offence, "a raw WebSocket broke the rules");
                    return Ok(Some(Goodbye::from(offence.close_code()).into()));
                }
            }
            if self.outgoing.len() >= GATHERED {
                self.write().await?;
            }
        }
    }

    fn say(&mut self, message: &Message) -> io::Result<()> {
        let (kind, payload) = match message {
            Message::Text(text) => (Data::Text, text.as_bytes()),
            Message::Binary(bytes) => (Data::Binary, bytes.as_slice()),
        };
        self.gather(OpCode::Data(kind), payload)
    }

    /// Puts a frame behind those that have yet to be written.
    fn gather(&mut self, opcode: OpCode, payload: &[u8]) -> io::Result<()> {
        let header = FrameHeader {
            opcode,
            ..FrameHeader::default()
        };
        header
            .format(payload.len() as u64, &mut self.outgoing)
            .map_err(io::Error::other)?;
        self.outgoing.extend_from_slice(payload);
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
    use super::super::echo::Echo;
    use super::*;
    use tokio::io::{DuplexStream, duplex};
    use tokio::sync::mpsc;
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
        connect_to(Ok(Echo::Unchanged))
    }

    fn connect_to(begun: Result<impl Conversation, Goodbye>) -> Peer {
        let (ours, socket) = duplex(KEPT);
        let (stop, stopping) = watch::channel(false);
        let connection = Connection::new(ours, 100_000);
        let begins = std::future::ready(begun);
        let ended = tokio::spawn(connection.run(begins, KEEP_ALIVE, stopping));
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

    /// Says what it is given, and tells what happens to it.
    struct Scripted {
        says: mpsc::UnboundedReceiver<Result<Message, Goodbye>>,
        tells: mpsc::UnboundedSender<&'static str>,
    }

    impl Conversation for Scripted {
        async fn hear(&mut self, message: Message) -> Result<Option<Message>, Goodbye> {
            let _ = self.tells.send("heard");
            match message {
                Message::Text(_) => Ok(None),
                Message::Binary(_) => Err(Goodbye::new(1003, "Not this.")),
            }
        }

        async fn next(&mut self) -> Result<Message, Goodbye> {
            self.says.recv().await.unwrap()
        }

        async fn written(&mut self) {
            let _ = self.tells.send("written");
        }
    }

    impl Drop for Scripted {
        fn drop(&mut self) {
            let _ = self.tells.send("dropped");
        }
    }

    /// A peer of a scripted conversation, the script, and what is told.
    fn scripted() -> (
        Peer,
        mpsc::UnboundedSender<Result<Message, Goodbye>>,
        mpsc::UnboundedReceiver<&'static str>,
    ) {
        let (script, says) = mpsc::unbounded_channel();
        let (tells, told) = mpsc::unbounded_channel();
        (connect_to(Ok(Scripted { says, tells })), script, told)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_said_unasked_goes_out_between_what_the_peer_says() {
        let (mut peer, script, mut told) = scripted();
        peer.socket.write_all(b"\x81\x80\0\0\0\0").await.unwrap();
        assert_eq!(told.recv().await, Some("heard"));
        script.send(Ok(Message::Text("hello".into()))).unwrap();
        peer.hears(b"\x81\x05hello").await;
        assert_eq!(told.recv().await, Some("written"));
        script.send(Ok(Message::Binary(vec![1, 2]))).unwrap();
        peer.hears(b"\x82\x02\x01\x02").await;
        assert_eq!(told.recv().await, Some("written"));
        // It is read while there is nothing to say.
        peer.socket
            .write_all(b"\x89\x81\0\0\0\0?\x81\x80\0\0\0\0")
            .await
            .unwrap();
        peer.hears(b"\x8a\x01?").await;
        assert_eq!(told.recv().await, Some("heard"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_peer_does_not_take_for_thirty_seconds_is_not_told_to_be_written() {
        let (peer, script, mut told) = scripted();
        let start = Instant::now();
        script.send(Ok(Message::Binary(vec![7; 2 * KEPT]))).unwrap();
        assert_eq!(told.recv().await, Some("dropped"));
        assert_eq!(start.elapsed(), PATIENCE);
        let error = peer.ended.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_conversation_is_over_before_the_goodbye_and_not_when_the_peer_hangs_up() {
        for (script_says, peer_says, goodbye) in [
            (true, b"".as_slice(), b"\x88\x08\x03\xf3enough".to_vec()),
            (
                false,
                b"\x82\x80\0\0\0\0",
                b"\x88\x0b\x03\xebNot this.".to_vec(),
            ),
        ] {
            let (mut peer, script, mut told) = scripted();
            if script_says {
                script.send(Err(Goodbye::new(1011, "enough"))).unwrap();
            }
            peer.socket.write_all(peer_says).await.unwrap();
            while told.recv().await.unwrap() != "dropped" {}
            peer.hears(&goodbye).await;
            assert!(!peer.ended.is_finished());
            drop(peer.socket);
            assert!(peer.ended.await.unwrap().is_ok());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_conversation_that_cannot_begin_is_a_goodbye() {
        let mut peer = connect_to(Err::<Echo, _>(Goodbye::from(1013)));
        peer.hears(b"\x88\x02\x03\xf5").await;
        drop(peer.socket);
        assert!(peer.ended.await.unwrap().is_ok());
    }
}
