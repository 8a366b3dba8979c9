//! Exact accounting: what every receiver has of every sender, and what went wrong.

use std::collections::HashMap;
use std::ops::Range;

use serde_json::{Value, json};

/// How many errors are kept in words; all are counted.
const MAX_ERRORS: usize = 10;

/// How many gaps are remembered. A server that tears more than this has been found out.
const MAX_GAPS: usize = 100_000;

/// What must not happen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// Messages that a receiver never got.
    pub(crate) lost: u64,
    /// Messages that a receiver got again.
    pub(crate) doubled: u64,
    /// Messages that a receiver got after a later one of the same sender.
    pub(crate) reordered: u64,
    /// Messages that a receiver got before another one that some other member of its room, on the same server, got first. Only where they must not be.
    pub(crate) disordered: u64,
    /// Calls that were answered before their own message came back to their caller. Only where they must not be.
    pub(crate) early: u64,
    /// Messages that nobody sent, or not to this receiver.
    pub(crate) strange: u64,
    /// Everything else that should not be: refused calls, connections that ended.
    pub(crate) errors: u64,
    /// The first of those errors, in words.
    pub(crate) said: Vec<String>,
}

impl Faults {
    pub(crate) fn error(&mut self, what: impl Into<String>) {
        self.errors += 1;
        if self.said.len() < MAX_ERRORS {
            self.said.push(what.into());
        }
    }

    /// Says what may be behind the faults, before all else; it is none itself.
    pub(crate) fn explain(&mut self, why: String) {
        self.said.insert(0, why);
        self.said.truncate(MAX_ERRORS);
    }

    pub(crate) fn any(&self) -> bool {
        let mixed = self.reordered + self.disordered + self.early;
        self.lost + self.doubled + mixed + self.strange + self.errors > 0
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.reordered += other.reordered;
        self.disordered += other.disordered;
        self.early += other.early;
        self.strange += other.strange;
        self.errors += other.errors;
        let room = MAX_ERRORS.saturating_sub(self.said.len());
        self.said.extend(other.said.iter().take(room).cloned());
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "lost": self.lost,
            "doubled": self.doubled,
            "reordered": self.reordered,
            "disordered": self.disordered,
            "answered_early": self.early,
            "strange": self.strange,
            "errors": self.errors,
            "said": self.said,
        })
    }
}

/// Who has what. Senders number their messages from 0; a *cell* is one receiver's view of one sender.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// The number that comes next, per cell.
    next: Vec<u32>,
    /// What was skipped, per cell that something was skipped in: ascending and disjoint.
    gaps: HashMap<usize, Vec<Range<u32>>>,
    gap_count: usize,
}

impl Ledger {
    pub(crate) fn new(cells: usize) -> Self {
        Self {
            next: vec![0; cells],
            gaps: HashMap::new(),
            gap_count: 0,
        }
    }

    /// Says whether this delivery is the first of its message here. `sent` is how many the sender has sent.
    pub(crate) fn delivered(
        &mut self,
        cell: usize,
        number: u32,
        sent: u32,
        faults: &mut Faults,
    ) -> bool {
        let Some(next) = self.next.get_mut(cell) else {
            faults.strange += 1;
            return false;
        };
        if number >= sent {
            faults.strange += 1;
            return false;
        }
        if number == *next {
            *next += 1;
            return true;
        }
        if number > *next {
            let gap = *next..number;
            *next = number + 1;
            if self.gap_count < MAX_GAPS {
                self.gap_count += 1;
                self.gaps.entry(cell).or_default().push(gap);
            } else {
                faults.lost += u64::from(gap.end - gap.start);
            }
            return true;
        }
        if self.fill(cell, number) {
            faults.reordered += 1;
            return true;
        }
        faults.doubled += 1;
        false
    }

    /// Whether this message has been delivered here.
    pub(crate) fn has(&self, cell: usize, number: u32) -> bool {
        let gaps = self.gaps.get(&cell).map_or(&[][..], Vec::as_slice);
        self.next.get(cell).is_some_and(|next| number < *next)
            && !gaps.iter().any(|gap| gap.contains(&number))
    }

