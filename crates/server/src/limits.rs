//! What names, rooms and messages may be: what the chat page allows; and what of that holds for workers.

/// The most characters of a name.
const NAME: usize = 40;

/// The most characters of a room.
const ROOM: usize = 60;

/// The most characters of a message. The server takes 32 KiB, framing included, so this many always fit.
pub(crate) const MESSAGE: usize = 4000;

/// The room of those who name none.
pub(crate) const GENERAL: &str = "General";

/// Who the notices of the hub are from.
pub(crate) const SYSTEM: &str = "System";

/// The name to go by, as it is sent.
pub(crate) fn name(text: &str) -> Result<String, String> {
    let name = line(text, "name", NAME)?;
    if name.to_lowercase() == SYSTEM.to_lowercase() {
        return Err(format!("{SYSTEM} is the server's name: choose another"));
    }
    Ok(name)
}

/// The room to be in, as it is sent.
pub(crate) fn room(text: &str) -> Result<String, String> {
    line(text, "room", ROOM)
}

/// Whether a worker may go by this id, as far as eyes are concerned: in lists of workers it is told from others by them.
pub(crate) fn worker(id: &str) -> Result<(), String> {
    match first_unseen(id) {
        None => Ok(()),
        Some(unseen) => Err(format!(
            "The id of a worker has no characters that cannot be seen, and this one has {}.",
            code(unseen)
        )),
    }
}

fn code(character: char) -> String {
    format!("U+{:04X}", u32::from(character))
}

/// One line that shows all that is in it, since others go by it, and not without end.
fn line(text: &str, what: &str, most: usize) -> Result<String, String> {
    let is_gap = |character: char| character.is_whitespace() || character.is_control();
    let words: Vec<&str> = text.split(is_gap).filter(|word| !word.is_empty()).collect();
    let line = words.join(" ");
    if line.is_empty() {
        return Err(format!("a {what} has at least one visible character"));
    }
    if let Some(unseen) = first_unseen(&line) {
        return Err(format!(
            "a {what} has no characters that cannot be seen, and this one has {}",
            code(unseen)
        ));
    }
    let length = line.chars().count();
    if length > most {
        return Err(format!(
            "a {what} has at most {most} characters, and this one has {length}"
        ));
    }
    Ok(line)
}

/// What a name could hide behind, or be turned around with. A joiner between two characters that can be seen is none of it, nor what makes an emoji of a sign: emoji,
/// and the scripts of Persian and of India, need it. Latin, Greek and Cyrillic do not, and there it would show nothing.
fn first_unseen(line: &str) -> Option<char> {
    let is_seen = |character: char| !character.is_whitespace() && !is_unseen(character);
    let mut before = ' ';
    let mut rest = line.chars().peekable();
    while let Some(character) = rest.next() {
        let is_joined = match character {
            '\u{200c}' | '\u{200d}' => rest.peek().is_some_and(|next| is_seen(*next)),
            '\u{fe0f}' => true,
            _ => false,
        };
        if is_joined && before > LAST_CYRILLIC {
            continue;
        }
        if is_unseen(character) {
            return Some(character);
        }
        before = character;
    }
    None
}

const LAST_CYRILLIC: char = '\u{52f}';

/// The general category Cf of Unicode 16 (its `DerivedGeneralCategory.txt`): marks of direction, of zero width, and the like. What programs need not show
/// (`Default_Ignorable_Code_Point` of its `DerivedCoreProperties.txt`), and Braille without a dot.
fn is_unseen(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'
            | '\u{600}'..='\u{605}'
            | '\u{61c}'
            | '\u{6dd}'
            | '\u{70f}'
            | '\u{890}'..='\u{891}'
            | '\u{8e2}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{2064}'
            | '\u{2066}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{110bd}'
            | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            // What need not be shown.
            | '\u{34f}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180d}'
            | '\u{180f}'
            | '\u{2065}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fff8}'
            | '\u{e0000}'..='\u{e0fff}'
            | '\u{2800}'
    )
}

/// Whether a message may be sent.
pub(crate) fn message(text: &str) -> Result<(), String> {
    let length = text.chars().count();
    if length > MESSAGE {
        return Err(format!(
            "a message has at most {MESSAGE} characters, and this one has {length}"
        ));
    }
    Ok(())
}

/// Who uses the machine, if that can be a name.
pub(crate) fn user() -> String {
    let variables = ["USER", "LOGNAME"];
    let mut names = variables.iter().filter_map(|name| std::env::var(name).ok());
    names
        .find_map(|user| name(&user).ok())
        .unwrap_or_else(|| "guest".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_rooms_are_one_line() {
        assert_eq!(
            name("  Mira\t\x1b[31m\n Ada "),
            Ok("Mira [31m Ada".to_owned())
        );
        assert_eq!(room("tea"), Ok("tea".to_owned()));
        assert!(name(" \n").is_err());
        assert!(name("SYSTEM").is_err());
        assert!(name(&"ä".repeat(40)).is_ok());
        assert!(name(&"ä".repeat(41)).is_err());
        assert!(room(&"ä".repeat(60)).is_ok());
        assert!(room(&"ä".repeat(61)).is_err());
    }

    #[test]
    fn names_and_rooms_show_all_that_is_in_them() {
        for text in [
            "\u{202e}ariM",
            "System\u{200b}",
            "\u{200b}",
            "\u{3164}",
            "\u{ffa0}",
            "\u{115f}\u{1160}",
            "Mi\u{2800}ra",
            "Mi\u{ad}ra",
            "\u{feff}Mira",
            // Joiners that join nothing that can be seen.
            "\u{200d}",
            "Mira\u{200d}",
            "\u{200c}Mira",
            "Mira \u{200d}Ada",
            "Mira\u{200d} Ada",
            "Mi\u{200d}\u{200c}ra",
            "Mi\u{200d}\u{200b}ra",
        ] {
            for checked in [name(text), room(text)] {
                let problem = checked.unwrap_err();
                assert!(problem.contains("cannot be seen"), "{text:?}: {problem}");
            }
        }
        let problem = name("Mi\u{200d}\u{ad}ra").unwrap_err();
        assert!(problem.ends_with("U+200D"), "{problem}");
        for text in [
            "👩\u{200d}👩\u{200d}👧 ❤\u{fe0f}\u{200d}🔥",
            "می\u{200c}خواهم",
            "ශ්\u{200d}රී",
            "שלום مرحبا",
            "김민지 ⠓",
            "e\u{301}",
        ] {
            assert_eq!(name(text), Ok(text.to_owned()));
            assert_eq!(room(text), Ok(text.to_owned()));
        }
        for text in [
            "Sys\u{200d}tem",
            "System\u{34f}",
            "System\u{fe0f}",
            "Mi\u{200c}ra",
        ] {
            assert!(name(text).is_err(), "{text:?}");
        }
        // As many as JavaScript finds with `[\p{Cf}\p{Default_Ignorable_Code_Point}\u2800]`.
        assert_eq!(
            ('\0'..=char::MAX).filter(|it| is_unseen(*it)).count(),
            4_207
        );
    }

    #[test]
    fn messages_are_as_long_as_the_page_allows() {
        assert!(message("").is_ok());
        assert!(message(&"😀".repeat(4000)).is_ok());
        assert!(message(&"a".repeat(4001)).is_err());
    }
}
