//! A sender's messages that are on their way: how many there may be, and when one is over.

use std::time::Instant;

/// A message on its way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot {
    /// When it was sent, or when it should have been.
    pub(crate) due: Instant,
    /// How many have not received it.
    pub(crate) left: u32,
    pub(crate) answered: bool,
    /// Whether its latencies count.
    pub(crate) measured: bool,
}

/// A sender, and how far ahead of its slowest receiver it is.
#[derive(Debug)]
pub(crate) struct Sender {
    pub(crate) sent: u32,
    /// The oldest message that is still on its way.
    pub(crate) oldest: u32,
    /// By number, modulo its length.
    slots: Vec<Slot>,
    /// Whether it waits to be asked what it has to say.
    pub(crate) queued: bool,
}

impl Sender {
    /// A sender that has said nothing yet and may be this far ahead.
    pub(crate) fn new(ahead: usize) -> Self {
        let slot = Slot {
            due: Instant::now(),
            left: 0,
            answered: true,
            measured: false,
        };
        Self {
            sent: 0,
            oldest: 0,
            slots: vec![slot; ahead],
            queued: true,
        }
    }

    /// How many of its messages were not answered.
    pub(crate) fn unanswered(&self) -> usize {
        let numbers = self.oldest..self.sent;
        numbers
            .filter_map(|number| self.slots.get(number as usize % self.slots.len()))
            .filter(|slot| !slot.answered)
            .count()
    }

    pub(crate) fn slot(&mut self, number: u32) -> Option<&mut Slot> {
        let length = self.slots.len();
        (number >= self.oldest && number < self.sent)
            .then(|| self.slots.get_mut(number as usize % length))?
    }

    pub(crate) fn is_full(&self) -> bool {
        (self.sent - self.oldest) as usize >= self.slots.len()
    }

    /// Forgets what everybody has; says whether that was anything.
    pub(crate) fn settle(&mut self) -> bool {
        let before = self.oldest;
        while let Some(Slot {
            left: 0,
            answered: true,
            ..
        }) = self.slot(self.oldest)
        {
            self.oldest += 1;
        }
        self.oldest != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(sender: &mut Sender) {
        let number = sender.sent;
        sender.sent += 1;
        let slot = sender.slot(number).unwrap();
        slot.left = 1;
        slot.answered = false;
    }

    #[test]
    fn a_sender_is_full_until_its_oldest_message_is_received_and_answered() {
        let mut sender = Sender::new(2);
        say(&mut sender);
        say(&mut sender);
        assert!(sender.is_full());
        assert_eq!(sender.unanswered(), 2);

        // The younger one is over first, and lets nobody pass.
        sender.slot(1).unwrap().left = 0;
        sender.slot(1).unwrap().answered = true;
        assert!(!sender.settle());
        sender.slot(0).unwrap().left = 0;
        assert!(!sender.settle());
        assert!(sender.is_full());
        assert_eq!(sender.unanswered(), 1);

        sender.slot(0).unwrap().answered = true;
        assert!(sender.settle());
        assert_eq!(sender.oldest, 2);
        assert!(!sender.is_full());
        assert!(sender.slot(1).is_none(), "it is over");
        assert!(sender.slot(2).is_none(), "it is not sent");
    }
}
