//! What a server's messages mean, found out without parsing those that come by the million.

use serde_json::Value;

use crate::key::{Key, MARK, Template};

/// How many shapes of messages are remembered.
const MAX_SHAPES: usize = 4;

/// What a hub message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    /// A message of the run, whole and undamaged.
    Message(Key),
    /// The answer to a call of the run.
    Completion(Key),
    /// The answer to any other call.
    Joined,
    /// A keep-alive, or a message of others to the same receiver (a notice that somebody has joined).
    Nothing,
    /// Something that ends the run: a refused call, a message that is damaged, a goodbye.
    Wrong(String),
}

/// What the run's messages look like.
#[derive(Debug, Clone)]
pub(crate) struct Expected {
    /// The method of the client.
    pub(crate) receive: String,
    /// The first argument.
    pub(crate) user: String,
    /// What follows the key in the text.
    pub(crate) padding: String,
    /// Whether calls give their text back.
    pub(crate) echo: bool,
}

/// Hears. Every shape of message is parsed once, and checked; what has the same bytes around its key is known from then on.
#[derive(Debug)]
pub(crate) struct Ear {
    expected: Expected,
    messages: Vec<Template>,
    completions: Vec<Template>,
    mark: memchr::memmem::Finder<'static>,
    /// The first message that has a key and is yet not one of the run.
    other: Option<String>,
}

impl Ear {
    pub(crate) fn new(expected: Expected) -> Self {
        Self {
            expected,
            messages: Vec::new(),
            completions: Vec::new(),
            mark: memchr::memmem::Finder::new(MARK),
            other: None,
        }
    }

    pub(crate) fn hear(&mut self, record: &[u8]) -> Heard {
        if let Some(key) = self.messages.iter().find_map(|known| known.read(record)) {
            return Heard::Message(key);
        }
        if let Some(key) = self.completions.iter().find_map(|known| known.read(record)) {
            return Heard::Completion(key);
        }
        // A room of many hears of many who join.
        if record.starts_with(br#"{"type":1,"#) && self.mark.find(record).is_none() {
            return Heard::Nothing;
        }
        self.parse(record).unwrap_or_else(|| {
            Heard::Wrong(format!("not what was expected: {}", beginning(record)))
        })
    }

    /// What may be the reason why nothing came: a hub that says what it is told, but in another way.
    pub(crate) fn hint(&self) -> Option<String> {
        let (receive, user) = (&self.expected.receive, &self.expected.user);
        self.other.as_ref().map(|other| {
            format!("messages came that are not {receive}(\"{user}\", text), such as: {other}")
        })
    }

    fn parse(&mut self, record: &[u8]) -> Option<Heard> {
        let message: Value = serde_json::from_slice(record).ok()?;
        match message.get("type")?.as_u64()? {
            1 => {
                let arguments = message.get("arguments")?.as_array()?;
                let expected = message.get("target")?.as_str()? == self.expected.receive;
                let [user, text] = arguments.as_slice() else {
                    return Some(self.others(record));
                };
                if !expected || user.as_str() != Some(&self.expected.user) {
                    return Some(self.others(record));
                }
                let key = self.key(text.as_str()?)?;
                learn(&mut self.messages, record, key);
                Some(Heard::Message(key))
            }
            3 => {
                if let Some(error) = message.get("error") {
                    return Some(Heard::Wrong(format!("a call failed: {error}")));
                }
                let Some(key) = Key::parse(message.get("invocationId")?.as_str()?.as_bytes())
                else {
                    return Some(Heard::Joined);
                };
                if self.expected.echo && self.key(message.get("result")?.as_str()?)? != key {
                    return None;
                }
                learn(&mut self.completions, record, key);
                Some(Heard::Completion(key))
            }
            6 => Some(Heard::Nothing),
            7 => Some(Heard::Wrong(format!("the server says goodbye: {message}"))),
            _ => None,
        }
    }

    /// A message of somebody else, or one of the run that the hub has changed.
    fn others(&mut self, record: &[u8]) -> Heard {
        if self.other.is_none() && Key::is_in(record) {
            self.other = Some(beginning(record));
        }
        Heard::Nothing
    }

    /// The key in the text of a message, if the rest of it is as it was sent.
    fn key(&self, text: &str) -> Option<Key> {
        Key::parse(text.strip_suffix(&self.expected.padding)?.as_bytes())
    }
}

/// As much of a message as is worth being shown.
fn beginning(record: &[u8]) -> String {
    String::from_utf8_lossy(record).chars().take(200).collect()
}

