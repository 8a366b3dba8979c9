//! What the servers of the queue ask each other, and what follows from the answers.

use std::collections::HashSet;
use std::time::Duration;

use lapin::message::Delivery as Arrived;
use tokio::time::Instant;

use super::Era;
use super::settling::Settled;
use crate::tasks::board::{IN_THE_WAY, Prospect, WorkerKey};
use crate::tasks::lock;
use crate::tasks::rabbit::ledger::Given;
use crate::tasks::rabbit::message::Receipt;
use crate::tasks::rabbit::servers::{Said, What};
use crate::tasks::task::Reason;
use crate::trouble::Trouble;

/// How long another server may take to answer. One that has not by then is gone, or its connection is: it says so when it is back.
pub(super) const ANSWER: Duration = Duration::from_secs(2);

/// For how long after a connection was lost others may not have theirs back yet, so that they cannot answer. They try every five seconds at least.
pub(super) const RETURN: Duration = Duration::from_secs(8);

/// How often questions are looked at.
pub(super) const LOOK: Duration = Duration::from_millis(250);

/// How often a question is repeated, for those who have just come back.
const REPEAT: Duration = Duration::from_millis(500);

/// How many other servers are known at most.
const MOST_SERVERS: usize = 1000;

/// How many workers are announced at once.
const WORKERS_AT_ONCE: usize = 200;

/// A question to the other servers, and the task that it is about. It stays unacknowledged meanwhile.
pub(super) struct Ask {
    given: Given<Receipt>,
    is_about: Question,
    /// Who has not answered.
    silent: HashSet<String>,
    /// Somebody elsewhere can do it.
    is_able: bool,
    /// When silence is an answer.
    until: Instant,
    /// When it is asked again.
    repeat: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// Whether somebody has it already.
    Holds,
    /// Whether somebody can do it.
    Can,
}

impl Era<'_> {
    /// Says something to all other servers. If that fails, the connection is lost.
    pub(super) fn announce(&mut self, what: What) {
        let voice = self.voice.clone();
        self.jobs.push(Box::pin(async move {
            voice.announce(what).await?;
            Ok(Settled::Other)
        }));
    }

    fn answer(&mut self, to: String, what: What) {
        let voice = self.voice.clone();
        self.jobs.push(Box::pin(async move {
            voice.answer(to, what).await?;
            Ok(Settled::Other)
        }));
    }

    /// Says that this server is there, and which workers are.
    pub(super) fn introduce(&mut self) {
        self.announce(What::Hello);
        let workers = lock(&self.queue.side.board).ids();
        for some in workers.chunks(WORKERS_AT_ONCE) {
            let workers = some.to_vec();
            self.announce(What::Joined { workers });
        }
    }

    /// Asks the other servers about a task.
    pub(super) fn ask(&mut self, given: Given<Receipt>, is_about: Question) {
        let now = Instant::now();
        let mut until = now + ANSWER;
        if is_about == Question::Holds {
            until = until.max(self.others_return);
        }
        self.last_ask += 1;
        let ask = Ask {
            given,
            is_about,
            silent: self.others.clone(),
            is_able: false,
            until,
            repeat: now,
        };
        if self.is_over(&ask, now) {
            self.conclude(ask);
        } else {
            self.asks.insert(self.last_ask, ask);
            self.look(now);
        }
    }

    /// Whether there is nothing to wait for.
    fn is_over(&self, ask: &Ask, now: Instant) -> bool {
        let everybody = match ask.is_about {
            Question::Holds => self.others_known.max(self.others_return),
            Question::Can => self.others_known,
        };
        ask.until <= now || (ask.silent.is_empty() && !ask.is_able && everybody <= now)
    }

    /// Ends the questions that can be ended, and asks the others again.
    pub(super) fn look(&mut self, now: Instant) {
        let mut over = Vec::new();
        let mut again = Vec::new();
        for (number, ask) in &self.asks {
            if self.is_over(ask, now) {
                over.push(*number);
            } else if !ask.is_able && ask.repeat <= now {
                again.push(*number);
            }
        }
        for number in over {
            if let Some(ask) = self.asks.remove(&number) {
                for server in &ask.silent {
                    self.others.remove(server);
                }
                self.conclude(ask);
            }
        }
        for number in again {
            let Some(ask) = self.asks.get_mut(&number) else {
                continue;
            };
            ask.repeat = now + REPEAT;
            let what = match ask.is_about {
                Question::Holds => What::Holds {
                    ask: number,
                    key: ask.given.key.clone(),
                },
                Question::Can => What::Can {
                    ask: number,
                    kind: ask.given.task.kind,
                },
            };
            self.announce(what);
        }
    }

    fn conclude(&mut self, ask: Ask) {
        let given = ask.given;
        match ask.is_about {
            Question::Holds => self.hand_out(given),
            Question::Can if ask.is_able => {
                let attempts = given.message.attempts;
                self.retry(given, attempts);
            }
            Question::Can => self.count_attempt(given),
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
        let Said { server, from, what } = match serde_json::from_slice(&said?.data) {
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
            self.others.remove(&server);
            self.no_more_of(&server, |_| true);
            return Ok(());
        }
        if self.others.len() < MOST_SERVERS {
            self.others.insert(server.clone());
        }
        match what {
            What::Hello => self.answer(from, What::Here),
            What::Here | What::Bye => {}
            What::Holds { ask, key } => {
                let known = self.queue.ledger.known(&key, Instant::now());
                self.answer(from, What::Known { ask, known });
            }
            What::Can { ask, kind } => {
                let prospect = lock(&self.queue.side.board).prospect(kind);
                let able = prospect != Prospect::Nobody;
                self.answer(from, What::Able { ask, able });
            }
            What::Known { ask, known } => match known {
                Some(known) => {
                    if let Some(Ask { given, .. }) = self.asked(ask, Question::Holds) {
                        self.recognise(given, known);
                    }
                }
                None => self.no_more_of(&server, |number| number == ask),
            },
            What::Able { ask, able: true } => {
                if let Some(ask) = self.asks.get_mut(&ask)
                    && ask.is_about == Question::Can
                    && !ask.is_able
                {
                    // At once it would come again at once, and whoever can do it has no time to take it.
                    ask.is_able = true;
                    ask.silent.clear();
                    ask.until = Instant::now() + IN_THE_WAY;
                }
            }
            What::Able { ask, able: false } => self.no_more_of(&server, |number| number == ask),
            What::Joined { workers } => self.compare(&server, from, workers),
        }
        Ok(())
    }

    /// A server has answered these questions.
    fn no_more_of(&mut self, server: &str, is_answered: impl Fn(u64) -> bool) {
        for (number, ask) in &mut self.asks {
            if is_answered(*number) {
                ask.silent.remove(server);
            }
        }
        self.look(Instant::now());
    }

    fn asked(&mut self, ask: u64, question: Question) -> Option<Ask> {
        let is_it = self.asks.get(&ask)?.is_about == question;
        is_it.then(|| self.asks.remove(&ask)).flatten()
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
            self.answer(from, What::Joined { workers: later });
        }
    }
}
