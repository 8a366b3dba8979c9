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
    let superseded = session.supersede();
    let _turn = session.polling.lock().await;
    let outbox = &session.connection.outbox;
    let taken = tokio::select! {
        biased;
        // A newer poll is there: this one must not take what that one shall bring.
        () = superseded => return over(),
        taken = timeout(patience, poll_fn(|context| outbox.poll_take(context))) => taken,
    };
    match taken {
        Ok(Some(frames)) => {
            let mut body = Vec::new();
            for frame in frames {
                body.extend_from_slice(frame.payload());
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

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::to_bytes;
    use futures_util::future::{Either, select};
    use hubcast_protocol::Encoding;
    use tokio::task::JoinError;

    use crate::connection::Connection;
    use crate::frame::Frame;
    use crate::options::HubOptions;

    /// Two polls at the same time, on two threads, and a message: one of them brings it, every time.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn polls_that_replace_each_other_lose_nothing() {
        let options = HubOptions::default();
        let connection = Connection::alone("a", &options);
        let session = Arc::new(Session::new(connection, &options));
        let sessions = Arc::new(Sessions::default());
        let start = || {
            let (session, sessions) = (Arc::clone(&session), Arc::clone(&sessions));
            tokio::spawn(async move { poll(&session, &sessions, Duration::from_mins(1)).await })
        };
        let body_of = async |answer: Result<Response, JoinError>| {
            to_bytes(answer.unwrap().into_body(), 1_000).await.unwrap()
        };
        let mut waiting = start();
        for _ in 0..5_000 {
            let another = start();
            let message = Frame::from_payload(Encoding::Json, b"{}");
            session.connection.send(message);
            // One has been replaced, or has brought the message before it could be.
            let first = timeout(Duration::from_secs(10), select(waiting, another)).await;
            let (Either::Left((answer, rest)) | Either::Right((answer, rest))) =
                first.expect("an answer");
            let body = body_of(answer).await;
            if body.is_empty() {
                let last = timeout(Duration::from_secs(10), rest).await;
                assert_eq!(body_of(last.expect("an answer")).await, "{}");
                waiting = start();
            } else {
                assert_eq!(body, "{}");
                waiting = rest;
            }
        }
    }
}
