//! Cutting a stream of bytes into records: JSON text, each followed by the byte `0x1E`.
//!
//! A record may arrive in any number of pieces, and one piece may hold many records.

use bytes::{Buf, Bytes, BytesMut};

/// The byte that ends every record of the JSON hub protocol and of the handshake.
///
/// It cannot occur inside a record, because JSON escapes control characters.
pub const RECORD_SEPARATOR: u8 = 0x1E;

/// A record did not end within the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "The maximum message size of {limit}B was exceeded. The message size can be configured in AddHubOptions."
)]
pub struct MessageTooLarge {
    /// The most bytes that a record may have, its separator included.
    pub limit: usize,
}

/// The bytes that have arrived and are not yet taken as records.
///
/// Holds at most what was pushed and not taken; push no more while a record is due, and the memory
/// stays within one limit and one piece.
#[derive(Debug, Default)]
pub struct Records {
    buffer: BytesMut,
    /// How much of the buffer is known to hold no separator, so that a long record that arrives in
    /// many pieces is searched once and not once per piece.
    searched: usize,
}

impl Records {
    /// An empty stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends bytes as they came from the transport.
    pub fn push(&mut self, bytes: impl Into<BytesMut>) {
        self.buffer.unsplit(bytes.into());
    }

    /// How many bytes wait to be taken.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether nothing waits, not even half a record.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Takes the next whole record, without its separator; `None` if more bytes are needed.
    ///
    /// `limit` counts the separator, as ASP.NET Core's `MaximumReceiveMessageSize` does: a record of
    /// exactly `limit` bytes passes, an unfinished one fails once more than `limit` bytes have arrived.
    /// What follows a whole record never makes that record fail. `None` is no limit.
    pub fn next(&mut self, limit: Option<usize>) -> Result<Option<Bytes>, MessageTooLarge> {
        let limit = limit.unwrap_or(usize::MAX);
        let window = self.buffer.len().min(limit);
        let unsearched = self.buffer.get(self.searched..window).unwrap_or_default();
        if let Some(at) = unsearched.iter().position(|byte| *byte == RECORD_SEPARATOR) {
            let record = self.buffer.split_to(self.searched + at).freeze();
            self.buffer.advance(1);
            self.searched = 0;
            if self.buffer.is_empty() {
                // Gives the memory back to the record alone: an idle connection keeps no buffer.
                self.buffer = BytesMut::new();
            }
            return Ok(Some(record));
        }
        if self.buffer.len() > limit {
            return Err(MessageTooLarge { limit });
        }
        self.searched = window;
        Ok(None)
    }
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
        assert_eq!(records.next(Some(8)), Err(MessageTooLarge { limit: 8 }));
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
