//! What waits to be written to one client.
//!
//! Anybody may push; one transport writes, or a [writer](crate::writers) that it shares its socket with. The queue is bounded in bytes, and in messages: what does
//! not fit is refused, and the connection is then closed for being too slow. Nobody ever waits to push.
//!
//! How it is written: see [`writing`]. With stateful reconnect the outbox outlives its socket: see [`resumption`].

mod resumption;
mod writing;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use tokio::net::tcp::OwnedWriteHalf;
use tokio::time::{Duration, Instant};

use crate::frame::Frame;
use crate::writers::Audience;
use resumption::Resumption;
use writing::{FRAMES_PER_WRITE, Turn, release};

/// What a frame costs beside its bytes, about: its place in the queue and an allocation.
const OVERHEAD: usize = 64;

/// Of what the client did not ask for, one message may wait for each so many bytes of the limit, however short it is. Its bytes are shared with other
/// receivers, its place in the queue is not, and a room full of clients that do not read has very many. Yet everybody may join a large room at once,
/// of which each of its members is told.
const BYTES_PER_PLACE: usize = 256;

/// Where an outbox is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Takes messages.
    Open,
    /// Was full and takes no more, but waits for the goodbye that [`Outbox::finish`] brings.
    Overflowed,
    /// Takes no more; what waits is still written.
    Finishing,
    /// Nothing more is written.
    Dead,
}

/// The queue did not have room for a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

#[derive(Debug)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    limit: usize,
    /// How many messages that the client did not ask for may wait.
    places: usize,
}

#[derive(Debug)]
struct State {
    queue: VecDeque<Frame>,
    /// The bytes of all queued frames, including what has been written of the first.
    bytes: usize,
    /// How much of the first frame has been written.
    written: usize,
    phase: Phase,
    turn: Turn,
    /// The transport's task, once that has had nothing to do.
    transport: Option<Waker>,
    /// The socket, if a writer may write to it.
    socket: Option<OwnedWriteHalf>,
    /// Whether anything has begun to wait or been taken since the last look at the clock.
    moved: bool,
    /// Since when nothing of what waits has been taken, as far as the looks at the clock tell.
    stalled_since: Option<Instant>,
    /// Whoever waits until little is left, and how little.
    calm_waiters: Vec<(Waker, usize)>,
    /// What makes it possible to go on with another socket; for connections that may.
    resumption: Option<Box<Resumption>>,
}

