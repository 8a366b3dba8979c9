//! Stateful reconnect: a connection that outlives its WebSockets.
//!
//! The hub's side runs in a task of its own. Sockets come and go: each is carried by a task of its own, one at a time, and
//! what has not arrived on one is sent again on the next. Between two of them the hub notices nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedMutexGuard, watch};
use tokio::time::{Duration, Instant, sleep};

use crate::close_reason::CloseReason;
use crate::connection::Connection;
use crate::options::HubOptions;
use crate::pipe::Pipe;
use crate::transport::Transport;
use crate::transport::session::Sessions;
use crate::transport::websocket::{self, Carried};

/// One connection of one socket after another.
#[derive(Debug)]
pub(crate) struct Resumable {
    pub(crate) connection: Arc<Connection>,
    pub(crate) input: Pipe,
    /// How many sockets have been asked for.
    asked_for: AtomicU64,
    /// The number of the newest socket that is there; it replaces an older one.
    newest: watch::Sender<u64>,
    /// Sockets take turns.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Whether the hub is done with the connection.
    served: watch::Sender<bool>,
    /// Set while there is no socket.
    away: Mutex<Option<Away>>,
}

/// The time between two sockets.
#[derive(Debug)]
struct Away {
    since: Instant,
    /// What it is noted under among all those that wait.
    number: u64,
}

/// The right of one socket to carry the connection.
#[derive(Debug)]
pub(crate) struct Turn {
    number: u64,
    _guard: OwnedMutexGuard<()>,
}

impl Resumable {
    pub(crate) fn new(connection: Connection, options: &HubOptions) -> Self {
        let connection = connection.resumable();
        connection.carried_by(Transport::WebSockets);
        Self {
            connection: Arc::new(connection),
            input: Pipe::new(options.application_max_buffer_size),
            asked_for: AtomicU64::new(0),
            newest: watch::Sender::new(0),
            turn: Arc::default(),
            served: watch::Sender::new(false),
            away: Mutex::new(None),
        }
    }

