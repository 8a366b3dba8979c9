//! The length in front of a MessagePack message: seven bits a byte, the lowest first, the high bit for "more".
//!
//! ASP.NET Core's `BinaryMessageParser` and `BinaryMessageFormatter`.

use super::{Found, FramingError};

/// `0x7FFF_FFFF`, the longest length there is, takes as many.
const MAX_BYTES: usize = 5;

/// The highest value of the fifth byte: more than that would be more than `0x7FFF_FFFF`.
const MAX_FIFTH_BYTE: u8 = 7;

/// Finds the first whole message; `None` if it ends beyond the window.
pub(super) fn find(window: &[u8]) -> Result<Option<Found>, FramingError> {
    let mut length = 0;
    for (at, byte) in window.iter().take(MAX_BYTES).enumerate() {
        if at + 1 == MAX_BYTES && *byte > MAX_FIFTH_BYTE {
            return Err(FramingError::Over2Gb);
        }
        length |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            let start = at + 1;
            return Ok((length <= window.len() - start).then_some(Found {
                start,
                length,
                trailer: 0,
            }));
        }
    }
    Ok(None)
}

/// Puts the length of everything from `start` on in front of it, once it has all been written.
pub(crate) fn insert(out: &mut Vec<u8>, start: usize) {
    let mut left = out.len() - start;
    let mut prefix = Vec::with_capacity(MAX_BYTES);
    loop {
        let [low, ..] = left.to_le_bytes();
        left >>= 7;
        if left == 0 {
            prefix.push(low & 0x7F);
            break;
        }
        prefix.push(low | 0x80);
    }
    out.splice(start..start, prefix);
}

#[cfg(test)]
mod tests {
    use super::super::Records;
    use super::*;
    use crate::Encoding;

    fn records(bytes: &[u8]) -> Records {
        let mut records = Records::new();
        records.switch_to(Encoding::MessagePack);
        records.push(bytes);
        records
    }

    fn framed(message: &[u8]) -> Vec<u8> {
        let mut framed = message.to_vec();
        insert(&mut framed, 0);
        framed
    }

    #[test]
    fn lengths_are_written_as_dotnet_writes_them() {
        let prefix = |length: usize| {
            let framed = framed(&vec![0; length]);
            framed[..framed.len() - length].to_vec()
        };
        assert_eq!(prefix(0), [0]);
        assert_eq!(prefix(53), [0x35]);
        assert_eq!(prefix(127), [0x7F]);
        assert_eq!(prefix(128), [0x80, 0x01]);
        assert_eq!(prefix(5248), [0x80, 0x29]);
        assert_eq!(prefix(0x3FFF), [0xFF, 0x7F]);
        assert_eq!(prefix(0x4000), [0x80, 0x80, 0x01]);
    }

    #[test]
    fn a_length_is_put_behind_what_was_written_before() {
        let mut out = b"before".to_vec();
        out.extend([0x91, 0x06]);
        insert(&mut out, 6);
        assert_eq!(out, b"before\x02\x91\x06");
    }

    #[test]
    fn messages_come_out_one_by_one_and_an_empty_one_is_one() {
        let mut records = records(b"\x02\x91\x06\x00\x01x\x03ab");
        assert_eq!(records.next(None).unwrap().unwrap(), [0x91, 0x06][..]);
        assert_eq!(records.next(None).unwrap().unwrap(), ""[..]);
        assert_eq!(records.next(None).unwrap().unwrap(), "x");
        assert_eq!(records.next(None), Ok(None));
        assert_eq!(records.len(), 3);
        records.push(&b"c"[..]);
        assert_eq!(records.next(None).unwrap().unwrap(), "abc");
        assert!(records.is_empty());
    }

    #[test]
    fn what_came_with_the_handshake_is_read_in_the_encoding_that_was_agreed_on() {
        let mut records = Records::new();
        records
            .push(&b"{\"protocol\":\"messagepack\",\"version\":1}\x1e\x03\x1e\x1e\x1e\x02\x91"[..]);
        let handshake = records.next(Some(40)).unwrap().unwrap();
        assert!(handshake.starts_with(b"{\"protocol\""));
        records.switch_to(Encoding::MessagePack);
        assert_eq!(records.next(None).unwrap().unwrap(), "\x1e\x1e\x1e");
        assert_eq!(records.next(None), Ok(None));
        records.push(&[0x06][..]);
        assert_eq!(records.next(None).unwrap().unwrap(), [0x91, 0x06][..]);
    }

    #[test]
    fn the_limit_counts_the_prefix() {
        assert_eq!(records(b"\x041234").next(Some(5)).unwrap().unwrap(), "1234");
        assert_eq!(
            records(b"\x041234").next(Some(4)),
            Err(FramingError::TooLarge { limit: 4 })
        );
    }

    #[test]
    fn a_length_over_the_limit_fails_once_more_than_the_limit_has_arrived() {
        let mut records = records(&[0xFF, 0xFF, 0xFF, 0xFF, 0x07]);
        assert_eq!(records.next(Some(8)), Ok(None));
        records.push(&b"123"[..]);
        assert_eq!(records.next(Some(8)), Ok(None));
        records.push(&b"4"[..]);
        assert_eq!(
            records.next(Some(8)),
            Err(FramingError::TooLarge { limit: 8 })
        );
    }

    #[test]
    fn two_messages_larger_than_the_limit_together_pass() {
        let mut records = records(b"\x0512345\x0567890");
        assert_eq!(records.next(Some(6)).unwrap().unwrap(), "12345");
        assert_eq!(records.next(Some(6)).unwrap().unwrap(), "67890");
    }

    #[test]
    fn lengths_over_two_gigabytes_are_refused() {
        for bytes in [
            [0xFF, 0xFF, 0xFF, 0xFF, 0x08],
            [0x80, 0x80, 0x80, 0x80, 0x80],
            [0x80, 0x80, 0x80, 0x80, 0xFF],
        ] {
            assert_eq!(
                records(&bytes).next(Some(32_768)),
                Err(FramingError::Over2Gb)
            );
            assert_eq!(records(&bytes).next(None), Err(FramingError::Over2Gb));
            assert_eq!(records(&bytes[..4]).next(None), Ok(None));
        }
        // As in ASP.NET Core, five bytes are taken for a length although one would do.
        assert_eq!(
            records(b"\x81\x80\x80\x80\x00x")
                .next(None)
                .unwrap()
                .unwrap(),
            "x"
        );
    }

    proptest::proptest! {
        #[test]
        fn any_split_of_the_bytes_gives_the_same_messages(
            messages in proptest::collection::vec(
                proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300),
                0..10,
            ),
            piece in 1usize..200,
        ) {
            let bytes: Vec<u8> = messages.iter().flat_map(|message| framed(message)).collect();
            let mut stream = records(&[]);
            let mut seen = Vec::new();
            for piece in bytes.chunks(piece) {
                stream.push(piece);
                while let Some(message) = stream.next(Some(400)).unwrap() {
                    seen.push(message);
                }
            }
            proptest::prop_assert_eq!(seen, messages);
            proptest::prop_assert!(stream.is_empty());
        }

        #[test]
        fn no_input_makes_the_framing_panic(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..50),
            limit in proptest::option::of(0usize..60),
        ) {
            let mut stream = records(&bytes);
            while let Ok(Some(_)) = stream.next(limit) {}
        }
    }
}
