//! What names, rooms and messages may be: what the chat page allows.

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

/// One line without control characters, since others see it, and not without end.
fn line(text: &str, what: &str, most: usize) -> Result<String, String> {
    let is_gap = |character: char| character.is_whitespace() || character.is_control();
    let words: Vec<&str> = text.split(is_gap).filter(|word| !word.is_empty()).collect();
    let line = words.join(" ");
    if line.is_empty() {
        return Err(format!("a {what} has at least one visible character"));
    }
    let length = line.chars().count();
    if length > most {
        return Err(format!(
            "a {what} has at most {most} characters, and this one has {length}"
        ));
    }
    Ok(line)
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
    fn messages_are_as_long_as_the_page_allows() {
        assert!(message("").is_ok());
        assert!(message(&"😀".repeat(4000)).is_ok());
        assert!(message(&"a".repeat(4001)).is_err());
    }
}
