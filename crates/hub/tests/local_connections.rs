//! Clients within the process: they take part in a hub as those of the network do, and end as those do.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is the report of a test"
)]

use std::time::Duration;

use hubcast::{
    Backplane, CallerContext, CloseReason, GroupError, Hub, HubContext, HubEndpoint, HubError,
    HubOptions, HubResult, InvokeError, LocalBackplane, LocalConnection, LocalInvocation, Methods,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

/// A deadline that nothing but a dead-lock reaches; the paused clock jumps over it.
const FOREVER: Duration = Duration::from_hours(24);

/// In which everybody does all there is to do: the paused clock moves on only then.
const MOMENT: Duration = Duration::from_millis(1);

/// Tells who comes and goes.
struct NotingHub(mpsc::UnboundedSender<String>);

impl Hub for NotingHub {
    fn methods() -> Methods<Self> {
        Methods::new()
    }

    async fn on_connected(&self, ctx: &CallerContext) -> HubResult {
        assert_eq!((ctx.user_identifier(), ctx.query("x")), (None, None));
        self.0.send(format!("comes on {}", ctx.transport()))?;
        ctx.clients().caller().send("Welcome", ()).await?;
        Ok(())
    }

    async fn on_disconnected(&self, _: &CallerContext, reason: &CloseReason) -> HubResult {
        Ok(self.0.send(reason.name().to_owned())?)
    }
}

/// Lets nobody in.
struct ClosedHub;

impl Hub for ClosedHub {
    fn methods() -> Methods<Self> {
        Methods::new()
    }

    async fn on_connected(&self, _: &CallerContext) -> HubResult {
        Err(HubError::new("not today"))
    }
}

struct Server {
    endpoint: HubEndpoint<NotingHub>,
    hub: HubContext,
    noted: mpsc::UnboundedReceiver<String>,
}

impl Server {
    fn start() -> Self {
        Self::with(HubOptions::default(), None::<LocalBackplane>)
    }

    fn with(options: HubOptions, backplane: Option<impl Backplane>) -> Self {
        let (noting, noted) = mpsc::unbounded_channel();
        let mut endpoint = HubEndpoint::new(NotingHub(noting)).options(options);
        if let Some(backplane) = backplane {
            endpoint = endpoint.backplane(backplane);
        }
        let hub = endpoint.context();
        Self {
            endpoint,
            hub,
            noted,
        }
    }

    /// A client in the room.
    async fn client(&mut self) -> Result<LocalConnection, GroupError> {
        let mut client = self.endpoint.connect_local().await.expect("it is let in");
        assert_eq!(self.noted.recv().await.unwrap(), "comes on Local");
        assert_eq!(next(&mut client).await.target(), "Welcome");
        let id = client.connection_id();
        self.hub.groups().add(id, "room").await?;
        Ok(client)
    }

    async fn says(&self, text: &str) {
        let room = self.hub.clients().group("room");
        room.send("Message", (text,)).await.unwrap();
    }
}

async fn next(client: &mut LocalConnection) -> LocalInvocation {
    let next = timeout(FOREVER, client.next()).await.expect("a call");
    next.unwrap_or_else(|reason| panic!("{reason} instead of a call"))
}

async fn end(client: &mut LocalConnection) -> CloseReason {
    let ends = async {
        loop {
            if let Err(reason) = client.next().await {
                return reason;
            }
        }
    };
    timeout(FOREVER, ends).await.expect("an end")
}

async fn text(client: &mut LocalConnection) -> String {
    let call = next(client).await;
    assert!(call.is("message"));
    let (text,) = call.arguments().unwrap();
    text
}

#[tokio::test(start_paused = true)]
async fn a_client_in_a_group_gets_what_the_group_is_sent_and_what_goes_along() {
    let mut server = Server::start();
    let mut one = server.client().await.unwrap();
    let mut two = server.client().await.unwrap();
    assert_eq!(server.hub.connection_count(), 2);
    server.says("hello").await;
    for client in [&mut one, &mut two] {
        assert_eq!(text(client).await, "hello");
    }
    let clients = server.hub.clients();
    let others = clients.group("room").except([one.connection_id()]);
    let others = others
        .header("via", "a")
        .header("via", "b")
        .header("\"x\"", "\u{1e}ü")
        .header("empty", "")
        .header("", "empty");
    others.send("Message", ("to the second",)).await.unwrap();
    server.says("to both").await;
    let call = next(&mut two).await;
    assert_eq!(call.arguments::<[String; 1]>().unwrap(), ["to the second"]);
    for (name, value) in [
        ("via", Some("b")),
        ("\"x\"", Some("\u{1e}ü")),
        ("empty", None),
        ("", None),
        ("Via", None),
    ] {
        assert_eq!(call.header(name), value, "{name}");
    }
    assert!(call.arguments::<(String, String)>().is_err());
    let call = next(&mut two).await;
    assert_eq!(call.header("via"), None);
    assert_eq!(text(&mut one).await, "to both");
}

#[tokio::test(start_paused = true)]
async fn a_client_on_another_server_gets_the_same() {
    let bus = LocalBackplane::new();
    let start = || Server::with(HubOptions::default(), Some(bus.join()));
    let (mut here, mut there) = (start(), start());
    let mut one = here.client().await.unwrap();
    let mut two = there.client().await.unwrap();
    let to_others = here.hub.clients().group("room");
    let to_others = to_others
        .except([one.connection_id()])
        .header("via", "somebody");
    to_others.send("Message", ("hello",)).await.unwrap();
    here.says("to both").await;
    let call = next(&mut two).await;
    assert_eq!(call.header("via"), Some("somebody"));
    assert_eq!(call.arguments::<(String,)>().unwrap().0, "hello");
    assert_eq!(text(&mut two).await, "to both");
    assert_eq!(text(&mut one).await, "to both");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_hears_nothing_for_a_day_is_still_there() {
    let mut server = Server::start();
    let mut client = server.client().await.unwrap();
    assert!(timeout(FOREVER, client.next()).await.is_err());
    server.says("good morning").await;
    assert_eq!(text(&mut client).await, "good morning");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_take_what_waits_for_it_is_too_slow() {
    let mut server = Server::start();
    let mut idle = server.client().await.unwrap();
    server.says("nobody takes this").await;
    let start = Instant::now();
    assert_eq!(server.noted.recv().await.unwrap(), "too_slow");
    assert!(start.elapsed() < Duration::from_secs(13));
    assert_eq!(end(&mut idle).await, CloseReason::TooSlow);

    // All at once: what waits is bounded.
    let mut flooded = server.client().await.unwrap();
    let start = Instant::now();
    for _ in 0..50 {
        server.says(&"x".repeat(100_000)).await;
    }
    assert_eq!(end(&mut flooded).await, CloseReason::TooSlow);
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_dropped_has_left() {
    let mut server = Server::start();
    let client = server.client().await.unwrap();
    drop(client);
    assert_eq!(server.noted.recv().await.unwrap(), "client_left");
    sleep(MOMENT).await;
    assert_eq!(server.hub.connection_count(), 0);
    assert_eq!(server.endpoint.shut_down(Duration::ZERO).await, 0);
    // Nor does anybody come who gives up before being let in.
    drop(server.endpoint.connect_local());
    assert!(server.noted.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_goes_away_says_so_and_lets_nobody_in() {
    let mut server = Server::start();
    let mut client = server.client().await.unwrap();
    server.says("the last words").await;
    assert_eq!(server.endpoint.shut_down(Duration::from_secs(1)).await, 0);
    assert_eq!(text(&mut client).await, "the last words");
    assert_eq!(end(&mut client).await, CloseReason::ServerShutdown);
    let late = server.endpoint.connect_local().await;
    assert_eq!(late.unwrap_err(), CloseReason::ServerShutdown);
}

#[tokio::test(start_paused = true)]
async fn a_hub_may_refuse_a_client() {
    let refused = HubEndpoint::new(ClosedHub).connect_local().await;
    let CloseReason::Rejected(text) = refused.unwrap_err() else {
        panic!("another reason");
    };
    assert!(text.contains("not today"));
    let options = HubOptions {
        supported_protocols: vec![hubcast::Encoding::MessagePack],
        ..HubOptions::default()
    };
    let refused = HubEndpoint::new(ClosedHub).options(options);
    let reason = refused.connect_local().await.unwrap_err();
    assert_eq!(reason.name(), "handshake_refused");
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_for_a_result_is_told_that_there_is_none() {
    let bus = LocalBackplane::new();
    let start = || Server::with(HubOptions::default(), Some(bus.join()));
    let (mut here, there) = (start(), start());
    let mut client = here.client().await.unwrap();
    let id = client.connection_id().to_owned();
    for server in [&here, &there] {
        let clients = server.hub.clients();
        let asked = clients.client(&id).invoke::<bool>("Confirm", ("really?",));
        let (answer, call) = tokio::join!(timeout(FOREVER, asked), next(&mut client));
        let InvokeError::Client(text) = answer.unwrap().unwrap_err() else {
            panic!("another error");
        };
        assert_eq!(text, "Client didn't provide a result.");
        assert_eq!(call.target(), "Confirm");
    }
}
