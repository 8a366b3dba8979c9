//! Tasks that write for many connections each, so that a message for many does not wake as many tasks.
//!
//! When somebody else's message comes into the outbox of a connection that has nothing else to do, the connection is put on a list here, and one of a
//! few tasks writes what waits in its outbox. Its own task hears of it only if the socket does not take everything. While the writers are busy, more
//! messages come into the outboxes on the list, and leave with the first in one write: the more there is to do, the less each message costs.
//! So that this holds for a server that has little of the processors, too, a writer rests a moment after a long pass.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::task::yield_now;
use tokio::time::{Duration, Instant, sleep};

use crate::connection::Connection;
use crate::frame::Broadcast;

/// How many connections are written to before others get a turn on the processor: a fraction of a millisecond.
const TURN: usize = 64;

/// A pass that takes longer than this is a long one.
const LONG_PASS: Duration = Duration::from_micros(250);

/// How long a writer rests after a long pass: a quarter of what that took, but at least as long as the runtime's clock can tell, and not so long that
/// anybody would notice.
const SHORTEST_REST: Duration = Duration::from_millis(1);
const LONGEST_REST: Duration = Duration::from_millis(10);

/// The longest list whose memory is kept when it is empty.
const KEPT_LIST: usize = 1024;

/// The writers of one hub. One writer for two processors, because those who read and call methods need some, too: two on two processors cost
/// more and are no faster.
#[derive(Debug)]
pub(crate) struct Writers {
    runtime: Handle,
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Connections with something in their outbox that nobody else writes.
    listed: VecDeque<Arc<Connection>>,
    /// How many writers there are now. They are begun when there is something to write and end when there is not.
    running: usize,
}

impl Writers {
    /// Writers on the current runtime.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub(crate) fn new() -> Arc<Self> {
        let runtime = Handle::current();
        let most = (runtime.metrics().num_workers() / 2).max(1);
        Arc::new(Self {
            runtime,
            most,
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has these written to.
    pub(crate) fn list(self: &Arc<Self>, connections: impl IntoIterator<Item = Arc<Connection>>) {
        let mut state = self.state();
        state.listed.extend(connections);
        // One more where those who are at it have enough to do.
        let more = state.running < self.most && state.listed.len() > state.running * TURN;
        state.running += usize::from(more);
        drop(state);
        if more {
            let place = Place(Some(Arc::clone(self)));
            drop(self.runtime.spawn(write(place)));
        }
    }

    /// Takes a writer's share of what is listed. False if that is nothing, and the writer is no longer one.
    fn take(&self, pass: &mut VecDeque<Arc<Connection>>) -> bool {
        let mut state = self.state();
        if state.listed.is_empty() {
            state.running -= 1;
            return false;
        }
        if state.running == 1 {
            std::mem::swap(pass, &mut state.listed);
        } else {
            let share = state.listed.len().div_ceil(state.running).max(TURN);
            let share = share.min(state.listed.len());
            pass.extend(state.listed.drain(..share));
        }
        if state.listed.is_empty() && state.listed.capacity() > KEPT_LIST {
            state.listed = VecDeque::new();
        }
        true
    }
}

/// Writes until nothing is listed.
async fn write(mut place: Place) {
    let mut pass = VecDeque::new();
    while place.take(&mut pass) {
        let begun = Instant::now();
        while !pass.is_empty() {
            let turn = pass.len().min(TURN);
            for connection in pass.drain(..turn) {
                connection.outbox.write_shared();
                forget(connection);
            }
            // Writing never waits, so the runtime would not notice how long it takes.
            yield_now().await;
        }
        let taken = begun.elapsed();
        if taken > LONG_PASS {
            sleep((taken / 4).clamp(SHORTEST_REST, LONGEST_REST)).await;
        }
    }
}

/// The place of a writer among those that are at it, until it has left that in good order. Otherwise its runtime has ended: nobody writes any more, and what is
/// listed would keep itself for ever.
struct Place(Option<Arc<Writers>>);

impl Place {
    fn take(&mut self, pass: &mut VecDeque<Arc<Connection>>) -> bool {
        let has_more = self.0.as_ref().is_some_and(|writers| writers.take(pass));
        if !has_more {
            self.0 = None;
        }
        has_more
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(writers) = self.0.take() {
            let mut state = writers.state();
            state.running -= 1;
            let left = std::mem::take(&mut state.listed);
            drop(state);
            left.into_iter().for_each(forget);
        }
    }
}

/// Lets go of a connection, perhaps as the last: what a hub has kept with it is dropped then, which may panic, and a writer that is gone would be
/// missed by all the others.
fn forget(connection: Arc<Connection>) {
    if catch_unwind(AssertUnwindSafe(|| drop(connection))).is_err() {
        tracing::error!("what a hub kept with a connection panicked when it was dropped");
    }
}

/// One message on its way to many, who are listed some at a time.
pub(crate) struct Delivery<'a> {
    writers: &'a Arc<Writers>,
    message: &'a Broadcast,
    listed: Vec<Arc<Connection>>,
}

impl<'a> Delivery<'a> {
    pub(crate) fn new(writers: &'a Arc<Writers>, message: &'a Broadcast) -> Self {
        Self {
            writers,
            message,
            listed: Vec::new(),
        }
    }

