//! WebSocket frames and records: bytes of a socket to hub messages, and hub messages to frames.

use memchr::memchr;

/// What ends a hub message in JSON.
pub(crate) const RECORD_SEPARATOR: u8 = 0x1e;

/// A message longer than this is a mistake; what is kept of an unfinished one is bounded by it.
const MAX_RECORD: usize = 16 << 20;

/// A client has to mask. Any key is as good as another here, and a zero would make it too easy for the server.
const MASK: [u8; 4] = [0x5b, 0xc1, 0x2e, 0x97];

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// In place of a short length: one of 16 or of 64 bits follows.
const LENGTH_16: u8 = 0x7e;
const LENGTH_64: u8 = 0x7f;

/// What comes out of a [`Decoder`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// A hub message without its separator.
    Record(&'a [u8]),
    /// A ping of the WebSocket, which wants its payload back.
    Ping(&'a [u8]),
    /// A close frame.
    Close,
}

/// Takes the bytes of one socket apart. It copies only what a read has cut in two, and holds nothing while nothing is unfinished.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// The beginning of a frame's header.
    head: Vec<u8>,
    /// The frame whose payload is being read, and how much of it is still to come.
    frame: Option<Header>,
    /// The beginning of a record or of a control frame's payload.
    record: Vec<u8>,
    control: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Header {
    opcode: u8,
    left: u64,
    mask: Option<[u8; 4]>,
}

impl Decoder {
    /// Reads these bytes, which are unmasked in place.
    pub(crate) fn feed(
        &mut self,
        mut bytes: &mut [u8],
        mut hear: impl FnMut(Piece<'_>),
    ) -> Result<(), &'static str> {
        loop {
            let mut frame = match self.frame {
                Some(frame) => frame,
                None if bytes.is_empty() => return Ok(()),
                None => match self.header(bytes)? {
                    Some((frame, used)) => {
                        bytes = bytes.get_mut(used..).unwrap_or_default();
                        frame
                    }
                    None => return Ok(()),
                },
            };
            let length = usize::try_from(frame.left).unwrap_or(usize::MAX);
            let (payload, rest) = bytes.split_at_mut(length.min(bytes.len()));
            bytes = rest;
            if let Some(mask) = &mut frame.mask {
                unmask(payload, mask);
            }
            frame.left -= payload.len() as u64;
            let ended = frame.left == 0;
            self.frame = (!ended).then_some(frame);
            match frame.opcode {
                CONTINUATION | TEXT | BINARY => self.records(payload, &mut hear)?,
                CLOSE | PING | PONG => {
                    self.control.extend_from_slice(payload);
                    if ended {
                        match frame.opcode {
                            CLOSE => hear(Piece::Close),
                            PING => hear(Piece::Ping(&self.control)),
                            _ => {}
                        }
                        self.control = Vec::new();
                    }
                }
                _ => return Err("a frame of an unknown kind"),
            }
            if !ended {
                return Ok(());
            }
        }
    }

    /// A frame's header, once it is whole, and how many of these bytes belong to it.
    fn header(&mut self, bytes: &[u8]) -> Result<Option<(Header, usize)>, &'static str> {
        let kept = self.head.len();
        let parsed = if kept == 0 {
            parse(bytes)?
        } else {
            // No header is longer than 14 bytes.
            self.head.extend(bytes.iter().take(14));
            parse(&self.head)?
        };
        let Some((header, length)) = parsed else {
            if kept == 0 {
                self.head.extend_from_slice(bytes);
            }
            return Ok(None);
        };
        let used = length.saturating_sub(kept);
        if kept != 0 {
            self.head = Vec::new();
        }
        Ok(Some((header, used)))
    }

    fn records(
        &mut self,
        mut payload: &[u8],
        hear: &mut impl FnMut(Piece<'_>),
    ) -> Result<(), &'static str> {
        while let Some(end) = memchr(RECORD_SEPARATOR, payload) {
            let (record, rest) = payload.split_at(end);
            payload = rest.get(1..).unwrap_or_default();
            if self.record.is_empty() {
                hear(Piece::Record(record));
            } else {
                self.record.extend_from_slice(record);
                hear(Piece::Record(&self.record));
                self.record = Vec::new();
            }
        }
        if self.record.len() + payload.len() > MAX_RECORD {
            return Err("a message without an end");
        }
        self.record.extend_from_slice(payload);
        Ok(())
    }
}

/// A frame's header and its length, if these bytes hold all of it.
fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, &'static str> {
    let &[first, second, ref rest @ ..] = bytes else {
        return Ok(None);
    };
    if first & 0x70 != 0 {
        return Err("a frame with an extension that was not asked for");
    }
    let (left, rest) = match second & 0x7f {
        LENGTH_16 => match rest.split_first_chunk() {
            Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), rest),
            None => return Ok(None),
        },
        LENGTH_64 => match rest.split_first_chunk() {
            Some((length, rest)) => (u64::from_be_bytes(*length), rest),
            None => return Ok(None),
        },
        short => (u64::from(short), rest),
    };
    let (mask, rest) = if second & 0x80 == 0 {
        (None, rest)
    } else {
        match rest.split_first_chunk() {
            Some((mask, rest)) => (Some(*mask), rest),
            None => return Ok(None),
        }
    };
    let opcode = first & 0x0f;
    if opcode >= CLOSE && left > 125 {
        return Err("a control frame that is too long");
    }
    let header = Header { opcode, left, mask };
    Ok(Some((header, bytes.len() - rest.len())))
}

