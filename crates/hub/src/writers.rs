//! Tasks that write for many connections each, so that a message for many does not wake as many tasks.
//!
//! When somebody else's message comes into the outbox of a connection that has nothing else to do, the connection is put on a list here, and one of a
//! few tasks writes what waits in its outbox. Its own task hears of it only if the socket does not take everything. While the writers are busy, more
//! messages come into the outboxes on the list, and leave with the first in one write: the more there is to do, the less each message costs.
//! So that this holds for a server that has little of the processors, too, a writer rests a moment after a long pass.
//!
//! There are two lists, each with writers of its own: messages for few do not wait while messages for many are written, nor while their writers rest.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
// Not the runtime's: this is about how long the processor is used.
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::task::yield_now;
use tokio::time::{Duration, sleep};

use crate::connection::Connection;
use crate::frame::Broadcast;

/// How many receivers are few. Of more, so many are listed at once.
const FEW: usize = 64;

/// How long a writer writes before others get a turn on the processor.
const TURN: Duration = Duration::from_micros(250);

/// A pass that takes longer than this is a long one.
const LONG_PASS: Duration = Duration::from_micros(250);

/// How long a writer rests after a long pass: a quarter of what that took, but at least as long as the runtime's clock can tell, and not so long that
/// anybody would notice.
const SHORTEST_REST: Duration = Duration::from_millis(1);
const LONGEST_REST: Duration = Duration::from_millis(10);

/// The longest list whose memory is kept when it is empty.
const KEPT_LIST: usize = 1024;

/// How many a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    Few,
    Many,
}

impl Audience {
    pub(crate) fn of(receivers: usize) -> Self {
        if receivers > FEW {
            Self::Many
        } else {
            Self::Few
        }
    }
}

/// The writers of one hub.
#[derive(Debug)]
pub(crate) struct Writers {
    few: Arc<List>,
    many: Arc<List>,
}

impl Writers {
    /// Writers on the current runtime.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub(crate) fn new() -> Self {
        Self {
            few: List::new(),
            many: List::new(),
        }
    }

    /// Has these written to.
    pub(crate) fn list(
        &self,
        audience: Audience,
        connections: impl IntoIterator<Item = Arc<Connection>>,
    ) {
        let list = match audience {
            Audience::Few => &self.few,
            Audience::Many => &self.many,
        };
        list.add(connections);
    }
}

/// A list and its writers. One writer for two processors, because those who read and call methods need some, too: two on two processors cost
/// more and are no faster.
#[derive(Debug)]
struct List {
    runtime: Handle,
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Connections with something in their outbox that nobody else writes. Who is on both lists is written to by whoever comes first.
    listed: VecDeque<Arc<Connection>>,
    /// How many writers there are now. They are begun when there is something to write and end when there is not.
    running: usize,
}

