//! One who calls: which calls wait for their answers, and whether an answer is one of theirs.

use std::collections::VecDeque;
use std::time::Instant;

use crate::account::Faults;
use crate::key::Key;

/// A connection that calls, and numbers its calls from 0.
#[derive(Debug)]
pub(crate) struct Caller {
    /// Its number among the callers.
    who: u32,
    sent: u32,
    /// Calls under way and what their latencies count from, oldest first.
    waiting: VecDeque<(u32, Instant)>,
}

impl Caller {
    pub(crate) fn new(who: u32) -> Self {
        Self {
            who,
            sent: 0,
            waiting: VecDeque::new(),
        }
    }

    /// The key of its next call, whose latency counts from then.
    pub(crate) fn call(&mut self, since: Instant) -> Key {
        let key = Key {
            sender: self.who,
            number: self.sent,
        };
        self.sent += 1;
        self.waiting.push_back((key.number, since));
        key
    }

    /// Takes the answer to a call, and says what the call's latency counts from; `None`, and a fault, if no such call is under way.
    pub(crate) fn answered(&mut self, key: Key, faults: &mut Faults) -> Option<Instant> {
        if key.sender != self.who || key.number >= self.sent {
            faults.strange += 1;
            return None;
        }
        // Answers may overtake each other: calls may run side by side.
        let at = self
            .waiting
            .iter()
            .position(|(number, _)| *number == key.number);
        let Some((_, since)) = at.and_then(|at| self.waiting.remove(at)) else {
            faults.doubled += 1;
            return None;
        };
        Some(since)
    }

    /// How many of its calls have no answer yet.
    pub(crate) fn under_way(&self) -> usize {
        self.waiting.len()
    }

    /// What the latency of its oldest call without an answer counts from.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.waiting.front().map(|(_, since)| *since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_once_in_any_order_and_only_by_whoever_called() {
        let (first, second) = (Instant::now(), Instant::now());
        let mut faults = Faults::default();
        let mut caller = Caller::new(7);
        let [one, two] = [first, second].map(|since| caller.call(since));
        assert_eq!(caller.under_way(), 2);
        assert_eq!(caller.answered(two, &mut faults), Some(second));
        assert_eq!(caller.oldest(), Some(first));
        assert_eq!(caller.answered(one, &mut faults), Some(first));
        assert_eq!(caller.under_way(), 0);
        assert_eq!(faults, Faults::default());

        assert_eq!(caller.answered(one, &mut faults), None);
        assert_eq!((faults.doubled, faults.strange), (1, 0));
        for (sender, number) in [(8, 0), (7, 2)] {
            assert_eq!(caller.answered(Key { sender, number }, &mut faults), None);
        }
        assert_eq!((faults.doubled, faults.strange), (1, 2));
    }
}