    /// Puts the message into the outbox of one of the receivers.
    pub(crate) fn to(&mut self, connection: &Arc<Connection>) {
        if connection.enqueue(self.message) {
            self.listed.push(Arc::clone(connection));
            if self.listed.len() == TURN {
                self.writers.list(self.listed.drain(..));
            }
        }
    }
}

impl Drop for Delivery<'_> {
    fn drop(&mut self) {
        if !self.listed.is_empty() {
            self.writers.list(self.listed.drain(..));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::items::Items;
    use crate::lifetime::Lifetime;
    use crate::options::HubOptions;
    use hubcast_protocol::Encoding;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    use crate::frame::Frame;
    use crate::pipe::Pipe;
    use crate::transport::websocket::{self, SharedSocket};

    struct PanicsWhenDropped;

    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            panic!("on purpose");
        }
    }

    #[tokio::test]
    async fn a_panic_in_what_a_hub_kept_with_a_connection_that_is_gone_stops_no_writer() {
        let lifetime = Lifetime::start(HubOptions::default(), "Hub", None);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (mut client, (server, _)) = (client.unwrap(), server.unwrap());
        let connection = Arc::new(Connection::new("a".into(), &lifetime));
        let socket = SharedSocket::new(server, Arc::clone(&connection));
        let carried = Arc::clone(&connection);
        tokio::spawn(async move {
            let input = Pipe::new(1_000);
            websocket::run(socket, None, &carried, &input).await;
        });
        // Has nothing to do, so that writers write for it.
        yield_now().await;

        let gone = Arc::new(Connection::new("gone".into(), &lifetime));
        Items::new(&gone.items).insert(PanicsWhenDropped);
        lifetime.writers.list([gone]);
        for number in 0..3_u8 {
            connection.send(Frame::from_payload(Encoding::Json, &[b'0' + number]));
            let mut bytes = [0; 3];
            let read = client.read_exact(&mut bytes);
            tokio::time::timeout(Duration::from_secs(5), read)
                .await
                .expect("it is written")
                .unwrap();
            assert_eq!(bytes, [0x81, 1, b'0' + number]);
        }
    }

    #[test]
    fn a_runtime_that_ends_before_all_is_written_leaves_nothing_behind() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let left = runtime.block_on(async {
            let lifetime = Lifetime::start(HubOptions::default(), "Hub", None);
            let connection = Arc::new(Connection::new("a".into(), &lifetime));
            lifetime.writers.list([connection]);
            Arc::downgrade(&lifetime)
        });
        drop(runtime);
        assert!(left.upgrade().is_none());
    }
}
