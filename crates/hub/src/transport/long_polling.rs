//! Long Polling: a request that waits until there is something to say, again and again.

use std::future::poll_fn;
use std::sync::Arc;

use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::time::{Duration, timeout};

use crate::transport::session::{Session, Sessions};

const BINARY: &str = "application/octet-stream";

/// Answers of polls must never come out of a cache.
const NOT_TO_BE_CACHED: [(HeaderName, &str); 3] = [
    (header::CACHE_CONTROL, "no-cache, no-store"),
    (header::PRAGMA, "no-cache"),
    (header::EXPIRES, "Thu, 01 Jan 1970 00:00:00 GMT"),
];

/// Adds the headers that every answer to a poll has, errors included.
pub(crate) fn never_cached(response: impl IntoResponse) -> Response {
    (NOT_TO_BE_CACHED, response).into_response()
}

/// The first poll: answered at once, so that the client knows that the connection stands.
pub(crate) fn attached() -> Response {
    never_cached(([(header::CONTENT_TYPE, BINARY)], ""))
}

/// Waits for messages, and answers with all there are.
pub(crate) async fn poll(
    session: &Arc<Session>,
    sessions: &Sessions,
    patience: Duration,
) -> Response {
    let mut newest = session.supersede();
    let outbox = &session.connection.outbox;
    let taken = tokio::select! {
        biased;
        // A newer poll is there: this one must not take what that one shall bring.
        _ = newest.changed() => return over(),
        taken = timeout(patience, poll_fn(|context| outbox.poll_take(context))) => taken,
    };
    match taken {
        Ok(Some(frames)) => {
            let mut body = Vec::new();
            for frame in frames {
                body.extend_from_slice(&frame.payload());
            }
            never_cached(([(header::CONTENT_TYPE, BINARY)], body))
        }
        // The connection has ended, and everything has been said.
        Ok(None) => {
            sessions.remove(&session.connection.id);
            over()
        }
        Err(_) => never_cached(([(header::CONTENT_TYPE, "text/plain")], "")),
    }
}

/// To a client this means that the connection is over, whether by its end or by a newer poll.
fn over() -> Response {
    never_cached((
        StatusCode::NO_CONTENT,
        [(header::CONTENT_TYPE, "text/plain")],
    ))
}
