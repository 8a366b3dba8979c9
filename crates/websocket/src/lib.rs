//! The frames of a WebSocket client (RFC 6455, section 5), taken apart as their bytes arrive.
//!
//! Nothing waits for the end of a frame or of a message: what has arrived of a payload is unmasked where it lies and passed on. So a reader
//! keeps a few dozen bytes between two reads, whatever length a client declares. Whoever wants whole messages puts them together.
//!
//! There is no I/O here and no async; nothing panics, whatever the input.

/// The longest header: two bytes, a 64-bit length and a mask.
const LONGEST_HEADER: usize = 14;

/// The longest payload of a control frame (section 5.5).
const LONGEST_CONTROL: u64 = 125;

/// The longest character in UTF-8.
const LONGEST_CHARACTER: usize = 4;

/// Reads the frames of one client.
#[derive(Debug, Default)]
pub struct FrameReader {
    /// The header of the next frame, as far as it has arrived.
    header: [u8; LONGEST_HEADER],
    header_bytes: u8,
    /// The frame whose payload is arriving.
    frame: Option<Begun>,
    /// The kind of the message that has begun and not ended.
    message: Option<Kind>,
    utf8: Utf8,
    /// What has arrived of a control frame's payload.
    control: Vec<u8>,
}

/// A frame whose header is known.
#[derive(Debug, Clone, Copy)]
struct Begun {
    opcode: Opcode,
    is_last: bool,
    /// How much of the payload has yet to arrive.
    left: u64,
    /// Turned so that it fits what comes next.
    mask: [u8; 4],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opcode {
    Data(Kind),
    Close,
    Ping,
    Pong,
}

/// What a message consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A text, in UTF-8.
    Text,
    /// Any bytes.
    Binary,
}

/// What comes out of a client's bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A piece of a message.
    Data {
        /// What the message consists of.
        kind: Kind,
        /// The piece; empty only where the message ends. A character may be in two pieces.
        bytes: &'a [u8],
        /// Whether it is the last of its message.
        ends_message: bool,
    },
    /// A ping and what it says, which is to be sent back in a pong.
    Ping(Vec<u8>),
    /// The client's goodbye, with its code if it gave one.
    Close(Option<u16>),
}

/// Bytes of the socket that have not been looked at.
#[derive(Debug)]
pub struct Unread<'a>(
    /// What is left of them.
    pub &'a mut [u8],
);

impl<'a> Unread<'a> {
    /// Takes so many off the front, or as many as there are.
    fn take(&mut self, most: usize) -> &'a mut [u8] {
        let taken = most.min(self.0.len());
        let (piece, rest) = std::mem::take(&mut self.0).split_at_mut(taken);
        self.0 = rest;
        piece
    }
}

/// What a client may not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offence {
    /// It breaks the rules of WebSockets.
    Protocol,
    /// A text is not UTF-8.
    Utf8,
    /// A message is longer than it may be.
    TooBig,
}

impl Offence {
    /// What the connection is closed with (section 7.4.1).
    pub fn close_code(self) -> u16 {
        match self {
            Self::Protocol => 1002,
            Self::Utf8 => 1007,
            Self::TooBig => 1009,
        }
    }
}