impl List {
    fn new() -> Arc<Self> {
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

    fn add(self: &Arc<Self>, connections: impl IntoIterator<Item = Arc<Connection>>) {
        let mut state = self.state();
        state.listed.extend(connections);
        // One more where those who are at it have enough to do.
        let more = state.running < self.most && state.listed.len() > state.running * FEW;
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
            let share = state.listed.len().div_ceil(state.running).max(FEW);
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
        let mut taken = Duration::ZERO;
        while !pass.is_empty() {
            taken += turn(&mut pass);
            // Writing never waits, so the runtime would not notice how long it takes.
            yield_now().await;
        }
        if taken > LONG_PASS {
            sleep((taken / 4).clamp(SHORTEST_REST, LONGEST_REST)).await;
        }
    }
}

/// Writes for a while; gives how long that was.
fn turn(pass: &mut VecDeque<Arc<Connection>>) -> Duration {
    let begun = Instant::now();
    while let Some(connection) = pass.pop_front() {
        connection.outbox.write_shared();
        forget(connection);
        if begun.elapsed() >= TURN {
            break;
        }
    }
    begun.elapsed()
}

/// The place of a writer among those that are at it, until it has left that in good order. Otherwise its runtime has ended: nobody writes any more, and what is
/// listed would keep itself for ever.
struct Place(Option<Arc<List>>);

impl Place {
    fn take(&mut self, pass: &mut VecDeque<Arc<Connection>>) -> bool {
        let has_more = self.0.as_ref().is_some_and(|list| list.take(pass));
        if !has_more {
            self.0 = None;
        }
        has_more
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(list) = self.0.take() {
            let mut state = list.state();
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

/// One message on its way to its receivers, who are listed some at a time.
pub(crate) struct Delivery<'a> {
    writers: &'a Writers,
    message: &'a Broadcast,
    audience: Audience,
    reached: usize,
    listed: Vec<Arc<Connection>>,
}

impl<'a> Delivery<'a> {
    /// To a few, if nobody says otherwise.
    pub(crate) fn new(writers: &'a Writers, message: &'a Broadcast) -> Self {
        Self {
            writers,
            message,
            audience: Audience::Few,
            reached: 0,
            listed: Vec::new(),
        }
    }

    /// How many it is for, about. Said before the first gets it.
    pub(crate) fn expects(&mut self, receivers: usize) {
        self.audience = Audience::of(receivers);
    }

    /// Puts the message into the outbox of one of the receivers.
    pub(crate) fn to(&mut self, connection: &Arc<Connection>) {
        self.reached += 1;
        if connection.enqueue(self.message, self.audience) {
            self.listed.push(Arc::clone(connection));
            if self.listed.len() == FEW {
                self.list();
            }
        }
    }

    /// How many have got it.
    pub(crate) fn reached(&self) -> usize {
        self.reached
    }

    fn list(&mut self) {
        self.writers.list(self.audience, self.listed.drain(..));
    }
}

impl Drop for Delivery<'_> {
    fn drop(&mut self) {
        if !self.listed.is_empty() {
            self.list();
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

    async fn listener() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").await.unwrap()
    }

    /// A connection that has nothing to do, so that writers write for it, and its client.
    async fn idle(
        id: &str,
        lifetime: &Arc<Lifetime>,
        listener: &TcpListener,
    ) -> (TcpStream, Arc<Connection>) {
        let address = listener.local_addr().unwrap();
        let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (client, (server, _)) = (client.unwrap(), server.unwrap());
        let connection = Arc::new(Connection::new(id.into(), lifetime));
        let socket = SharedSocket::new(server, Arc::clone(&connection));
        let carried = Arc::clone(&connection);
        tokio::spawn(async move {
            let input = Pipe::new(1_000);
            websocket::run(socket, None, &carried, &input).await;
        });
        yield_now().await;
        (client, connection)
    }

    async fn expect(client: &mut TcpStream, bytes: &[u8]) {
        let mut read = vec![0; bytes.len()];
        tokio::time::timeout(Duration::from_secs(5), client.read_exact(&mut read))
            .await
            .expect("it is written")
            .unwrap();
        assert!(read == bytes);
    }

    #[tokio::test]
    async fn a_panic_in_what_a_hub_kept_with_a_connection_that_is_gone_stops_no_writer() {
        let lifetime = Lifetime::start(HubOptions::default(), "Hub", None);
        let (mut client, connection) = idle("a", &lifetime, &listener().await).await;
        let gone = Arc::new(Connection::new("gone".into(), &lifetime));
        Items::new(&gone.items).insert(PanicsWhenDropped);
        lifetime.writers.list(Audience::Few, [gone]);
        for number in 0..3_u8 {
            connection.send(Frame::from_payload(Encoding::Json, &[b'0' + number]));
            expect(&mut client, &[0x81, 1, b'0' + number]).await;
        }
    }

    #[tokio::test]
    async fn what_is_for_few_does_not_wait_for_what_is_for_many() {
        let lifetime = Lifetime::start(HubOptions::default(), "Hub", None);
        let listener = listener().await;
        let (mut stranger, direct) = idle("direct", &lifetime, &listener).await;
        let mut room = Vec::new();
        for number in 0..200 {
            room.push(idle(&number.to_string(), &lifetime, &listener).await);
        }
        let large = Broadcast::from_payloads(|_| Some(vec![b'x'; 64 * 1024].into()));
        let mut delivery = Delivery::new(&lifetime.writers, &large);
        delivery.expects(room.len());
        for (_, connection) in &room {
            delivery.to(connection);
        }
        drop(delivery);
        let listed = |room: &[(_, Arc<Connection>)]| {
            let listed = |(_, connection): &&(_, Arc<Connection>)| connection.outbox.is_listed();
            room.iter().filter(listed).count()
        };
        assert_eq!(listed(&room), 200);

        let small = || Frame::from_payload(Encoding::Json, b"small");
        direct.send(small());
        expect(&mut stranger, small().websocket()).await;
        assert!(listed(&room) > 0, "those of the room had to wait");

        // Nor for what is for many on other connections, if it is among them itself.
        let (mut member, connection) = room.pop().unwrap();
        assert!(connection.outbox.is_listed(), "the last of the room");
        connection.send(small());
        let frame = large.frame(Encoding::Json).unwrap();
        let both = [frame.websocket(), small().websocket()].concat();
        expect(&mut member, &both).await;
        assert!(listed(&room) > 0);
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
            lifetime.writers.list(Audience::Few, [connection]);
            Arc::downgrade(&lifetime)
        });
        drop(runtime);
        assert!(left.upgrade().is_none());
    }
}