    /// Takes a number out of the gaps, if it is in one.
    fn fill(&mut self, cell: usize, number: u32) -> bool {
        let Some(gaps) = self.gaps.get_mut(&cell) else {
            return false;
        };
        let Some(at) = gaps.iter().position(|gap| gap.contains(&number)) else {
            return false;
        };
        let gap = gaps.remove(at);
        let parts = [gap.start..number, number + 1..gap.end];
        for part in parts.into_iter().rev().filter(|part| !part.is_empty()) {
            gaps.insert(at, part);
        }
        true
    }

    /// Counts as lost what has not come. `sent` tells how many were sent in the cell.
    pub(crate) fn close(&self, sent: impl Fn(usize) -> u32, faults: &mut Faults) {
        for (cell, next) in self.next.iter().enumerate() {
            faults.lost += u64::from(sent(cell).saturating_sub(*next));
        }
        for gap in self.gaps.values().flatten() {
            faults.lost += u64::from(gap.end - gap.start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What one receiver that gets these of a sender's ten messages is told.
    fn after(numbers: &[u32]) -> Faults {
        let mut ledger = Ledger::new(1);
        let mut faults = Faults::default();
        for number in numbers {
            ledger.delivered(0, *number, 10, &mut faults);
        }
        ledger.close(|_| 10, &mut faults);
        faults
    }

    #[test]
    fn all_in_order_is_no_fault() {
        let faults = after(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(faults, Faults::default());
        assert!(!faults.any());
    }

    #[test]
    fn what_is_lost_is_counted_at_the_start_in_the_middle_and_at_the_end() {
        for (numbers, lost) in [
            (&[1, 2, 3, 4, 5, 6, 7, 8, 9][..], 1),
            (&[0, 1, 2, 6, 7, 8, 9], 3),
            (&[0, 1, 2, 3, 4, 5, 6, 7, 8], 1),
            (&[], 10),
            (&[9], 9),
        ] {
            let faults = after(numbers);
            let expected = Faults {
                lost,
                ..Faults::default()
            };
            assert_eq!(faults, expected, "{numbers:?}");
            assert!(faults.any());
        }
    }

    #[test]
    fn what_comes_twice_is_doubled_even_if_it_came_late() {
        let faults = after(&[0, 1, 1, 2, 0, 3, 4, 5, 6, 7, 8, 9, 9]);
        assert_eq!((faults.doubled, faults.lost, faults.reordered), (3, 0, 0));
        let faults = after(&[0, 2, 1, 1, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!((faults.doubled, faults.lost, faults.reordered), (1, 0, 1));
    }

    #[test]
    fn what_comes_late_is_reordered_and_not_lost() {
        let faults = after(&[0, 5, 3, 1, 2, 4, 6, 7, 9, 8]);
        assert_eq!((faults.reordered, faults.lost, faults.doubled), (5, 0, 0));
    }

    #[test]
    fn what_has_been_delivered_is_known() {
        let mut ledger = Ledger::new(1);
        let mut faults = Faults::default();
        for number in [0, 3, 1] {
            ledger.delivered(0, number, 10, &mut faults);
        }
        let has = [0, 1, 2, 3, 4].map(|number| ledger.has(0, number));
        assert_eq!(has, [true, true, false, true, false]);
        assert!(!ledger.has(1, 0), "there is no such cell");
    }

    #[test]
    fn what_nobody_sent_is_strange() {
        let mut ledger = Ledger::new(1);
        let mut faults = Faults::default();
        assert!(!ledger.delivered(0, 3, 3, &mut faults));
        assert!(!ledger.delivered(1, 0, 3, &mut faults));
        assert_eq!(faults.strange, 2);
    }

    #[test]
    fn more_gaps_than_are_remembered_are_lost() {
        let mut ledger = Ledger::new(1);
        let mut faults = Faults::default();
        let sent = 3 * u32::try_from(MAX_GAPS).unwrap();
        for number in (0..sent).filter(|number| number % 2 == 1) {
            ledger.delivered(0, number, sent, &mut faults);
        }
        ledger.close(|_| sent, &mut faults);
        assert_eq!(faults.lost, u64::from(sent / 2));
        assert_eq!(ledger.gap_count, MAX_GAPS);
    }
}
