//! Members of a room who do not read.

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::calls;
use crate::hear::Heard;
use crate::key::Key;
use crate::pool::{Listener, Pool};
use crate::round::Setup;

/// The length of what they say when they are asked whether they are still there.
const BYTES: u32 = 16;

/// Who does not read, and what has become of them.
#[derive(Debug)]
pub(crate) struct Slow {
    links: Range<usize>,
    /// Whether they have begun not to read.
    deaf: bool,
    /// How much they have heard since they read again.
    heard: u64,
    answered: usize,
    ended: usize,
}

impl Slow {
    /// The connections of these numbers, which still read.
    pub(crate) fn new(links: Range<usize>) -> Self {
        Self {
            links,
            deaf: false,
            heard: 0,
            answered: 0,
            ended: 0,
        }
    }

    /// How many the server has ended; nothing if there are none to end.
    pub(crate) fn ended(&self) -> Option<usize> {
        (!self.links.is_empty()).then_some(self.ended)
    }

    /// Whether this connection is one that has stopped reading.
    pub(crate) fn is(&self, id: usize) -> bool {
        self.deaf && self.links.contains(&id)
    }

    /// From now on they do not read.
    pub(crate) fn stop_reading(&mut self, pool: &mut Pool) -> anyhow::Result<()> {
        self.deaf = true;
        for id in self.links.clone() {
            pool.listen(id, false)?;
        }
        Ok(())
    }

    /// One of them has heard something after all: it is what had waited, and the answer that tells that it is still served.
    pub(crate) fn heard(&mut self, heard: &Heard) {
        self.heard += 1;
        if let Heard::Completion(_) = heard {
            self.answered += 1;
        }
    }

    /// One of them has come to its end.
    pub(crate) fn closed(&mut self) {
        self.ended += 1;
    }
}

/// Lets them read again, and asks each for an answer: who gets none was ended by the server, of which a connection that does not read hears nothing.
/// Returns how many are neither answered nor ended.
pub(crate) fn ask<L>(
    pool: &mut Pool,
    listener: &mut L,
    setup: &mut Setup<'_>,
) -> anyhow::Result<usize>
where
    L: Listener + AsRef<Slow>,
{
    let call = calls::echo(setup.common, BYTES)?;
    let slow: &Slow = listener.as_ref();
    for id in slow.links.clone() {
        pool.listen(id, true)?;
        let key = Key {
            sender: u32::try_from(id).unwrap_or(u32::MAX),
            number: 0,
        };
        pool.send(id, |out| calls::write(&call, key, out));
        pool.flush(id, listener);
    }
    let mut last = (0, Instant::now());
    loop {
        let slow: &Slow = listener.as_ref();
        let left = slow.links.len().saturating_sub(slow.answered + slow.ended);
        let so_far = slow.heard + slow.ended as u64;
        let now = Instant::now();
        if so_far != last.0 {
            last = (so_far, now);
        }
        if left == 0 || now > last.1 + setup.patience() {
            return Ok(left);
        }
        setup.progress.tell(|| "asking slow members".to_owned());
        pool.turn(now + Duration::from_millis(20), listener)?;
    }
}
