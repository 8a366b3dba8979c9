//! The counting of stateful reconnect: which messages have arrived, and which the client may not have.
//!
//! Both sides number the messages they send 1, 2, 3 and so on, for as long as the connection lives, whatever sockets it
//! had. The numbers do not travel: both sides count. Calls, items, completions and cancellations are counted;
//! pings, goodbyes and the messages about the counting itself are not.

use std::collections::VecDeque;

use crate::frame::Frame;

/// What ASP.NET Core and the stock clients say of a `Sequence` that skips messages.
const AHEAD: &str = "Sequence ID greater than amount of messages we've received.";

/// The messages of a client.
#[derive(Debug)]
pub(crate) struct Received {
    /// The number of the message that comes next.
    next: u64,
    /// The highest number that has come: what comes again up to here is known.
    latest: u64,
    /// What the client knows to have arrived.
    acknowledged: u64,
}

impl Default for Received {
    fn default() -> Self {
        Self {
            next: 1,
            latest: 0,
            acknowledged: 0,
        }
    }
}

impl Received {
    /// Counts a message; false if it has come before and shall be dropped.
    pub(crate) fn count(&mut self) -> bool {
        let number = self.next;
        self.next += 1;
        if number <= self.latest {
            return false;
        }
        self.latest = number;
        true
    }

    /// Takes a `Sequence`: the number of the message that follows. An error ends the connection.
    pub(crate) fn go_on_from(&mut self, sequence_id: i64) -> Result<(), &'static str> {
        let next = match u64::try_from(sequence_id) {
            // Not more than `next`, which may be lower after a `Sequence` whose messages were lost with their socket.
            Ok(next) if next > self.latest + 1 => return Err(AHEAD),
            // Numbers begin at 1. Taken, as ASP.NET Core takes it, it would make new messages look like old ones.
            Err(_) | Ok(0) => return Err("Sequence IDs begin at 1."),
            Ok(next) => next,
        };
        self.next = next;
        // A client goes on from the first message that it has seen no Ack for: an Ack may have been lost with a socket,
        // and a client whose buffer is full would wait for it for ever.
        self.acknowledged = self.acknowledged.min(next - 1);
        Ok(())
    }

    /// What an `Ack` would say that is due: something new has come, or something again.
    pub(crate) fn ack_due(&mut self) -> Option<i64> {
        if self.latest <= self.acknowledged {
            return None;
        }
        self.acknowledged = self.latest;
        i64::try_from(self.latest).ok()
    }
}

/// The messages for a client that have been written, and are kept until it says that they have arrived.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// The last of those that have been written to this socket, without gaps.
    kept: VecDeque<Frame>,
    /// The bytes of those that are not acknowledged.
    bytes: usize,
    /// The number of the last message that has been written whole, counted anew on every socket.
    written: u64,
    /// The highest that `written` has ever been: nothing beyond it can have arrived.
    highest: u64,
    acknowledged: u64,
    /// The last message that is written to this socket although it was written to another.
    again_up_to: u64,
}

impl Sent {
    /// How many bytes are not acknowledged.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many bytes are written again to every socket although they are acknowledged.
    pub(crate) fn surplus(&self) -> usize {
        let kept: usize = self.kept.iter().map(Frame::len).sum();
        kept.saturating_sub(self.bytes)
    }

    /// Takes a message that has been written whole.
    pub(crate) fn wrote(&mut self, frame: Frame) {
        self.written += 1;
        self.highest = self.highest.max(self.written);
        if self.written > self.acknowledged {
            self.bytes += frame.len();
        }
        self.kept.push_back(frame);
    }

    /// Takes an `Ack`. One that goes beyond what was sent says that everything has arrived.
    pub(crate) fn acknowledge(&mut self, sequence_id: i64) {
        let number = u64::try_from(sequence_id).unwrap_or(0).min(self.highest);
        if number <= self.acknowledged {
            return;
        }
        let first = self.written + 1 - self.kept.len() as u64;
        let news = (first..)
            .zip(&self.kept)
            .skip_while(|(id, _)| *id <= self.acknowledged)
            .take_while(|(id, _)| *id <= number);
        self.bytes -= news.map(|(_, frame)| frame.len()).sum::<usize>();
        self.acknowledged = number;
        // Of what is written again, an Ack says only that it came once, on whichever socket. The client counts from
        // where this socket began, and would refuse another one that begins beyond what came on this.
        if self.acknowledged > self.again_up_to {
            let arrived = usize::try_from((self.acknowledged + 1).saturating_sub(first));
            let arrived = arrived.unwrap_or(usize::MAX).min(self.kept.len());
            self.kept.drain(..arrived);
            if self.kept.is_empty() {
                self.kept = VecDeque::new();
            }
        }
    }

