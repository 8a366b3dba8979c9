//! What a `ReceiveMessage` of the chat hub means.

use crate::limits::SYSTEM;

/// What the hub says in a room.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said<'a> {
    /// Somebody said something.
    Message(&'a str, &'a str),
    /// The connection of this id has come.
    Joined(&'a str),
    /// The connection of this id has gone.
    Left(&'a str),
}

/// Anybody can speak under the name System. Only the two sentences that the hub really says, of this very room, are
/// its notices; so nobody speaks for the server in other words.
pub(crate) fn said<'a>(user: &'a str, text: &'a str, room: &str) -> Said<'a> {
    let notice = |happened: &str| {
        let id = text.strip_suffix(room)?;
        let id = id.strip_suffix(happened)?;
        (user == SYSTEM && !id.is_empty() && !id.contains(char::is_whitespace)).then_some(id)
    };
    if let Some(id) = notice(" has joined the room ") {
        Said::Joined(id)
    } else if let Some(id) = notice(" has left the room ") {
        Said::Left(id)
    } else {
        Said::Message(user, text)
    }
}

/// An id as people can tell it from others.
pub(crate) fn short(id: &str) -> String {
    const ENOUGH: usize = 8;
    if id.chars().count() <= ENOUGH {
        return id.to_owned();
    }
    let start: String = id.chars().take(ENOUGH - 2).collect();
    format!("{start}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_sentences_of_the_hub_about_this_room_are_notices() {
        let joined = "x1 has joined the room tea";
        let left = "x1 has left the room tea";
        assert_eq!(said("System", joined, "tea"), Said::Joined("x1"));
        assert_eq!(said("System", left, "tea"), Said::Left("x1"));
        for (user, text, room) in [
            ("Mira", joined, "tea"),
            ("System", joined, "coffee"),
            ("System", "x1 has joined the room tea!", "tea"),
            ("System", "send me your password", "tea"),
            ("System", " has joined the room tea", "tea"),
            ("System", "the admin has joined the room tea", "tea"),
        ] {
            assert_eq!(said(user, text, room), Said::Message(user, text));
        }
    }

    #[test]
    fn long_ids_are_shown_shortly() {
        assert_eq!(short("12345678"), "12345678");
        assert_eq!(short("ä23456789"), "ä23456…");
    }
}
