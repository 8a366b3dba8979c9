//! The bytes of one client on their way from its transport to the hub: a bounded pipe in memory.

use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;

use crate::close_reason::CloseReason;

/// One writer (the transport), one reader (the handler). Holds no memory while it is empty.
#[derive(Debug)]
pub(crate) struct Pipe {
    state: Mutex<State>,
    capacity: usize,
}

/// What comes out of the pipe.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrived {
    Bytes(BytesMut),
    /// The client begins anew on another socket: what it had not sent whole on the last one will come again.
    Anew,
}

#[derive(Debug, Default)]
struct State {
    buffer: BytesMut,
    /// Whether the reader has yet to hear that the client began anew before the buffer.
    anew: bool,
    end: Option<CloseReason>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    /// A pipe that holds at most `capacity` bytes.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            state: Mutex::default(),
            capacity: capacity.max(1),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves as much of `bytes` into the pipe as it takes; ready when nothing is left of them.
    pub(crate) fn poll_write(&self, context: &mut Context<'_>, bytes: &mut BytesMut) -> Poll<()> {
        if bytes.is_empty() {
            return Poll::Ready(());
        }
        let mut state = self.state();
        if state.end.is_some() {
            bytes.clear();
            return Poll::Ready(());
        }
        let room = self.capacity.saturating_sub(state.buffer.len());
        let piece = if bytes.len() <= room {
            // Nothing is left behind that would keep the memory.
            std::mem::take(bytes)
        } else {
            bytes.split_to(room)
        };
        state.buffer.unsplit(piece);
        let reader = state.reader.take();
        let outcome = if bytes.is_empty() {
            Poll::Ready(())
        } else {
            state.writer = Some(context.waker().clone());
            Poll::Pending
        };
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
        outcome
    }

    /// Whether nothing more will come, or be taken.
    pub(crate) fn has_ended(&self) -> bool {
        self.state().end.is_some()
    }

    /// Says that nothing more will come, and why. The first reason counts.
    pub(crate) fn end(&self, reason: CloseReason) {
        let mut state = self.state();
        state.end.get_or_insert(reason);
        let wakers = [state.reader.take(), state.writer.take()];
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// The client begins anew on another socket: what has arrived and was not read is dropped.
    pub(crate) fn begin_anew(&self) {
        let mut state = self.state();
        state.buffer = BytesMut::new();
        state.anew = true;
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Waits until nothing more will come, and gives the reason; what has arrived stays. Not beside [`read`](Self::read): only one task may
    /// wait for either.
    pub(crate) async fn ended(&self) -> CloseReason {
        poll_fn(|context| {
            let mut state = self.state();
            if let Some(reason) = &state.end {
                return Poll::Ready(reason.clone());
            }
            state.reader = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Takes everything that has arrived; `Err` when nothing has and nothing more will.
    pub(crate) async fn read(&self) -> Result<Arrived, CloseReason> {
        poll_fn(|context| {
            let mut state = self.state();
            if std::mem::take(&mut state.anew) {
                return Poll::Ready(Ok(Arrived::Anew));
            }
            if !state.buffer.is_empty() {
                let bytes = std::mem::take(&mut state.buffer);
                let writer = state.writer.take();
                drop(state);
                if let Some(writer) = writer {
                    writer.wake();
                }
                return Poll::Ready(Ok(Arrived::Bytes(bytes)));
            }
            if let Some(reason) = &state.end {
                return Poll::Ready(Err(reason.clone()));
            }
            match &mut state.reader {
                Some(waker) => waker.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    async fn write(pipe: &Pipe, text: &str) {
        let mut bytes = BytesMut::from(text);
        poll_fn(|context| pipe.poll_write(context, &mut bytes)).await;
    }

    fn bytes(arrived: Result<Arrived, CloseReason>) -> BytesMut {
        match arrived {
            Ok(Arrived::Bytes(bytes)) => bytes,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn what_was_not_read_is_gone_when_the_client_begins_anew() {
        let pipe = Pipe::new(100);
        write(&pipe, "half a mess").await;
        pipe.begin_anew();
        write(&pipe, "a whole one").await;
        assert_eq!(pipe.read().await, Ok(Arrived::Anew));
        assert_eq!(bytes(pipe.read().await), "a whole one");
    }

    #[tokio::test]
    async fn a_full_pipe_makes_the_writer_wait_for_the_reader() {
        let pipe = Arc::new(Pipe::new(4));
        let writer = tokio::spawn({
            let pipe = Arc::clone(&pipe);
            async move { write(&pipe, "123456789").await }
        });
        let mut seen = BytesMut::new();
        while seen.len() < 9 {
            let piece = bytes(pipe.read().await);
            assert!(piece.len() <= 4, "{piece:?}");
            seen.unsplit(piece);
        }
        assert_eq!(seen, "123456789");
        writer.await.unwrap();
    }

    #[tokio::test]
    async fn what_arrived_before_the_end_is_read_before_it() {
        let pipe = Pipe::new(100);
        write(&pipe, "last words").await;
        pipe.end(CloseReason::ClientLeft);
        pipe.end(CloseReason::ConnectionLost);
        assert_eq!(bytes(pipe.read().await), "last words");
        assert_eq!(pipe.read().await, Err(CloseReason::ClientLeft));
        write(&pipe, "too late").await;
        assert_eq!(pipe.read().await, Err(CloseReason::ClientLeft));
    }
}
