//! Connections that consist of many requests: Server-Sent Events and Long Polling.
//!
//! A session is what those requests have in common. Its client's bytes come with POSTs, which may begin before the
//! request that brings messages back does.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use bytes::BytesMut;
use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::time::{Duration, Instant, timeout};

use crate::close_reason::CloseReason;
use crate::connection::Connection;
use crate::options::HubOptions;
use crate::pipe::Pipe;
use crate::transport::resumable::Resumable;

/// How many bytes a second the body of a POST must bring beyond the patience that it is given: as Kestrel demands.
const SLOWEST_BODY: u32 = 240;

/// Everything that is connected to an endpoint, by connection id, from its first request to its last.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    table: Mutex<HashMap<Arc<str>, Attached>>,
    detached: Mutex<Detached>,
}

/// The resumable connections that have no socket now.
#[derive(Debug, Default)]
struct Detached {
    /// By numbers in the order in which they lost it.
    waiting: BTreeMap<u64, Arc<Resumable>>,
    next: u64,
}

/// What a connection id stands for.
#[derive(Debug, Clone)]
pub(crate) enum Attached {
    /// A connection that is one socket.
    WebSocket,
    /// One that is one socket after another.
    Resumable(Arc<Resumable>),
    /// One that is many requests.
    Session(Arc<Session>),
}

impl Sessions {
    fn table(&self) -> MutexGuard<'_, HashMap<Arc<str>, Attached>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn detached(&self) -> MutexGuard<'_, Detached> {
        self.detached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a resumable connection that has lost its socket, and gives the number that it is noted under. If more than
    /// `most` wait now, the one that has for the longest is given as well, and shall wait no more.
    pub(crate) fn note_detached(
        &self,
        resumable: Arc<Resumable>,
        most: usize,
    ) -> (u64, Option<Arc<Resumable>>) {
        let mut detached = self.detached();
        let number = detached.next;
        detached.next += 1;
        detached.waiting.insert(number, resumable);
        let longest = if detached.waiting.len() > most {
            detached.waiting.pop_first()
        } else {
            None
        };
        (number, longest.map(|(_, resumable)| resumable))
    }

    /// One of those that were noted has a socket again, or is over.
    pub(crate) fn forget_detached(&self, number: u64) {
        self.detached().waiting.remove(&number);
    }

    pub(crate) fn find(&self, id: &str) -> Option<Attached> {
        self.table().get(id).cloned()
    }

    pub(crate) fn insert(&self, id: Arc<str>, attached: Attached) {
        self.table().insert(id, attached);
    }

    /// Lists what is attached under an id, unless something is already, which is given back then.
    pub(crate) fn claim(&self, id: Arc<str>, attached: &Attached) -> Option<Attached> {
        match self.table().entry(id) {
            Entry::Occupied(occupied) => Some(occupied.get().clone()),
            Entry::Vacant(vacant) => {
                vacant.insert(attached.clone());
                None
            }
        }
    }

    pub(crate) fn remove(&self, id: &str) {
        self.table().remove(id);
    }

    /// Once a second: ends connections whose client has been away for too long.
    pub(crate) fn reap(&self, limit: Duration) {
        let mut dead = Vec::new();
        self.table().retain(|_, attached| {
            let away = match attached {
                Attached::WebSocket => Duration::ZERO,
                Attached::Resumable(resumable) => resumable.away_for(),
                Attached::Session(session) => session.away_for(),
            };
            if away > limit {
                dead.push(attached.clone());
            }
            away <= limit
        });
        for attached in dead {
            match attached {
                Attached::WebSocket => {}
                Attached::Resumable(resumable) => resumable.abandon(),
                Attached::Session(session) => session.abandon(),
            }
        }
    }
}

/// One connection of many requests.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) connection: Arc<Connection>,
    pub(crate) input: Pipe,
    presence: Mutex<Presence>,
    /// POSTs take turns, so that their bytes do not mix.
    posting: tokio::sync::Mutex<()>,
    /// Polls take turns: an older one that has been replaced is done with the outbox before a newer one looks into it.
    pub(crate) polling: tokio::sync::Mutex<()>,
    /// Counts the requests that bring messages; a newer one replaces an older one.
    newest: watch::Sender<u64>,
}

/// Whether the request that brings messages is there.
#[derive(Debug)]
struct Presence {
    /// How many there are: one, or two while a newer poll replaces an older one.
    requests: usize,
    /// Since when there is none.
    away_since: Instant,
    /// Whether there has ever been one, so that the hub's side has been started.
    started: bool,
}

/// The request that brings messages, for as long as it lasts.
#[derive(Debug)]
pub(crate) struct Presenting(Arc<Session>);

impl Drop for Presenting {
    fn drop(&mut self) {
        let mut presence = self.0.presence();
        presence.requests -= 1;
        presence.away_since = Instant::now();
    }
}

/// A POST that could not be taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PostError {
    /// The connection ended meanwhile.
    Gone,
    /// The client did not send what it had announced, or not in time.
    Broken,
}

