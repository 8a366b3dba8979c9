//! The messages of a client, put together from the pieces in which they arrive.
//!
//! Whatever is wrong is told at the first byte that shows it. Memory grows with what has arrived, never with what was declared.

use hubcast_websocket::{Event as Piece, FrameReader, Kind, Offence, Unread};

use super::conversation::Message;

/// Reads the messages of one client.
#[derive(Debug)]
pub(super) struct MessageReader {
    /// How many bytes a message may have.
    max_message: usize,
    frames: FrameReader,
    /// What has arrived of the message that has not ended.
    begun: Vec<u8>,
}

/// What comes out of a client's bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    Message(Message),
    /// A ping and what it says, which is to be sent back in a pong.
    Ping(Vec<u8>),
    /// The client's goodbye, with its code if it gave one.
    Close(Option<u16>),
}

impl MessageReader {
    pub(super) fn new(max_message: usize) -> Self {
        Self {
            max_message,
            frames: FrameReader::default(),
            begun: Vec::new(),
        }
    }

    /// Takes bytes off the front of `input` up to the next thing to tell; `None` when all are taken. After an error or a
    /// [`Close`](Event::Close) nothing that follows means anything.
    pub(super) fn next(&mut self, input: &mut Unread<'_>) -> Result<Option<Event>, Offence> {
        loop {
            let room = self.max_message.saturating_sub(self.begun.len());
            match self.frames.next(input, room as u64)? {
                None => return Ok(None),
                Some(Piece::Ping(said)) => return Ok(Some(Event::Ping(said))),
                Some(Piece::Close(code)) => return Ok(Some(Event::Close(code))),
                Some(Piece::Data {
                    kind,
                    bytes,
                    ends_message,
                }) => {
                    self.begun.extend_from_slice(bytes);
                    if ends_message {
                        let message = whole(kind, std::mem::take(&mut self.begun))?;
                        return Ok(Some(Event::Message(message)));
                    }
                }
            }
        }
    }
}

fn whole(kind: Kind, bytes: Vec<u8>) -> Result<Message, Offence> {
    match kind {
        Kind::Text => String::from_utf8(bytes)
            .map(Message::Text)
            .map_err(|_| Offence::Utf8),
        Kind::Binary => Ok(Message::Binary(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use tungstenite::protocol::frame::FrameHeader;
    use tungstenite::protocol::frame::coding::OpCode;

    const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

    /// A masked frame that begins with this byte.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let opcode = OpCode::from(first & 0x0F);
        let header = FrameHeader {
            is_final: first & 0x80 != 0,
            opcode,
            mask: Some(MASK),
            ..FrameHeader::default()
        };
        let mut frame = Vec::new();
        header.format(payload.len() as u64, &mut frame).unwrap();
        let masked = payload.iter().zip(MASK.iter().cycle());
        frame.extend(masked.map(|(byte, mask)| byte ^ mask));
        frame
    }

    fn text(text: &str) -> Event {
        Event::Message(Message::Text(text.to_owned()))
    }

    fn binary(bytes: &[u8]) -> Event {
        Event::Message(Message::Binary(bytes.to_vec()))
    }

    /// Everything that is in the bytes up to a goodbye, which arrive in pieces of a size.
    fn read(bytes: &[u8], piece: usize) -> Result<Vec<Event>, Offence> {
        let mut reader = MessageReader::new(100_000);
        let mut events = Vec::new();
        for piece in bytes.to_vec().chunks_mut(piece) {
            let mut input = Unread(piece);
            while let Some(event) = reader.next(&mut input)? {
                let is_last = matches!(event, Event::Close(_));
                events.push(event);
                if is_last {
                    return Ok(events);
                }
            }
        }
        Ok(events)
    }

    #[test]
    fn messages_come_out_whole_however_their_bytes_arrive() {
        let long = "grüße, мир, 世界, 🦀".repeat(20);
        let (one, two) = long.as_bytes().split_at(33);
        let large = vec![0xFF; 70_000];
        let bytes = [
            frame(0x01, one),
            frame(0x89, b"are you there?"),
            frame(0x00, b""),
            frame(0x8A, b"I am"),
            frame(0x80, two),
            frame(0x82, &large),
            frame(0x81, b""),
            frame(0x02, b"a"),
            frame(0x80, b""),
            frame(0x88, b"\x03\xe8bye"),
        ]
        .concat();
        for piece in [1, 2, 3, 5, 7, 64, 1_000, usize::MAX] {
            let expected = [
                Event::Ping(b"are you there?".to_vec()),
                text(&long),
                binary(&large),
                text(""),
                binary(b"a"),
                Event::Close(Some(1000)),
            ];
            assert_eq!(read(&bytes, piece).unwrap(), expected, "{piece}");
        }
    }

    #[test]
    fn an_offence_is_told_at_the_first_byte_that_shows_it() {
        let long = frame(0x81, &[b'x'; 1_000]);
        for (bytes, offence) in [
            // Of a text of a thousand bytes two have come: a character of two that does not go on as it must.
            ([&long[..8], b"\xd1\x1c"].concat(), Offence::Utf8),
            (b"\x89\xfe\0\x7e\0\0\0\0".to_vec(), Offence::Protocol),
            (
                b"\x82\xff\0\0\0\0\0\x01\x86\xa1\0\0\0\0".to_vec(),
                Offence::TooBig,
            ),
            (
                [
                    frame(0x02, &[0; 10_000]),
                    frame(0x00, &[0; 9_000]).repeat(10),
                    frame(0x80, &[0]),
                ]
                .concat(),
                Offence::TooBig,
            ),
            (
                b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0".to_vec(),
                Offence::Protocol,
            ),
        ] {
            for piece in [1, usize::MAX] {
                assert_eq!(read(&bytes, piece), Err(offence), "{bytes:02x?}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_mean_the_same_however_they_arrive(
            frames in vec((any::<u8>(), vec(prop_oneof![Just(0x80), Just(0xC3), any::<u8>()], 0..140)), 0..6),
            rest in vec(any::<u8>(), 0..20),
            piece in 1_usize..40,
        ) {
            let frames = frames.into_iter().map(|(first, payload)| frame(first & 0x8F, &payload));
            let bytes = [frames.collect::<Vec<_>>().concat(), rest].concat();
            prop_assert_eq!(read(&bytes, piece), read(&bytes, usize::MAX));
        }
    }

    #[test]
    fn what_is_declared_reserves_nothing() {
        let mut reader = MessageReader::new(usize::MAX);
        let mut begun = b"\x82\xff\x3f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0abc".to_vec();
        assert_eq!(reader.next(&mut Unread(&mut begun)), Ok(None));
        assert_eq!(reader.begun, b"abc");
        assert!(reader.begun.capacity() < 64);
    }
}
