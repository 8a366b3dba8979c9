//! The messages of a client, put together from its frames as their bytes arrive (RFC 6455, section 5).
//!
//! Hubs read bytes, whatever messages they came in; here whole messages are wanted, so this is another reader than theirs. Whatever is wrong is
//! told at the first byte that shows it. Memory grows with what has arrived, never with what was declared.

use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::conversation::Message;

/// The longest payload of a control frame (section 5.5).
const LONGEST_CONTROL: u64 = 125;

/// Reads the messages of one client.
#[derive(Debug)]
pub(super) struct MessageReader {
    /// How many bytes a message may have.
    max_message: usize,
    /// The header of the next frame, as far as it has arrived; 14 bytes at most.
    header: Vec<u8>,
    frame: Option<Frame>,
    /// The message that has begun and not ended.
    message: Option<Begun>,
    /// What has arrived of a control frame's payload.
    control: Vec<u8>,
}

/// A frame whose header is known.
#[derive(Debug, Clone, Copy)]
struct Frame {
    /// `None` is a piece of the message.
    control: Option<Control>,
    is_final: bool,
    /// How much of the payload has yet to arrive.
    left: u64,
    /// Turned so that it fits what comes next.
    mask: [u8; 4],
}

/// What has arrived of a message.
#[derive(Debug)]
struct Begun {
    is_text: bool,
    bytes: Vec<u8>,
    /// How many of the bytes of a text are known to be UTF-8.
    checked: usize,
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

/// What a client may not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offence {
    /// It breaks the rules of WebSockets.
    Protocol,
    /// A text is not UTF-8.
    Utf8,
    /// A message is longer than it may be.
    TooBig,
}

impl Offence {
    /// What the connection is closed with (section 7.4.1).
    pub(super) fn close_code(self) -> u16 {
        match self {
            Self::Protocol => 1002,
            Self::Utf8 => 1007,
            Self::TooBig => 1009,
        }
    }
}

impl MessageReader {
    pub(super) fn new(max_message: usize) -> Self {
        Self {
            max_message,
            header: Vec::new(),
            frame: None,
            message: None,
            control: Vec::new(),
        }
    }

    /// Takes bytes off the front of `input` up to the next thing to tell; `None` when all are taken. After an error or a
    /// [`Close`](Event::Close) nothing that follows means anything.
    pub(super) fn next(&mut self, input: &mut &[u8]) -> Result<Option<Event>, Offence> {
        loop {
            let mut frame = match self.frame.take() {
                Some(frame) => frame,
                None => match self.take_header(input)? {
                    Some(frame) => frame,
                    None => return Ok(None),
                },
            };
            let most = usize::try_from(frame.left).unwrap_or(usize::MAX);
            let (piece, rest) = input.split_at(most.min(input.len()));
            *input = rest;
            let unmasked = piece.iter().zip(frame.mask.iter().cycle());
            let unmasked = unmasked.map(|(byte, mask)| byte ^ mask);
            match (frame.control, &mut self.message) {
                (None, Some(message)) => {
                    message.bytes.extend(unmasked);
                    message.check()?;
                }
                _ => self.control.extend(unmasked),
            }
            frame.mask.rotate_left(piece.len() % 4);
            frame.left -= piece.len() as u64;
            if frame.left > 0 {
                self.frame = Some(frame);
                return Ok(None);
            }
            if let Some(event) = self.end_frame(frame)? {
                return Ok(Some(event));
            }
        }
    }

