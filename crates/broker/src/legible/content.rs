//! What stands beside the bytes of a message: the content header of AMQP 0-9-1 (section 4.2.6.1), and the tables in it (4.2.5.5).

use super::rest::Rest;

/// How the names of the headers begin that this program writes itself.
pub(crate) const MARK: &str = "x-hubcast-";

/// How many bytes of such headers are kept, at most: more than this program writes into one message, and less than others could do harm with.
const MOST_MARKS: usize = 1280;

/// How many bytes of other headers are kept, at most.
const MOST_HEADERS: usize = 64 * 1024;

/// How deep tables may lie in each other. Whatever reads them descends into them.
const DEEPEST: usize = 32;

/// How many bytes of a frame are no content.
const AROUND: usize = 8;

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

/// What was left out of a content header.
#[derive(Default)]
struct Omitted<'a> {
    count: usize,
    bytes: usize,
    /// The name of the first.
    first: Option<&'a [u8]>,
}

impl<'a> Omitted<'a> {
    fn add(&mut self, name: &'a [u8], bytes: usize) {
        self.count += 1;
        self.bytes += bytes;
        self.first.get_or_insert(name);
    }
}

/// The same content header without what cannot be read of it, or `None` if all can. It fits into a frame of so many bytes, of which there are 4096 at least, and headers take no more
/// than half of one: when a message is published again, they have to fit together with what is added.
pub(super) fn legible(content: &[u8], frame_max: usize) -> Option<Vec<u8>> {
    let mut omitted = Omitted::default();
    let legible = keep(content, frame_max, &mut omitted)?;
    if let Omitted {
        count,
        bytes,
        first: Some(first),
    } = omitted
    {
        // One line, however many there are.
        let first = String::from_utf8_lossy(first);
        tracing::warn!(
            ?first,
            count,
            bytes,
            "what stands beside a message is too large or cannot be read, and was left out"
        );
    }
    (legible != content).then_some(legible)
}

fn keep<'a>(content: &'a [u8], frame_max: usize, omitted: &mut Omitted<'a>) -> Option<Vec<u8>> {
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
            omitted.add(name.as_bytes(), before.0.len());
            break;
        };
        let bytes = before.until(rest);
        match property {
            Property::Table => {
                let table = bytes.get(4..)?;
                let beside = AROUND + content.len().saturating_sub(table.len()) + MOST_MARKS;
                let most = MOST_HEADERS
                    .min(frame_max / 2)
                    .min(frame_max.saturating_sub(beside));
                let table = legible_table(table, most, omitted);
                kept.extend(u32::try_from(table.len()).ok()?.to_be_bytes());
                kept.extend(table);
            }
            _ if is_legible => kept.extend_from_slice(bytes),
            _ => {
                omitted.add(name.as_bytes(), bytes.len());
                continue;
            }
        }
        kept_flags |= bit;
    }
    Some([beginning, &kept_flags.to_be_bytes(), &kept].concat())
}

fn is_text(bytes: &[u8]) -> bool {
    str::from_utf8(bytes).is_ok()
}

/// The entries of a table that can be read, of so many bytes together. Our own count by themselves, or whoever fills the rest would take them away.
fn legible_table<'a>(table: &'a [u8], most: usize, omitted: &mut Omitted<'a>) -> Vec<u8> {
    let mut kept = Vec::new();
    let (mut left, mut left_for_marks) = (most, MOST_MARKS);
    let mut rest = Rest(table);
    while !rest.0.is_empty() {
        let before = rest;
        let Some((name, value)) = rest.short_text().zip(skip(&mut rest)) else {
            omitted.add(b"headers", before.0.len());
            break;
        };
        let entry = before.until(rest);
        let left = if name.starts_with(MARK.as_bytes()) {
            &mut left_for_marks
        } else {
            &mut left
        };
        let is_legible = is_text(name) && value.is_none_or(|inner| is_legible(inner).is_some());
        match left.checked_sub(entry.len()) {
            Some(less) if is_legible => {
                *left = less;
                kept.extend_from_slice(entry);
            }
            _ => omitted.add(name, entry.len()),
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
