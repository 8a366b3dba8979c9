//! What stands beside the bytes of a message: the content header of AMQP 0-9-1 (section 4.2.6.1), and the tables in it (4.2.5.5).

use super::rest::Rest;

/// How deep tables may lie in each other. Whatever reads them descends into them.
const DEEPEST: usize = 32;

/// What a property is.
#[derive(Clone, Copy)]
enum Property {
    Text,
    Table,
    Bytes(usize),
}

/// The properties of messages in their order, each with a bit from the highest on.
const PROPERTIES: [(&str, Property); 14] = [
    ("content_type", Property::Text),
    ("content_encoding", Property::Text),
    ("headers", Property::Table),
    ("delivery_mode", Property::Bytes(1)),
    ("priority", Property::Bytes(1)),
    ("correlation_id", Property::Text),
    ("reply_to", Property::Text),
    ("expiration", Property::Text),
    ("message_id", Property::Text),
    ("timestamp", Property::Bytes(8)),
    ("type", Property::Text),
    ("user_id", Property::Text),
    ("app_id", Property::Text),
    ("cluster_id", Property::Text),
];

/// The same content header without what cannot be read of it, or `None` if all can. Of the headers so many bytes are kept, at most.
pub(super) fn legible(content: &[u8], most_headers: usize) -> Option<Vec<u8>> {
    let mut rest = Rest(content);
    // The class, two bytes that say nothing, and the length of the message.
    let (beginning, flags) = (rest.take(12)?, rest.take(2)?);
    let flags = u16::from_be_bytes(*flags.first_chunk()?);
    let mut kept = Vec::new();
    let mut kept_flags = 0;
    for (place, (name, property)) in PROPERTIES.into_iter().enumerate() {
        let bit = 0x8000 >> place;
        if flags & bit == 0 {
            continue;
        }
        let before = rest;
        let is_legible = match property {
            Property::Bytes(length) => rest.take(length).map(|_| true),
            Property::Text => rest.short_text().map(is_text),
            Property::Table => rest.long_bytes().map(|_| true),
        };
        let Some(is_legible) = is_legible else {
            tracing::warn!(name, "what stands beside a message ends too soon");
            break;
        };
        let bytes = before.until(rest);
        match property {
            Property::Table => {
                let table = legible_table(bytes.get(4..)?, most_headers);
                kept.extend(u32::try_from(table.len()).ok()?.to_be_bytes());
                kept.extend(table);
            }
            _ if is_legible => kept.extend_from_slice(bytes),
            _ => {
                tracing::warn!(name, "what stands beside a message is no text");
                continue;
            }
        }
        kept_flags |= bit;
    }
    let legible = [beginning, &kept_flags.to_be_bytes(), &kept].concat();
    (legible != content).then_some(legible)
}

fn is_text(bytes: &[u8]) -> bool {
    str::from_utf8(bytes).is_ok()
}

/// The entries of a table that can be read, of so many bytes together.
fn legible_table(table: &[u8], most: usize) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut rest = Rest(table);
    while !rest.0.is_empty() {
        let before = rest;
        let Some((name, value)) = rest.short_text().zip(skip(&mut rest)) else {
            tracing::warn!("a header of a message has no end, or is of no kind");
            break;
        };
        let entry = before.until(rest);
        let name_is_text = is_text(name);
        let is_legible = name_is_text && value.is_none_or(|inner| is_legible(inner).is_some());
        if is_legible && kept.len() + entry.len() <= most {
            kept.extend_from_slice(entry);
        } else {
            let (name, bytes) = (String::from_utf8_lossy(name), entry.len());
            tracing::warn!(
                ?name,
                bytes,
                "a header of a message is too large or cannot be read"
            );
        }
    }
    kept
}

/// What is left of a table, which has names, or of an array, which has none.
type Inner<'a> = (Rest<'a>, bool);

/// Passes over a value, and gives what lies in it. `None` if it has no end, or is of no kind.
#[allow(
    clippy::option_option,
    reason = "a value without an inside is one, too"
)]
fn skip<'a>(rest: &mut Rest<'a>) -> Option<Option<Inner<'a>>> {
    let kind = rest.octet()?;
    let length = match kind {
        b'V' => 0,
        b't' | b'b' | b'B' => 1,
        b's' | b'U' | b'u' => 2,
        b'I' | b'i' | b'f' => 4,
        b'D' => 5,
        b'L' | b'l' | b'd' | b'T' => 8,
        b'S' | b'x' | b'A' | b'F' => {
            let inner = rest.long_bytes()?;
            let is_entered = matches!(kind, b'A' | b'F');
            return Some(is_entered.then_some((Rest(inner), kind == b'F')));
        }
        _ => return None,
    };
    rest.take(length)?;
    Some(None)
}

/// Goes through a table or an array without descending into those that lie in it.
fn is_legible(outermost: Inner<'_>) -> Option<()> {
    let mut open = vec![outermost];
    while let Some((rest, has_names)) = open.last_mut() {
        if rest.0.is_empty() {
            open.pop();
            continue;
        }
        if *has_names && !is_text(rest.short_text()?) {
            return None;
        }
        if let Some(inner) = skip(rest)? {
            if open.len() >= DEEPEST {
                return None;
            }
            open.push(inner);
        }
    }
    Some(())
}