impl Session {
    pub(crate) fn new(connection: Connection, options: &HubOptions) -> Self {
        Self {
            connection: Arc::new(connection),
            input: Pipe::new(options.application_max_buffer_size),
            presence: Mutex::new(Presence {
                requests: 0,
                away_since: Instant::now(),
                started: false,
            }),
            posting: tokio::sync::Mutex::new(()),
            polling: tokio::sync::Mutex::new(()),
            newest: watch::Sender::new(0),
        }
    }

    fn presence(&self) -> MutexGuard<'_, Presence> {
        self.presence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn away_for(&self) -> Duration {
        let presence = self.presence();
        match presence.requests {
            0 => presence.away_since.elapsed(),
            _ => Duration::ZERO,
        }
    }

    /// Notes that a request that brings messages has begun; true for the first one ever.
    pub(crate) fn present(self: &Arc<Self>) -> (Presenting, bool) {
        let mut presence = self.presence();
        presence.requests += 1;
        let first = !presence.started;
        presence.started = true;
        (Presenting(Arc::clone(self)), first)
    }

    /// Makes the calling request the newest; what comes back is done when it no longer is.
    pub(crate) fn supersede(&self) -> impl Future<Output = ()> + use<> {
        let mut own = 0;
        self.newest.send_modify(|count| {
            *count += 1;
            own = *count;
        });
        // A newer one may have come between the two, which would not be a change any more.
        let mut newest = self.newest.subscribe();
        async move {
            // The sender lives as long as the session, which the request holds.
            let _ = newest.wait_for(|newest| *newest != own).await;
        }
    }

    /// The client is gone without a word.
    pub(crate) fn abandon(&self) {
        self.input.end(CloseReason::ConnectionLost);
        self.connection.end(CloseReason::ConnectionLost);
        self.connection.outbox.kill();
    }

    /// Takes the body of a POST: the next bytes of the client, wherever its messages begin and end. Waits while the
    /// hub is busy; a client that is slow itself is given up, so that it does not keep its next POSTs waiting for ever.
    pub(crate) async fn post(&self, body: Body, patience: Duration) -> Result<(), PostError> {
        let _turn = self.posting.lock().await;
        let mut pieces = body.into_data_stream();
        let mut left = patience;
        if self.input.has_ended() {
            return Err(PostError::Gone);
        }
        loop {
            let asked = Instant::now();
            let piece = match timeout(left, pieces.next()).await {
                Ok(Some(Ok(piece))) => piece,
                Ok(None) => break,
                Ok(Some(Err(_))) | Err(_) => return Err(PostError::Broken),
            };
            let earned = Duration::from_secs(piece.len() as u64) / SLOWEST_BODY;
            left = (left.saturating_sub(asked.elapsed()) + earned).min(patience);
            if self.input.has_ended() {
                return Err(PostError::Gone);
            }
            let mut piece = BytesMut::from(piece);
            let mut waited = false;
            poll_fn(|context| {
                let written = self.input.poll_write(context, &mut piece);
                waited |= written.is_pending();
                written
            })
            .await;
            // Otherwise it was taken, whatever the hub has made of it since.
            if waited && self.input.has_ended() {
                return Err(PostError::Gone);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    use futures_util::{FutureExt, stream};

    /// A body that brings `size` bytes every `pause`, so many times.
    fn body(times: usize, size: usize, pause: Duration) -> Body {
        let pieces = stream::iter(0..times).then(move |_| async move {
            tokio::time::sleep(pause).await;
            Ok::<_, Infallible>(vec![b' '; size])
        });
        Body::from_stream(pieces)
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_may_be_slow_but_not_trickle() {
        let options = HubOptions::default();
        let session = Session::new(Connection::alone("a", &options), &options);
        let patience = Duration::from_secs(10);
        let begun = Instant::now();
        let slow = body(20, 1_000, Duration::from_secs(4));
        assert_eq!(session.post(slow, patience).await, Ok(()));
        assert_eq!(begun.elapsed(), Duration::from_secs(80));

        let begun = Instant::now();
        let trickle = body(1_000, 1, Duration::from_secs(4));
        let given_up = session.post(trickle, patience).await;
        assert_eq!(given_up, Err(PostError::Broken));
        assert!(begun.elapsed() < Duration::from_secs(12));
    }

    #[test]
    fn of_two_polls_at_once_exactly_one_is_the_newest() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let _within = runtime.enter();
        let options = HubOptions::default();
        let session = Session::new(Connection::alone("a", &options), &options);
        let both = std::sync::Barrier::new(2);
        let take = || {
            both.wait();
            session.supersede()
        };
        for _ in 0..20_000 {
            let newest = std::thread::scope(|scope| {
                let other = scope.spawn(take);
                let polls = [take(), other.join().unwrap()];
                polls.map(|poll| poll.now_or_never().is_none())
            });
            assert_eq!(newest.iter().filter(|is_newest| **is_newest).count(), 1);
        }
    }
}