impl FrameReader {
    /// Takes bytes off the front of `input` up to the next thing to tell; `None` when all are taken. After an error or a
    /// [`Close`](Event::Close) nothing that follows means anything.
    ///
    /// `room` is how many bytes may still come of the message that has begun, or else of the next; a frame that declares more is an offence.
    pub fn next<'a>(
        &mut self,
        input: &mut Unread<'a>,
        room: u64,
    ) -> Result<Option<Event<'a>>, Offence> {
        loop {
            let Some(mut frame) = self.frame else {
                let Some(frame) = self.take_header(input, room)? else {
                    return Ok(None);
                };
                self.frame = Some(frame);
                continue;
            };
            let left = usize::try_from(frame.left).unwrap_or(usize::MAX);
            let piece = input.take(left);
            unmask(piece, &mut frame.mask);
            frame.left -= piece.len() as u64;
            let is_whole = frame.left == 0;
            self.frame = (!is_whole).then_some(frame);
            match frame.opcode {
                Opcode::Data(kind) => {
                    let ends_message = is_whole && frame.is_last;
                    if ends_message {
                        self.message = None;
                    }
                    if kind == Kind::Text {
                        self.utf8.check(piece, ends_message)?;
                    }
                    if ends_message || !piece.is_empty() {
                        return Ok(Some(Event::Data {
                            kind,
                            bytes: piece,
                            ends_message,
                        }));
                    }
                }
                control => {
                    self.control.extend_from_slice(piece);
                    if is_whole {
                        let said = std::mem::take(&mut self.control);
                        match control {
                            Opcode::Close => {
                                return close_code(&said).map(|code| Some(Event::Close(code)));
                            }
                            Opcode::Ping => return Ok(Some(Event::Ping(said))),
                            Opcode::Pong | Opcode::Data(_) => {}
                        }
                    }
                }
            }
            if !is_whole {
                return Ok(None);
            }
        }
    }

    /// Takes what is there of the next frame's header; `None` if there is more to come.
    fn take_header(&mut self, input: &mut Unread<'_>, room: u64) -> Result<Option<Begun>, Offence> {
        loop {
            let have = usize::from(self.header_bytes);
            let known = self.header.get(..have).unwrap_or_default();
            let missing = header_length(known)? - have;
            if missing == 0 {
                self.header_bytes = 0;
                return self.begin(room).map(Some);
            }
            let piece = input.take(missing);
            if piece.is_empty() {
                return Ok(None);
            }
            if let Some(room) = self.header.get_mut(have..have + piece.len()) {
                room.copy_from_slice(piece);
            }
            // 14 at most.
            self.header_bytes += u8::try_from(piece.len()).unwrap_or_default();
        }
    }

    /// What the whole header says.
    fn begin(&mut self, room: u64) -> Result<Begun, Offence> {
        let [first, second, rest @ ..] = self.header;
        let short = second & 0x7F;
        let length_bytes = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let (length, mask) = rest.split_at(length_bytes);
        let left = match length {
            [] => u64::from(short),
            wide => wide
                .iter()
                .fold(0, |left, byte| left << 8 | u64::from(*byte)),
        };
        let mask = mask.first_chunk().copied().unwrap_or_default();
        let is_last = first & 0x80 != 0;
        let opcode = match (first & 0x0F, self.message) {
            (0, Some(kind)) => Opcode::Data(kind),
            (1, None) => Opcode::Data(Kind::Text),
            (2, None) => Opcode::Data(Kind::Binary),
            (8, _) => Opcode::Close,
            (9, _) => Opcode::Ping,
            (10, _) => Opcode::Pong,
            // A continuation of nothing, a message within another, or nothing known.
            _ => return Err(Offence::Protocol),
        };
        // The highest bit of a length must not be set.
        if left > u64::MAX >> 1 {
            return Err(Offence::Protocol);
        }
        match opcode {
            Opcode::Data(_) if left > room => return Err(Offence::TooBig),
            Opcode::Data(kind) => self.message = Some(kind),
            _ if !is_last || left > LONGEST_CONTROL => return Err(Offence::Protocol),
            _ => {}
        }
        Ok(Begun {
            opcode,
            is_last,
            left,
            mask,
        })
    }
}

/// How long the header is that begins like this, as far as can be told. What no header may begin with is an offence at once.
fn header_length(known: &[u8]) -> Result<usize, Offence> {
    // A reserved bit belongs to an extension, and none is ever agreed on.
    if known.first().is_some_and(|first| first & 0x70 != 0) {
        return Err(Offence::Protocol);
    }
    match known.get(1) {
        None => Ok(2),
        // Clients mask their frames (section 5.1).
        Some(second) if second & 0x80 == 0 => Err(Offence::Protocol),
        Some(second) => Ok(match second & 0x7F {
            126 => 8,
            127 => LONGEST_HEADER,
            _ => 6,
        }),
    }
}

