//! One encoded hub message, ready for every socket it goes to.

use std::cell::Cell;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use hubcast_protocol::{EncodeError, Encoding, handshake};

/// The bytes of one hub message with the WebSocket frame header in front of them.
///
/// Frames of a server are not masked, so the header is the same for all receivers: the whole is made once and
/// shared, whoever receives it. What needs the message alone takes the [`payload`](Self::payload).
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    /// Exactly as long as they must be, and one allocation with their count.
    bytes: Arc<[u8]>,
    header: u8,
    /// Whether it is one of the messages that stateful reconnect counts.
    counted: bool,
}

/// The longest header of an unmasked frame: two bytes and a 64-bit length.
const HEADER_ROOM: usize = 10;
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PONG: u8 = 0x8A;

/// The largest buffer that a thread keeps to write its next message into.
const KEPT_BUFFER: usize = 64 * 1024;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

fn opcode(encoding: Encoding) -> u8 {
    if encoding.is_binary() { BINARY } else { TEXT }
}

impl Frame {
    /// A frame around the message that `write` appends.
    pub(crate) fn encode<E>(
        encoding: Encoding,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<Self, E> {
        // Taken, not borrowed: what `write` calls may encode something itself.
        let mut buffer = BUFFER.take();
        buffer.clear();
        buffer.resize(HEADER_ROOM, 0);
        write(&mut buffer)?;
        let frame = Self::around(&mut buffer, opcode(encoding));
        if buffer.capacity() <= KEPT_BUFFER {
            BUFFER.set(buffer);
        }
        Ok(frame)
    }

    /// A frame around a message that cannot fail to be written.
    pub(crate) fn infallible(encoding: Encoding, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        let written = Self::encode(encoding, |buffer| {
            write(buffer);
            Ok::<(), Infallible>(())
        });
        match written {
            Ok(frame) => frame,
            Err(never) => match never {},
        }
    }

    /// A frame around bytes that are complete already, such as a message from another server.
    pub(crate) fn from_payload(encoding: Encoding, payload: &[u8]) -> Self {
        Self::infallible(encoding, |out| out.extend_from_slice(payload))
    }

    /// Puts the header right before the payload; what it does not need of its room is left out.
    fn around(buffer: &mut [u8], opcode: u8) -> Self {
        let length = buffer.len() - HEADER_ROOM;
        let mut header = [0; HEADER_ROOM];
        let wide = (length as u64).to_be_bytes();
        let used: &[u8] = match length {
            0..=125 => &[opcode, wide[7]],
            126..=0xFFFF => &[opcode, 126, wide[6], wide[7]],
            _ => {
                header[..2].copy_from_slice(&[opcode, 127]);
                header[2..].copy_from_slice(&wide);
                &header
            }
        };
        let start = HEADER_ROOM - used.len();
        if let Some(room) = buffer.get_mut(start..HEADER_ROOM) {
            room.copy_from_slice(used);
        }
        Self {
            // 10 at most.
            header: u8::try_from(used.len()).unwrap_or_default(),
            bytes: buffer.get(start..).unwrap_or_default().into(),
            counted: true,
        }
    }

    /// The same as a message that stateful reconnect does not count: a ping, a goodbye, an answer to a handshake, and
    /// what is said about the counting.
    pub(crate) fn uncounted(self) -> Self {
        Self {
            counted: false,
            ..self
        }
    }

    /// A control frame, which has no hub message in it. Its payload has 125 bytes at most.
    fn control(opcode: u8, payload: &[u8]) -> Self {
        let mut buffer = vec![0; HEADER_ROOM];
        buffer.extend_from_slice(payload);
        let frame = Self::around(&mut buffer, opcode);
        Self {
            header: u8::try_from(frame.bytes.len()).unwrap_or(u8::MAX),
            counted: false,
            ..frame
        }
    }

    /// The WebSocket's own goodbye (RFC 6455, section 5.5.1).
    pub(crate) fn websocket_close(code: u16) -> Self {
        Self::control(CLOSE, &code.to_be_bytes())
    }

    /// The answer to a WebSocket's ping, which says the same (RFC 6455, section 5.5.3).
    pub(crate) fn websocket_pong(said: &[u8]) -> Self {
        Self::control(PONG, said)
    }

    /// The answer to a handshake that succeeded.
    pub(crate) fn accepted(encoding: Encoding) -> Self {
        Self::from_payload(encoding, handshake::ACCEPTED).uncounted()
    }

    /// Says which message of the client is the last that has arrived (type 8).
    pub(crate) fn ack(encoding: Encoding, sequence_id: i64) -> Self {
        Self::infallible(encoding, |out| encoding.write_ack(out, sequence_id)).uncounted()
    }

    /// Says which message follows (type 9).
    pub(crate) fn sequence(encoding: Encoding, sequence_id: i64) -> Self {
        Self::infallible(encoding, |out| encoding.write_sequence(out, sequence_id)).uncounted()
    }

    /// The whole frame, as it goes to a WebSocket.
    pub(crate) fn websocket(&self) -> &[u8] {
        &self.bytes
    }

    /// The hub message alone, its separator or length included.
    pub(crate) fn payload(&self) -> &[u8] {
        self.bytes
            .get(usize::from(self.header)..)
            .unwrap_or_default()
    }

    /// Whether stateful reconnect counts it.
    pub(crate) fn is_counted(&self) -> bool {
        self.counted
    }

    /// How many bytes the frame keeps alive.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// One hub message for many receivers: a frame for each encoding that any of them may read.
#[derive(Debug, Clone)]
pub(crate) struct Broadcast {
    json: Option<Frame>,
    messagepack: Option<Frame>,
}

impl Broadcast {
    /// Encodes a message once in each of the encodings.
    pub(crate) fn encode(
        encodings: impl Fn(Encoding) -> bool,
        write: impl Fn(Encoding, &mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<Self, EncodeError> {
        let encode = |encoding| {
            encodings(encoding)
                .then(|| Frame::encode(encoding, |out| write(encoding, out)))
                .transpose()
        };
        Ok(Self {
            json: encode(Encoding::Json)?,
            messagepack: encode(Encoding::MessagePack)?,
        })
    }

    /// A sign of life.
    pub(crate) fn ping() -> Self {
        let frame =
            |encoding: Encoding| Some(Frame::from_payload(encoding, encoding.ping()).uncounted());
        Self {
            json: frame(Encoding::Json),
            messagepack: frame(Encoding::MessagePack),
        }
    }

    /// Frames what another server has encoded.
    pub(crate) fn from_payloads(payload: impl Fn(Encoding) -> Option<Bytes>) -> Self {
        let frame = |encoding| Some(Frame::from_payload(encoding, &payload(encoding)?));
        Self {
            json: frame(Encoding::Json),
            messagepack: frame(Encoding::MessagePack),
        }
    }

    /// The frame for a receiver; `None` if the message is not to be had in its encoding.
    pub(crate) fn frame(&self, encoding: Encoding) -> Option<&Frame> {
        match encoding {
            Encoding::Json => self.json.as_ref(),
            Encoding::MessagePack => self.messagepack.as_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_fits_the_length() {
        for (length, header) in [
            (0, vec![0x81, 0]),
            (125, vec![0x81, 125]),
            (126, vec![0x81, 126, 0, 126]),
            (65_535, vec![0x81, 126, 0xFF, 0xFF]),
            (65_536, vec![0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let payload = vec![b'x'; length];
            let frame = Frame::from_payload(Encoding::Json, &payload);
            assert_eq!(frame.websocket()[..header.len()], header);
            assert_eq!(frame.websocket()[header.len()..], payload);
            assert_eq!(frame.payload(), payload);
        }
    }
}
