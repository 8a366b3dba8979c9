//! A client without a network, and a hub to talk to.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::backplane::Backplane;
use crate::close_reason::CloseReason;
use crate::connecting::ConnectingRequest;
use crate::connection::Connection;
use crate::context::{CallerContext, HubContext};
use crate::endpoint::beat;
use crate::error::{HubError, HubResult};
use crate::filters::Filters;
use crate::handler::Served;
use crate::hub::Hub;
use crate::lifetime::Lifetime;
use crate::methods::Methods;
use crate::options::HubOptions;
use crate::pipe::Pipe;

/// A hub with a method for each thing that can happen to one.
pub(super) struct TestHub {
    /// `Wait` returns when it gets one of these.
    pub(super) permits: Arc<Semaphore>,
    /// Is told what `Wait` and `Note` were called with.
    pub(super) noted: mpsc::UnboundedSender<String>,
}

impl Hub for TestHub {
    fn methods() -> Methods<Self> {
        Methods::new()
            .method("Add", Self::add)
            .method("Wait", Self::wait)
            .method("Note", Self::note)
            .method("FailOpenly", Self::fail_openly)
            .method("FailSecretly", Self::fail_secretly)
            .method("Panic", Self::panic)
            .method("Unencodable", Self::unencodable)
            .method("PanicLate", Self::panic_late)
            .method("Large", Self::large)
            .method("Join", Self::join)
            .method("JoinAnother", Self::join_another)
            .method("Leave", Self::leave)
            .method("Send", Self::send)
            .method("Ask", Self::ask)
            .method("AskFor", Self::ask_for)
            .method("WhoAmI", Self::who_am_i)
            .method("Count", Self::count)
            .method("Abort", Self::abort)
    }

    /// Asks whoever has a telling name too early.
    async fn on_connected(&self, ctx: &CallerContext) -> HubResult {
        if ctx.connection_id() == "asked too early" {
            return Ok(ctx.clients().caller().invoke("Question", ()).await?);
        }
        Ok(())
    }
}

#[expect(clippy::unused_async, reason = "every hub method is async")]
impl TestHub {
    async fn add(&self, _: &CallerContext, a: i64, b: i64) -> HubResult<i64> {
        Ok(a + b)
    }

    async fn wait(&self, _: &CallerContext, text: String) -> HubResult<String> {
        let _ = self.noted.send(format!("waiting {text}"));
        self.permits.acquire().await?.forget();
        let _ = self.noted.send(format!("waited {text}"));
        Ok(text)
    }

    async fn note(&self, _: &CallerContext, text: String) -> HubResult {
        let _ = self.noted.send(text);
        Ok(())
    }

    async fn fail_openly(&self, _: &CallerContext) -> HubResult {
        Err(HubError::new("as you wish"))
    }

    async fn fail_secretly(&self, _: &CallerContext) -> HubResult {
        Err(std::io::Error::other("the password is swordfish"))?
    }

    async fn panic(&self, _: &CallerContext) -> HubResult {
        panic!("on purpose")
    }

    async fn unencodable(
        &self,
        _: &CallerContext,
    ) -> HubResult<std::collections::HashMap<(u8, u8), u8>> {
        Ok([((1, 2), 3)].into())
    }

    async fn panic_late(&self, _: &CallerContext) -> HubResult<PanicsWhenWritten> {
        Ok(PanicsWhenWritten)
    }

    async fn large(&self, _: &CallerContext, bytes: usize) -> HubResult<String> {
        Ok("x".repeat(bytes))
    }

    async fn join(&self, ctx: &CallerContext, group: String) -> HubResult {
        Ok(ctx.groups().add(ctx.connection_id(), &group).await?)
    }

    async fn join_another(&self, ctx: &CallerContext, id: String, group: String) -> HubResult {
        Ok(ctx.groups().add(&id, &group).await?)
    }

    async fn leave(&self, ctx: &CallerContext, group: String) -> HubResult {
        Ok(ctx.groups().remove(ctx.connection_id(), &group).await?)
    }

