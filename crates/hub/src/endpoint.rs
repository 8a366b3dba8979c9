//! A hub under a path of an axum application: HTTP to everything else.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use axum::Router;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::backplane::{Backplane, BackplaneStatus};
use crate::close_reason::CloseReason;
use crate::context::HubContext;
use crate::error::short_type_name;
use crate::filters::{Filters, HubFilter};
use crate::frame::Broadcast;
use crate::handler::Served;
use crate::hub::Hub;
use crate::lifetime::Lifetime;
use crate::local::{self, LocalConnection};
use crate::options::HubOptions;
use crate::requests::serve;
use crate::tokens::Tokens;
use crate::transport::session::Sessions;
use crate::users::{UserIdOfMiddleware, UserIdProvider};
use crate::writers::Delivery;

/// How often time-outs and pings are looked at: once a second, as in ASP.NET Core.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// How often the servers make sure that they still share one key.
const KEY_CHECK: Duration = Duration::from_mins(1);

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
    users: Arc<dyn UserIdProvider>,
    filters: Filters,
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
pub(crate) struct Mounted<H: Hub> {
    pub(crate) served: Served<H>,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) hub_name: String,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) users: Arc<dyn UserIdProvider>,
    pub(crate) draining: AtomicBool,
    /// How many sockets are open, those without a handshake included; and clients within the process.
    pub(crate) sockets: watch::Sender<usize>,
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
            users: Arc::new(UserIdOfMiddleware),
            filters: Arc::default(),
            mounted: OnceLock::new(),
        }
    }

    /// Sets the options.
    ///
    /// # Panics
    ///
    /// If the endpoint has started: [`context`](Self::context) and [`routes`](Self::routes) start it. If clients may use no encoding at all.
    pub fn options(mut self, options: HubOptions) -> Self {
        self.assert_not_started();
        assert!(
            !options.supported_protocols.is_empty(),
            "There are no supported protocols: name at least one in HubOptions::supported_protocols."
        );
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

    /// Says which user a connection belongs to. Default: the [`UserId`](crate::UserId) that a middleware has put into the
    /// request, if one has.
    ///
    /// # Panics
    ///
    /// If the endpoint has started.
    pub fn user_id_provider(mut self, provider: impl UserIdProvider) -> Self {
        self.assert_not_started();
        self.users = Arc::new(provider);
        self
    }

    /// Wraps a filter around the hub's methods, inside of those that have been given before.
    ///
    /// # Panics
    ///
    /// If the endpoint has started.
    pub fn filter(mut self, filter: impl HubFilter) -> Self {
        self.assert_not_started();
        let filter: Arc<dyn HubFilter> = Arc::new(filter);
        self.filters = self.filters.iter().cloned().chain([filter]).collect();
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

    /// Connects to the hub from within the process, as a client without a network: for programs that bring clients of another kind into the
    /// hub's groups. Starts the endpoint.
    ///
    /// It is a connection like all others, to the hub (in JSON, without a user, on the transport `Local`), to its groups, on a backplane, and for
    /// limits. When this is done the hub has let it in, and it can be put into groups. It should not be sent much until then, since it takes nothing.
    ///
    /// ```
    /// # use hubcast::{CloseReason, Hub, HubEndpoint};
    /// # async fn example(chat: HubEndpoint<impl Hub>) -> Result<(), Box<dyn std::error::Error>> {
    /// let Ok(mut client) = chat.connect_local().await else { return Ok(()) };
    /// chat.context().groups().add(client.connection_id(), "General").await?;
    /// while let Ok(call) = client.next().await {
    ///     if call.is("ReceiveMessage") {
    ///         let (user, text): (String, String) = call.arguments()?;
    ///         println!("{user}: {text}");
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the hub does not let it in, the server goes away, or clients may not use JSON ([`HubOptions::supported_protocols`]).
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn connect_local(
        &self,
    ) -> impl Future<Output = Result<LocalConnection, CloseReason>> + Send + use<H> {
        local::connect(Arc::clone(self.mounted()))
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
    /// Returns how many sockets, and clients within the process, were still there then. `grace` should be longer than two seconds, the time that
    /// running calls have.
    pub async fn shut_down(&self, grace: Duration) -> usize {
        let mounted = self.mounted();
        mounted.draining.store(true, Ordering::SeqCst);
        mounted.served.lifetime.shut_down();
        let mut sockets = mounted.sockets.subscribe();
        let _ = timeout(grace, sockets.wait_for(|open| *open == 0)).await;
        *mounted.sockets.borrow()
    }

    fn mounted(&self) -> &Arc<Mounted<H>> {
        self.mounted.get_or_init(|| {
            // As a class in .NET's global namespace is called.
            let named = self.options.hub_name.clone();
            let hub_name = named.unwrap_or_else(|| short_type_name::<H>().to_owned());
            let lifetime = Lifetime::start(self.options.clone(), &hub_name, self.backplane.clone());
            let sessions = Arc::new(Sessions::default());
            tokio::spawn(beat(Arc::downgrade(&lifetime), Arc::clone(&sessions)));
            let mounted = Arc::new(Mounted {
                served: Served {
                    hub: Arc::clone(&self.hub),
                    methods: H::methods(),
                    filters: Arc::clone(&self.filters),
                    lifetime,
                },
                tokens: Arc::new(Tokens::new(self.options.negotiation_lifetime)),
                hub_name,
                sessions,
                users: Arc::clone(&self.users),
                draining: AtomicBool::new(false),
                sockets: watch::Sender::new(0),
                settled: watch::Sender::new(self.backplane.is_none()),
            });
            if let Some(backplane) = &self.backplane {
                tokio::spawn(share_key(
                    Arc::clone(&mounted.tokens),
                    mounted.hub_name.clone(),
                    Arc::downgrade(backplane),
                    mounted.settled.clone(),
                ));
            }
            mounted
        })
    }
}

/// Looks after all connections once a second, for as long as there is anything to look after.
pub(crate) async fn beat(lifetime: Weak<Lifetime>, sessions: Arc<Sessions>) {
    let ping = Broadcast::ping();
    let mut ticks = interval(HEARTBEAT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(lifetime) = lifetime.upgrade() else {
            return;
        };
        let mut pings = Delivery::new(&lifetime.writers, &ping);
        pings.expects(lifetime.connection_count());
        lifetime.for_each(|connection| connection.tick(&lifetime.options, &mut pings));
        drop(pings);
        sessions.reap(lifetime.options.disconnect_timeout);
    }
}

/// Keeps the key for tokens the same on all servers, whatever happens to whoever remembers it.
async fn share_key(
    tokens: Arc<Tokens>,
    hub_name: String,
    backplane: Weak<dyn Backplane>,
    settled: watch::Sender<bool>,
) {
    let Some(mut status) = backplane.upgrade().map(|backplane| backplane.status()) else {
        return;
    };
    loop {
        let Some(backplane) = backplane.upgrade() else {
            return;
        };
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
        // Not held while waiting: an endpoint that is gone shall let go of it.
        drop(backplane);
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
        .max_age(Duration::from_mins(10))
}
