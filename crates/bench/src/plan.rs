//! Who says what to whom, when rooms talk.

/// The length of what is said in a room beside another one.
const BYTES_BESIDE: u32 = 64;

/// A room beside another one, in which one member talks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Small {
    pub(crate) members: u32,
    /// Messages per second.
    pub(crate) rate: f64,
}

/// What is said, by whom and to whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) rooms: u32,
    /// Per room.
    pub(crate) members: u32,
    /// Per room; they are members.
    pub(crate) senders: u32,
    pub(crate) bytes: u32,
    /// How many messages a sender may be ahead of the slowest receiver.
    pub(crate) ahead: u32,
    /// Messages per second, of all senders.
    pub(crate) rate: Option<f64>,
    /// Connections in no room that call meanwhile.
    pub(crate) callers: u32,
    /// Another room, which talks meanwhile.
    pub(crate) beside: Option<Small>,
    /// Further members of the first room, who do not read.
    pub(crate) slow: u32,
    /// Whether one order for a room and answers behind what was called for are demanded.
    pub(crate) strict: bool,
}

impl Plan {
    /// The plan of a room beside another one.
    pub(crate) fn beside(small: Small, strict: bool) -> Self {
        Self {
            rooms: 1,
            members: small.members,
            senders: 1,
            bytes: BYTES_BESIDE,
            ahead: 1,
            rate: Some(small.rate),
            callers: 0,
            beside: None,
            slow: 0,
            strict,
        }
    }

    /// The connection of a sender: the first members of every room talk.
    pub(crate) fn link(&self, who: u32) -> usize {
        let [who, senders, members] = [who, self.senders, self.members].map(|count| count as usize);
        // Whoever a server says that somebody is: it may name more than there are.
        (who / senders).saturating_mul(members) + who % senders
    }

    /// Where the ledger has what a receiver has of a sender.
    pub(crate) fn cell(&self, id: usize, who: u32) -> usize {
        id * self.senders as usize + (who % self.senders) as usize
    }

    /// How many are to get everything.
    pub(crate) fn listeners(&self) -> usize {
        self.rooms as usize * self.members as usize
    }

    /// The room of a connection: all listeners come before the slow members.
    pub(crate) fn room(&self, id: usize) -> usize {
        if id < self.listeners() {
            id / self.members as usize
        } else {
            0
        }
    }
}
