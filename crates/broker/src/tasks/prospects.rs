//! For which types of tasks there are workers, known without looking at every worker.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// What there is for a type of tasks, the best last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Prospect {
    /// No worker.
    Nobody,
    /// Workers, and all are busy.
    Busy,
    /// A worker that has room.
    Room,
}

/// What all workers together are for each type. Bounded by the workers and the types that each may name.
#[derive(Debug, Default)]
pub(super) struct Prospects {
    /// Of the workers that can do all types.
    all: Places,
    /// Of those that named their types; a type is in it while one of them is open.
    kinds: HashMap<i64, Places>,
    turns: u64,
}

/// How many workers there are.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Places {
    busy: u32,
    room: u32,
}

impl Places {
    fn of(&mut self, prospect: Prospect) -> Option<&mut u32> {
        match prospect {
            Prospect::Nobody => None,
            Prospect::Busy => Some(&mut self.busy),
            Prospect::Room => Some(&mut self.room),
        }
    }

    fn change(&mut self, before: Prospect, after: Prospect) {
        if let Some(number) = self.of(before) {
            *number = number.saturating_sub(1);
        }
        if let Some(number) = self.of(after) {
            *number += 1;
        }
    }

    fn best(self) -> Prospect {
        match self {
            Self { room: 1.., .. } => Prospect::Room,
            Self { busy: 1.., .. } => Prospect::Busy,
            Self { .. } => Prospect::Nobody,
        }
    }
}

impl Prospects {
    /// A worker that can do these types (`None` is all) was this, and is that now.
    pub(super) fn change(&mut self, types: Option<&[i64]>, before: Prospect, after: Prospect) {
        if before == after {
            return;
        }
        if (before, after) != (Prospect::Room, Prospect::Busy) {
            self.turns += 1;
        }
        let Some(types) = types else {
            self.all.change(before, after);
            return;
        };
        for kind in types {
            let places = self.kinds.entry(*kind).or_default();
            places.change(before, after);
            if *places == Places::default() {
                self.kinds.remove(kind);
            }
        }
    }

    pub(super) fn of(&self, kind: i64) -> Prospect {
        let named = self.kinds.get(&kind).copied().unwrap_or_default();
        named.best().max(self.all.best())
    }

    /// Another number whenever a worker has got room, has come or has gone: for a type whose workers were busy there may be something else now.
    pub(super) fn turns(&self) -> u64 {
        self.turns
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use fastrand::Rng;
    use tokio::sync::mpsc::unbounded_channel;
    use tokio::time::Instant;

    use super::super::board::{Board, Delivery};
    use super::super::task::{Reason, Task};
    use super::super::worker::{Door, Registration};
    use super::super::{Refusal, TaskOptions};
    use super::Prospect;

    /// There are tasks of one type more.
    const KINDS: i64 = 6;

    fn worker(random: &mut Rng) -> Registration {
        let all = random.u8(..4) == 0;
        let types = (0..random.i64(1..4)).map(|_| random.i64(0..KINDS));
        Registration {
            types: (!all).then(|| types.collect()),
            capacity: random.u32(1..4),
            ..Registration::new(random.u8(..8).to_string(), Door::Push)
        }
    }

    #[test]
    fn what_is_known_of_the_workers_is_what_looking_at_each_of_them_shows() {
        let mut random = Rng::with_seed(7);
        let (notify, _notices) = unbounded_channel();
        let mut board = Board::new(TaskOptions::default(), notify);
        let (orders, _told) = unbounded_channel();
        let mut now = Instant::now();
        let mut seen = [0; 3];
        let mut keys = Vec::new();
        for number in 0..5_000_u64 {
            let before: Vec<_> = (0..=KINDS).map(|kind| board.prospect(kind)).collect();
            let turns = board.turns();
            let id = random.u64(number.saturating_sub(20)..=number).to_string();
            let key = random.choice(keys.iter().copied()).unwrap_or_default();
            match random.u8(..10) {
                0 => keys.push(board.join(worker(&mut random), orders.clone(), 0, now)),
                1 if keys.len() > 3 => {
                    keys.retain(|it| *it != key);
                    board.leave(key, now);
                }
                2 => {
                    now += Duration::from_secs(20);
                    board.tick(now);
                }
                3..=5 => {
                    for key in keys.clone() {
                        let refused = if random.bool() {
                            board.done(key, &id, now)
                        } else {
                            board.refuse(key, &id, &Reason::new("no"), now)
                        };
                        // A worker that was replaced has left.
                        if refused == Err(Refusal::Replaced) {
                            keys.retain(|it| *it != key);
                        }
                    }
                }
                _ => {
                    let task = Task {
                        name: String::new(),
                        kind: random.i64(0..=KINDS),
                    };
                    let delivery = Delivery {
                        number,
                        id: number.to_string().into(),
                        task: Arc::new(task),
                        attempts: 0,
                    };
                    board.arrive(delivery, now);
                }
            }
            for (kind, before) in (0..=KINDS).zip(before) {
                let prospect = board.prospect(kind);
                assert_eq!(prospect, board.best_of_each(kind), "{number}: type {kind}");
                // Whoever was told of busy workers hears of it when that is no longer all.
                let is_old =
                    before == prospect || (before, prospect) == (Prospect::Room, Prospect::Busy);
                assert!(is_old || board.turns() != turns, "{number}: type {kind}");
                if let Some(times) = seen.get_mut(prospect as usize) {
                    *times += 1;
                }
            }
        }
        assert!(seen.iter().all(|times| *times > 100), "{seen:?}");
        board.close();
        assert!((0..=KINDS).all(|kind| board.prospect(kind) == Prospect::Nobody));
    }
}