    /// Sends `Message(text)` to whom `to` names.
    async fn send(&self, ctx: &CallerContext, to: String, text: String) -> HubResult {
        let clients = ctx.clients();
        let (kind, name) = to.split_once(':').unwrap_or((&to, ""));
        let recipients = match kind {
            "all" => clients.all(),
            "all-except" => clients.all().except([name]),
            "caller" => clients.caller().into(),
            "others" => clients.others(),
            "client" => clients.client(name).into(),
            "clients" => clients.clients(name.split(',')),
            "group" => clients.group(name),
            "groups" => clients.groups(name.split(',')),
            "user" => clients.user(name),
            "users" => clients.users(name.split(',')),
            "user-except" => {
                let (user, id) = name.split_once(',').unwrap_or((name, ""));
                clients.user(user).except([id])
            }
            "others-in-group" => clients.others_in_group(name),
            _ => return Err(HubError::new("to whom?")),
        };
        Ok(recipients.send("Message", (text,)).await?)
    }

    /// Asks the client of that connection, or the caller, for a text.
    async fn ask(&self, ctx: &CallerContext, id: String) -> HubResult<Option<String>> {
        let clients = ctx.clients();
        let client = match id.as_str() {
            "caller" => clients.caller(),
            id => clients.client(id),
        };
        Ok(client.invoke("Question", ("why?",)).await?)
    }

    /// The same, for at most so many milliseconds.
    async fn ask_for(&self, ctx: &CallerContext, id: String, limit: u64) -> HubResult<String> {
        let client = ctx.clients().client(&id);
        let limit = Duration::from_millis(limit);
        Ok(client.timeout(limit).invoke("Question", ("why?",)).await?)
    }

    async fn who_am_i(&self, ctx: &CallerContext) -> HubResult<Option<String>> {
        Ok(ctx.user_identifier().map(str::to_owned))
    }

    /// How often this connection has called this.
    async fn count(&self, ctx: &CallerContext) -> HubResult<u32> {
        Ok(ctx.items().update(|count: &mut u32| {
            *count += 1;
            *count
        }))
    }

    async fn abort(&self, ctx: &CallerContext) -> HubResult {
        ctx.abort();
        Ok(())
    }
}

struct PanicsWhenWritten;

impl serde::Serialize for PanicsWhenWritten {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("on purpose, too")
    }
}

/// A server: a hub and its connections.
pub(super) struct Server {
    served: Arc<Served<TestHub>>,
    pub(super) permits: Arc<Semaphore>,
    noted: mpsc::UnboundedReceiver<String>,
}

impl Server {
    pub(super) fn start(options: HubOptions, backplane: Option<Arc<dyn Backplane>>) -> Self {
        let permits = Arc::new(Semaphore::new(0));
        let (noting, noted) = mpsc::unbounded_channel();
        let lifetime = Lifetime::start(options, "TestHub", backplane);
        tokio::spawn(beat(Arc::downgrade(&lifetime), Arc::default()));
        let hub = TestHub {
            permits: Arc::clone(&permits),
            noted: noting,
        };
        Self {
            served: Arc::new(Served {
                hub: Arc::new(hub),
                methods: TestHub::methods(),
                filters: Arc::default(),
                lifetime,
            }),
            permits,
            noted,
        }
    }

    pub(super) fn alone() -> Self {
        Self::start(HubOptions::default(), None)
    }

    pub(super) fn context(&self) -> HubContext {
        HubContext::new(Arc::clone(&self.served.lifetime))
    }

    /// Whether nobody is in a group, so that it does not exist.
    pub(super) fn is_group_empty(&self, group: &str) -> bool {
        !self.served.lifetime.has_group(group)
    }

    /// Whether no connection of a user is here.
    pub(super) fn is_user_absent(&self, user: &str) -> bool {
        !self.served.lifetime.has_user(user)
    }

    /// Whether no client has been asked for anything that it has not answered.
    pub(super) fn awaits_nothing(&self) -> bool {
        self.served.lifetime.awaits_nothing()
    }

    pub(super) fn shut_down(&self) {
        self.served.lifetime.shut_down();
    }

    /// What the hub noted next.
    pub(super) async fn noted(&mut self) -> String {
        soon(self.noted.recv()).await.unwrap()
    }

    /// A client that has not said anything yet.
    pub(super) fn connect(&self, id: &str) -> Client {
        connect(&self.served, id)
    }

    /// A client that has shaken hands.
    pub(super) async fn client(&self, id: &str) -> Client {
        let mut client = self.connect(id);
        client.shake_hands().await;
        client
    }

    /// A client of a user that has shaken hands.
    pub(super) async fn client_of(&self, user: &str, id: &str) -> Client {
        let mut client = connect_as(&self.served, id, Some(user));
        client.shake_hands().await;
        client
    }
}

