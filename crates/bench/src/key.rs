//! What identifies a message on its way through the server, and the fixed-width text that carries it.

/// How many bytes a [`Key`] is in a message.
pub(crate) const KEY_LENGTH: usize = 16;

/// What a key begins with, so that it is found in a message.
pub(crate) const MARK: &[u8; 2] = b"hb";

/// Who sent a message, and its how manyth it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// Below 2^24.
    pub(crate) sender: u32,
    pub(crate) number: u32,
}

impl Key {
    /// `hb`, six digits of the sender, eight of the number: all keys are equally long.
    pub(crate) fn text(self) -> [u8; KEY_LENGTH] {
        let digits = (u64::from(self.sender & 0xff_ffff) << 32) | u64::from(self.number);
        let mut text = [0; KEY_LENGTH];
        text[..2].copy_from_slice(MARK);
        for (at, byte) in text[2..].iter_mut().enumerate() {
            let digit = (digits >> (52 - 4 * at)) & 0xf;
            *byte = match u8::try_from(digit).unwrap_or(0) {
                digit @ 0..=9 => b'0' + digit,
                letter => b'a' + letter - 10,
            };
        }
        text
    }

    /// Whether there is a key anywhere in this.
    pub(crate) fn is_in(text: &[u8]) -> bool {
        text.windows(KEY_LENGTH)
            .any(|text| Self::parse(text).is_some())
    }

    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let digits = text.strip_prefix(MARK)?;
        if digits.len() != KEY_LENGTH - MARK.len() {
            return None;
        }
        let mut value = 0_u64;
        for &digit in digits {
            let digit = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return None,
            };
            value = (value << 4) | u64::from(digit);
        }
        Some(Self {
            sender: u32::try_from(value >> 32).ok()?,
            number: u32::try_from(value & 0xffff_ffff).ok()?,
        })
    }
}

/// A message of which everything but the key is known.
///
/// To write one, the key is put into its places; to read one, all its other bytes are compared, which is cheaper than parsing and finds
/// every damage.
#[derive(Debug)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    /// Where the key is, ascending; each is in bounds.
    places: Vec<usize>,
}

impl Template {
    /// The template of this message, which contains the key at least once.
    pub(crate) fn new(message: &[u8], key: Key) -> Option<Self> {
        let places: Vec<usize> = memchr::memmem::find_iter(message, &key.text()).collect();
        (!places.is_empty()).then(|| Self {
            bytes: message.to_vec(),
            places,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends the message with this key.
    pub(crate) fn write(&self, key: Key, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let text = key.text();
        for place in &self.places {
            if let Some(gap) = out.get_mut(start + place..start + place + KEY_LENGTH) {
                gap.copy_from_slice(&text);
            }
        }
    }

    /// The key of this message, if it is one of this kind, to the letter.
    pub(crate) fn read(&self, message: &[u8]) -> Option<Key> {
        if message.len() != self.bytes.len() {
            return None;
        }
        let mut text = None;
        let mut at = 0;
        for &place in &self.places {
            if message.get(at..place) != self.bytes.get(at..place) {
                return None;
            }
            at = place + KEY_LENGTH;
            let found = message.get(place..at)?;
            if text.is_some_and(|text| text != found) {
                return None;
            }
            text = Some(found);
        }
        if message.get(at..) != self.bytes.get(at..) {
            return None;
        }
        Key::parse(text?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key {
        sender: 0x0a_bcde,
        number: 0xff00_1234,
    };

    #[test]
    fn a_key_survives_its_text() {
        assert_eq!(&KEY.text(), b"hb0abcdeff001234");
        assert_eq!(Key::parse(&KEY.text()), Some(KEY));
        for wrong in [
            "hb0abcdeff00123",
            "hb0abcdeff00123g",
            "xx0abcdeff001234",
            "",
        ] {
            assert_eq!(Key::parse(wrong.as_bytes()), None, "{wrong}");
        }
        assert!(Key::is_in(b"xxhb0abcdeff001234x"));
        assert!(!Key::is_in(b"xxhb0abcdeff00123x"));
    }

    #[test]
    fn a_template_reads_what_it_writes_and_nothing_that_is_damaged() {
        let message = br#"{"id":"hb0abcdeff001234","result":"hb0abcdeff001234xxxx"}"#;
        let template = Template::new(message, KEY).unwrap();
        let other = Key {
            sender: 1,
            number: 2,
        };
        let mut written = Vec::new();
        template.write(other, &mut written);
        assert_eq!(written.len(), template.len());
        assert_eq!(template.read(&written), Some(other));
        for at in 0..written.len() {
            let mut damaged = written.clone();
            damaged[at] ^= 1;
            assert_eq!(template.read(&damaged), None, "damaged at {at}");
        }
        written.pop();
        assert_eq!(template.read(&written), None);
        assert!(Template::new(b"nothing", KEY).is_none());
    }
}
