//! Text of others, made safe to show.

use std::borrow::Cow;

/// Text as one line that does nothing but show it, in a terminal or in a file that may be shown in one.
///
/// A line break is shown as `⏎`, a tab as a space, any other control character as its picture (`␛`), and what would reorder
/// the line as `�`: so no escape sequence begins, and nobody speaks in a line of somebody else.
pub(crate) fn one_line(text: &str) -> Cow<'_, str> {
    replaced(text, |character| match character {
        '\n' => Some('⏎'),
        '\t' => Some(' '),
        other => harmless(other),
    })
}

/// The same for text that may have several lines, and keeps them, and tabs.
pub(crate) fn several_lines(text: &str) -> Cow<'_, str> {
    replaced(text, |character| match character {
        '\n' | '\t' => None,
        other => harmless(other),
    })
}

/// The same for what goes where nothing is shown, and lines are counted: only line breaks are replaced.
pub(crate) fn broken_lines(text: &str) -> Cow<'_, str> {
    replaced(text, |character| (character == '\n').then_some('⏎'))
}

/// `replacement` gives what stands for a character that must not be shown as it is.
fn replaced(text: &str, replacement: impl Fn(char) -> Option<char>) -> Cow<'_, str> {
    if !text
        .chars()
        .any(|character| replacement(character).is_some())
    {
        return Cow::Borrowed(text);
    }
    let text = text.replace("\r\n", "\n");
    let safe = text.chars().map(|it| replacement(it).unwrap_or(it));
    Cow::Owned(safe.collect())
}

fn harmless(character: char) -> Option<char> {
    match character {
        '\u{0}'..='\u{1f}' => char::from_u32(0x2400 + u32::from(character)),
        '\u{7f}' => Some('␡'),
        // The other control characters, which some terminals obey; separators of lines; and what turns the direction of text.
        '\u{80}'..='\u{9f}'
        | '\u{2028}'
        | '\u{2029}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}' => Some(char::REPLACEMENT_CHARACTER),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_text_of_all_languages_is_left_alone() {
        for text in ["", "hello", "Ärger 你好 👩‍👩‍👧 שלום", "e\u{301}"] {
            assert!(matches!(one_line(text), Cow::Borrowed(same) if same == text));
            assert!(matches!(several_lines(text), Cow::Borrowed(same) if same == text));
        }
    }

    #[test]
    fn no_control_character_is_left() {
        for code in 0..=0x0010_ffff {
            let Some(character) = char::from_u32(code) else {
                continue;
            };
            let text = format!("a{character}b");
            assert!(!one_line(&text).contains(char::is_control), "{code:x}");
            let mut left = several_lines(&text).into_owned();
            left.retain(char::is_control);
            assert!(matches!(&*left, "" | "\n" | "\t"), "{code:x}");
        }
    }

    #[test]
    fn what_was_there_can_still_be_seen() {
        let hostile = "a\x1b[2Jb\r\nc\td\u{9b}31m\u{202e}e\x7f";
        assert_eq!(one_line(hostile), "a␛[2Jb⏎c d\u{fffd}31m\u{fffd}e␡");
        assert_eq!(several_lines(hostile), "a␛[2Jb\nc\td\u{fffd}31m\u{fffd}e␡");
        assert_eq!(
            broken_lines(hostile),
            "a\x1b[2Jb⏎c\td\u{9b}31m\u{202e}e\x7f"
        );
    }
}
