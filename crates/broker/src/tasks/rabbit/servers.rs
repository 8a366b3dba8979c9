//! What the servers of one queue say to each other, as JSON: questions and announcements to all, answers to whoever asked.

use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel};
use serde::{Deserialize, Serialize};

use super::ledger::{Key, Known};
use crate::trouble::Trouble;

/// Something that one server says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Said {
    /// A task came a second time: does anybody know of the first?
    Holds { from: String, ask: u64, key: Key },
    /// Does anybody have a worker for this type?
    Can { from: String, ask: u64, kind: i64 },
    /// The answer to the first question; nobody says that it knows nothing.
    Known { ask: u64, known: Known },
    /// The answer to the second; nobody says that it has none.
    Able { ask: u64 },
    /// A worker with this id has come to that server, and to no other.
    Joined { from: String, worker: String },
}

/// How this server speaks to the others.
pub(super) struct Voice {
    channel: Channel,
    /// The exchange that reaches all.
    servers: ShortString,
    /// The queue in which others reach this server.
    name: ShortString,
}

impl Voice {
    pub(super) fn new(channel: Channel, servers: ShortString, name: ShortString) -> Self {
        Self {
            channel,
            servers,
            name,
        }
    }

    /// What others answer to.
    pub(super) fn name(&self) -> String {
        self.name.to_string()
    }

    /// Says something to all servers, of which this is one.
    pub(super) async fn announce(&self, said: &Said) -> Result<(), Trouble> {
        self.say(self.servers.clone(), ShortString::default(), said)
            .await
    }

    /// Says something to one server, if it is still there.
    pub(super) async fn answer(&self, to: &str, said: &Said) -> Result<(), Trouble> {
        let to = ShortString::try_new(to).unwrap_or_default();
        self.say(ShortString::default(), to, said).await
    }

    async fn say(
        &self,
        exchange: ShortString,
        to: ShortString,
        said: &Said,
    ) -> Result<(), Trouble> {
        let said = serde_json::to_vec(said).unwrap_or_default();
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
        let from = || String::from("amq.gen-1");
        for (said, json) in [
            (
                Said::Holds {
                    from: from(),
                    ask: 1,
                    key: Key::Id("a".into()),
                },
                r#"{"holds":{"from":"amq.gen-1","ask":1,"key":{"id":"a"}}}"#,
            ),
            (
                Said::Known {
                    ask: 1,
                    known: Known::Done,
                },
                r#"{"known":{"ask":1,"known":"done"}}"#,
            ),
            (
                Said::Can {
                    from: from(),
                    ask: 2,
                    kind: -7,
                },
                r#"{"can":{"from":"amq.gen-1","ask":2,"kind":-7}}"#,
            ),
            (Said::Able { ask: 2 }, r#"{"able":{"ask":2}}"#),
            (
                Said::Joined {
                    from: from(),
                    worker: "w".into(),
                },
                r#"{"joined":{"from":"amq.gen-1","worker":"w"}}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&said).unwrap(), json);
            assert_eq!(serde_json::from_str::<Said>(json).unwrap(), said);
        }
    }
}
