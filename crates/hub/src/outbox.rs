//! What waits to be written to one client.
//!
//! Anybody may push; one transport writes. The queue is bounded in bytes: what does not fit is refused, and
//! the connection is then closed for being too slow. Nobody ever waits to push.
//!
//! With stateful reconnect the outbox outlives its socket: see [`resumption`].

mod resumption;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use tokio::io::AsyncWrite;
use tokio::time::{Duration, Instant};

use crate::frame::Frame;
use resumption::Resumption;

/// How many frames leave in one system call. Linux takes 1,024 at most; beyond a few dozen the copy into the
/// socket costs more than the call.
const FRAMES_PER_WRITE: usize = 64;

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
}

#[derive(Debug)]
struct State {
    queue: VecDeque<Frame>,
    /// The bytes of all queued frames, including what has been written of the first.
    bytes: usize,
    /// How much of the first frame has been written.
    written: usize,
    phase: Phase,
    /// The writer, when it has nothing to do.
    idle_writer: Option<Waker>,
    /// Since when nothing of what waits has been taken.
    waiting_since: Instant,
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
                idle_writer: None,
                waiting_since: Instant::now(),
                calm_waiters: Vec::new(),
                resumption: None,
            }),
            limit,
        }
    }

    /// The state is consistent between any two statements, so a panic elsewhere does not spoil it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a message that the client did not ask for. Does nothing once the outbox takes no more.
    ///
    /// When it does not fit, everything that waits is dropped but for a frame that has been begun, so that the
    /// memory is free at once and the stream of frames stays whole for a goodbye.
    pub(crate) fn push(&self, frame: Frame) -> Result<(), Full> {
        self.append_if_fits(frame, false)
    }

    /// The same with an answer to the client. Whoever makes them waits while much waits for the client, so that without a
    /// socket, too, only the limit of the whole outbox counts.
    pub(crate) fn push_answer(&self, frame: Frame) -> Result<(), Full> {
        self.append_if_fits(frame, true)
    }

    fn append_if_fits(&self, frame: Frame, is_answer: bool) -> Result<(), Full> {
        let mut state = self.state();
        if state.phase != Phase::Open {
            return Ok(());
        }
        let mut fits = state.bytes + frame.len() <= self.limit;
        if let Some(room) = state.detached() {
            if !frame.is_counted() {
                return Ok(());
            }
            if !is_answer {
                fits &= frame.len() <= *room;
                *room = room.saturating_sub(frame.len());
            }
        }
        // A single message may be larger than the limit; it is refused only behind others.
        if state.bytes > 0 && !fits {
            let keep = usize::from(state.written > 0);
            state.queue.truncate(keep);
            state.bytes = state.queue.front().map_or(0, Frame::len);
            state.phase = Phase::Overflowed;
            state.resumption = None;
            state.wake_calm();
            return Err(Full);
        }
        state.append(frame);
        release(state);
        Ok(())
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

    /// For how long nothing has been taken of what waits; `None` if nothing waits.
    pub(crate) fn stalled_for(&self) -> Option<Duration> {
        let state = self.state();
        (!state.queue.is_empty()).then(|| state.waiting_since.elapsed())
    }

    /// Takes everything that waits, for transports that put it into answers. `None` when nothing will ever come again.
    pub(crate) fn poll_take(&self, context: &mut Context<'_>) -> Poll<Option<VecDeque<Frame>>> {
        let mut state = self.state();
        if state.queue.is_empty() {
            if matches!(state.phase, Phase::Finishing | Phase::Dead) {
                return Poll::Ready(None);
            }
            state.idle_writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let taken = std::mem::take(&mut state.queue);
        state.advance(0);
        Poll::Ready(Some(taken))
    }

    /// Writes what waits, many frames a call, until the socket takes no more or nothing is left.
    ///
    /// Ready only at the end: when all has been written after [`finish`](Self::finish), or when the socket failed.
    pub(crate) fn poll_write_to<W: AsyncWrite + Unpin>(
        &self,
        context: &mut Context<'_>,
        socket: &mut W,
    ) -> Poll<io::Result<()>> {
        let mut state = self.state();
        loop {
            if state.queue.is_empty() {
                if matches!(state.phase, Phase::Finishing | Phase::Dead) {
                    return Poll::Ready(Ok(()));
                }
                state.idle(context);
                return Poll::Pending;
            }
            let mut slices = [IoSlice::new(&[]); FRAMES_PER_WRITE];
            let mut used = 0;
            let mut skip = state.written;
            let mut window = state.window();
            for (slice, frame) in slices.iter_mut().zip(&state.queue) {
                // What has been begun is finished; the rest waits for an Ack when the window is full.
                if let Some(window) = &mut window
                    && frame.is_counted()
                {
                    if window.is_full() && skip == 0 {
                        break;
                    }
                    window.used += frame.len();
                }
                *slice = IoSlice::new(frame.websocket().get(skip..).unwrap_or_default());
                skip = 0;
                used += 1;
            }
            if used == 0 {
                state.idle(context);
                return Poll::Pending;
            }
            let slices = slices.get(..used).unwrap_or_default();
            let written = ready!(Pin::new(&mut *socket).poll_write_vectored(context, slices))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            state.advance(written);
        }
    }
}

/// Lets go of the state, and wakes the writer if it had nothing to do.
fn release(mut state: MutexGuard<'_, State>) {
    let writer = state.idle_writer.take();
    drop(state);
    if let Some(writer) = writer {
        writer.wake();
    }
}

impl State {
    fn append(&mut self, frame: Frame) {
        if self.queue.is_empty() {
            self.waiting_since = Instant::now();
        }
        self.bytes += frame.len();
        if !frame.is_counted() && self.is_held_back() {
            // An Ack of ours must not wait for one of theirs.
            self.queue.push_front(frame);
        } else {
            self.queue.push_back(frame);
        }
    }

    fn idle(&mut self, context: &Context<'_>) {
        match &mut self.idle_writer {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
    }

    /// Takes what has been written off the queue.
    fn advance(&mut self, written: usize) {
        self.waiting_since = Instant::now();
        if self.queue.is_empty() {
            self.bytes = 0;
        }
        self.written += written;
        while let Some(first) = self.queue.front().map(Frame::len)
            && self.written >= first
        {
            self.written -= first;
            self.bytes -= first;
            let written = self.queue.pop_front();
            if let Some(resumption) = &mut self.resumption
                && let Some(frame) = written
                && frame.is_counted()
            {
                resumption.sent.wrote(frame);
            }
        }
        if self.queue.is_empty() && self.queue.capacity() > FRAMES_PER_WRITE {
            // A burst should not leave its queue behind on a connection that is quiet again.
            self.queue = VecDeque::new();
        }
        self.wake_calm();
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
    use super::*;
    use futures_util::task::noop_waker;
    use hubcast_protocol::Encoding;

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
        outbox.push(frame(400)).unwrap();
        outbox.push(frame(400)).unwrap();
        assert_eq!(outbox.push(frame(400)), Err(Full));
        assert_eq!(outbox.bytes(), 0);
        // The goodbye still goes out.
        outbox.finish(Some(frame(10)));
        assert_eq!(outbox.bytes(), 12);
        assert!(write(&outbox, 1_000).is_ready());
    }

    #[tokio::test]
    async fn a_frame_that_has_been_begun_is_finished_before_the_goodbye() {
        let outbox = Outbox::new(1_000);
        outbox.push(frame(400)).unwrap();
        assert!(write(&outbox, 100).is_pending());
        outbox.push(frame(400)).unwrap();
        assert_eq!(outbox.push(frame(400)), Err(Full));
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
        outbox.push(frame(5_000)).unwrap();
        assert_eq!(outbox.push(frame(1)), Err(Full));
    }

    #[tokio::test]
    async fn many_frames_leave_in_pieces_of_any_size_and_in_order() {
        let outbox = Outbox::new(1 << 20);
        for number in 0..200u8 {
            outbox
                .push(Frame::from_payload(Encoding::Json, &[number; 3]))
                .unwrap();
        }
        let seen = written(&outbox);
        let expected: Vec<u8> = (0..200u8)
            .flat_map(|number| [0x81, 3, number, number, number])
            .collect();
        assert_eq!(seen, expected);
        assert_eq!(outbox.bytes(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_is_stuck_counts_as_stalled() {
        let outbox = Outbox::new(1_000);
        assert_eq!(outbox.stalled_for(), None);
        outbox.push(frame(100)).unwrap();
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(outbox.stalled_for(), Some(Duration::from_secs(3)));
        assert!(write(&outbox, 1).is_pending());
        assert_eq!(outbox.stalled_for(), Some(Duration::ZERO));
    }
}