    fn away(&self) -> MutexGuard<'_, Option<Away>> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn away_for(&self) -> Duration {
        let away = self.away();
        away.as_ref()
            .map_or(Duration::ZERO, |away| away.since.elapsed())
    }

    /// The number of a socket that has been asked for. The one that is there stays until that one is.
    pub(crate) fn number(&self) -> u64 {
        self.asked_for.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A socket is there: drops the one before, if there is one, and waits until it is gone; `None` if a newer one is there.
    pub(crate) async fn turn(&self, number: u64) -> Option<Turn> {
        self.newest.send_if_modified(|newest| {
            let newer = *newest < number;
            *newest = number.max(*newest);
            newer
        });
        let mut newest = self.newest.subscribe();
        tokio::select! {
            biased;
            // Also if the newer one has had its turn already.
            _ = newest.wait_for(|newest| *newest != number) => None,
            guard = Arc::clone(&self.turn).lock_owned() => Some(Turn {
                number,
                _guard: guard,
            }),
        }
    }

    /// Goes on where the last socket ended; false if the connection is over.
    pub(crate) fn attach(&self, _turn: &Turn, sessions: &Sessions) -> bool {
        let attached = self.connection.attach();
        if attached {
            self.input.begin_anew();
        }
        self.waits_no_more(sessions);
        if attached {
            tracing::debug!(
                connection = &*self.connection.id,
                "a connection goes on on another socket"
            );
        }
        attached
    }

    /// Carries the connection on a socket until one of them ends, or a newer socket is there.
    pub(crate) async fn carry<S>(
        self: &Arc<Self>,
        socket: S,
        early: Option<Box<[u8]>>,
        turn: Turn,
        options: &HubOptions,
        sessions: &Sessions,
    ) where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut newest = self.newest.subscribe();
        let carried = tokio::select! {
            biased;
            _ = newest.wait_for(|newest| *newest != turn.number) => return self.hand_over(),
            // Bounded, because a client that no longer reads would never take its leave.
            () = self.given_up(options.close_timeout) => Carried::Over,
            carried = websocket::run(socket, early, &self.connection, &self.input) => carried,
        };
        if carried == Carried::Lost {
            self.detach(options, sessions);
        }
    }

    async fn given_up(&self, patience: Duration) {
        let mut served = self.served.subscribe();
        // The sender is ours, so this ends only with true.
        let _ = served.wait_for(|served| *served).await;
        sleep(patience).await;
    }

    /// The next socket is there and waits for its turn only, so that the connection needs no room among those that wait.
    fn hand_over(&self) {
        if !self.connection.outbox.detach() {
            self.abandon();
        }
    }

    fn detach(self: &Arc<Self>, options: &HubOptions, sessions: &Sessions) {
        if !self.connection.outbox.detach() {
            // It has begun to end since.
            return self.abandon();
        }
        tracing::debug!(
            connection = &*self.connection.id,
            "a connection has lost its socket and waits for another"
        );
        // Noted under the lock, so that whoever finds it among those that wait finds that it does.
        let mut away = self.away();
        let most = options.maximum_detached_connections;
        let (number, longest) = sessions.note_detached(Arc::clone(self), most);
        *away = Some(Away {
            since: Instant::now(),
            number,
        });
        drop(away);
        if let Some(longest) = longest {
            tracing::debug!(
                connection = &*longest.connection.id,
                "too many connections are without a socket for this one to wait any longer"
            );
            longest.abandon();
        }
    }

    /// Makes room for another connection to wait, if this one did.
    fn waits_no_more(&self, sessions: &Sessions) {
        let away = self.away().take();
        if let Some(Away { number, .. }) = away {
            sessions.forget_detached(number);
        }
    }

    /// The client is gone without a word, has been away for too long, or others need the room to wait.
    pub(crate) fn abandon(&self) {
        self.input.end(CloseReason::ConnectionLost);
        self.connection.end(CloseReason::ConnectionLost);
        self.connection.outbox.kill();
    }

    /// The hub is done with the connection: waits for the socket to take the last messages, if there is one.
    pub(crate) async fn over(&self, sessions: &Sessions) {
        self.served.send_replace(true);
        let _turn = self.turn.lock().await;
        self.connection.outbox.kill();
        self.waits_no_more(sessions);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hubcast_protocol::Encoding;
    use tokio::io::{AsyncReadExt, DuplexStream, duplex};
    use tokio::task::JoinHandle;

    use crate::frame::Frame;
    use crate::transport::session::Attached;

    struct Server {
        options: HubOptions,
        sessions: Arc<Sessions>,
    }

    impl Server {
        fn new(maximum_detached_connections: usize) -> Self {
            Self {
                options: HubOptions {
                    maximum_detached_connections,
                    ..HubOptions::default()
                },
                sessions: Arc::default(),
            }
        }

        fn connection(&self, id: &str) -> Arc<Resumable> {
            let resumable = Arc::new(Resumable::new(
                Connection::alone(id, &self.options),
                &self.options,
            ));
            let attached = Attached::Resumable(Arc::clone(&resumable));
            self.sessions.insert(id.into(), attached);
            resumable.connection.agree_on(Encoding::Json);
            resumable.connection.agree_on_version(2, &self.options);
            resumable
        }

        /// The client's end of a socket, and the task that carries the server's.
        async fn socket(
            &self,
            resumable: &Arc<Resumable>,
            first: bool,
        ) -> (DuplexStream, JoinHandle<()>) {
            let (client, socket) = duplex(4096);
            let turn = resumable.turn(resumable.number()).await.unwrap();
            assert!(first || resumable.attach(&turn, &self.sessions));
            let carried = tokio::spawn({
                let (resumable, sessions) = (Arc::clone(resumable), Arc::clone(&self.sessions));
                let options = self.options.clone();
                async move {
                    resumable
                        .carry(socket, None, turn, &options, &sessions)
                        .await;
                }
            });
            (client, carried)
        }
    }

    fn end_of(resumable: &Resumable) -> Option<&CloseReason> {
        resumable.connection.end_reason()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_waits_fifteen_seconds_for_another_socket() {
        let server = Server::new(1_000);
        let resumable = server.connection("a");
        let (client, carried) = server.socket(&resumable, true).await;
        drop(client);
        carried.await.unwrap();
        let limit = server.options.disconnect_timeout;
        tokio::time::advance(limit).await;
        server.sessions.reap(limit);
        assert_eq!(end_of(&resumable), None);

        // Counted anew from the next loss.
        let (client, carried) = server.socket(&resumable, false).await;
        tokio::time::advance(limit * 2).await;
        server.sessions.reap(limit);
        drop(client);
        carried.await.unwrap();
        tokio::time::advance(limit).await;
        server.sessions.reap(limit);
        assert_eq!(end_of(&resumable), None);
        assert!(server.sessions.find("a").is_some());

        tokio::time::advance(Duration::from_millis(1)).await;
        server.sessions.reap(limit);
        assert_eq!(end_of(&resumable), Some(&CloseReason::ConnectionLost));
        assert!(server.sessions.find("a").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_connections_wait_at_a_time() {
        let server = Server::new(1);
        let [one, other, third] = ["a", "b", "c"].map(|id| server.connection(id));
        for resumable in [&one, &other] {
            let (client, carried) = server.socket(resumable, true).await;
            drop(client);
            carried.await.unwrap();
        }
        // Who has been away for the shortest is the most likely to come back, and strangers that went away on purpose keep
        // nobody out.
        assert_eq!(end_of(&one), Some(&CloseReason::ConnectionLost));
        assert_eq!(end_of(&other), None);

        // One that is over makes room, and one that has come back.
        other.over(&server.sessions).await;
        let (client, carried) = server.socket(&third, true).await;
        drop(client);
        carried.await.unwrap();
        let (client, carried) = server.socket(&third, false).await;
        drop(client);
        carried.await.unwrap();
        assert_eq!(end_of(&third), None);
        let nobody = Server::new(0);
        let fourth = nobody.connection("d");
        let (client, carried) = nobody.socket(&fourth, true).await;
        drop(client);
        carried.await.unwrap();
        assert_eq!(end_of(&fourth), Some(&CloseReason::ConnectionLost));
    }

    #[tokio::test(start_paused = true)]
    async fn a_newer_socket_takes_the_place_of_one_that_looks_alive() {
        let server = Server::new(1_000);
        let resumable = server.connection("a");
        let frame = Frame::from_payload(Encoding::Json, b"[]\x1e");
        resumable.connection.send(frame);
        let (mut old, carried) = server.socket(&resumable, true).await;
        let mut bytes = [0; 5];
        old.read_exact(&mut bytes).await.unwrap();
        let (mut new, _carried) = server.socket(&resumable, false).await;
        carried.await.unwrap();
        assert_eq!(old.read(&mut bytes).await.unwrap(), 0, "the end");
        let mut text = vec![0; 2 + r#"{"type":9,"sequenceId":1}_"#.len() + 5];
        new.read_exact(&mut text).await.unwrap();
        assert_eq!(&text[2..27], br#"{"type":9,"sequenceId":1}"#);
        assert_eq!(&text[28..], b"\x81\x03[]\x1e");
        assert_eq!(end_of(&resumable), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_older_socket_that_comes_late_has_no_turn() {
        let server = Server::new(1_000);
        let resumable = server.connection("a");
        let (_first, carried) = server.socket(&resumable, true).await;
        let late = resumable.number();
        let (_newest, _carried) = server.socket(&resumable, false).await;
        carried.await.unwrap();
        assert!(resumable.turn(late).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_take_its_leave_is_dropped() {
        let server = Server::new(1_000);
        let resumable = server.connection("a");
        let (_client, carried) = server.socket(&resumable, true).await;
        resumable.connection.end(CloseReason::ServerShutdown);
        resumable.connection.outbox.finish(None);
        let began = Instant::now();
        resumable.over(&server.sessions).await;
        assert_eq!(began.elapsed(), server.options.close_timeout);
        carried.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_its_next_socket_already_needs_no_room_to_wait() {
        let server = Server::new(0);
        let resumable = server.connection("a");
        let (_old, carried) = server.socket(&resumable, true).await;
        let (_new, _carried) = server.socket(&resumable, false).await;
        carried.await.unwrap();
        assert_eq!(end_of(&resumable), None);
    }
}
