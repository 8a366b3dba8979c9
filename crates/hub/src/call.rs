//! One call on its way: who wants the answer, how errors are told, and whether it has been taken back.

use std::borrow::Cow;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::task::Waker;

use futures_util::task::AtomicWaker;
use hubcast_protocol::{EncodeError, Encoding};
use serde::Serialize;
use tokio::sync::Notify;

use crate::error::{HubError, InvokeError};
use crate::frame::Frame;

/// Who wants the answer to a call, if anybody, how errors are told, and how the call fares. What runs and the connection it came from
/// share it.
#[derive(Debug)]
pub(crate) struct Call {
    /// `None`: nobody wants an answer, whatever happens.
    pub(crate) invocation_id: Option<String>,
    /// The method's name in the caller's spelling, for texts.
    pub(crate) target: Cow<'static, str>,
    /// What the answer is written in.
    pub(crate) encoding: Encoding,
    pub(crate) detailed_errors: bool,
    pub(crate) state: CallState,
}

/// What a client is told about a call that a server which goes away has no time for.
pub(crate) const SHUTTING_DOWN: &str = " HubException: The server is shutting down.";

impl Call {
    /// What is no client's call: the hub only hears of a connection.
    pub(crate) fn of_the_hub(state: CallState) -> Self {
        Self {
            invocation_id: None,
            target: Cow::Borrowed(""),
            encoding: Encoding::Json,
            detailed_errors: false,
            state,
        }
    }

    /// The answer with a value, where one is wanted.
    pub(crate) fn succeeded<T: Serialize>(&self, value: &T) -> Result<Option<Frame>, HubError> {
        let Some(id) = self.invocation_id.as_deref() else {
            return Ok(None);
        };
        let answer = Frame::encode(self.encoding, |out| {
            self.encoding.write_result(out, id, value)
        });
        answer.map(Some).map_err(|error| self.unencodable(error))
    }

    /// One item of the stream that answers the call.
    pub(crate) fn item<T: Serialize>(&self, item: &T) -> Result<Frame, HubError> {
        let id = self.invocation_id.as_deref().unwrap_or_default();
        let item = Frame::encode(self.encoding, |out| {
            self.encoding.write_stream_item(out, id, item)
        });
        item.map_err(|error| self.unencodable(error))
    }

    fn unencodable(&self, error: EncodeError) -> HubError {
        tracing::error!(target = &*self.target, %error, "what a hub method gave could not be encoded");
        error.into()
    }

    /// The end of the stream that answers the call.
    pub(crate) fn stream_ended(&self) -> Option<Frame> {
        let id = self.invocation_id.as_deref()?;
        Some(Frame::infallible(self.encoding, |out| {
            self.encoding.write_void(out, id);
        }))
    }

    /// The answer to a call whose method failed.
    pub(crate) fn failed(&self, error: &HubError) -> Option<Frame> {
        tracing::info!(target = &*self.target, %error, "a hub method failed");
        self.failed_to_run(&error.detail(self.detailed_errors))
    }

    /// The answer to a call whose stream failed after it had begun.
    pub(crate) fn stream_failed(&self, error: &HubError) -> Option<Frame> {
        tracing::info!(target = &*self.target, %error, "the stream of a hub method failed");
        let detail = error.detail(self.detailed_errors);
        self.error(&format!(
            "An error occurred on the server while streaming results.{detail}"
        ))
    }

    /// The answer to a call whose method panicked, or its stream.
    pub(crate) fn panicked(&self) -> Option<Frame> {
        // The panic hook has printed the message and where it came from.
        tracing::error!(target = &*self.target, "a hub method panicked");
        if self.state.streams.load(Ordering::Relaxed) {
            self.error("An error occurred on the server while streaming results.")
        } else {
            self.failed_to_run("")
        }
    }

    /// The answer to a call whose method ran and failed. `detail` is empty or starts with a space.
    pub(crate) fn failed_to_run(&self, detail: &str) -> Option<Frame> {
        let target = &self.target;
        self.error(&format!(
            "An unexpected error occurred invoking '{target}' on the server.{detail}"
        ))
    }

    /// The answer to a call that did not come as far as running.
    pub(crate) fn failed_to_bind(&self, detail: &str) -> Option<Frame> {
        let target = &self.target;
        self.error(&format!(
            "Failed to invoke '{target}' due to an error on the server.{detail}"
        ))
    }

    /// The answer with a text of its own.
    pub(crate) fn error(&self, text: &str) -> Option<Frame> {
        let id = self.invocation_id.as_deref()?;
        Some(Frame::infallible(self.encoding, |out| {
            self.encoding.write_error(out, id, text);
        }))
    }
}

