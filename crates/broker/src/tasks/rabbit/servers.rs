//! What the servers of one queue say to each other, as JSON: questions and announcements to all, answers to whoever asked.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::ledger::{Key, Known};
use crate::backoff::Backoff;
use crate::link::Link;
use crate::tasks::board::{Prospect, WorkerKey};
use crate::trouble::{Refusal, Trouble};
use crate::while_connected;

/// Something that one server says to all, or to one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Said {
    /// Who says it.
    pub(super) server: String,
    /// The queue in which it hears an answer.
    pub(super) from: String,
    pub(super) what: What,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum What {
    /// It has come, or come back. Everybody answers with `here`.
    Hello,
    /// It is there.
    Here,
    /// It goes, and answers no more.
    Bye,
    /// A task came a second time: who knows of the first? Everybody answers.
    Holds { ask: u64, key: Key },
    /// Who has a worker for this type? Everybody answers.
    Can { ask: u64, kind: i64 },
    /// The answer to the first question.
    Known { ask: u64, known: Option<Known> },
    /// The answer to the second.
    Able { ask: u64, prospect: Prospect },
    /// These workers are there now, and so nowhere else, unless they have come somewhere else later.
    Joined { workers: Vec<(String, WorkerKey)> },
}

/// How much may wait to be said. Of more the rest is not said at all, and this server introduces itself again.
const MOST_WAITING: usize = 1000;

/// How many words are said before the first of them is confirmed.
const UNCONFIRMED: usize = 100;

/// After how long something is of no use to others any more.
pub(super) const STALE: Duration = Duration::from_secs(10);

/// Something that waits to be said.
struct Word {
    exchange: ShortString,
    to: ShortString,
    said: Vec<u8>,
    since: Instant,
    /// Dropped when it is said, or will not be.
    _done: Option<oneshot::Sender<Infallible>>,
}

/// What became of what was said.
#[derive(Debug, Default)]
struct Outcome {
    /// Others may have missed something.
    is_missed: AtomicBool,
    /// RabbitMQ does not let this server speak.
    refusal: Mutex<Option<Refusal>>,
}

impl Outcome {
    fn miss(&self) {
        self.is_missed.store(true, Ordering::Relaxed);
    }

    fn refusal(&self) -> MutexGuard<'_, Option<Refusal>> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How this server speaks to the others: over the connection that publishes, which may be away, or not be listened to, while everything else goes on.
#[derive(Debug)]
pub(super) struct Voice {
    words: mpsc::Sender<Word>,
    outcome: Arc<Outcome>,
    /// The exchange that reaches all.
    servers: ShortString,
    /// What this server calls itself.
    server: Arc<str>,
    /// The queue in which others reach this server.
    from: ShortString,
    task: AbortHandle,
}

impl Drop for Voice {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Voice {
    pub(super) fn new(
        publishing: Link,
        servers: ShortString,
        server: Arc<str>,
        from: ShortString,
    ) -> Self {
        let (words, waiting) = mpsc::channel(MOST_WAITING);
        let outcome = Arc::new(Outcome::default());
        let speaking = tokio::spawn(speak(publishing, waiting, Arc::clone(&outcome)));
        Self {
            words,
            outcome,
            servers,
            server,
            from,
            task: speaking.abort_handle(),
        }
    }

    /// Whether others may have missed something since this was asked last.
    pub(super) fn has_been_missed(&self) -> bool {
        self.outcome.is_missed.swap(false, Ordering::Relaxed)
    }

    /// How much more can be said for now.
    pub(super) fn room(&self) -> usize {
        self.words.capacity()
    }

    /// What RabbitMQ said when it did not let this server speak.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.outcome.refusal().take()
    }

    /// Says something to all servers, of which this is one.
    pub(super) fn announce(&self, what: What) {
        self.say(self.servers.clone(), ShortString::default(), what, None);
    }

    /// The same, and waits until it is said, or will not be.
    pub(super) fn announce_last(&self, what: What) -> impl Future<Output = ()> + use<> {
        let (done, is_done) = oneshot::channel();
        let servers = self.servers.clone();
        self.say(servers, ShortString::default(), what, Some(done));
        async move {
            // Nothing is ever sent.
            let _ = is_done.await;
        }
    }

