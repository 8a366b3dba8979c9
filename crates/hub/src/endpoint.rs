//! A hub under a path of an axum application: HTTP to everything else.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::backplane::{Backplane, BackplaneStatus};
use crate::connection::Connection;
use crate::context::HubContext;
use crate::frame::Frame;
use crate::handler::Served;
use crate::hub::Hub;
use crate::lifetime::Lifetime;
use crate::negotiate::negotiate;
use crate::options::HubOptions;
use crate::pipe::Pipe;
use crate::tokens::{Ticket, Tokens};
use crate::transport::upgrade::{UpgradeRequest, UpgradedSocket};
use crate::transport::websocket;

/// How often time-outs and pings are looked at: once a second, as in ASP.NET Core.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// How often the servers make sure that they still share one key.
const KEY_CHECK: Duration = Duration::from_secs(60);

/// A hub, ready to be mounted in an axum application.
///
/// ```
/// # use hubcast::{Hub, HubEndpoint, Methods};
/// # struct ChatHub;
/// # impl Hub for ChatHub { fn methods() -> Methods<Self> { Methods::new() } }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let chat = HubEndpoint::new(ChatHub);
/// let hub = chat.context();
/// let app: axum::Router = axum::Router::new().nest("/chatHub", chat.routes());
/// # drop((app, hub));
/// # }
/// ```
pub struct HubEndpoint<H: Hub> {
    hub: Arc<H>,
    options: HubOptions,
    backplane: Option<Arc<dyn Backplane>>,
    mounted: OnceLock<Arc<Mounted<H>>>,
}

impl<H: Hub> fmt::Debug for HubEndpoint<H> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("HubEndpoint")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// An endpoint that has started.
struct Mounted<H: Hub> {
    served: Served<H>,
    tokens: Arc<Tokens>,
    hub_name: String,
    draining: AtomicBool,
    /// How many sockets are open, those without a handshake included.
    sockets: watch::Sender<usize>,
    /// Whether the other servers have been asked for the shared key, or cannot be.
    settled: watch::Sender<bool>,
}

impl<H: Hub> HubEndpoint<H> {
    /// An endpoint with default options and no backplane.
    pub fn new(hub: H) -> Self {
        Self {
            hub: Arc::new(hub),
            options: HubOptions::default(),
            backplane: None,
            mounted: OnceLock::new(),
        }
    }

    /// Sets the options.
    ///
    /// # Panics
    ///
    /// If the endpoint has started: [`context`](Self::context) and [`routes`](Self::routes) start it.
    pub fn options(mut self, options: HubOptions) -> Self {
        self.assert_not_started();
        self.options = options;
        self
    }

    /// Joins other servers through a backplane.
    ///
    /// # Panics
    ///
    /// If the endpoint has started.
    pub fn backplane(mut self, backplane: impl Backplane) -> Self {
        self.assert_not_started();
        self.backplane = Some(Arc::new(backplane));
        self
    }

    fn assert_not_started(&self) {
        assert!(
            self.mounted.get().is_none(),
            "configure a HubEndpoint before its context() or routes() are used"
        );
    }

    /// The hub from outside of its calls. Starts the endpoint.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn context(&self) -> HubContext {
        HubContext::new(Arc::clone(&self.mounted().served.lifetime))
    }

    /// The endpoint's HTTP interface, to be nested under the hub's path. Starts the endpoint.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn routes(&self) -> Router {
        let mounted = Arc::clone(self.mounted());
        let router = Router::new().fallback(serve::<H>).with_state(mounted);
        if self.options.allowed_origins.lists_any() {
            router.layer(cors(&self.options))
        } else {
            router
        }
    }

    /// Waits until the servers that share a backplane have agreed on what they must, or cannot be reached; done at
    /// once without a backplane. Before, a client may get a token that only this server takes.
    pub async fn settled(&self) {
        let mut settled = self.mounted().settled.subscribe();
        // The sender lives as long as the endpoint.
        let _ = settled.wait_for(|settled| *settled).await;
    }

    /// Goes away in good order: takes no more clients, lets running calls finish, tells every client to come back
    /// (`Close` with `allowReconnect`), and waits until all have been told or `grace` is over.
    ///
    /// Returns how many sockets were still open then. `grace` should be longer than two seconds, the time that
    /// running calls have.
    pub async fn shut_down(&self, grace: Duration) -> usize {
        let mounted = self.mounted();
        mounted.draining.store(true, Ordering::SeqCst);
        mounted.served.lifetime.shut_down();
        let mut sockets = mounted.sockets.subscribe();
        let _ = timeout(grace, sockets.wait_for(|open| *open == 0)).await;
        let open = *sockets.borrow();
        open
    }

    fn mounted(&self) -> &Arc<Mounted<H>> {
        self.mounted.get_or_init(|| {
            let hub_name = self.options.hub_name.clone().unwrap_or_else(type_name::<H>);
            let lifetime = Lifetime::start(self.options.clone(), &hub_name, self.backplane.clone());
            tokio::spawn(beat(Arc::downgrade(&lifetime)));
            let mounted = Arc::new(Mounted {
                served: Served {
                    hub: Arc::clone(&self.hub),
                    methods: Arc::new(H::methods()),
                    lifetime,
                },
                tokens: Arc::new(Tokens::new(self.options.negotiation_lifetime)),
                hub_name,
                draining: AtomicBool::new(false),
                sockets: watch::Sender::new(0),
                settled: watch::Sender::new(self.backplane.is_none()),
            });
            if let Some(backplane) = &self.backplane {
                tokio::spawn(share_key(
                    Arc::clone(&mounted.tokens),
                    mounted.hub_name.clone(),
                    Arc::clone(backplane),
                    mounted.settled.clone(),
                ));
            }
            mounted
        })
    }
}

