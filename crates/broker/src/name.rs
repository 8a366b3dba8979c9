//! What exchanges and queues may be called.

use std::fmt;
use std::str::FromStr;

use lapin::types::ShortString;

/// The most bytes that AMQP has for a name.
const LONGEST: usize = 255;

/// The name of an exchange or of a queue: 1 to 255 bytes, without control characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name(String);

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
}
