//! An outbox on its way to a socket: who writes, and how what waits leaves in few system calls.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::MutexGuard;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use tokio::net::tcp::OwnedWriteHalf;

use super::{Outbox, Phase, State};
use crate::frame::Frame;
use crate::writers::Audience;

/// How many frames leave in one system call. Linux takes 1,024 at most; beyond a few dozen the copy into the
/// socket costs more than the call.
pub(super) const FRAMES_PER_WRITE: usize = 64;

/// Who writes what is pushed next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// The transport: it is at it, or waits for its socket to take more.
    Transport,
    /// The transport, which has nothing to do and must be woken.
    Woken,
    /// A writer, which must be told: the transport has nothing to do, and shares its socket.
    Shared,
    /// A writer, which has been told: one of those for an audience.
    Listed(Audience),
}

impl Outbox {
    /// From now on a writer may write to the socket when the transport has nothing to do, until [`unshare`](Self::unshare).
    pub(crate) fn share(&self, socket: OwnedWriteHalf) {
        let mut state = self.state();
        if state.phase != Phase::Dead {
            state.socket = Some(socket);
        }
    }

    /// From now on only the transport writes. Our half of the socket is shut down.
    pub(crate) fn unshare(&self) {
        let mut state = self.state();
        let socket = state.socket.take();
        release(state);
        drop(socket);
    }

    /// Takes everything that waits, for transports that put it into answers. `None` when nothing will ever come again.
    pub(crate) fn poll_take(&self, context: &mut Context<'_>) -> Poll<Option<VecDeque<Frame>>> {
        let mut state = self.state();
        if state.queue.is_empty() {
            return state.poll_more(context).map(|()| None);
        }
        let taken = std::mem::take(&mut state.queue);
        state.advance(0);
        Poll::Ready(Some(taken))
    }

    /// Takes what has waited the longest, for clients within the process: what they have not looked at still waits. `None` when nothing will ever
    /// come again.
    pub(crate) fn poll_take_one(&self, context: &mut Context<'_>) -> Poll<Option<Frame>> {
        let mut state = self.state();
        let Some(first) = state.queue.front().cloned() else {
            return state.poll_more(context).map(|()| None);
        };
        state.advance(first.len());
        Poll::Ready(Some(first))
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
        if !matches!(state.turn, Turn::Listed(_)) {
            state.turn = Turn::Transport;
        }
        loop {
            if state.queue.is_empty() && matches!(state.phase, Phase::Finishing | Phase::Dead) {
                return Poll::Ready(Ok(()));
            }
            let slices = &mut [IoSlice::new(&[]); FRAMES_PER_WRITE];
            let used = state.gather(slices);
            if used == 0 {
                state.rest(context);
                return Poll::Pending;
            }
            let slices = slices.get(..used).unwrap_or_default();
            let mut socket = Pin::new(&mut *socket);
            let written = match slices {
                // Costs the kernel less.
                [one] => socket.as_mut().poll_write(context, one)?,
                many => socket.as_mut().poll_write_vectored(context, many)?,
            };
            let Poll::Ready(written) = written else {
                // A writer that has been told need not try.
                state.turn = Turn::Transport;
                return Poll::Pending;
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            state.advance(written);
        }
    }

    /// Whether a writer has been told.
    #[cfg(test)]
    pub(crate) fn is_listed(&self) -> bool {
        matches!(self.state().turn, Turn::Listed(_))
    }

    /// What a writer does that has been told: writes what waits, if the socket takes it. If not, the transport sees to it.
    pub(crate) fn write_shared(&self) {
        let mut state = self.state();
        if !matches!(state.turn, Turn::Listed(_)) {
            return;
        }
        while let Some(socket) = &state.socket {
            let slices = &mut [IoSlice::new(&[]); FRAMES_PER_WRITE];
            let used = state.gather(slices);
            if used == 0 {
                state.turn = Turn::Shared;
                return;
            }
            let written = match slices.get(..used).unwrap_or_default() {
                [one] => socket.try_write(one),
                many => socket.try_write_vectored(many),
            };
            match written {
                Ok(written) if written > 0 => state.advance(written),
                // The transport meets the error, too, if it is one.
                _ => break,
            }
        }
        release(state);
    }
}

/// Lets go of the state, and wakes the transport if it rests.
pub(super) fn release(mut state: MutexGuard<'_, State>) {
    state.turn = Turn::Transport;
    let transport = state.transport.take();
    drop(state);
    if let Some(transport) = transport {
        transport.wake();
    }
}

impl State {
    /// What is next to be written; gives how many slices that takes.
    pub(super) fn gather<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut used = 0;
        let mut skip = self.written;
        let mut window = self.window();
        for (slice, frame) in slices.iter_mut().zip(&self.queue) {
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
        used
    }

    /// Nothing waits: ready if nothing ever will.
    fn poll_more(&mut self, context: &Context<'_>) -> Poll<()> {
        if matches!(self.phase, Phase::Finishing | Phase::Dead) {
            return Poll::Ready(());
        }
        self.rest(context);
        Poll::Pending
    }

    /// The transport has nothing to do.
    pub(super) fn rest(&mut self, context: &Context<'_>) {
        match &mut self.transport {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        self.turn = match self.turn {
            // Not told twice.
            listed @ Turn::Listed(_) => listed,
            _ if self.socket.is_some() => Turn::Shared,
            _ => Turn::Woken,
        };
    }

    /// Takes what has been written off the queue.
    pub(super) fn advance(&mut self, written: usize) {
        self.moved = true;
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
        self.wake_calm();
    }
}