fn learn(known: &mut Vec<Template>, record: &[u8], key: Key) {
    if known.len() < MAX_SHAPES {
        known.extend(Template::new(record, key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ear(echo: bool) -> Ear {
        Ear::new(Expected {
            receive: "ReceiveMessage".to_owned(),
            user: "bench".to_owned(),
            padding: "xxxx".to_owned(),
            echo,
        })
    }

    fn key(number: u32) -> Key {
        Key { sender: 7, number }
    }

    #[test]
    fn a_message_is_known_by_its_first_and_damage_is_found_before_and_after() {
        let mut ear = ear(false);
        let text = |padding: &str, number: u32| {
            format!(
                r#"{{"type":1,"target":"ReceiveMessage","arguments":["bench","hb000007{number:08x}{padding}"]}}"#
            )
        };
        for number in [1, 2, 0xffff] {
            assert!(matches!(
                ear.hear(text("xxx", number).as_bytes()),
                Heard::Wrong(_)
            ));
            assert_eq!(
                ear.hear(text("xxxx", number).as_bytes()),
                Heard::Message(key(number))
            );
            assert!(matches!(
                ear.hear(text("xxyx", number).as_bytes()),
                Heard::Wrong(_)
            ));
        }
        assert_eq!(ear.messages.len(), 1);
    }

    #[test]
    fn the_order_of_properties_is_the_servers_affair() {
        let mut ear = ear(false);
        let message = r#"{ "arguments":["bench","hb00000700000003xxxx"], "target":"ReceiveMessage", "type":1 }"#;
        assert_eq!(ear.hear(message.as_bytes()), Heard::Message(key(3)));
        let completion = r#"{"invocationId":"hb00000700000004","type":3}"#;
        assert_eq!(ear.hear(completion.as_bytes()), Heard::Completion(key(4)));
    }

    #[test]
    fn an_echo_has_to_be_what_was_said() {
        let mut ear = ear(true);
        for number in ["00000004", "00000005"] {
            let right = format!(
                r#"{{"type":3,"invocationId":"hb000007{number}","result":"hb000007{number}xxxx"}}"#
            );
            assert!(matches!(ear.hear(right.as_bytes()), Heard::Completion(_)));
            let wrong = right.replace("\"result\":\"hb000007", "\"result\":\"hb000008");
            assert!(matches!(ear.hear(wrong.as_bytes()), Heard::Wrong(_)));
        }
    }

    #[test]
    fn the_first_message_of_another_shape_is_kept_and_a_notice_is_none() {
        let with_key = [
            r#"{"type":1,"target":"ReceiveMessage","arguments":["bench","hb00000700000003xxxx",3]}"#,
            r#"{"type":1,"target":"ReceiveMessage","arguments":["Ann","hb00000700000003xxxx"]}"#,
            r#"{"type":1,"target":"Receive","arguments":["bench","hb00000700000003xxxx"]}"#,
            r#"{"type":1,"target":"ReceiveMessage","arguments":[{"text":"hb00000700000003xxxx"}]}"#,
        ];
        for first in with_key {
            let mut ear = ear(false);
            let notice =
                r#"{"type":1,"target":"ReceiveMessage","arguments":["System","Ahb has joined"]}"#;
            assert_eq!(ear.hear(notice.as_bytes()), Heard::Nothing);
            assert_eq!(ear.hint(), None);
            for record in [first].into_iter().chain(with_key) {
                assert_eq!(ear.hear(record.as_bytes()), Heard::Nothing);
            }
            let hint = ear.hint().unwrap();
            let expected = r#"messages came that are not ReceiveMessage("bench", text), such as: "#;
            assert_eq!(hint, format!("{expected}{first}"));
        }
    }

    #[test]
    fn errors_and_goodbyes_are_wrong_and_notices_are_not() {
        let mut ear = ear(false);
        for (record, expected) in [
            (r#"{"type":6}"#, Some(Heard::Nothing)),
            (
                r#"{"type":3,"invocationId":"join","result":null}"#,
                Some(Heard::Joined),
            ),
            (
                r#"{"type":1,"target":"ReceiveMessage","arguments":["System","Ahb has joined"]}"#,
                Some(Heard::Nothing),
            ),
            (r#"{"type":3,"invocationId":"join","error":"no"}"#, None),
            (r#"{"type":7}"#, None),
            ("", None),
            ("[]", None),
        ] {
            let heard = ear.hear(record.as_bytes());
            match expected {
                Some(expected) => assert_eq!(heard, expected, "{record}"),
                None => assert!(matches!(heard, Heard::Wrong(_)), "{record}: {heard:?}"),
            }
        }
    }
}
