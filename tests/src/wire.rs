//! A WebSocket byte by byte: frames are made by hand, and answers compared to the last byte.

use std::fmt::Display;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::http::authority;
use crate::wait::{DEADLINE, within};

/// The key of the example in RFC 6455, and what it is answered with.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// How client frames are masked here.
const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// A first byte: the last frame of a text.
pub const TEXT: u8 = 0x81;
/// A first byte: the last frame of a binary message.
pub const BINARY: u8 = 0x82;
/// A first byte: the last piece of a message.
pub const CONTINUATION: u8 = 0x80;
/// A first byte: a close frame.
pub const CLOSE: u8 = 0x88;
/// A first byte: a ping.
pub const PING: u8 = 0x89;
/// A first byte: a pong.
pub const PONG: u8 = 0x8A;
/// Without this bit of the first byte more frames of the message follow.
pub const FINAL: u8 = 0x80;

/// A frame as clients send it, masked.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let masked = payload.iter().zip(MASK.iter().cycle());
    let masked = masked.map(|(byte, mask)| byte ^ mask);
    [header(first, payload.len() as u64), masked.collect()].concat()
}

/// The header of a client's frame, whatever length it declares.
pub fn header(first: u8, length: u64) -> Vec<u8> {
    let mut header = unmasked_header(first, length);
    header[1] |= 0x80;
    header.extend(MASK);
    header
}

/// A frame as servers send it.
pub fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    [&unmasked_header(first, payload.len() as u64), payload].concat()
}

/// What a server's close frame with this code looks like.
pub fn closed_with(code: u16) -> Vec<u8> {
    unmasked(CLOSE, &code.to_be_bytes())
}

fn unmasked_header(first: u8, length: u64) -> Vec<u8> {
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..=125), _) => vec![first, short],
        (_, Ok(middle)) => [&[first, 126], middle.to_be_bytes().as_slice()].concat(),
        _ => [&[first, 127], length.to_be_bytes().as_slice()].concat(),
    }
}

/// A connection that has become a WebSocket.
pub struct Wire(pub TcpStream);

impl Wire {
    /// Opens a path at a base address.
    pub async fn open(base: &str, path: &str) -> Self {
        let opened = Self::try_open(base, path, "").await;
        opened.unwrap_or_else(|answer| panic!("{base}{path} answers: {answer}"))
    }

    /// The same on a connection for which the system buffers as little as it can at this end.
    pub async fn open_narrow(base: &str, path: &str) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket
            .set_recv_buffer_size(4096)
            .expect("a receive buffer may be small");
        let opened = Self::upgrade(socket, base, path, "").await;
        opened.unwrap_or_else(|answer| panic!("{base}{path} answers: {answer}"))
    }

    /// Opens a path with further headers, each with its line end; the error is the head of another answer than 101.
    pub async fn try_open(base: &str, path: &str, headers: &str) -> Result<Self, String> {
        let socket = TcpSocket::new_v4().expect("a socket");
        Self::upgrade(socket, base, path, headers).await
    }

    async fn upgrade(
        socket: TcpSocket,
        base: &str,
        path: &str,
        headers: &str,
    ) -> Result<Self, String> {
        let authority = authority(base);
        let address = authority.parse().expect("an address");
        let mut stream = socket.connect(address).await.expect("the server accepts");
        stream.set_nodelay(true).expect("an open socket");
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{headers}\r\n"
        );
        stream
            .write_all(request.as_bytes())
            .await
            .expect("the server reads");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let byte = within(DEADLINE, "the answer to an upgrade", stream.read_u8()).await;
            head.push(byte.expect("a whole answer"));
        }
        let head = String::from_utf8(head).expect("a head is text");
        if head.starts_with("HTTP/1.1 101 ") {
            assert!(
                head.contains(ACCEPT),
                "the key is not answered right: {head}"
            );
            return Ok(Self(stream));
        }
        Err(head)
    }

    /// Sends bytes.
    pub async fn send(&mut self, bytes: &[u8]) {
        let sending = within(DEADLINE, "sending on a socket", self.0.write_all(bytes)).await;
        sending.unwrap_or_else(|error| panic!("sending on a socket: {error}"));
    }

    /// Fails the test unless exactly these bytes come next.
    pub async fn hears(&mut self, expected: &[u8], what: impl Display) {
        let mut heard = vec![0; expected.len()];
        let reading = within(DEADLINE, &what, self.0.read_exact(&mut heard)).await;
        assert!(reading.is_ok(), "{what}: {reading:?}");
        assert_same(&heard, expected, what);
    }

    /// Fails the test unless exactly these bytes come and then the end of the stream.
    pub async fn ends_with(self, expected: &[u8], what: impl Display) {
        self.exchange(&[], expected, what).await;
    }

    /// The same while these pieces are sent, one after the other.
    pub async fn exchange(mut self, sent: &[&[u8]], expected: &[u8], what: impl Display) {
        let (mut reader, mut writer) = self.0.split();
        let mut heard = Vec::new();
        let sending = async {
            for bytes in sent {
                // A server that has heard enough may have closed; what it said counts.
                if writer.write_all(bytes).await.is_err() {
                    return;
                }
            }
        };
        let both = async { tokio::join!(reader.read_to_end(&mut heard), sending).0 };
        let reading = within(DEADLINE, &what, both).await;
        assert!(reading.is_ok(), "{what}: {reading:?} after {heard:02x?}");
        assert_same(&heard, expected, what);
    }
}

/// Messages can be long: the first bytes show what is wrong.
fn assert_same(heard: &[u8], expected: &[u8], what: impl Display) {
    let start = |bytes: &[u8]| bytes[..bytes.len().min(40)].to_vec();
    assert!(
        heard == expected,
        "{what}: {} bytes, {:02x?}.., instead of {} bytes, {:02x?}..",
        heard.len(),
        start(heard),
        expected.len(),
        start(expected)
    );
}