/// Why a call should come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The client no longer wants it.
    Canceled = 1,
    /// The client is gone.
    Disconnected = 2,
    /// The server goes away.
    Shutdown = 3,
}

/// What a running call and the connection it came from know of each other.
#[derive(Debug, Default)]
pub(crate) struct CallState {
    /// A [`Stop`], or 0.
    stop: AtomicU8,
    /// Whoever waits for it, and for no longer than that: a call may live long, and many may begin to wait in it.
    stopping: Notify,
    /// Whether the call holds one of its connection's slots.
    holds_slot: AtomicBool,
    /// Whether it has begun to give a stream.
    streams: AtomicBool,
    /// Whether the hub only hears of the connection, of which nothing is read before it has.
    is_welcome: bool,
}

impl CallState {
    /// The state of the call in which the hub hears of a new connection.
    pub(crate) fn of_welcome() -> Self {
        Self {
            is_welcome: true,
            ..Self::default()
        }
    }

    /// The call is about to wait for what a client answers, perhaps its own, whose messages must go on meanwhile.
    pub(crate) fn before_waiting(&self, slots: &Slots) -> Result<(), InvokeError> {
        if self.is_welcome {
            // Would wait for ever.
            return Err(InvokeError::InsideOnConnected);
        }
        self.give_slot_back(slots);
        Ok(())
    }

    /// Asks the call to end. The first reason counts.
    pub(crate) fn stop(&self, why: Stop) {
        let first = self
            .stop
            .compare_exchange(0, why as u8, Ordering::AcqRel, Ordering::Acquire);
        if first.is_ok() {
            self.stopping.notify_waiters();
        }
    }

    /// Why the call should end, if it should.
    pub(crate) fn stopped(&self) -> Option<Stop> {
        match self.stop.load(Ordering::Acquire) {
            1 => Some(Stop::Canceled),
            2 => Some(Stop::Disconnected),
            3 => Some(Stop::Shutdown),
            _ => None,
        }
    }

    /// Waits until the call should end. Any number of tasks may wait.
    pub(crate) async fn until_stopped(&self) -> Stop {
        loop {
            let mut stopping = pin!(self.stopping.notified());
            // From here on it hears of it; whoever stops the call says so before telling.
            stopping.as_mut().enable();
            if let Some(why) = self.stopped() {
                return why;
            }
            stopping.await;
        }
    }

    /// The call has begun to give a stream.
    pub(crate) fn begins_to_stream(&self) {
        self.streams.store(true, Ordering::Relaxed);
    }

    pub(crate) fn take_slot(&self, slots: &Slots) {
        self.holds_slot.store(true, Ordering::Relaxed);
        slots.taken.fetch_add(1, Ordering::AcqRel);
    }

    /// Gives the call's slot back, if it holds one: at its end, or when it begins to wait for its own client.
    pub(crate) fn give_slot_back(&self, slots: &Slots) {
        if self.holds_slot.swap(false, Ordering::AcqRel) {
            slots.taken.fetch_sub(1, Ordering::AcqRel);
            slots.freed.wake();
        }
    }
}

/// How many plain calls of a connection run.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    taken: AtomicUsize,
    /// Whoever begins calls when one of them ends.
    freed: AtomicWaker,
}

impl Slots {
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }

    /// Wakes a task when a slot is given back. Only one task may wait.
    pub(crate) fn register(&self, waker: &Waker) {
        self.freed.register(waker);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::{Context, Wake};

    use super::*;

    struct Counted;

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {}
    }

    #[test]
    fn who_no_longer_waits_for_the_end_of_a_call_is_forgotten() {
        let state = CallState::default();
        let counted = Arc::new(Counted);
        let waker = Waker::from(Arc::clone(&counted));
        {
            let mut waiting = pin!(state.until_stopped());
            let mut context = Context::from_waker(&waker);
            assert!(waiting.as_mut().poll(&mut context).is_pending());
            assert_eq!(Arc::strong_count(&counted), 3);
        }
        assert_eq!(Arc::strong_count(&counted), 2);
    }

    #[tokio::test]
    async fn all_who_wait_hear_the_first_reason() {
        let state = CallState::default();
        let both = async { tokio::join!(state.until_stopped(), state.until_stopped()) };
        let stop = async {
            state.stop(Stop::Canceled);
            state.stop(Stop::Shutdown);
        };
        let (both, ()) = tokio::join!(both, stop);
        assert_eq!(both, (Stop::Canceled, Stop::Canceled));
        assert_eq!(state.until_stopped().await, Stop::Canceled);
    }
}