    /// Takes what is there of the next frame's header; `None` if there is more to come.
    fn take_header(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, Offence> {
        while let Some((byte, rest)) = input.split_first() {
            *input = rest;
            self.header.push(*byte);
            let parsed = FrameHeader::parse(&mut Cursor::new(&self.header));
            // An opcode that does not exist.
            let parsed = parsed.map_err(|_| Offence::Protocol)?;
            if let Some((header, length)) = parsed {
                self.header.clear();
                return self.begin_frame(&header, length).map(Some);
            }
        }
        Ok(None)
    }

    fn begin_frame(&mut self, header: &FrameHeader, length: u64) -> Result<Frame, Offence> {
        // A reserved bit belongs to an extension, and none is agreed on. The highest bit of a length must not be set.
        if header.rsv1 || header.rsv2 || header.rsv3 || length > u64::MAX >> 1 {
            return Err(Offence::Protocol);
        }
        // Clients mask their frames (section 5.1).
        let mask = header.mask.ok_or(Offence::Protocol)?;
        let control = match (header.opcode, &self.message) {
            (OpCode::Control(control), _) => Some(control),
            (OpCode::Data(Data::Continue), Some(_)) => None,
            (OpCode::Data(kind @ (Data::Text | Data::Binary)), None) => {
                self.message = Some(Begun {
                    is_text: kind == Data::Text,
                    bytes: Vec::new(),
                    checked: 0,
                });
                None
            }
            // A continuation of nothing, or a message within another.
            _ => return Err(Offence::Protocol),
        };
        if control.is_some() && (!header.is_final || length > LONGEST_CONTROL) {
            return Err(Offence::Protocol);
        }
        if let (None, Some(message)) = (control, &self.message) {
            let room = self.max_message.saturating_sub(message.bytes.len());
            if length > room as u64 {
                return Err(Offence::TooBig);
            }
        }
        Ok(Frame {
            control,
            is_final: header.is_final,
            left: length,
            mask,
        })
    }

    /// What a frame means that has arrived as a whole.
    fn end_frame(&mut self, frame: Frame) -> Result<Option<Event>, Offence> {
        let Some(control) = frame.control else {
            if !frame.is_final {
                return Ok(None);
            }
            let message = self.message.take().map(Begun::end).transpose()?;
            return Ok(message.map(Event::Message));
        };
        let said = std::mem::take(&mut self.control);
        match control {
            Control::Ping => Ok(Some(Event::Ping(said))),
            Control::Close => close_code(&said).map(|code| Some(Event::Close(code))),
            Control::Pong | Control::Reserved(_) => Ok(None),
        }
    }
}

impl Begun {
    /// Whether what has come so far can be the beginning of a text.
    fn check(&mut self) -> Result<(), Offence> {
        let unchecked = self.bytes.get(self.checked..).unwrap_or_default();
        if !self.is_text {
            return Ok(());
        }
        match std::str::from_utf8(unchecked) {
            Ok(_) => self.checked = self.bytes.len(),
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(Offence::Utf8),
        }
        Ok(())
    }

    /// The message, which has arrived as a whole. A text may still end within a character.
    fn end(self) -> Result<Message, Offence> {
        if !self.is_text {
            return Ok(Message::Binary(self.bytes));
        }
        let text = String::from_utf8(self.bytes).map_err(|_| Offence::Utf8)?;
        Ok(Message::Text(text))
    }
}

/// What stands in a goodbye: nothing, or a code that may be sent, and a text.
fn close_code(said: &[u8]) -> Result<Option<u16>, Offence> {
    let (code, text) = match said {
        [] => return Ok(None),
        [high, low, text @ ..] => (u16::from_be_bytes([*high, *low]), text),
        [_] => return Err(Offence::Protocol),
    };
    match code {
        // Section 7.4.1, and 1012 to 1014, which have been registered since.
        1000..=1003 | 1007..=1014 | 3000..=4999 => {}
        _ => return Err(Offence::Protocol),
    }
    match std::str::from_utf8(text) {
        Ok(_) => Ok(Some(code)),
        Err(_) => Err(Offence::Utf8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

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
        for mut piece in bytes.chunks(piece) {
            while let Some(event) = reader.next(&mut piece)? {
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
        let mut input: &[u8] = b"\x82\xff\x3f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0abc";
        assert_eq!(reader.next(&mut input), Ok(None));
        let message = reader.message.unwrap();
        assert_eq!(message.bytes, b"abc");
        assert!(message.bytes.capacity() < 64);
    }
}