    /// The socket is gone: what is kept goes in front of what waits, to be written again, and what is not counted is
    /// dropped.
    pub(crate) fn rewind(&mut self, waiting: &mut VecDeque<Frame>) {
        waiting.retain(Frame::is_counted);
        self.written -= self.kept.len() as u64;
        while let Some(frame) = self.kept.pop_back() {
            waiting.push_front(frame);
        }
        self.kept = VecDeque::new();
        self.bytes = 0;
    }

    /// A new socket is there: gives the number of the first message that will be written to it. Comes after
    /// [`rewind`](Self::rewind).
    pub(crate) fn go_on(&mut self, waiting: &mut VecDeque<Frame>) -> i64 {
        // By an Ack of the last socket that was read when it had gone.
        while self.acknowledged > self.again_up_to
            && self.written < self.acknowledged
            && waiting.pop_front().is_some()
        {
            self.written += 1;
        }
        self.again_up_to = self.highest;
        i64::try_from(self.written + 1).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hubcast_protocol::Encoding;
    use proptest::prelude::*;

    #[test]
    fn what_comes_again_is_dropped_and_acknowledged_again() {
        let mut received = Received::default();
        assert_eq!(received.ack_due(), None);
        assert!(received.count() && received.count() && received.count());
        assert_eq!(received.ack_due(), Some(3));
        assert_eq!(received.ack_due(), None);
        received.go_on_from(2).unwrap();
        assert!(!received.count() && !received.count() && received.count());
        assert_eq!(received.ack_due(), Some(4));
        received.go_on_from(4).unwrap();
        assert_eq!(
            received.ack_due(),
            Some(4),
            "the client has not seen the Ack"
        );
        received.go_on_from(5).unwrap();
        assert_eq!(received.ack_due(), None, "and now it has");
    }

    #[test]
    fn a_sequence_that_cannot_be_is_an_error() {
        let mut received = Received::default();
        assert!(received.count());
        assert_eq!(received.go_on_from(3), Err(AHEAD));
        assert_eq!(received.go_on_from(i64::MAX), Err(AHEAD));
        assert!(received.go_on_from(0).is_err());
        assert!(received.go_on_from(-1).is_err());
        assert!(received.go_on_from(i64::MIN).is_err());
        assert_eq!(received.go_on_from(2), Ok(()));
    }

    fn frame(number: u64) -> Frame {
        Frame::from_payload(Encoding::Json, number.to_string().as_bytes())
    }

    fn number(frame: &Frame) -> u64 {
        std::str::from_utf8(frame.payload())
            .unwrap()
            .parse()
            .unwrap()
    }

    #[test]
    fn an_ack_of_what_was_never_sent_is_one_of_everything() {
        let mut sent = Sent::default();
        sent.wrote(frame(1));
        sent.acknowledge(-5);
        assert_eq!(sent.bytes(), 3);
        sent.acknowledge(1_000);
        assert_eq!(sent.bytes(), 0);
        sent.wrote(frame(2));
        assert_eq!(sent.bytes(), 3, "which is not acknowledged in advance");
    }

    /// What can happen between two sides.
    #[derive(Debug, Clone)]
    enum Event {
        /// Something is said.
        Send,
        /// Something is written whole.
        Write,
        /// Something arrives.
        Arrive,
        /// The receiver says how far it has come.
        SendAck,
        /// That arrives.
        TakeAck,
        /// An Ack of long ago, or one that makes no sense.
        OddAck(i64),
        /// The socket is cut, what was on the way is lost, and there is another.
        Cut,
        /// The same, but what the receiver had said is read before the other socket is there.
        LateAckAndCut,
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => Just(Event::Send),
            4 => Just(Event::Write),
            4 => Just(Event::Arrive),
            2 => Just(Event::SendAck),
            2 => Just(Event::TakeAck),
            1 => (-2..5i64).prop_map(Event::OddAck),
            2 => Just(Event::Cut),
            1 => Just(Event::LateAckAndCut),
        ]
    }

