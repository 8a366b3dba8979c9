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

use crate::close_reason::CloseReason;
use crate::connecting::{ConnectingRequest, query_value};
use crate::connection::Connection;
use crate::endpoint::Mounted;
use crate::hub::Hub;
use crate::negotiate::negotiate;
use crate::pipe::Pipe;
use crate::tokens::{Ticket, new_connection_id};
use crate::transport::long_polling::{self, never_cached};
use crate::transport::session::{Attached, PostError, Session, Sessions};
use crate::transport::upgrade::{UpgradeRequest, UpgradedSocket};
use crate::transport::websocket::{self, SharedSocket};
use crate::transport::{Transport, server_sent_events};

/// The most bytes that the headers of a request may have, since those of some are kept with the connection. What Kestrel allows.
const MAX_HEADERS: usize = 32 * 1024;

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
    let headers = request.headers().iter();
    let headers: usize = headers
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    if headers > MAX_HEADERS {
        return plain(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "");
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
    if mounted.draining.load(Ordering::SeqCst) {
        return draining();
    }
    let version = query(request.uri(), "negotiateVersion");
    let stateful_reconnect = query(request.uri(), "useStatefulReconnect");
    negotiate(
        version.as_deref(),
        stateful_reconnect.as_deref(),
        options,
        &mounted.tokens,
    )
}

/// The path as the client wrote it, with what the hub is nested under.
fn asked_path(request: &Request) -> &str {
    let original = request.extensions().get::<OriginalUri>();
    original.map_or(request.uri().path(), |OriginalUri(uri)| uri.path())
}

fn query(uri: &Uri, name: &str) -> Option<String> {
    query_value(uri.query()?, name)
}

pub(crate) fn plain(status: StatusCode, text: &'static str) -> Response {
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
    Live(Attached),
}

impl<H: Hub> Mounted<H> {
    fn look_up(&self, uri: &Uri) -> Lookup {
        let Some(token) = query(uri, "id").filter(|id| !id.is_empty()) else {
            return Lookup::Absent;
        };
        let Some(ticket) = self.tokens.read(&token) else {
            return Lookup::Unknown;
        };
        match self.sessions.find(&ticket.connection_id) {
            Some(attached) => Lookup::Live(attached),
            None if self.tokens.is_fresh(&ticket) => Lookup::Fresh(ticket),
            None => Lookup::Unknown,
        }
    }

    /// Requests to the hub's own path: a WebSocket, or one of the requests that other transports are made of.
    async fn connect(self: Arc<Self>, mut request: Request) -> Response {
        let lookup = self.look_up(request.uri());
        match *request.method() {
            Method::GET if accepts_event_stream(&request) => self.listen(lookup, request).await,
            Method::GET => match UpgradeRequest::from_request(&mut request) {
                Some(upgrade) => self.open(upgrade, lookup, request).await,
                None => never_cached(self.poll(lookup, request).await),
            },
            Method::POST => self.post(lookup, request).await,
            Method::DELETE => self.delete(lookup),
            _ => plain(StatusCode::METHOD_NOT_ALLOWED, ""),
        }
    }

    /// A connection that begins with a request.
    async fn begin(&self, id: Arc<str>, request: &mut Request) -> Connection {
        let request = ConnectingRequest::take_from(request).await;
        let user = self.users.user_id(&request);
        Connection::new(id, &self.served.lifetime).begun_with(request, user)
    }

    /// Finds or begins the connection that a request of a transport other than WebSockets belongs to.
    async fn session(
        &self,
        lookup: Lookup,
        request: &mut Request,
    ) -> Result<Arc<Session>, Response> {
        let ticket = match lookup {
            Lookup::Absent => return Err(plain(StatusCode::BAD_REQUEST, "Connection ID required")),
            Lookup::Unknown => return Err(unknown()),
            Lookup::Live(Attached::Session(session)) => return Ok(session),
            Lookup::Live(Attached::WebSocket | Attached::Resumable(_)) => {
                return Err(other_transport());
            }
            Lookup::Fresh(ticket) => ticket,
        };
        let options = &self.served.lifetime.options;
        let id = Arc::clone(&ticket.connection_id);
        let session = Arc::new(Session::new(self.begin(id, request).await, options));
        let attached = Attached::Session(Arc::clone(&session));
        // Listed before its token is used up, so that of two first requests at once the second finds what the first
        // has begun.
        let id = Arc::clone(&ticket.connection_id);
        match self.sessions.claim(id, &attached) {
            None => {}
            Some(Attached::Session(begun)) => return Ok(begun),
            Some(Attached::WebSocket | Attached::Resumable(_)) => return Err(other_transport()),
        }
        if let Err(refusal) = self.redeem(&ticket).await {
            self.sessions.remove(&ticket.connection_id);
            session.abandon();
            return Err(refusal);
        }
        Ok(session)
    }

