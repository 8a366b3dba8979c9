//! An outbox that outlives its socket, for stateful reconnect: what has been written is kept until the client says that it
//! has arrived, and what has not is written again to the next socket.

use super::{Outbox, Phase, State, Turn, release};
use crate::frame::Frame;
use crate::sequence::Sent;

#[derive(Debug)]
pub(super) struct Resumption {
    pub(super) sent: Sent,
    /// While more bytes than this are not acknowledged, nothing more is written that must be.
    window: usize,
    /// While there is no socket: how many more bytes of what the client did not ask for may come to wait for one.
    detached: Option<usize>,
}

/// How much may be written that the client has not acknowledged.
pub(super) struct Window {
    pub(super) used: usize,
    size: usize,
}

impl Window {
    /// The message that goes beyond the size is the last, as in ASP.NET Core.
    pub(super) fn is_full(&self) -> bool {
        self.used > self.size
    }
}

impl Outbox {
    /// From now on a lost socket may be followed by another. At most about `window` bytes are then written without an
    /// acknowledgement, and as many more may come to wait while there is no socket.
    pub(crate) fn make_resumable(&self, window: usize) {
        let mut state = self.state();
        if state.phase == Phase::Open {
            state.resumption = Some(Box::new(Resumption {
                sent: Sent::default(),
                window,
                detached: None,
            }));
        }
    }

    /// Whether a lost socket may be followed by another.
    pub(crate) fn is_resumable(&self) -> bool {
        self.state().resumption.is_some()
    }

    /// There shall be no other socket than this one.
    pub(crate) fn forgo_resumption(&self) {
        let mut state = self.state();
        state.resumption = None;
        release(state);
    }

    /// Takes an `Ack` of the client.
    pub(crate) fn acknowledge(&self, sequence_id: i64) {
        let mut state = self.state();
        if let Some(resumption) = &mut state.resumption {
            resumption.sent.acknowledge(sequence_id);
        }
        release(state);
    }

    /// The socket is gone: what the client may not have waits again. False if there cannot be another.
    pub(crate) fn detach(&self) -> bool {
        let mut state = self.state();
        let State {
            queue, resumption, ..
        } = &mut *state;
        let Some(resumption) = resumption else {
            return false;
        };
        // A client that says on every socket no more than that all has come again is sent more on each.
        if resumption.sent.surplus() > self.limit {
            state.resumption = None;
            return false;
        }
        resumption.sent.rewind(queue);
        let bytes: usize = queue.iter().map(Frame::len).sum();
        resumption.detached = Some(resumption.window);
        state.bytes = bytes;
        // A message that had been begun is begun anew.
        state.written = 0;
        state.turn = Turn::Transport;
        state.transport = None;
        true
    }

    /// Another socket is there; what `sequence` makes of the number of the first message that follows is the first to
    /// be written to it. False if there cannot be another. Comes after [`detach`](Self::detach).
    pub(crate) fn attach(&self, sequence: impl FnOnce(i64) -> Frame) -> bool {
        let mut state = self.state();
        let State {
            queue, resumption, ..
        } = &mut *state;
        let Some(resumption) = resumption else {
            return false;
        };
        let first = resumption.sent.go_on(queue);
        resumption.detached = None;
        queue.push_front(sequence(first));
        state.bytes = queue.iter().map(Frame::len).sum();
        state.moved = true;
        state.wake_calm();
        true
    }

    /// Whether the outbox has lost its socket and waits for another.
    pub(crate) fn is_detached(&self) -> bool {
        self.state().detached().is_some()
    }
}

impl State {
    /// The room that is left for what the client did not ask for, while there is no socket.
    pub(super) fn detached(&mut self) -> Option<&mut usize> {
        self.resumption.as_mut()?.detached.as_mut()
    }

    pub(super) fn window(&self) -> Option<Window> {
        let resumption = self.resumption.as_ref()?;
        Some(Window {
            used: resumption.sent.bytes(),
            size: resumption.window,
        })
    }

    /// Whether what comes next may not be written before the client has acknowledged something.
    pub(super) fn is_held_back(&self) -> bool {
        self.written == 0
            && self.window().is_some_and(|window| window.is_full())
            && self.queue.front().is_some_and(Frame::is_counted)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Full;
    use super::super::tests::{frame, write, written};
    use super::*;
    use crate::writers::Audience;
    use hubcast_protocol::Encoding;

    fn resumable() -> Outbox {
        let outbox = Outbox::new(1_000);
        outbox.make_resumable(100);
        outbox
    }

    fn sequence(number: i64) -> Frame {
        Frame::sequence(Encoding::Json, number)
    }

    #[tokio::test]
    async fn a_frame_that_has_been_begun_is_begun_anew_on_the_next_socket() {
        let outbox = resumable();
        outbox.push(frame(50), Audience::Few).unwrap();
        assert!(write(&outbox, 20).is_pending());
        assert!(outbox.detach());
        assert!(outbox.attach(sequence));
        let expected = [sequence(1), frame(50)].map(|frame| frame.websocket().to_vec());
        assert_eq!(written(&outbox), expected.concat());
    }

    #[tokio::test]
    async fn what_is_not_counted_is_not_written_again() {
        let outbox = resumable();
        outbox.push(frame(1), Audience::Few).unwrap();
        outbox.push(sequence(77), Audience::Few).unwrap();
        outbox.push(frame(2), Audience::Few).unwrap();
        assert!(write(&outbox, 4).is_pending());
        assert!(outbox.detach());
        outbox
            .push(Frame::ack(Encoding::Json, 5), Audience::Few)
            .unwrap();
        assert_eq!(outbox.bytes(), frame(1).len() + frame(2).len());
        assert!(outbox.attach(sequence));
        let expected = [sequence(1), frame(1), frame(2)].map(|frame| frame.websocket().to_vec());
        assert_eq!(written(&outbox), expected.concat());
    }

    #[tokio::test]
    async fn an_outbox_that_ends_has_no_other_socket_and_keeps_nothing() {
        for end in [
            |outbox: &Outbox| outbox.finish(None),
            Outbox::kill,
            Outbox::forgo_resumption,
            |outbox: &Outbox| {
                outbox.push(frame(500), Audience::Few).unwrap();
                assert_eq!(outbox.push(frame(500), Audience::Few), Err(Full));
            },
        ] {
            let outbox = resumable();
            assert!(outbox.is_resumable());
            end(&outbox);
            assert!(!outbox.is_resumable());
            assert!(!outbox.detach());
            assert!(!outbox.attach(sequence));
        }
    }
}