impl Outbox {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            state: Mutex::new(State {
                queue: VecDeque::new(),
                bytes: 0,
                written: 0,
                phase: Phase::Open,
                turn: Turn::Transport,
                transport: None,
                socket: None,
                moved: false,
                stalled_since: None,
                calm_waiters: Vec::new(),
                resumption: None,
            }),
            limit,
            places: (limit / BYTES_PER_PLACE).max(FRAMES_PER_WRITE),
        }
    }

    /// The state is consistent between any two statements, so a panic elsewhere does not spoil it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a message that the client did not ask for. Does nothing once the outbox takes no more. True if a
    /// [writer](crate::writers) must be told, by whoever pushes: one of those for the message's audience.
    ///
    /// When it does not fit, everything that waits is dropped but for a frame that has been begun, so that the
    /// memory is free at once and the stream of frames stays whole for a goodbye.
    pub(crate) fn push(&self, frame: Frame, audience: Audience) -> Result<bool, Full> {
        let Some(mut state) = self.append_if_fits(frame, false)? else {
            return Ok(false);
        };
        match (state.turn, audience) {
            // What is for few does not wait for those who write what is for many.
            (Turn::Shared, _) | (Turn::Listed(Audience::Many), Audience::Few) => {
                state.turn = Turn::Listed(audience);
                return Ok(true);
            }
            (Turn::Woken, _) => release(state),
            _ => {}
        }
        Ok(false)
    }

    /// The same with an answer to the client. Whoever makes them waits while much waits for the client, so that without a
    /// socket, too, only the limit of the whole outbox counts.
    ///
    /// Answers are made in the task of a transport that shares its socket, which writes them, all at once, before it rests.
    pub(crate) fn push_answer(&self, frame: Frame) -> Result<(), Full> {
        if let Some(state) = self.append_if_fits(frame, true)?
            && state.turn == Turn::Woken
        {
            release(state);
        }
        Ok(())
    }

    /// `None` if the outbox takes no more.
    fn append_if_fits(
        &self,
        frame: Frame,
        is_answer: bool,
    ) -> Result<Option<MutexGuard<'_, State>>, Full> {
        let mut state = self.state();
        if state.phase != Phase::Open {
            return Ok(None);
        }
        // A stranger's pings are answered with two bytes each.
        let overhead = state.queue.len() * OVERHEAD;
        let mut fits = state.bytes + overhead + frame.len() <= self.limit;
        if let Some(room) = state.detached() {
            if !frame.is_counted() {
                return Ok(None);
            }
            if !is_answer {
                fits &= frame.len() <= *room;
                *room = room.saturating_sub(frame.len());
            }
        } else if !is_answer {
            fits &= state.queue.len() < self.places;
        }
        // A single message may be larger than the limit; it is refused only behind others.
        if state.bytes > 0 && !fits {
            let begun = state.queue.pop_front().filter(|_| state.written > 0);
            state.queue = begun.into_iter().collect();
            state.bytes = state.queue.front().map_or(0, Frame::len);
            state.phase = Phase::Overflowed;
            state.resumption = None;
            state.wake_calm();
            return Err(Full);
        }
        state.append(frame);
        Ok(Some(state))
    }

    /// Appends a last message, if there is one, and takes no more. Works on a full outbox, too.
    pub(crate) fn finish(&self, last: Option<Frame>) {
        let mut state = self.state();
        if state.phase == Phase::Dead {
            return;
        }
        state.phase = Phase::Finishing;
        state.resumption = None;
        state.wake_calm();
        if let Some(frame) = last {
            state.append(frame);
        }
        release(state);
    }

    /// Drops everything: there is nobody to write to any more.
    pub(crate) fn kill(&self) {
        let mut state = self.state();
        state.phase = Phase::Dead;
        state.resumption = None;
        state.queue = VecDeque::new();
        state.bytes = 0;
        state.written = 0;
        state.wake_calm();
        release(state);
    }

    /// Waits until at most `bytes` are left to be written, or the outbox takes no more.
    pub(crate) async fn calm(&self, bytes: usize) {
        poll_fn(|context| {
            let mut state = self.state();
            if state.bytes <= bytes || state.phase != Phase::Open {
                return Poll::Ready(());
            }
            let waker = context.waker();
            if !state
                .calm_waiters
                .iter()
                .any(|(known, _)| known.will_wake(waker))
            {
                state.calm_waiters.push((waker.clone(), bytes));
            }
            Poll::Pending
        })
        .await;
    }

    /// How many bytes wait to be written.
    pub(crate) fn bytes(&self) -> usize {
        self.state().bytes
    }

    /// A look at the clock, which the many who push and write are spared: for how long nothing has been taken of what waits, counted
    /// from one look to another. Gives back memory that has not been needed since the last one.
    pub(crate) fn stalled_for(&self, now: Instant) -> Duration {
        let mut state = self.state();
        let moved = std::mem::take(&mut state.moved);
        if state.queue.is_empty() {
            state.stalled_since = None;
            // Nor does what a burst took stay on a connection that is never quiet.
            if !moved || state.queue.capacity() > FRAMES_PER_WRITE {
                state.queue = VecDeque::new();
            }
            return Duration::ZERO;
        }
        // While a writer has yet to come, it is not the client that is slow.
        if moved || matches!(state.turn, Turn::Listed(_)) {
            state.stalled_since = None;
        }
        let since = *state.stalled_since.get_or_insert(now);
        now.saturating_duration_since(since)
    }
}