/// Serves a hub alone.
pub(super) fn serve<H: Hub>(hub: H, options: HubOptions, filters: Filters) -> Arc<Served<H>> {
    let lifetime = Lifetime::start(options, "TestHub", None);
    tokio::spawn(beat(Arc::downgrade(&lifetime), Arc::default()));
    Arc::new(Served {
        hub: Arc::new(hub),
        methods: H::methods(),
        filters,
        lifetime,
    })
}

/// A client of any hub that has not said anything yet.
pub(super) fn connect<H: Hub>(served: &Arc<Served<H>>, id: &str) -> Client {
    connect_as(served, id, None)
}

/// A client of a user that has not said anything yet.
fn connect_as<H: Hub>(served: &Arc<Served<H>>, id: &str, user: Option<&str>) -> Client {
    let options = &served.lifetime.options;
    let connection = if options.allow_stateful_reconnects {
        Connection::new(id.into(), &served.lifetime).resumable()
    } else {
        Connection::new(id.into(), &served.lifetime)
    };
    let request = ConnectingRequest::default();
    let connection = Arc::new(connection.begun_with(request, user.map(str::to_owned)));
    let input = Arc::new(Pipe::new(options.application_max_buffer_size));
    let handled = tokio::spawn({
        let served = Arc::clone(served);
        let (connection, input) = (Arc::clone(&connection), Arc::clone(&input));
        async move { served.handle(connection, &input).await }
    });
    Client {
        connection,
        input,
        handled,
        bytes: Vec::new(),
        finished: false,
    }
}

/// A deadline that nothing but a dead-lock reaches; the paused clock jumps over it.
pub(super) async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_hours(24), future)
        .await
        .expect("something to happen")
}

pub(super) struct Client {
    pub(super) connection: Arc<Connection>,
    pub(super) input: Arc<Pipe>,
    handled: JoinHandle<()>,
    bytes: Vec<u8>,
    finished: bool,
}

