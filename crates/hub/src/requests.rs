//! Requests below a hub's path: negotiations, sockets, and everything that is neither.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{OriginalUri, Request, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::future::{Either, select};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::connection::Connection;
use crate::endpoint::Mounted;
use crate::hub::Hub;
use crate::negotiate::negotiate;
use crate::pipe::Pipe;
use crate::tokens::{Ticket, new_connection_id};
use crate::transport::upgrade::{UpgradeRequest, UpgradedSocket};
use crate::transport::websocket;

/// Answers every request below the hub's path.
pub(crate) async fn serve<H: Hub>(
    State(mounted): State<Arc<Mounted<H>>>,
    request: Request,
) -> Response {
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
    // Slashes that are doubled are not, and the router would fold them.
    if asked_path(&request).contains("//") {
        return StatusCode::NOT_FOUND.into_response();
    }
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

/// The path as the client wrote it, with what the hub is nested under.
fn asked_path(request: &Request) -> &str {
    let original = request.extensions().get::<OriginalUri>();
    original.map_or(request.uri().path(), |OriginalUri(uri)| uri.path())
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
            Some(ticket) if self.served.lifetime.find(&ticket.connection_id).is_some() => {
                Lookup::Live
            }
            Some(ticket) if self.tokens.is_fresh(&ticket) => Lookup::Fresh(ticket),
            Some(_) | None => Lookup::Unknown,
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
            // A client that skips negotiation has no token, and needs none.
            Lookup::Absent => new_connection_id().into(),
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
        let carried = pin!(websocket::run(socket, &early, &connection, &input));
        let served = pin!(self.served.handle(Arc::clone(&connection), &input));
        match select(served, carried).await {
            // Bounded, because a client that no longer reads would never take its leave.
            Either::Left(((), carried)) => drop(timeout(options.close_timeout, carried).await),
            Either::Right(((), served)) => served.await,
        }
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
