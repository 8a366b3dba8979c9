//! How long connections hear nothing.

use std::time::{Duration, Instant};

/// When each connection has heard something last, and the longest silence that is over.
#[derive(Debug)]
pub(crate) struct Silence {
    heard: Vec<Option<Instant>>,
    longest: (usize, Duration),
}

impl Silence {
    pub(crate) fn new(connections: usize) -> Self {
        Self {
            heard: vec![None; connections],
            longest: (0, Duration::ZERO),
        }
    }

    /// A connection is open from now on.
    pub(crate) fn begins(&mut self, id: usize, now: Instant) {
        if let Some(heard) = self.heard.get_mut(id) {
            *heard = Some(now);
        }
    }

    /// A connection has heard something.
    pub(crate) fn broken(&mut self, id: usize, now: Instant) {
        let heard = self.heard.get_mut(id).and_then(|heard| heard.replace(now));
        if let Some(since) = heard {
            self.note(id, now.saturating_duration_since(since));
        }
    }

    /// The longest silence of all, and whose it was or is.
    pub(crate) fn longest(&mut self, now: Instant) -> (usize, Duration) {
        let open = self.heard.iter().enumerate();
        let oldest = open
            .filter_map(|(id, heard)| Some((id, (*heard)?)))
            .min_by_key(|(_, since)| *since);
        if let Some((id, since)) = oldest {
            self.note(id, now.saturating_duration_since(since));
        }
        self.longest
    }

    fn note(&mut self, id: usize, silence: Duration) {
        if silence > self.longest.1 {
            self.longest = (id, silence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_silence_is_known_whether_it_is_over_or_not() {
        let began = Instant::now();
        let after = |seconds| began + Duration::from_secs(seconds);
        let mut silence = Silence::new(3);
        assert_eq!(silence.longest(after(9)), (0, Duration::ZERO), "nobody");
        // The third is never opened, and has nothing to hear.
        silence.begins(0, began);
        silence.begins(1, after(1));
        silence.broken(0, after(4));
        assert_eq!(silence.longest(after(4)), (0, Duration::from_secs(4)));
        assert_eq!(silence.longest(after(6)), (1, Duration::from_secs(5)));
        silence.broken(1, after(20));
        silence.broken(0, after(21));
        assert_eq!(silence.longest(after(22)), (1, Duration::from_secs(19)));
    }
}