impl Client {
    pub(super) async fn shake_hands(&mut self) {
        self.send(r#"{"protocol":"json","version":1}"#).await;
        assert_eq!(self.next().await, "{}");
    }

    /// Calls a method that streams; `arguments` is a JSON array.
    pub(super) async fn stream(&self, id: &str, target: &str, arguments: &str) {
        self.send(&format!(
            r#"{{"type":4,"invocationId":"{id}","target":"{target}","arguments":{arguments}}}"#
        ))
        .await;
    }

    /// Calls a method with streams of the client; `arguments` and `streams` are JSON arrays.
    pub(super) async fn call_with_streams(
        &self,
        id: u32,
        target: &str,
        arguments: &str,
        streams: &str,
    ) {
        self.send(&format!(
            r#"{{"type":1,"invocationId":"{id}","target":"{target}","arguments":{arguments},"streamIds":{streams}}}"#
        ))
        .await;
    }

    /// Sends an item of a stream, as JSON.
    pub(super) async fn item(&self, stream: &str, value: impl std::fmt::Display) {
        self.send(&format!(
            r#"{{"type":2,"invocationId":"{stream}","item":{value}}}"#
        ))
        .await;
    }

    /// Ends a stream.
    pub(super) async fn end(&self, stream: &str) {
        self.send(&format!(r#"{{"type":3,"invocationId":"{stream}"}}"#))
            .await;
    }

    /// Takes a call back.
    pub(super) async fn cancel(&self, id: &str) {
        self.send(&format!(r#"{{"type":5,"invocationId":"{id}"}}"#))
            .await;
    }

    /// Nothing comes, although everybody has done all there is to do: the paused clock moves on only then.
    pub(super) async fn expect_nothing(&mut self) {
        let next = timeout(Duration::from_millis(100), self.next()).await;
        assert!(next.is_err(), "{next:?}");
    }

    /// The next record must be this one.
    pub(super) async fn expect(&mut self, record: &str) {
        assert_eq!(self.next().await, record);
    }

    /// Sends one record.
    pub(super) async fn send(&self, record: &str) {
        self.send_bytes(&format!("{record}\x1e")).await;
    }

    /// Sends bytes, wherever records begin and end.
    pub(super) async fn send_bytes(&self, bytes: &str) {
        let mut bytes = BytesMut::from(bytes);
        soon(poll_fn(|context| {
            self.input.poll_write(context, &mut bytes)
        }))
        .await;
    }

    /// Calls a method; `arguments` is a JSON array.
    pub(super) async fn call(&self, id: u32, target: &str, arguments: &str) {
        self.send(&format!(
            r#"{{"type":1,"invocationId":"{id}","target":"{target}","arguments":{arguments}}}"#
        ))
        .await;
    }

    /// Calls a method and gives its completion, which must be what comes next.
    pub(super) async fn answer(&mut self, target: &str, arguments: &str) -> String {
        self.call(7, target, arguments).await;
        let completion = self.next().await;
        let rest = completion.strip_prefix(r#"{"type":3,"invocationId":"7","#);
        rest.unwrap_or_else(|| panic!("{completion}"))
            .trim_end_matches('}')
            .to_owned()
    }

    /// The id of the `Question` that must be what comes next.
    pub(super) async fn question(&mut self) -> String {
        let question = self.next().await;
        let id = question.strip_prefix(r#"{"type":1,"invocationId":""#);
        let id = id.and_then(|rest| rest.split_once('"'));
        let (id, rest) = id.unwrap_or_else(|| panic!("{question}"));
        assert_eq!(rest, r#","target":"Question","arguments":["why?"]}"#);
        id.to_owned()
    }

    /// Answers a question; `how` is a property, such as `"result":1`, or nothing.
    pub(super) async fn complete(&self, id: &str, how: &str) {
        let comma = if how.is_empty() { "" } else { "," };
        self.send(&format!(
            r#"{{"type":3,"invocationId":"{id}"{comma}{how}}}"#
        ))
        .await;
    }

    /// Calls `Add(1, 2)` and gives what comes next, which may be a ping.
    pub(super) async fn answer_or_ping(&mut self) -> String {
        self.call(7, "Add", "[1,2]").await;
        self.next().await
    }

    /// Where the payload of the first frame is, once all of it is there.
    fn whole_frame(&self) -> Option<std::ops::Range<usize>> {
        let (header, length) = match self.bytes.as_slice() {
            [_, 126, high, low, ..] => (4, usize::from(u16::from_be_bytes([*high, *low]))),
            [_, 127, rest @ ..] => {
                let length = rest.first_chunk::<8>()?;
                (10, usize::try_from(u64::from_be_bytes(*length)).unwrap())
            }
            [_, length, ..] if *length < 126 => (2, usize::from(*length)),
            _ => return None,
        };
        (self.bytes.len() >= header + length).then_some(header..header + length)
    }

    /// The next record; `(the end)` when there is none any more.
    pub(super) async fn next(&mut self) -> String {
        loop {
            if let Some(whole) = self.whole_frame() {
                let record: Vec<u8> = self.bytes.drain(..whole.end).skip(whole.start).collect();
                let record = String::from_utf8(record).unwrap();
                return record.strip_suffix('\x1e').unwrap().to_owned();
            }
            if self.finished {
                assert_eq!(self.bytes, b"");
                return "(the end)".to_owned();
            }
            let (connection, bytes) = (&self.connection, &mut self.bytes);
            let before = bytes.len();
            self.finished = soon(poll_fn(|context| {
                match connection.outbox.poll_write_to(context, bytes) {
                    Poll::Ready(outcome) => Poll::Ready(outcome.map(|()| true)),
                    Poll::Pending if bytes.len() > before => Poll::Ready(Ok(false)),
                    Poll::Pending => Poll::Pending,
                }
            }))
            .await
            .unwrap();
        }
    }

    /// Waits until the server is done with the connection, and gives the reason. What was sent to it is dropped.
    pub(super) async fn ended(self) -> CloseReason {
        soon(self.handled).await.unwrap();
        self.connection.end_reason().unwrap().clone()
    }
}

impl Client {
    /// Loses the socket, with everything that has been written to it and not been looked at.
    pub(super) fn lose_socket(&mut self) {
        self.bytes.clear();
        assert!(self.connection.outbox.detach());
    }

    /// Comes back on another socket, which begins with what the server says of it.
    pub(super) async fn come_back(&mut self) -> String {
        assert!(self.connection.attach());
        self.input.begin_anew();
        self.next().await
    }

    /// How many bytes leave for the client now; they are lost.
    pub(super) fn take_bytes(&mut self) -> usize {
        let mut context = Context::from_waker(Waker::noop());
        let outbox = &self.connection.outbox;
        assert!(
            outbox
                .poll_write_to(&mut context, &mut self.bytes)
                .is_pending()
        );
        let taken = self.bytes.len();
        self.bytes.clear();
        taken
    }
}
