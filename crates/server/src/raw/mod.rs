//! WebSockets without SignalR: what a client says comes back. For clients that speak no hub protocol, and for trying what is in between.

mod connection;
mod reader;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use hubcast::AllowedOrigins;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tungstenite::handshake::server::create_response_with_body;

use self::connection::Connection;

/// What goes before a text that comes back.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Echo {
    Hello,
    Response,
    Unchanged,
}

impl Echo {
    fn greeting(self) -> &'static str {
        match self {
            Self::Hello => "Server: Hello. You said: ",
            Self::Response => "Server Response: ",
            Self::Unchanged => "",
        }
    }

    /// What `/echo` does: `?raw=1` leaves texts as they are.
    fn asked_for(uri: &Uri) -> Self {
        let mut parameters = uri.query().unwrap_or_default().split('&');
        if parameters.any(|parameter| parameter == "raw=1") {
            Self::Unchanged
        } else {
            Self::Response
        }
    }
}

/// The bounds of these WebSockets.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// How many bytes a message may have.
    pub(crate) max_message: usize,
    /// How many WebSockets may be open at once.
    pub(crate) max_connections: u32,
    /// After which time a ping is sent, and after which time without any answer the peer is closed.
    pub(crate) keep_alive: Duration,
}

/// All raw WebSockets of this server.
#[derive(Clone)]
pub(crate) struct RawWebSockets(Arc<Shared>);

struct Shared {
    origins: AllowedOrigins,
    limits: Limits,
    /// Each connection has one while it lasts.
    places: Arc<Semaphore>,
    stopping: watch::Sender<bool>,
}

impl RawWebSockets {
    pub(crate) fn new(origins: AllowedOrigins, limits: Limits) -> Self {
        let places = usize::try_from(limits.max_connections).unwrap_or(Semaphore::MAX_PERMITS);
        Self(Arc::new(Shared {
            origins,
            limits,
            places: Arc::new(Semaphore::new(places)),
            stopping: watch::Sender::new(false),
        }))
    }

    /// `/ws` and `/echo`.
    pub(crate) fn routes(&self) -> Router {
        let ws = async |State(sockets): State<Self>, request| sockets.answer(request, Echo::Hello);
        let echo = async |State(sockets): State<Self>, request: Request| {
            let echo = Echo::asked_for(request.uri());
            sockets.answer(request, echo)
        };
        Router::new()
            .route("/ws", any(ws))
            .route("/echo", any(echo))
            .with_state(self.clone())
    }

    /// Turns a request into a WebSocket, which lives on in a task of its own.
    fn answer(&self, mut request: Request, echo: Echo) -> Response {
        let shared = &self.0;
        if !shared.origins.admit(request.headers()) {
            tracing::info!("a request of a page from an origin that is not allowed was refused");
            return (StatusCode::FORBIDDEN, "This origin is not allowed.").into_response();
        }
        let upgrade = request.extensions_mut().remove::<OnUpgrade>();
        let response = create_response_with_body(&request, Body::empty);
        let (Some(upgrade), Ok(response)) = (upgrade, response) else {
            return not_a_websocket();
        };
        if *shared.stopping.borrow() {
            let text = "The server is shutting down.";
            return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
        }
        let Ok(place) = Arc::clone(&shared.places).try_acquire_owned() else {
            tracing::info!("a raw WebSocket was refused: there are as many as there may be");
            let text = "There are too many WebSockets.";
            return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
        };
        let stopping = shared.stopping.subscribe();
        let Limits {
            max_message,
            keep_alive,
            ..
        } = shared.limits;
        tokio::spawn(async move {
            let carried = async {
                let socket = TokioIo::new(upgrade.await.map_err(std::io::Error::other)?);
                let connection = Connection::new(socket, echo, max_message);
                connection.run(keep_alive, stopping).await
            };
            if let Err(error) = carried.await {
                tracing::debug!(%error, "a raw WebSocket was lost");
            }
            drop(place);
        });
        response
    }

    /// Tells all clients that the server stops, and waits until they have hung up. Returns how many have not.
    pub(crate) async fn shut_down(&self, grace: Duration) -> usize {
        let Self(shared) = self;
        shared.stopping.send_replace(true);
        let all = shared.limits.max_connections;
        let ended = timeout(grace, shared.places.acquire_many(all)).await;
        match ended {
            Ok(_) => 0,
            Err(_) => (all as usize).saturating_sub(shared.places.available_permits()),
        }
    }
}

fn not_a_websocket() -> Response {
    let version = HeaderValue::from_static("13");
    (
        StatusCode::BAD_REQUEST,
        [(header::SEC_WEBSOCKET_VERSION, version)],
        "A WebSocket is expected here (RFC 6455, version 13).",
    )
        .into_response()
}