    /// Says something to the server that hears in a queue, if it is still there, and if RabbitMQ has named that queue.
    pub(super) fn answer(&self, to: String, what: What) {
        // Of no other queue can it be said that nobody minds.
        if let Ok(to) = ShortString::try_new(to)
            && to.as_str().starts_with("amq.gen-")
        {
            self.say(ShortString::default(), to, what, None);
        }
    }

    fn say(
        &self,
        exchange: ShortString,
        to: ShortString,
        what: What,
        done: Option<oneshot::Sender<Infallible>>,
    ) {
        let said = Said {
            server: self.server.to_string(),
            from: self.from.to_string(),
            what,
        };
        let word = Word {
            exchange,
            to,
            said: serde_json::to_vec(&said).unwrap_or_default(),
            since: Instant::now(),
            _done: done,
        };
        if self.words.try_send(word).is_err() {
            self.outcome.miss();
        }
    }
}

/// Says what waits, on one channel after another.
async fn speak(publishing: Link, mut words: mpsc::Receiver<Word>, outcome: Arc<Outcome>) {
    let mut backoff = Backoff::new();
    loop {
        let channel = publishing.channel().await;
        let began = Instant::now();
        match speak_on(&channel, &mut words, &outcome).await {
            Ok(()) => return,
            Err(Trouble::Lost(reason)) => {
                tracing::debug!(reason, "the other servers miss something");
            }
            Err(Trouble::Refused(refusal)) => *outcome.refusal() = Some(refusal),
        }
        outcome.miss();
        backoff.rest(began.elapsed()).await;
    }
}

/// Until the channel is lost, or nothing more is to be said.
async fn speak_on(
    channel: &Channel,
    words: &mut mpsc::Receiver<Word>,
    outcome: &Outcome,
) -> Result<(), Trouble> {
    let options = ConfirmSelectOptions::default();
    while_connected(channel, channel.confirm_select(options)).await??;
    // What is not waited for would be kept by lapin for good.
    let mut unconfirmed = VecDeque::new();
    // Whether this server may speak, the first word tells.
    let mut most = 0;
    while let Some(word) = words.recv().await {
        if word.since.elapsed() > STALE {
            outcome.miss();
            continue;
        }
        let Word {
            exchange, to, said, ..
        } = &word;
        let options = BasicPublishOptions::default();
        let properties = BasicProperties::default();
        let sending =
            channel.basic_publish(exchange.clone(), to.clone(), options, said, properties);
        unconfirmed.push_back(while_connected(channel, sending).await??);
        while unconfirmed.len() > most
            && let Some(first) = unconfirmed.pop_front()
        {
            let asked = Trouble::asking("speaking to the other servers of the queue");
            while_connected(channel, first).await?.map_err(asked)?;
        }
        most = UNCONFIRMED;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_servers_say_is_understood_by_servers() {
        for (what, json) in [
            (What::Hello, r#""hello""#),
            (What::Here, r#""here""#),
            (What::Bye, r#""bye""#),
            (
                What::Holds {
                    ask: 1,
                    key: Key::Id("a".into()),
                },
                r#"{"holds":{"ask":1,"key":{"id":"a"}}}"#,
            ),
            (
                What::Known {
                    ask: 1,
                    known: Some(Known::Done),
                },
                r#"{"known":{"ask":1,"known":"done"}}"#,
            ),
            (
                What::Known {
                    ask: 1,
                    known: None,
                },
                r#"{"known":{"ask":1,"known":null}}"#,
            ),
            (
                What::Can { ask: 2, kind: -7 },
                r#"{"can":{"ask":2,"kind":-7}}"#,
            ),
            (
                What::Able {
                    ask: 2,
                    prospect: Prospect::Room,
                },
                r#"{"able":{"ask":2,"prospect":"room"}}"#,
            ),
            (
                What::Joined {
                    workers: vec![("w".into(), 7)],
                },
                r#"{"joined":{"workers":[["w",7]]}}"#,
            ),
        ] {
            let said = Said {
                server: "s".into(),
                from: "amq.gen-1".into(),
                what,
            };
            let json = format!(r#"{{"server":"s","from":"amq.gen-1","what":{json}}}"#);
            assert_eq!(serde_json::to_string(&said).unwrap(), json);
            assert_eq!(serde_json::from_str::<Said>(&json).unwrap(), said);
        }
    }
}