/// The name of a type without its path, as a class in .NET's global namespace has it.
fn type_name<H>() -> String {
    let path = std::any::type_name::<H>();
    path.rsplit("::").next().unwrap_or(path).to_owned()
}

/// Looks after all connections once a second, for as long as there is anything to look after.
async fn beat(lifetime: std::sync::Weak<Lifetime>) {
    let ping = Frame::ping();
    let mut ticks = interval(HEARTBEAT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(lifetime) = lifetime.upgrade() else {
            return;
        };
        lifetime.for_each(|connection| connection.tick(&lifetime.options, &ping));
    }
}

/// Keeps the key for tokens the same on all servers, whatever happens to whoever remembers it.
async fn share_key(
    tokens: Arc<Tokens>,
    hub_name: String,
    backplane: Arc<dyn Backplane>,
    settled: watch::Sender<bool>,
) {
    let mut status = backplane.status();
    loop {
        let known = status.borrow_and_update().clone();
        match known {
            BackplaneStatus::Connecting => {}
            BackplaneStatus::Connected => {
                tokens.share_key(&hub_name, &*backplane).await;
                settled.send_replace(true);
            }
            BackplaneStatus::Disconnected { .. } => {
                settled.send_replace(true);
            }
        }
        if let Ok(Err(_)) = timeout(KEY_CHECK, status.changed()).await {
            return;
        }
    }
}

fn cors(options: &HubOptions) -> CorsLayer {
    let origins = options.allowed_origins.clone();
    // Never `*`: the stock client sends credentials, and a browser then wants its own origin back.
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(
            move |origin: &HeaderValue, _: &Parts| origins.lists(origin),
        ))
        .allow_credentials(true)
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers(AllowHeaders::mirror_request())
        .max_age(Duration::from_secs(600))
}

/// Answers every request below the hub's path.
async fn serve<H: Hub>(State(mounted): State<Arc<Mounted<H>>>, request: Request) -> Response {
    let options = &mounted.served.lifetime.options;
    if !options.allowed_origins.admit(request.headers()) {
        tracing::info!("a request of a page from an origin that is not allowed was refused");
        return plain(StatusCode::FORBIDDEN, "This origin is not allowed.");
    }
    if mounted.draining.load(Ordering::SeqCst) {
        return plain(
            StatusCode::SERVICE_UNAVAILABLE,
            "The server is shutting down.",
        );
    }
    // Paths are compared ignoring case, and may end in a slash; as in ASP.NET Core.
    let path = request.uri().path();
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() {
        return mounted.connect(request).await;
    }
    if !path.eq_ignore_ascii_case("/negotiate") {
        return StatusCode::NOT_FOUND.into_response();
    }
    if request.method() != Method::POST {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "");
    }
    let version = query(request.uri(), "negotiateVersion");
    negotiate(
        version.as_deref(),
        options.minimum_protocol_version,
        &mounted.tokens,
    )
}