    /// Uses a token up, unless the server takes no more clients.
    async fn redeem(&self, ticket: &Ticket) -> Result<(), Response> {
        if self.draining.load(Ordering::SeqCst) {
            return Err(draining());
        }
        let backplane = self.served.lifetime.backplane();
        if self.tokens.redeem(ticket, &self.hub_name, backplane).await {
            Ok(())
        } else {
            Err(unknown())
        }
    }

    /// Whether a session may be carried by a transport, and is by no other.
    #[expect(
        clippy::result_large_err,
        reason = "the error is the answer, which is made once"
    )]
    fn check(&self, session: &Session, transport: Transport) -> Result<(), Response> {
        if !transport.is_offered(&self.served.lifetime.options) {
            return Err(not_offered(transport));
        }
        if !session.connection.carried_by(transport) {
            return Err(other_transport());
        }
        Ok(())
    }

    /// Starts the hub's side of a session.
    fn start(self: &Arc<Self>, session: &Arc<Session>) {
        let (mounted, session) = (Arc::clone(self), Arc::clone(session));
        let noted = (Counted::new(&self.sockets), Measured::new());
        tokio::spawn(async move {
            let connection = Arc::clone(&session.connection);
            mounted.served.handle(connection, &session.input).await;
            // Nothing more is taken: a POST that waits for room learns that there is nobody to take it.
            session.input.end(CloseReason::ClientLeft);
            drop(noted);
        });
    }

    /// A GET for Server-Sent Events.
    async fn listen(self: Arc<Self>, lookup: Lookup, mut request: Request) -> Response {
        let session = match self.session(lookup, &mut request).await {
            Ok(session) => session,
            Err(refusal) => return refusal,
        };
        if let Err(refusal) = self.check(&session, Transport::ServerSentEvents) {
            return refusal;
        }
        let (presenting, first) = session.present();
        if !first {
            return plain(StatusCode::CONFLICT, "");
        }
        self.start(&session);
        server_sent_events::answer(session, presenting, Arc::clone(&self.sessions))
    }

    /// A GET for Long Polling.
    async fn poll(self: Arc<Self>, lookup: Lookup, mut request: Request) -> Response {
        let session = match self.session(lookup, &mut request).await {
            Ok(session) => session,
            Err(refusal) => return refusal,
        };
        let expiration = request.extensions().get();
        session.connection.authenticated_until(expiration);
        // Not kept for as long as the poll waits.
        drop(request);
        if let Err(refusal) = self.check(&session, Transport::LongPolling) {
            return refusal;
        }
        let (presenting, first) = session.present();
        if first {
            self.start(&session);
            drop(presenting);
            return long_polling::attached();
        }
        let patience = self.served.lifetime.options.poll_timeout;
        let answer = long_polling::poll(&session, &self.sessions, patience).await;
        drop(presenting);
        answer
    }

    async fn post(&self, lookup: Lookup, mut request: Request) -> Response {
        if let Lookup::Live(Attached::WebSocket | Attached::Resumable(_)) = lookup {
            return plain(
                StatusCode::METHOD_NOT_ALLOWED,
                "POST requests are not allowed for WebSocket connections.",
            );
        }
        let session = match self.session(lookup, &mut request).await {
            Ok(session) => session,
            Err(refusal) => return refusal,
        };
        let patience = self.served.lifetime.options.transport_send_timeout;
        match session.post(request.into_body(), patience).await {
            Ok(()) => plain(StatusCode::OK, ""),
            Err(PostError::Gone) => unknown(),
            Err(PostError::Broken) => plain(StatusCode::BAD_REQUEST, ""),
        }
    }

    fn delete(&self, lookup: Lookup) -> Response {
        match lookup {
            Lookup::Absent => plain(StatusCode::BAD_REQUEST, "Connection ID required"),
            Lookup::Unknown => unknown(),
            Lookup::Live(Attached::Session(session))
                if session.connection.transport() == Some(Transport::LongPolling) =>
            {
                self.sessions.remove(&session.connection.id);
                // Behind everything that has been posted, which the client was told had arrived.
                session.input.end(CloseReason::PollingEnded);
                plain(StatusCode::ACCEPTED, "")
            }
            Lookup::Fresh(_) | Lookup::Live(_) => plain(
                StatusCode::BAD_REQUEST,
                "Cannot terminate this connection using the DELETE endpoint.",
            ),
        }
    }

    async fn open(
        self: Arc<Self>,
        upgrade: UpgradeRequest,
        lookup: Lookup,
        mut request: Request,
    ) -> Response {
        let mut stateful_reconnect = false;
        let id = match lookup {
            // A client that skips negotiation has no token, and needs none.
            Lookup::Absent if self.draining.load(Ordering::SeqCst) => return draining(),
            Lookup::Absent => new_connection_id().into(),
            Lookup::Unknown => return unknown(),
            Lookup::Live(Attached::WebSocket) => return plain(StatusCode::CONFLICT, ""),
            Lookup::Live(Attached::Resumable(resumable)) => {
                return self.resume(upgrade, resumable, request).await;
            }
            Lookup::Live(Attached::Session(_)) => {
                return other_transport();
            }
            Lookup::Fresh(ticket) => match self.redeem(&ticket).await {
                Ok(()) => {
                    stateful_reconnect = ticket.stateful_reconnect;
                    ticket.connection_id
                }
                Err(refusal) => return refusal,
            },
        };
        let options = &self.served.lifetime.options;
        if !Transport::WebSockets.is_offered(options) {
            return not_offered(Transport::WebSockets);
        }
        let stateful_reconnect = stateful_reconnect && options.allow_stateful_reconnects;
        let connection = self.begin(Arc::clone(&id), &mut request).await;
        if stateful_reconnect {
            return self.open_resumable(upgrade, connection);
        }
        let connection = Arc::new(connection);
        let (response, socket) = upgrade.accept(options.sub_protocol_selector);
        let counted = Counted::new(&self.sockets);
        let listed = Listed::new(Arc::clone(&self.sessions), id, Attached::WebSocket);
        tokio::spawn(async move {
            // A task of its own again for what lives long, so that it is no larger than it must be.
            match socket.await {
                Ok(UpgradedSocket::Tcp(socket, early)) => {
                    let socket = SharedSocket::new(socket, Arc::clone(&connection));
                    tokio::spawn(self.run(socket, early, connection, (counted, listed)));
                }
                Ok(UpgradedSocket::Other(socket)) => {
                    tokio::spawn(self.run(socket, None, connection, (counted, listed)));
                }
                Err(error) => tracing::debug!(%error, "a client went away during its upgrade"),
            }
        });
        response
    }

    async fn run<S>(
        self: Arc<Self>,
        socket: S,
        early: Option<Box<[u8]>>,
        connection: Arc<Connection>,
        noted: (Counted, Listed),
    ) where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        let options = &self.served.lifetime.options;
        let input = Pipe::new(options.application_max_buffer_size);
        connection.carried_by(Transport::WebSockets);
        let measured = Measured::new();
        // One task: what the transport reads, the handler runs.
        let carried = pin!(websocket::run(socket, early, &connection, &input));
        let served = pin!(self.served.handle(Arc::clone(&connection), &input));
        match select(served, carried).await {
            // Bounded, because a client that no longer reads would never take its leave. In a box of its own: the end should not make
            // every connection larger.
            Either::Left(((), carried)) => {
                let _ = Box::pin(timeout(options.close_timeout, carried)).await;
            }
            Either::Right((_, served)) => served.await,
        }
        // The hub may know the connection for longer; what its client did not take shall not be kept as long.
        connection.outbox.kill();
        drop((noted, measured));
    }
}

