//! What exchanges and queues may be called.

use std::fmt;
use std::str::FromStr;

use lapin::types::ShortString;

/// The most bytes that AMQP has for a name.
const LONGEST: usize = 255;

/// The name of an exchange or of a queue: 1 to 255 bytes, without control characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name(String);

/// The most bytes that the name of a queue of tasks has, so that there is room for the names of what is made beside it, such as `<queue>.servers`.
const LONGEST_OF_TASKS: usize = 200;

/// The name of a queue of tasks: 1 to 200 bytes, without control characters, and not one that RabbitMQ keeps to itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TaskQueue(Name);

/// What is wrong with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// It has no character at all.
    #[error("a name has at least one character")]
    Empty,
    /// It is longer than AMQP can say.
    #[error("a name has at most {LONGEST} bytes")]
    TooLong,
    /// It would not look like what it is.
    #[error("a name has no control characters")]
    Control,
    /// It leaves no room for the names of the queues beside it.
    #[error("the name of a queue of tasks has at most {LONGEST_OF_TASKS} bytes")]
    TooLongForTasks,
    /// RabbitMQ lets nobody make such a queue.
    #[error("names that begin with amq. are RabbitMQ's own")]
    Reserved,
}

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn to_short(&self) -> ShortString {
        short(&self.0).unwrap_or_default()
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text.is_empty() {
            return Err(InvalidName::Empty);
        }
        if text.len() > LONGEST {
            return Err(InvalidName::TooLong);
        }
        if text.contains(char::is_control) {
            return Err(InvalidName::Control);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl TaskQueue {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub(crate) fn to_short(&self) -> ShortString {
        self.0.to_short()
    }

    /// The name of what belongs to the queue, which has the queue's name in front.
    pub(crate) fn beside(&self, what: &str) -> ShortString {
        short(&format!("{self}.{what}")).unwrap_or_default()
    }
}

impl FromStr for TaskQueue {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let name: Name = text.parse()?;
        if text.len() > LONGEST_OF_TASKS {
            return Err(InvalidName::TooLongForTasks);
        }
        if text.starts_with("amq.") {
            return Err(InvalidName::Reserved);
        }
        Ok(Self(name))
    }
}

impl fmt::Display for TaskQueue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Text as AMQP has it in its names; `None` if it is too long, at which lapin's own conversion panics.
pub(crate) fn short(text: &str) -> Option<ShortString> {
    ShortString::try_new(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_1_to_255_bytes_without_control_characters() {
        let name = |text: &str| text.parse::<Name>();
        assert_eq!(
            name("logs").map(|name| name.to_string()).as_deref(),
            Ok("logs")
        );
        assert!(name(&"ä".repeat(127)).is_ok());
        assert_eq!(name(&"ä".repeat(128)), Err(InvalidName::TooLong));
        assert_eq!(name(""), Err(InvalidName::Empty));
        assert_eq!(name("a\nb"), Err(InvalidName::Control));
        assert_eq!(name("a").unwrap().to_short().as_str(), "a");
    }

    #[test]
    fn queues_of_tasks_have_names_with_room_for_more() {
        let queue = |text: &str| text.parse::<TaskQueue>();
        let longest = queue(&"ä".repeat(100)).unwrap();
        assert_eq!(longest.to_short().as_str(), longest.as_str());
        let beside = format!("{longest}.servers");
        assert_eq!(longest.beside("servers").as_str(), beside);
        for (wrong, why) in [
            ("", InvalidName::Empty),
            ("a\0b", InvalidName::Control),
            (&"x".repeat(201), InvalidName::TooLongForTasks),
            (&"x".repeat(256), InvalidName::TooLong),
            ("amq.tasks", InvalidName::Reserved),
        ] {
            assert_eq!(queue(wrong), Err(why), "{wrong}");
        }
    }
}
