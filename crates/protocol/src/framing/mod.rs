//! Cutting a stream of bytes into messages, whatever pieces it arrives in.
//!
//! The handshake, and everything after it where JSON is spoken, is records: text, each followed by the byte `0x1E`.
//! MessagePack has messages with their length in front. A message may arrive in any number of pieces, and one piece
//! may hold many messages.

mod length_prefix;

use bytes::{Buf, Bytes, BytesMut};

use crate::Encoding;

pub(crate) use length_prefix::insert as insert_length_prefix;

/// The byte that ends every record of the JSON hub protocol and of the handshake.
///
/// It cannot occur inside a record, because JSON escapes control characters.
pub const RECORD_SEPARATOR: u8 = 0x1E;

/// Bytes of which no more messages can be cut. The connection ends; the texts are those of ASP.NET Core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// A message did not end within the limit.
    #[error(
        "The maximum message size of {limit}B was exceeded. The message size can be configured in AddHubOptions."
    )]
    TooLarge {
        /// The most bytes that a message may have, its separator or length prefix included.
        limit: usize,
    },
    /// A length prefix declares more than `0x7FFF_FFFF` bytes, or does not end within five bytes.
    #[error("Messages over 2GB in size are not supported.")]
    Over2Gb,
}

/// The bytes that have arrived and are not yet taken as messages.
///
/// Begins with records, because the handshake is one; [`switch_to`](Self::switch_to) goes on with what was agreed
/// on. Holds at most what was pushed and not taken, whatever lengths are declared in it: push no more while a
/// message is due, and the memory stays within one limit and one piece.
#[derive(Debug, Default)]
pub struct Records {
    buffer: BytesMut,
    /// How much of the buffer is known to hold no separator, so that a long record that arrives in
    /// many pieces is searched once and not once per piece.
    searched: usize,
    length_prefixed: bool,
}

/// Where in the buffer the next message is.
struct Found {
    start: usize,
    length: usize,
    /// How many bytes behind it belong to it: the separator.
    trailer: usize,
}

impl Records {
    /// An empty stream of records.
    pub fn new() -> Self {
        Self::default()
    }

    /// From here on the bytes are messages in this encoding, those included that have arrived already: a client may
    /// send its first messages together with its handshake.
    pub fn switch_to(&mut self, encoding: Encoding) {
        self.length_prefixed = encoding.is_binary();
        self.searched = 0;
    }

    /// Appends bytes as they came from the transport.
    pub fn push(&mut self, bytes: impl Into<BytesMut>) {
        self.buffer.unsplit(bytes.into());
    }

    /// How many bytes wait to be taken.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether nothing waits, not even half a message.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Takes the next whole message, without its separator or length prefix; `None` if more bytes are needed.
    ///
    /// `limit` counts separator and prefix, as ASP.NET Core's `MaximumReceiveMessageSize` does: a message of
    /// exactly `limit` bytes passes, an unfinished one fails once more than `limit` bytes have arrived, even if it
    /// has declared from the start to be longer. What follows a whole message never makes that message fail.
    /// `None` is no limit.
    pub fn next(&mut self, limit: Option<usize>) -> Result<Option<Bytes>, FramingError> {
        let limit = limit.unwrap_or(usize::MAX);
        let window = self.buffer.get(..limit).unwrap_or(&self.buffer);
        let found = if self.length_prefixed {
            length_prefix::find(window)?
        } else {
            find_record(window, self.searched)
        };
        if let Some(found) = found {
            self.buffer.advance(found.start);
            let message = self.buffer.split_to(found.length).freeze();
            self.buffer.advance(found.trailer);
            self.searched = 0;
            if self.buffer.is_empty() {
                // Gives the memory back to the message alone: an idle connection keeps no buffer.
                self.buffer = BytesMut::new();
            }
            return Ok(Some(message));
        }
        if self.buffer.len() > limit {
            return Err(FramingError::TooLarge { limit });
        }
        self.searched = window.len();
        Ok(None)
    }
}

fn find_record(window: &[u8], searched: usize) -> Option<Found> {
    let unsearched = window.get(searched..).unwrap_or_default();
    let at = memchr::memchr(RECORD_SEPARATOR, unsearched)?;
    Some(Found {
        start: 0,
        length: searched + at,
        trailer: 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(records: &mut Records, limit: Option<usize>) -> Vec<Bytes> {
        std::iter::from_fn(|| records.next(limit).unwrap()).collect()
    }

    #[test]
    fn several_records_in_one_piece_come_out_one_by_one() {
        let mut records = Records::new();
        records.push(&b"{}\x1e\x1e{\"a\":1}\x1ehalf"[..]);
        assert_eq!(all(&mut records, None), ["{}", "", "{\"a\":1}"]);
        assert_eq!(records.len(), 4);
    }

    #[test]
    fn a_record_of_exactly_the_limit_passes_and_one_byte_more_fails() {
        let mut records = Records::new();
        records.push(&b"1234567\x1e"[..]);
        assert_eq!(records.next(Some(8)).unwrap().unwrap(), "1234567");

        records.push(&b"12345678\x1e"[..]);
        assert_eq!(
            records.next(Some(8)),
            Err(FramingError::TooLarge { limit: 8 })
        );
    }

    #[test]
    fn an_unfinished_record_fails_only_beyond_the_limit() {
        let mut records = Records::new();
        records.push(&b"12345678"[..]);
        assert_eq!(records.next(Some(8)), Ok(None));
        records.push(&b"9"[..]);
        assert!(records.next(Some(8)).is_err());
    }

    #[test]
    fn two_records_larger_than_the_limit_together_pass() {
        let mut records = Records::new();
        records.push(&b"12345\x1e12345\x1e"[..]);
        assert_eq!(all(&mut records, Some(6)), ["12345", "12345"]);
    }

    proptest::proptest! {
        #[test]
        fn any_split_of_the_bytes_gives_the_same_records(
            input in proptest::collection::vec(proptest::sample::select(b"ab\x1e".to_vec()), 0..200),
            cuts in proptest::collection::vec(0usize..200, 0..10),
        ) {
            let mut whole = Records::new();
            whole.push(&input[..]);
            let expected = all(&mut whole, None);

            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(input.len())).collect();
            cuts.extend([0, input.len()]);
            cuts.sort_unstable();
            let mut split = Records::new();
            let mut seen = Vec::new();
            for pair in cuts.windows(2) {
                split.push(&input[pair[0]..pair[1]]);
                seen.extend(all(&mut split, None));
            }
            proptest::prop_assert_eq!(seen, expected);
        }
    }
}
