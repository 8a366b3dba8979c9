//! The one record that each side sends first.

use hubcast_protocol::framing::RECORD_SEPARATOR;
use hubcast_protocol::handshake::{HandshakeRequest, parse_response, refused};

/// A handshake that is read can be written, as one record, and read as the same again; in both directions.
pub fn handshake(record: &[u8]) {
    if let Ok(request) = HandshakeRequest::parse(record) {
        let written = request.to_bytes();
        let read = HandshakeRequest::parse(content(&written));
        assert_eq!(read.as_ref(), Ok(&request));
    }
    if let Ok(Some(error)) = parse_response(record) {
        let written = refused(&error);
        assert_eq!(parse_response(content(&written)), Ok(Some(error)));
    }
}

/// What is in a record, which has its separator at its end and nowhere else.
fn content(record: &[u8]) -> &[u8] {
    let (last, content) = record.split_last().expect("a record is not empty");
    assert_eq!(*last, RECORD_SEPARATOR);
    assert!(!content.contains(&RECORD_SEPARATOR));
    content
}