    /// A receiver as strict as the stock client: a `Sequence` beyond the next message is an error.
    #[derive(Default)]
    struct StockClient {
        taken: Vec<u64>,
        /// One less than the number of the message that comes next.
        counted: u64,
    }

    impl StockClient {
        fn take(&mut self, frame: &Frame) {
            self.counted += 1;
            assert_eq!(number(frame), self.counted, "both count the same");
            if self.counted > self.taken.len() as u64 {
                self.taken.push(self.counted);
            }
        }

        fn go_on_from(&mut self, first: i64) {
            let first = u64::try_from(first).unwrap();
            assert!((1..=self.counted + 1).contains(&first), "{first}");
            self.counted = first - 1;
        }
    }

    /// One direction of a connection: a sender, a way that loses what is on it when it is cut, and a receiver.
    #[derive(Default)]
    struct Model {
        waiting: VecDeque<Frame>,
        sent: Sent,
        way: VecDeque<Frame>,
        way_back: VecDeque<i64>,
        client: StockClient,
        /// The receiving side of our own, which must agree with the stock client's.
        received: Received,
        said: u64,
    }

    impl Model {
        fn happen(&mut self, event: &Event) {
            match event {
                Event::Send => {
                    self.said += 1;
                    self.waiting.push_back(frame(self.said));
                }
                Event::Write => {
                    if let Some(frame) = self.waiting.pop_front() {
                        self.way.push_back(frame.clone());
                        self.sent.wrote(frame);
                    }
                }
                Event::Arrive => {
                    if let Some(frame) = self.way.pop_front() {
                        let before = self.client.taken.len();
                        self.client.take(&frame);
                        let new = self.client.taken.len() > before;
                        assert_eq!(self.received.count(), new);
                    }
                }
                Event::SendAck => self.way_back.push_back(self.come()),
                Event::TakeAck => {
                    if let Some(number) = self.way_back.pop_front() {
                        self.sent.acknowledge(number);
                    }
                }
                // Never more than has arrived: that would be a client that loses its own messages.
                Event::OddAck(number) => self.sent.acknowledge((*number).min(self.come())),
                Event::Cut => {
                    self.cut();
                    self.resume();
                }
                Event::LateAckAndCut => {
                    let said = std::mem::take(&mut self.way_back);
                    self.cut();
                    for number in said {
                        self.sent.acknowledge(number);
                    }
                    self.resume();
                }
            }
        }

        /// How far the client has come.
        fn come(&self) -> i64 {
            self.client.taken.len().try_into().unwrap()
        }

        fn cut(&mut self) {
            self.way.clear();
            self.way_back.clear();
            self.sent.rewind(&mut self.waiting);
        }

        fn resume(&mut self) {
            let first = self.sent.go_on(&mut self.waiting);
            self.client.go_on_from(first);
            self.received.go_on_from(first).unwrap();
        }

        fn unacknowledged(&self) -> usize {
            let mut kept = self.sent.kept.clone();
            kept.retain(|frame| number(frame) > self.sent.acknowledged);
            kept.iter().map(Frame::len).sum()
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_doubled_and_the_order_is_kept(
            events in proptest::collection::vec(event(), 0..300)
        ) {
            let mut model = Model::default();
            for event in &events {
                model.happen(event);
                prop_assert_eq!(model.sent.bytes(), model.unacknowledged());
            }
            // A last socket that holds: everything arrives.
            model.happen(&Event::Cut);
            while !model.waiting.is_empty() || !model.way.is_empty() {
                model.happen(&Event::Write);
                model.happen(&Event::Arrive);
            }
            // Each once, in order.
            let everything: Vec<u64> = (1..=model.said).collect();
            prop_assert_eq!(&model.client.taken, &everything);
            // What is new on this socket is let go of when that is said.
            for event in [Event::Send, Event::Write, Event::Arrive, Event::SendAck, Event::TakeAck] {
                model.happen(&event);
            }
            prop_assert_eq!(model.sent.bytes(), 0);
            prop_assert!(model.sent.kept.is_empty());
        }
    }
}
