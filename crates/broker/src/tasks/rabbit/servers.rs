//! What the servers of one queue say to each other, as JSON: questions and announcements to all, answers to whoever asked.

use std::sync::Arc;

use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel};
use serde::{Deserialize, Serialize};

use super::ledger::{Key, Known};
use crate::tasks::board::{Prospect, WorkerKey};
use crate::trouble::Trouble;

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

/// How this server speaks to the others.
#[derive(Clone)]
pub(super) struct Voice {
    channel: Channel,
    /// The exchange that reaches all.
    servers: ShortString,
    /// What this server calls itself.
    server: Arc<str>,
    /// The queue in which others reach this server.
    from: ShortString,
}

impl Voice {
    pub(super) fn new(
        channel: Channel,
        servers: ShortString,
        server: Arc<str>,
        from: ShortString,
    ) -> Self {
        Self {
            channel,
            servers,
            server,
            from,
        }
    }

    /// Whether it can still say something.
    pub(super) fn is_heard(&self) -> bool {
        self.channel.status().connected()
    }

    /// Says something to all servers, of which this is one.
    pub(super) async fn announce(self, what: What) -> Result<(), Trouble> {
        let servers = self.servers.clone();
        self.say(servers, ShortString::default(), what).await
    }

    /// Says something to the server that hears in a queue, if it is still there, and if RabbitMQ has named that queue.
    pub(super) async fn answer(self, to: String, what: What) -> Result<(), Trouble> {
        // Of no other queue can it be said that nobody minds.
        match ShortString::try_new(to) {
            Ok(to) if to.as_str().starts_with("amq.gen-") => {
                self.say(ShortString::default(), to, what).await
            }
            _ => Ok(()),
        }
    }

    async fn say(self, exchange: ShortString, to: ShortString, what: What) -> Result<(), Trouble> {
        let said = Said {
            server: self.server.to_string(),
            from: self.from.to_string(),
            what,
        };
        let said = serde_json::to_vec(&said).unwrap_or_default();
        let options = BasicPublishOptions::default();
        let properties = BasicProperties::default();
        let sent = self
            .channel
            .basic_publish(exchange, to, options, &said, properties);
        sent.await?;
        Ok(())
    }
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
