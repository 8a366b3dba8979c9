//! What the servers of the queue ask each other, and what follows from an answer, or from none.

use std::time::Duration;

use lapin::message::Delivery as Arrived;
use tokio::time::Instant;

use super::Era;
use crate::tasks::lock;
use crate::tasks::rabbit::ledger::Given;
use crate::tasks::rabbit::message::Receipt;
use crate::tasks::rabbit::servers::Said;
use crate::tasks::task::Reason;
use crate::trouble::Trouble;

/// How long another server may take to answer.
const ANSWER: Duration = Duration::from_secs(1);

/// For how long after a connection was lost others may not have theirs back yet, so that they cannot answer. They try every five seconds at least.
pub(super) const RETURN: Duration = Duration::from_secs(8);

/// How often a question is repeated, for those who have just come back.
pub(super) const REPEAT: Duration = Duration::from_millis(500);

/// A question to the other servers, and the task that it is about. It stays unacknowledged meanwhile.
pub(super) struct Ask {
    given: Given<Receipt>,
    is_about: Question,
    /// When silence is an answer.
    until: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// Whether somebody has it already.
    Holds,
    /// Whether somebody can do it.
    Can,
}

impl Era<'_> {
    /// Asks the other servers about a task.
    pub(super) async fn ask(
        &mut self,
        given: Given<Receipt>,
        is_about: Question,
    ) -> Result<(), Trouble> {
        let mut until = Instant::now() + ANSWER;
        if is_about == Question::Holds {
            until = until.max(self.others_return);
        }
        self.last_ask += 1;
        let ask = self.last_ask;
        self.asks.insert(
            ask,
            Ask {
                given,
                is_about,
                until,
            },
        );
        self.repeat(ask).await
    }

    async fn repeat(&mut self, ask: u64) -> Result<(), Trouble> {
        let Some(Ask {
            given, is_about, ..
        }) = self.asks.get(&ask)
        else {
            return Ok(());
        };
        let from = self.voice.name();
        let said = match is_about {
            Question::Holds => Said::Holds {
                from,
                ask,
                key: given.key.clone(),
            },
            Question::Can => Said::Can {
                from,
                ask,
                kind: given.task.kind,
            },
        };
        self.voice.announce(&said).await
    }

    /// Takes silence for an answer where it has lasted long enough, and asks again where it has not.
    pub(super) async fn conclude(&mut self) -> Result<(), Trouble> {
        let now = Instant::now();
        let (over, open): (Vec<_>, Vec<_>) = self
            .asks
            .keys()
            .copied()
            .partition(|ask| self.asks.get(ask).is_some_and(|ask| ask.until <= now));
        for ask in over {
            let Some(Ask {
                given, is_about, ..
            }) = self.asks.remove(&ask)
            else {
                continue;
            };
            match is_about {
                Question::Holds => self.hand_out(given),
                Question::Can => self.count_attempt(given),
            }
        }
        for ask in open {
            self.repeat(ask).await?;
        }
        Ok(())
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

    /// Another server has said something.
    pub(super) async fn listen(&mut self, said: lapin::Result<Arrived>) -> Result<(), Trouble> {
        let said = said?;
        let said = match serde_json::from_slice(&said.data) {
            Ok(said) => said,
            Err(error) => {
                tracing::debug!(%error, "another server is not understood");
                return Ok(());
            }
        };
        match said {
            Said::Holds { from, .. } | Said::Can { from, .. } | Said::Joined { from, .. }
                if from == self.voice.name() => {}
            Said::Holds { from, ask, key } => {
                if let Some(known) = self.queue.ledger.known(&key) {
                    self.voice
                        .answer(&from, &Said::Known { ask, known })
                        .await?;
                }
            }
            Said::Can { from, ask, kind } => {
                let can = lock(&self.queue.side.board).can_do(kind);
                if can {
                    self.voice.answer(&from, &Said::Able { ask }).await?;
                }
            }
            Said::Joined { worker, .. } => {
                lock(&self.queue.side.board).replace(&worker, Instant::now());
            }
            Said::Known { ask, known } => {
                if let Some(Ask { given, .. }) = self.asked(ask, Question::Holds) {
                    self.recognise(given, known);
                }
            }
            Said::Able { ask } => {
                if let Some(Ask { given, .. }) = self.asked(ask, Question::Can) {
                    let attempts = given.message.attempts;
                    self.retry(given, attempts);
                }
            }
        }
        Ok(())
    }

    fn asked(&mut self, ask: u64, question: Question) -> Option<Ask> {
        let is_it = self.asks.get(&ask)?.is_about == question;
        is_it.then(|| self.asks.remove(&ask)).flatten()
    }
}
