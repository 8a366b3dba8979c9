//! WebSockets without SignalR, for clients that speak no hub protocol: who is let in, and how many. What is said on them is a
//! [`Conversation`], of which the simplest are here: echoes, for trying what is in between.

mod chat;
mod connection;
mod conversation;
mod echo;
mod reader;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use hubcast::AllowedOrigins;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tungstenite::handshake::server::create_response_with_body;

use self::connection::Connection;
pub(crate) use self::conversation::{Conversation, Goodbye, Message};
use self::echo::Echo;

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
        let ws = async |State(sockets): State<Self>, request| sockets.echo(request, Echo::Hello);
        let echo = async |State(sockets): State<Self>, request: Request| {
            let echo = Echo::asked_for(request.uri());
            sockets.echo(request, echo)
        };
        Router::new()
            .route("/ws", any(ws))
            .route("/echo", any(echo))
            .with_state(self.clone())
    }

    fn echo(&self, request: Request, echo: Echo) -> Response {
        self.answer(request, async move { Ok(echo) })
    }

    /// Turns a request into a WebSocket, which lives on in a task of its own, or refuses it. Its conversation begins when the WebSocket is there:
    /// `begins` is not run before, and should not take long.
    pub(crate) fn answer<C: Conversation>(
        &self,
        mut request: Request,
        begins: impl Future<Output = Result<C, Goodbye>> + Send + 'static,
    ) -> Response {
        let shared = &self.0;
        let response = match self.check(&request) {
            Ok(response) => response,
            Err(refusal) => return refusal,
        };
        let Some(upgrade) = request.extensions_mut().remove::<OnUpgrade>() else {
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
                let connection = Connection::new(socket, max_message);
                connection.run(begins, keep_alive, stopping).await
            };
            if let Err(error) = carried.await {
                tracing::debug!(%error, "a raw WebSocket was lost");
            }
            drop(place);
        });
        response
    }

    /// Refuses a request for what it asks for; but first for what no request may do.
    pub(crate) fn refuse(&self, request: &Request, problem: String) -> Response {
        match self.check(request) {
            Ok(_) => (StatusCode::BAD_REQUEST, problem).into_response(),
            Err(refusal) => refusal,
        }
    }

    /// The answer to a request for a WebSocket, of whoever may have one.
    #[expect(
        clippy::result_large_err,
        reason = "the error is the answer, which is made once"
    )]
    fn check(&self, request: &Request) -> Result<Response, Response> {
        if !self.0.origins.admit(request.headers()) {
            tracing::info!("a request of a page from an origin that is not allowed was refused");
            return Err((StatusCode::FORBIDDEN, "This origin is not allowed.").into_response());
        }
        if request.extensions().get::<OnUpgrade>().is_none() {
            return Err(not_a_websocket());
        }
        create_response_with_body(request, Body::empty).map_err(|_| not_a_websocket())
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
