//! Server-Sent Events: one answer that never ends, with an event for everything that waits.

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;

use crate::close_reason::CloseReason;
use crate::transport::session::{Presenting, Session, Sessions};

/// A comment at the very beginning, so that browsers see the stream open before there is a message.
const OPENING: &[u8] = b":\r\n";

/// Answers the request that brings a session's messages. The session ends with the answer.
pub(crate) fn answer(
    session: Arc<Session>,
    presenting: Presenting,
    sessions: Arc<Sessions>,
) -> Response {
    let reading = Reading {
        session,
        sessions,
        _presenting: presenting,
    };
    let events = stream::unfold((reading, true), |(reading, first)| async move {
        if first {
            return Some((Bytes::from_static(OPENING), (reading, false)));
        }
        let outbox = &reading.session.connection.outbox;
        let frames = poll_fn(|context| outbox.poll_take(context)).await?;
        let mut event = Vec::new();
        for frame in frames {
            event.extend_from_slice(frame.payload());
        }
        Some((event_of(&event), (reading, false)))
    });
    let events = futures_util::StreamExt::map(events, Ok::<_, Infallible>);
    (
        [
            (header::CONTENT_TYPE, "text/event-stream"),
            (header::CACHE_CONTROL, "no-cache,no-store"),
            (header::PRAGMA, "no-cache"),
            // Keeps compression away, which would hold events back.
            (header::CONTENT_ENCODING, "identity"),
            // Keeps nginx from holding them back.
            (header::HeaderName::from_static("x-accel-buffering"), "no"),
        ],
        Body::from_stream(events),
    )
        .into_response()
}

/// `data: ` before every line, and an empty line behind.
fn event_of(payload: &[u8]) -> Bytes {
    let mut event = Vec::with_capacity(payload.len() + 10);
    for line in payload.split(|byte| *byte == b'\n') {
        event.extend_from_slice(b"data: ");
        event.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
        event.extend_from_slice(b"\r\n");
    }
    event.extend_from_slice(b"\r\n");
    event.into()
}

/// Ends the session when the client hangs up, which drops the answer.
struct Reading {
    session: Arc<Session>,
    sessions: Arc<Sessions>,
    _presenting: Presenting,
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.sessions.remove(&self.session.connection.id);
        self.session.input.end(CloseReason::ConnectionLost);
        self.session.connection.outbox.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_framed_as_the_specification_of_html_has_it() {
        assert_eq!(event_of(b"{}\x1e"), "data: {}\x1e\r\n\r\n");
        assert_eq!(
            event_of(b"[1,\r\n2]\x1e"),
            "data: [1,\r\ndata: 2]\x1e\r\n\r\n"
        );
    }
}
