//! What the servers of the queue ask each other, and what follows from the answers.

use std::time::Duration;

use lapin::message::Delivery as Arrived;
use tokio::time::Instant;

use super::Era;
use crate::tasks::board::{Prospect, WorkerKey};
use crate::tasks::lock;
use crate::tasks::rabbit::asks::{Ask, Question};
use crate::tasks::rabbit::ledger::{Given, Known};
use crate::tasks::rabbit::message::Receipt;
use crate::tasks::rabbit::servers::{Said, What};
use crate::tasks::task::Reason;
use crate::trouble::Trouble;

/// How often open questions are looked at.
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// How many workers are announced at once.
const WORKERS_AT_ONCE: usize = 200;

impl Era<'_> {
    /// Says that this server is there, and which workers are.
    pub(super) fn introduce(&mut self) {
        self.voice.announce(What::Hello);
        let workers = lock(&self.queue.side.board).ids();
        for some in workers.chunks(WORKERS_AT_ONCE) {
            let workers = some.to_vec();
            self.voice.announce(What::Joined { workers });
        }
    }

    /// Asks the other servers about a task.
    pub(super) fn ask(&mut self, given: Given<Receipt>, is_about: Question) {
        self.asks.begin(given, is_about, Instant::now());
        self.look();
    }

    /// Ends the questions that can be ended, and asks the others, as far as they can be.
    pub(super) fn look(&mut self) {
        let room = if self.is_heard() {
            self.voice.room()
        } else {
            0
        };
        let (over, open) = self.asks.look(Instant::now(), room);
        for ask in over {
            self.conclude(ask);
        }
        for number in open {
            let Some(Ask {
                given, is_about, ..
            }) = self.asks.get(number)
            else {
                continue;
            };
            let what = match is_about {
                Question::Holds => What::Holds {
                    ask: number,
                    key: given.key.clone(),
                },
                Question::Can => What::Can {
                    ask: number,
                    kind: given.task.kind,
                },
            };
            self.voice.announce(what);
        }
    }

    fn conclude(&mut self, ask: Ask<Receipt>) {
        let given = ask.given;
        match ask.is_about {
            Question::Holds => self.hand_out(given),
            Question::Can => match ask.prospect {
                Prospect::Nobody => self.count_attempt(given),
                Prospect::Busy => {
                    let attempts = given.message.attempts;
                    self.retry(given, attempts);
                }
                Prospect::Room => self.give_back(given),
            },
        }
    }

    /// No worker of any server can do it.
    fn count_attempt(&mut self, given: Given<Receipt>) {
        let attempts = given.message.attempts + 1;
        if attempts < self.queue.side.options.attempts {
            self.retry(given, attempts);
        } else {
            let reason = Reason::nobody(given.task.kind);
            self.bury(&given.id, &given.message, given.receipt, attempts, &reason);
        }
    }

    /// A server has said something.
    pub(super) fn listen(&mut self, said: lapin::Result<Arrived>) -> Result<(), Trouble> {
        let said = said.map_err(Trouble::asking("taking tasks"))?;
        let Said { server, from, what } = match serde_json::from_slice(&said.data) {
            Ok(said) => said,
            Err(error) => {
                tracing::debug!(%error, "another server is not understood");
                return Ok(());
            }
        };
        if *server == *self.queue.server {
            return Ok(());
        }
        if what == What::Bye {
            self.asks.is_gone(&server);
            self.look();
            return Ok(());
        }
        self.asks.is_there(&server, Instant::now());
        match what {
            What::Hello => self.voice.answer(from, What::Here),
            What::Here | What::Bye => {}
            What::Holds { ask, key } => {
                let ledger = &mut self.queue.ledger;
                let mut known = ledger.answer(&from, ask, &key, Instant::now());
                if known.is_none() && self.asks.has_before(&key, &self.queue.server, &server) {
                    ledger.is_put_off(&key);
                    known = Some(Known::Running);
                }
                self.voice.answer(from, What::Known { ask, known });
            }
            What::Can { ask, kind } => {
                let prospect = lock(&self.queue.side.board).prospect(kind);
                self.voice.answer(from, What::Able { ask, prospect });
            }
            What::Known {
                ask,
                known: Some(known),
            } => {
                if let Some(given) = self.asks.known(ask) {
                    self.recognise(given, known);
                }
            }
            What::Known { ask, known: None }
            | What::Able {
                ask,
                prospect: Prospect::Nobody,
            } => {
                self.asks.no(&server, ask);
                self.look();
            }
            What::Able { ask, prospect } => self.asks.able(ask, prospect, Instant::now()),
            What::Joined { workers } => self.compare(&server, from, workers),
        }
        Ok(())
    }

    /// Of two workers of one id the one that came later stays, wherever it is. Whoever does not know that yet is told.
    fn compare(&mut self, server: &str, from: String, workers: Vec<(String, WorkerKey)>) {
        let now = Instant::now();
        let mut board = lock(&self.queue.side.board);
        let mut later = Vec::new();
        for (id, theirs) in workers {
            board.heard_of(theirs);
            let Some(ours) = board.key_of(&id) else {
                continue;
            };
            if (ours, &*self.queue.server) < (theirs, server) {
                board.dismiss(ours, now);
            } else {
                later.push((id, ours));
            }
        }
        drop(board);
        if !later.is_empty() {
            self.voice.answer(from, What::Joined { workers: later });
        }
    }
}