/// Takes the mask off, and turns it so that it fits what comes after.
fn unmask(payload: &mut [u8], mask: &mut [u8; 4]) {
    let length = payload.len();
    let word = u32::from_ne_bytes(*mask);
    let (words, rest) = payload.as_chunks_mut::<4>();
    for four in words {
        *four = (u32::from_ne_bytes(*four) ^ word).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(*mask) {
        *byte ^= key;
    }
    mask.rotate_left(length % 4);
}

/// Appends a client's text frame. `write` writes the payload, whose length has to be known before.
pub(crate) fn client_text(out: &mut Vec<u8>, length: usize, write: impl FnOnce(&mut Vec<u8>)) {
    client_frame(out, TEXT, length, write);
}

/// Appends the answer to a ping.
pub(crate) fn client_pong(out: &mut Vec<u8>, payload: &[u8]) {
    client_frame(out, PONG, payload.len(), |out| {
        out.extend_from_slice(payload);
    });
}

/// Appends a client's close frame with code 1000.
pub(crate) fn client_close(out: &mut Vec<u8>) {
    client_frame(out, CLOSE, 2, |out| {
        out.extend_from_slice(&1000_u16.to_be_bytes());
    });
}

fn client_frame(out: &mut Vec<u8>, opcode: u8, length: usize, write: impl FnOnce(&mut Vec<u8>)) {
    header(out, opcode, length, 0x80);
    out.extend_from_slice(&MASK);
    let start = out.len();
    write(out);
    if let Some(payload) = out.get_mut(start..) {
        unmask(payload, &mut { MASK });
    }
}

/// Appends the header of a server's text frame; its payload follows as it is.
pub(crate) fn server_text(out: &mut Vec<u8>, length: usize) {
    header(out, TEXT, length, 0);
}

/// Appends a server's close frame with code 1000.
pub(crate) fn server_close(out: &mut Vec<u8>) {
    header(out, CLOSE, 2, 0);
    out.extend_from_slice(&1000_u16.to_be_bytes());
}

fn header(out: &mut Vec<u8>, opcode: u8, length: usize, masked: u8) {
    out.push(0x80 | opcode);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..=125), _) => out.push(masked | short),
        (_, Ok(middle)) => {
            out.push(masked | LENGTH_16);
            out.extend_from_slice(&middle.to_be_bytes());
        }
        _ => {
            out.push(masked | LENGTH_64);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(decoder: &mut Decoder, bytes: &[u8]) -> Vec<String> {
        let mut heard = Vec::new();
        let mut bytes = bytes.to_vec();
        decoder
            .feed(&mut bytes, |piece| {
                heard.push(match piece {
                    Piece::Record(record) => String::from_utf8(record.to_vec()).unwrap(),
                    Piece::Ping(payload) => format!("ping {payload:?}"),
                    Piece::Close => "close".to_owned(),
                });
            })
            .unwrap();
        heard
    }

    fn everything() -> Vec<u8> {
        let mut bytes = Vec::new();
        let long = "l".repeat(300);
        let longer = "L".repeat(70_000);
        for text in [
            "a\x1ebc\x1e",
            "first half, ",
            "second half\x1e",
            "",
            &long,
            "\x1e",
        ] {
            client_text(&mut bytes, text.len(), |out| out.extend(text.bytes()));
        }
        header(&mut bytes, PING, 3, 0);
        bytes.extend_from_slice(&[1, 2, 3]);
        header(&mut bytes, PING, 0, 0);
        client_pong(&mut bytes, b"pong");
        server_text(&mut bytes, longer.len() + 1);
        bytes.extend(longer.bytes());
        bytes.push(RECORD_SEPARATOR);
        server_close(&mut bytes);
        bytes
    }

    #[test]
    fn records_are_the_same_however_the_bytes_are_cut() {
        let bytes = everything();
        let whole = heard(&mut Decoder::default(), &bytes);
        let long = "l".repeat(300);
        let longer = "L".repeat(70_000);
        assert_eq!(
            whole,
            [
                "a",
                "bc",
                "first half, second half",
                &long,
                "ping [1, 2, 3]",
                "ping []",
                &longer,
                "close"
            ]
        );
        for size in [1, 2, 3, 5, 7, 13, 64, 1000] {
            let mut decoder = Decoder::default();
            let pieces: Vec<String> = bytes
                .chunks(size)
                .flat_map(|chunk| heard(&mut decoder, chunk))
                .collect();
            assert_eq!(pieces, whole, "in pieces of {size}");
            assert_eq!(decoder.head.capacity(), 0, "nothing is kept");
            assert_eq!(decoder.record.capacity(), 0, "nothing is kept");
        }
    }

    #[test]
    fn frames_that_no_server_may_send_are_refused() {
        for mut wrong in [vec![0xc1, 0], vec![0x83, 0], vec![0x89, 126, 0, 126]] {
            let refused = Decoder::default().feed(&mut wrong, |_| {});
            assert!(refused.is_err(), "{wrong:?}");
        }
    }
}