fn unknown() -> Response {
    plain(StatusCode::NOT_FOUND, "No Connection with that ID")
}

fn other_transport() -> Response {
    plain(
        StatusCode::BAD_REQUEST,
        "Cannot change transports mid-connection",
    )
}

fn draining() -> Response {
    plain(
        StatusCode::SERVICE_UNAVAILABLE,
        "The server is shutting down.",
    )
}

fn not_offered(transport: Transport) -> Response {
    (
        StatusCode::NOT_FOUND,
        [(header::CONTENT_TYPE, "text/plain")],
        format!(
            "{} transport not supported by this end point type",
            transport.name()
        ),
    )
        .into_response()
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

/// A connection over sockets that is not over.
pub(crate) struct Counted(watch::Sender<usize>);

impl Counted {
    pub(crate) fn new(sockets: &watch::Sender<usize>) -> Self {
        sockets.send_modify(|open| *open += 1);
        Self(sockets.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

/// A connection that can be found by its id.
pub(crate) struct Listed {
    sessions: Arc<Sessions>,
    id: Arc<str>,
}

impl Listed {
    pub(crate) fn new(sessions: Arc<Sessions>, id: Arc<str>, attached: Attached) -> Self {
        sessions.insert(Arc::clone(&id), attached);
        Self { sessions, id }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.sessions.remove(&self.id);
    }
}

/// A connection in the metrics, for as long as it lasts.
pub(crate) struct Measured(Instant);

impl Measured {
    pub(crate) fn new() -> Self {
        metrics::gauge!("hubcast_connections").increment(1);
        Self(Instant::now())
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        metrics::gauge!("hubcast_connections").decrement(1);
        metrics::histogram!("hubcast_connection_duration_seconds").record(self.0.elapsed());
    }
}