/// The value of a query parameter, whose name is compared ignoring case; values of a repeated one are joined by
/// commas, as in ASP.NET Core.
fn query(uri: &Uri, name: &str) -> Option<String> {
    let pairs = form_urlencoded::parse(uri.query()?.as_bytes());
    let values: Vec<_> = pairs
        .filter(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
        .collect();
    (!values.is_empty()).then(|| values.join(","))
}

fn plain(status: StatusCode, text: &'static str) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain")], text).into_response()
}

/// What a connection token in a request leads to.
enum Lookup {
    /// No id was given.
    Absent,
    /// Not one of ours, or used up.
    Unknown,
    /// Can be connected with.
    Fresh(Ticket),
    /// Belongs to a connection that is on this server now.
    Live,
}

impl<H: Hub> Mounted<H> {
    fn look_up(&self, uri: &Uri) -> Lookup {
        let Some(token) = query(uri, "id").filter(|id| !id.is_empty()) else {
            return Lookup::Absent;
        };
        match self.tokens.read(&token) {
            None => Lookup::Unknown,
            Some(ticket) if self.served.lifetime.find(&ticket.connection_id).is_some() => {
                Lookup::Live
            }
            Some(ticket) if self.tokens.is_fresh(&ticket) => Lookup::Fresh(ticket),
            Some(_) => Lookup::Unknown,
        }
    }

    /// Requests to the hub's own path: a WebSocket, or one of the requests that other transports are made of.
    async fn connect(self: Arc<Self>, mut request: Request) -> Response {
        let lookup = self.look_up(request.uri());
        let accepts_events = accepts_event_stream(&request);
        match *request.method() {
            Method::GET if accepts_events => elsewhere(&lookup, "ServerSentEvents"),
            Method::GET => match UpgradeRequest::from_request(&mut request) {
                Some(upgrade) => self.open(upgrade, lookup).await,
                None => elsewhere(&lookup, "LongPolling"),
            },
            Method::POST => match lookup {
                Lookup::Absent => plain(StatusCode::BAD_REQUEST, "Connection ID required"),
                Lookup::Unknown => plain(StatusCode::NOT_FOUND, "No Connection with that ID"),
                Lookup::Fresh(_) | Lookup::Live => plain(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "POST requests are not allowed for WebSocket connections.",
                ),
            },
            Method::DELETE => match lookup {
                Lookup::Absent => plain(StatusCode::BAD_REQUEST, "Connection ID required"),
                Lookup::Unknown => plain(StatusCode::NOT_FOUND, "No Connection with that ID"),
                Lookup::Fresh(_) | Lookup::Live => plain(
                    StatusCode::BAD_REQUEST,
                    "Cannot terminate this connection using the DELETE endpoint.",
                ),
            },
            _ => plain(StatusCode::METHOD_NOT_ALLOWED, ""),
        }
    }

    async fn open(self: Arc<Self>, upgrade: UpgradeRequest, lookup: Lookup) -> Response {
        let id = match lookup {
            // A client that skips negotiation: its id is its own secret, and nobody else has heard of it.
            Lookup::Absent => self.tokens.issue(0).connection_id.into(),
            Lookup::Unknown => return plain(StatusCode::NOT_FOUND, "No Connection with that ID"),
            Lookup::Live => return plain(StatusCode::CONFLICT, ""),
            Lookup::Fresh(ticket) => {
                let backplane = self.served.lifetime.backplane();
                if !self.tokens.redeem(&ticket, &self.hub_name, backplane).await {
                    return plain(StatusCode::NOT_FOUND, "No Connection with that ID");
                }
                ticket.connection_id
            }
        };
        let (response, socket) = upgrade.accept();
        let counted = Counted::new(&self.sockets);
        tokio::spawn(async move {
            // A task of its own again for what lives long, so that it is no larger than it must be.
            match socket.await {
                Ok(UpgradedSocket::Tcp(socket, early)) => {
                    tokio::spawn(self.run(socket, early, id, counted));
                }
                Ok(UpgradedSocket::Other(socket)) => {
                    tokio::spawn(self.run(socket, Vec::new(), id, counted));
                }
                Err(error) => tracing::debug!(%error, "a client went away during its upgrade"),
            }
        });
        response
    }

    async fn run<S>(self: Arc<Self>, socket: S, early: Vec<u8>, id: Arc<str>, counted: Counted)
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        let began = Instant::now();
        let options = &self.served.lifetime.options;
        let connection = Arc::new(Connection::new(id, options));
        let input = Pipe::new(options.application_max_buffer_size);
        metrics::gauge!("hubcast_connections").increment(1);
        // One task: what the transport reads, the handler runs.
        futures_util::future::join(
            websocket::run(socket, &early, &connection, &input, options),
            self.served.handle(Arc::clone(&connection), &input),
        )
        .await;
        metrics::gauge!("hubcast_connections").decrement(1);
        metrics::histogram!("hubcast_connection_duration_seconds").record(began.elapsed());
        drop(counted);
    }
}

/// The answer to a request for a transport that this endpoint does not have.
fn elsewhere(lookup: &Lookup, transport: &str) -> Response {
    match lookup {
        Lookup::Absent => plain(StatusCode::BAD_REQUEST, "Connection ID required"),
        Lookup::Unknown => plain(StatusCode::NOT_FOUND, "No Connection with that ID"),
        Lookup::Live => plain(
            StatusCode::BAD_REQUEST,
            "Cannot change transports mid-connection",
        ),
        Lookup::Fresh(_) => (
            StatusCode::NOT_FOUND,
            [(header::CONTENT_TYPE, "text/plain")],
            format!("{transport} transport not supported by this end point type"),
        )
            .into_response(),
    }
}

/// Exactly the media type, without parameters, among others or alone.
fn accepts_event_stream(request: &Request) -> bool {
    let accepted = request.headers().get_all(header::ACCEPT);
    accepted
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|media_type| media_type.trim().eq_ignore_ascii_case("text/event-stream"))
}

/// A socket that is open.
struct Counted(watch::Sender<usize>);

impl Counted {
    fn new(sockets: &watch::Sender<usize>) -> Self {
        sockets.send_modify(|open| *open += 1);
        Self(sockets.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}