/// Takes a mask off, and turns it to fit what follows.
fn unmask(bytes: &mut [u8], mask: &mut [u8; 4]) {
    let [a, b, c, d] = *mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip([a, b, c, d, a, b, c]) {
        *byte ^= mask;
    }
    mask.rotate_left(rest.len() % 4);
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

/// Whether a text that comes in pieces is UTF-8.
#[derive(Debug, Default)]
struct Utf8 {
    /// The character that the last piece ended within.
    begun: [u8; LONGEST_CHARACTER],
    begun_bytes: u8,
}

impl Utf8 {
    fn check(&mut self, mut piece: &[u8], is_last: bool) -> Result<(), Offence> {
        while self.begun_bytes > 0
            && let Some((byte, rest)) = piece.split_first()
        {
            piece = rest;
            self.push(*byte);
            let have = usize::from(self.begun_bytes);
            match std::str::from_utf8(self.begun.get(..have).unwrap_or_default()) {
                Ok(_) => self.begun_bytes = 0,
                Err(error) if error.error_len().is_none() => {}
                Err(_) => return Err(Offence::Utf8),
            }
        }
        if let Err(error) = std::str::from_utf8(piece) {
            if error.error_len().is_some() {
                return Err(Offence::Utf8);
            }
            let begun = piece.get(error.valid_up_to()..).unwrap_or_default();
            for byte in begun {
                self.push(*byte);
            }
        }
        if is_last && self.begun_bytes > 0 {
            return Err(Offence::Utf8);
        }
        Ok(())
    }

    /// Appends a byte to the character that has begun; whoever calls this has seen that it is not whole.
    fn push(&mut self, byte: u8) {
        if let Some(room) = self.begun.get_mut(usize::from(self.begun_bytes)) {
            *room = byte;
            self.begun_bytes += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

    /// A masked frame.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            short @ 0..=125 => frame.push(0x80 | u8::try_from(short).unwrap()),
            middle @ 126..=0xFFFF => {
                frame.push(0xFE);
                frame.extend(u16::try_from(middle).unwrap().to_be_bytes());
            }
            long => {
                frame.push(0xFF);
                frame.extend((long as u64).to_be_bytes());
            }
        }
        frame.extend(MASK);
        let masked = payload.iter().zip(MASK.iter().cycle());
        frame.extend(masked.map(|(byte, mask)| byte ^ mask));
        frame
    }

    #[derive(Debug, Default, PartialEq, Eq)]
    struct Read {
        data: Vec<u8>,
        /// Where in the data messages end.
        ends: Vec<usize>,
        pings: Vec<Vec<u8>>,
        /// The code of the goodbye, if there was one.
        goodbye: Vec<Option<u16>>,
    }

    /// Everything that is in the bytes, which arrive in pieces of a size.
    fn read(bytes: &[u8], piece: usize) -> Result<Read, Offence> {
        let mut reader = FrameReader::default();
        let mut read = Read::default();
        for piece in bytes.to_vec().chunks_mut(piece) {
            let mut input = Unread(piece);
            while let Some(event) = reader.next(&mut input, u64::MAX)? {
                match event {
                    Event::Data {
                        bytes,
                        ends_message,
                        ..
                    } => {
                        read.data.extend_from_slice(bytes);
                        if ends_message {
                            read.ends.push(read.data.len());
                        }
                    }
                    Event::Ping(said) => read.pings.push(said),
                    Event::Close(code) => {
                        read.goodbye.push(code);
                        return Ok(read);
                    }
                }
            }
        }
        Ok(read)
    }

    #[test]
    fn messages_may_be_in_any_frames_and_control_frames_between_them() {
        let large = vec![0xFF; 70_000];
        let text = "grüße, мир, 世界, 🦀".repeat(20);
        let (one, two) = text.as_bytes().split_at(33);
        let bytes = [
            frame(0x01, one),
            frame(0x89, b"are you there?"),
            frame(0x00, b""),
            frame(0x8A, b"I am"),
            frame(0x80, two),
            frame(0x82, &large),
            frame(0x81, b""),
            frame(0x88, b"\x03\xe8bye"),
            b"what follows means nothing".to_vec(),
        ]
        .concat();
        let expected = Read {
            data: [text.as_bytes(), &large].concat(),
            ends: vec![text.len(), text.len() + 70_000, text.len() + 70_000],
            pings: vec![b"are you there?".to_vec()],
            goodbye: vec![Some(1000)],
        };
        for piece in [1, 2, 3, 5, 7, 64, 1_000, usize::MAX] {
            assert_eq!(read(&bytes, piece).as_ref(), Ok(&expected), "{piece}");
        }
    }

    #[test]
    fn what_the_rules_forbid_is_an_offence() {
        let unmasked = b"\x81\x02hi".to_vec();
        for (bytes, what) in [
            (unmasked, "no mask"),
            (frame(0xC1, b""), "a reserved bit"),
            (frame(0x83, b""), "an unknown opcode"),
            (frame(0x8B, b""), "an unknown control frame"),
            (frame(0x80, b""), "a continuation of nothing"),
            (frame(0x09, b""), "a control frame in fragments"),
            (frame(0x89, &[0; 126]), "a control frame that is too long"),
            (
                [frame(0x01, b"a"), frame(0x81, b"b")].concat(),
                "a message within another",
            ),
            (
                [frame(0x81, b"a"), frame(0x80, b"b")].concat(),
                "a continuation of what has ended",
            ),
            (
                b"\x82\xff\x80\0\0\0\0\0\0\0\0\0\0\0".to_vec(),
                "a length that is negative",
            ),
            (frame(0x88, b"\x03"), "half a code"),
            (frame(0x88, b"\x03\xed"), "1005, which may not be sent"),
            (frame(0x88, b"\x03\xe7"), "999"),
            (frame(0x88, b"\x0b\xb7"), "2999"),
        ] {
            for piece in [1, usize::MAX] {
                assert_eq!(read(&bytes, piece), Err(Offence::Protocol), "{what}");
            }
        }
    }

    #[test]
    fn text_must_be_utf8_and_is_refused_as_soon_as_it_is_not() {
        for bytes in [
            frame(0x81, b"\xff"),
            frame(0x01, b"\xc3("),
            frame(0x81, b"\xed\xa0\x80"),
            frame(0x81, b"\xf4\x90\x80\x80"),
            frame(0x81, "🦀".as_bytes().split_at(3).0),
            [frame(0x01, b"\xf0\x9f"), frame(0x80, b"")].concat(),
            [frame(0x01, b"\xf0\x9f"), frame(0x00, b"a")].concat(),
            frame(0x88, b"\x03\xe8\xff"),
        ] {
            for piece in [1, 2, usize::MAX] {
                assert_eq!(read(&bytes, piece), Err(Offence::Utf8), "{bytes:?}");
            }
        }
        assert!(
            read(&frame(0x82, b"\xff"), 1).is_ok(),
            "bytes may be anything"
        );
    }

    #[test]
    fn a_frame_that_there_is_no_room_for_is_an_offence_as_soon_as_it_is_declared() {
        let mut declared = b"\x82\xff\0\0\0\0\0\0\0\x0b\0\0\0\0".to_vec();
        let mut reader = FrameReader::default();
        let told = reader.next(&mut Unread(&mut declared), 10);
        assert_eq!(told, Err(Offence::TooBig));
        // Control frames belong to no message.
        let mut ping = frame(0x89, b"there?");
        let told = FrameReader::default().next(&mut Unread(&mut ping), 0);
        assert_eq!(told, Ok(Some(Event::Ping(b"there?".to_vec()))));
    }

    #[test]
    fn goodbyes_may_give_any_code_that_may_be_sent_or_none() {
        for code in [1000_u16, 1001, 1003, 1007, 1011, 1014, 3000, 4999] {
            let bytes = frame(0x88, &code.to_be_bytes());
            assert_eq!(read(&bytes, 1).unwrap().goodbye, [Some(code)]);
        }
        assert_eq!(read(&frame(0x88, b""), 1).unwrap().goodbye, [None]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic_and_their_pieces_do_not_matter(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            piece in 1_usize..20,
        ) {
            prop_assert_eq!(read(&bytes, piece), read(&bytes, usize::MAX));
        }

        #[test]
        fn payloads_come_out_as_they_went_in(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..400), 0..6),
            piece in 1_usize..100,
        ) {
            let bytes: Vec<u8> = payloads.iter().flat_map(|payload| frame(0x82, payload)).collect();
            let read = read(&bytes, piece).unwrap();
            prop_assert_eq!(read.data, payloads.concat());
            prop_assert_eq!(read.ends.len(), payloads.len());
        }
    }
}
