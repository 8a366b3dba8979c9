//! What a raw WebSocket is for: the seam between the one connection type and what is said on it.

use std::borrow::Cow;

/// The longest text in a goodbye, in bytes: what a control frame has room for behind the code (RFC 6455, section 5.5).
const LONGEST_REASON: usize = 123;

/// One side of what is said on a raw WebSocket: the server's. It is dropped before the connection says goodbye, and whenever that is lost.
pub(crate) trait Conversation: Send + 'static {
    /// Takes a message of the peer, and gives what there is to answer. Nothing else is read or written meanwhile, so it must not take long.
    fn hear(
        &mut self,
        message: Message,
    ) -> impl Future<Output = Result<Option<Message>, Goodbye>> + Send;

    /// What there is to say unasked. Messages of the peer may come first, and the future is dropped then: nothing may be lost by that.
    fn next(&mut self) -> impl Future<Output = Result<Message, Goodbye>> + Send;

    /// The last that [`next`](Self::next) gave has been written to the socket as a whole; what the peer makes of it nobody knows.
    fn written(&mut self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// A whole message, of either side.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Text(String),
    Binary(Vec<u8>),
}

/// How a conversation ends that the server ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Goodbye {
    code: u16,
    reason: Cow<'static, str>,
}

impl Goodbye {
    /// With a code (RFC 6455, section 7.4.1) and a text that says more, which may be empty. What is longer than 123 bytes is cut, between two
    /// characters.
    pub(crate) fn new(code: u16, reason: impl Into<Cow<'static, str>>) -> Self {
        let mut reason = reason.into();
        if reason.len() > LONGEST_REASON {
            let whole = reason.floor_char_boundary(LONGEST_REASON);
            reason.to_mut().truncate(whole);
        }
        Self { code, reason }
    }

    /// The payload of the close frame.
    pub(super) fn payload(&self) -> Vec<u8> {
        [&self.code.to_be_bytes(), self.reason.as_bytes()].concat()
    }
}

impl From<u16> for Goodbye {
    /// Without a text.
    fn from(code: u16) -> Self {
        Self::new(code, "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goodbye_fits_a_control_frame_and_is_cut_between_characters() {
        assert_eq!(Goodbye::from(1001).payload(), b"\x03\xe9");
        let payload = Goodbye::new(1011, "gone").payload();
        assert_eq!(payload, b"\x03\xf3gone");
        for (reason, kept) in [
            ("x".repeat(123), 123),
            ("x".repeat(124), 123),
            (format!("{}ü", "x".repeat(122)), 122),
            ("🦀".repeat(40), 120),
        ] {
            let payload = Goodbye::new(1011, reason.clone()).payload();
            assert_eq!(&payload[2..], &reason.as_bytes()[..kept]);
        }
    }
}
