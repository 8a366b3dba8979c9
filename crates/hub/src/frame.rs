//! One encoded hub message, ready for every socket it goes to.

use bytes::Bytes;
use hubcast_protocol::json::{self, EncodeError};

/// The bytes of one hub message with the WebSocket frame header in front of them.
///
/// Frames of a server are not masked, so the header is the same for all receivers: the whole is made once and
/// shared, whoever receives it. What needs the message alone takes the [`payload`](Self::payload).
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    bytes: Bytes,
    header: usize,
}

/// The longest header of an unmasked frame: two bytes and a 64-bit length.
const HEADER_ROOM: usize = 10;
const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;

impl Frame {
    /// A text frame around what `write` appends.
    pub(crate) fn text(
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<Self, EncodeError> {
        let mut buffer = Vec::with_capacity(HEADER_ROOM + 118);
        buffer.resize(HEADER_ROOM, 0);
        write(&mut buffer)?;
        Ok(Self::around(buffer, TEXT))
    }

    /// A text frame around bytes that are complete already, such as a message from another server.
    pub(crate) fn from_payload(payload: &[u8]) -> Self {
        let mut buffer = Vec::with_capacity(HEADER_ROOM + payload.len());
        buffer.resize(HEADER_ROOM, 0);
        buffer.extend_from_slice(payload);
        Self::around(buffer, TEXT)
    }

    /// A text frame whose content cannot fail to be written.
    pub(crate) fn infallible(write: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut buffer = vec![0; HEADER_ROOM];
        write(&mut buffer);
        Self::around(buffer, TEXT)
    }

    /// Puts the header right before the payload; what it does not need of its room stays unused.
    fn around(mut buffer: Vec<u8>, opcode: u8) -> Self {
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
        let header = used.len();
        Self {
            bytes: Bytes::from(buffer).slice(start..),
            header,
        }
    }

    /// A control frame as the WebSocket engine made it, header and all.
    pub(crate) fn control(bytes: Vec<u8>) -> Self {
        Self {
            header: bytes.len(),
            bytes: Bytes::from(bytes),
        }
    }

    /// The WebSocket's own goodbye (RFC 6455, section 5.5.1).
    pub(crate) fn websocket_close(code: u16) -> Self {
        let [high, low] = code.to_be_bytes();
        Self::control(vec![CLOSE, 2, high, low])
    }

    /// The answer to a handshake that succeeded.
    pub(crate) fn accepted() -> Self {
        Self::from_payload(hubcast_protocol::handshake::ACCEPTED)
    }

    /// A sign of life.
    pub(crate) fn ping() -> Self {
        Self::from_payload(json::PING)
    }

    /// The whole frame, as it goes to a WebSocket.
    pub(crate) fn websocket(&self) -> &Bytes {
        &self.bytes
    }

    /// The hub message alone, its record separator included.
    pub(crate) fn payload(&self) -> Bytes {
        self.bytes.slice(self.header..)
    }

    /// How many bytes the frame keeps alive.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
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
            let frame = Frame::from_payload(&payload);
            assert_eq!(frame.websocket()[..header.len()], header);
            assert_eq!(frame.websocket()[header.len()..], payload);
            assert_eq!(frame.payload(), payload);
        }
    }
}