impl State {
    fn append(&mut self, frame: Frame) {
        // What joins others that are stuck moves nothing.
        self.moved |= self.queue.is_empty();
        self.bytes += frame.len();
        if !frame.is_counted() && self.is_held_back() {
            // An Ack of ours must not wait for one of theirs.
            self.queue.push_front(frame);
        } else {
            self.queue.push_back(frame);
        }
    }

    /// Wakes whoever has waited long enough; they only need this lock again, so it may happen under it.
    fn wake_calm(&mut self) {
        let (bytes, open) = (self.bytes, self.phase == Phase::Open);
        for (waker, _) in self
            .calm_waiters
            .extract_if(.., |(_, enough)| bytes <= *enough || !open)
        {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::Pin;
    use std::task::Context;

    use super::*;
    use futures_util::task::noop_waker;
    use hubcast_protocol::Encoding;
    use tokio::io::AsyncWrite;

    pub(super) fn frame(size: usize) -> Frame {
        Frame::from_payload(Encoding::Json, &vec![b'x'; size])
    }

    /// A socket that takes so many bytes and then no more.
    struct Socket(usize);

    impl AsyncWrite for Socket {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let taken = bytes.len().min(self.0);
            self.0 -= taken;
            if taken == 0 {
                Poll::Pending
            } else {
                Poll::Ready(Ok(taken))
            }
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    pub(super) fn write(outbox: &Outbox, bytes: usize) -> Poll<io::Result<()>> {
        let waker = noop_waker();
        outbox.poll_write_to(&mut Context::from_waker(&waker), &mut Socket(bytes))
    }

    /// What is written in one go to a socket that takes everything.
    pub(super) fn written(outbox: &Outbox) -> Vec<u8> {
        let mut seen = Vec::new();
        let waker = noop_waker();
        let mut context = Context::from_waker(&waker);
        assert!(outbox.poll_write_to(&mut context, &mut seen).is_pending());
        seen
    }

    #[tokio::test]
    async fn what_does_not_fit_is_refused_and_the_memory_is_free_at_once() {
        let outbox = Outbox::new(1_000);
        outbox.push(frame(400), Audience::Few).unwrap();
        outbox.push(frame(400), Audience::Few).unwrap();
        assert_eq!(outbox.push(frame(400), Audience::Few), Err(Full));
        assert_eq!(outbox.bytes(), 0);
        // The goodbye still goes out.
        outbox.finish(Some(frame(10)));
        assert_eq!(outbox.bytes(), 12);
        assert!(write(&outbox, 1_000).is_ready());
    }

    #[tokio::test]
    async fn a_frame_that_has_been_begun_is_finished_before_the_goodbye() {
        let outbox = Outbox::new(1_000);
        outbox.push(frame(400), Audience::Few).unwrap();
        assert!(write(&outbox, 100).is_pending());
        outbox.push(frame(400), Audience::Few).unwrap();
        assert_eq!(outbox.push(frame(400), Audience::Few), Err(Full));
        assert_eq!(outbox.bytes(), 404, "the begun frame");
        assert!(
            write(&outbox, 1_000).is_pending(),
            "the goodbye is yet to come"
        );
        outbox.finish(Some(frame(10)));
        assert!(write(&outbox, 12).is_ready());
    }

    #[tokio::test]
    async fn a_single_message_may_be_larger_than_the_limit() {
        let outbox = Outbox::new(100);
        outbox.push(frame(5_000), Audience::Few).unwrap();
        assert_eq!(outbox.push(frame(1), Audience::Few), Err(Full));
    }

    #[tokio::test]
    async fn many_frames_leave_in_pieces_of_any_size_and_in_order() {
        let outbox = Outbox::new(1 << 20);
        for number in 0..200u8 {
            outbox
                .push(
                    Frame::from_payload(Encoding::Json, &[number; 3]),
                    Audience::Few,
                )
                .unwrap();
        }
        let seen = written(&outbox);
        let expected: Vec<u8> = (0..200u8)
            .flat_map(|number| [0x81, 3, number, number, number])
            .collect();
        assert_eq!(seen, expected);
        assert_eq!(outbox.bytes(), 0);
    }

    #[tokio::test]
    async fn only_what_is_stuck_counts_as_stalled() {
        let outbox = Outbox::new(1_000);
        let start = Instant::now();
        let stalled_at = |seconds| {
            let now = start + Duration::from_secs(seconds);
            outbox.stalled_for(now).as_secs()
        };
        assert_eq!(stalled_at(0), 0);
        outbox.push(frame(100), Audience::Few).unwrap();
        assert_eq!(stalled_at(1), 0);
        assert_eq!(stalled_at(4), 3);
        assert!(write(&outbox, 1).is_pending());
        assert_eq!(stalled_at(5), 0);
        assert_eq!(stalled_at(7), 2);
        assert!(write(&outbox, 101).is_pending());
        assert_eq!(stalled_at(9), 0);
    }

    #[tokio::test]
    async fn an_outbox_that_is_quiet_keeps_no_memory_and_one_that_is_not_keeps_it() {
        let outbox = Outbox::new(1_000);
        let capacity = || {
            outbox.stalled_for(Instant::now());
            outbox.state().queue.capacity()
        };
        outbox.push(frame(1), Audience::Few).unwrap();
        assert!(write(&outbox, 1_000).is_pending());
        assert!(capacity() > 0);
        assert_eq!(capacity(), 0);
    }

    #[tokio::test]
    async fn a_client_that_reads_nothing_is_stalled_however_often_it_is_sent_something() {
        let outbox = Outbox::new(1_000_000);
        let start = Instant::now();
        outbox.push(frame(100), Audience::Few).unwrap();
        for second in 0..11 {
            outbox.push(frame(1), Audience::Few).unwrap();
            let stalled = outbox.stalled_for(start + Duration::from_secs(second));
            assert_eq!(stalled.as_secs(), second);
        }
    }

    #[tokio::test]
    async fn what_many_small_frames_cost_counts() {
        let outbox = Outbox::new(1 << 20);
        while outbox.push_answer(Frame::websocket_pong(b"")).is_ok() {
            let state = outbox.state();
            // Each has its bytes, their counts, and its place in the queue.
            let memory = state.queue.len() * (2 * size_of::<usize>() + size_of::<Frame>());
            assert!(memory <= 1 << 20, "{} frames", state.queue.len());
        }
    }

    #[tokio::test]
    async fn what_others_say_takes_little_memory_of_its_own_however_short_it_is() {
        let outbox = Outbox::new(4 << 20);
        let shared = frame(1);
        let most = 16_384;
        for _ in 0..most {
            outbox.push(shared.clone(), Audience::Many).unwrap();
        }
        let memory = |outbox: &Outbox| outbox.state().queue.capacity() * size_of::<Frame>();
        assert!(memory(&outbox) <= 400_000, "{}", memory(&outbox));
        // The client's own answers do not count against it.
        outbox.push_answer(frame(1)).unwrap();
        // Begun, and so to be finished.
        assert!(write(&outbox, 1).is_pending());
        assert_eq!(outbox.push(shared.clone(), Audience::Many), Err(Full));
        assert!(memory(&outbox) <= 1_000, "free at once");
        assert_eq!(outbox.bytes(), shared.len());
    }

    #[tokio::test]
    async fn what_a_burst_took_is_given_back_by_a_connection_that_is_never_quiet() {
        let outbox = Outbox::new(1 << 20);
        for _ in 0..1_000 {
            outbox.push(frame(1), Audience::Few).unwrap();
        }
        for _ in 0..3 {
            assert!(write(&outbox, 1 << 20).is_pending());
            outbox.push(frame(1), Audience::Few).unwrap();
            assert!(write(&outbox, 1 << 20).is_pending());
            outbox.stalled_for(Instant::now());
        }
        assert!(outbox.state().queue.capacity() <= FRAMES_PER_WRITE);
    }
}
