//! Requests for WebSockets whose connections may outlive them.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::close_reason::CloseReason;
use crate::connecting::ConnectingRequest;
use crate::connection::Connection;
use crate::endpoint::Mounted;
use crate::hub::Hub;
use crate::requests::{Counted, Listed, Measured, plain};
use crate::transport::resumable::Resumable;
use crate::transport::session::Attached;
use crate::transport::upgrade::{UpgradeRequest, UpgradedSocket};

/// A socket of a resumable connection that is about to be there.
struct Arrival {
    resumable: Arc<Resumable>,
    number: u64,
    /// What the hub's side of a new connection holds; `None` if it runs already.
    begins: Option<(Counted, Listed)>,
}

impl<H: Hub> Mounted<H> {
    /// The first socket of a connection that may have more of them.
    pub(crate) fn open_resumable(
        self: Arc<Self>,
        upgrade: UpgradeRequest,
        connection: Connection,
    ) -> Response {
        let options = &self.served.lifetime.options;
        let id = Arc::clone(&connection.id);
        let resumable = Arc::new(Resumable::new(connection, options));
        let attached = Attached::Resumable(Arc::clone(&resumable));
        let begins = Some((
            Counted::new(&self.sockets),
            Listed::new(Arc::clone(&self.sessions), id, attached),
        ));
        self.accept(upgrade, resumable, begins)
    }

    /// A further socket of a connection. There is no handshake any more; each side says where it goes on.
    pub(crate) async fn resume(
        self: Arc<Self>,
        upgrade: UpgradeRequest,
        resumable: Arc<Resumable>,
        mut request: Request,
    ) -> Response {
        let request = ConnectingRequest::take_from(&mut request).await;
        let user = self.users.user_id(&request).filter(|user| !user.is_empty());
        if user.as_deref() != resumable.connection.user.as_deref() {
            tracing::info!(
                connection = &*resumable.connection.id,
                "a socket of another user was refused"
            );
            return plain(
                StatusCode::FORBIDDEN,
                "The connection belongs to another user.",
            );
        }
        if !resumable.connection.is_resumable() {
            return StatusCode::NO_CONTENT.into_response();
        }
        let connection = &resumable.connection;
        connection.authenticated_until(request.extension());
        self.accept(upgrade, resumable, None)
    }

    fn accept(
        self: Arc<Self>,
        upgrade: UpgradeRequest,
        resumable: Arc<Resumable>,
        begins: Option<(Counted, Listed)>,
    ) -> Response {
        let arrival = Arrival {
            number: resumable.number(),
            resumable,
            begins,
        };
        let selector = self.served.lifetime.options.sub_protocol_selector;
        let (response, socket) = upgrade.accept(selector);
        tokio::spawn(async move {
            // A task of its own again for what lives long, so that it is no larger than it must be.
            match socket.await {
                Ok(UpgradedSocket::Tcp(socket, early)) => {
                    tokio::spawn(self.carry(socket, early, arrival));
                }
                Ok(UpgradedSocket::Other(socket)) => {
                    tokio::spawn(self.carry(socket, None, arrival));
                }
                Err(error) => tracing::debug!(%error, "a client went away during its upgrade"),
            }
        });
        response
    }

    async fn carry<S>(self: Arc<Self>, socket: S, early: Option<Box<[u8]>>, arrival: Arrival)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let resumable = &arrival.resumable;
        let Some(turn) = resumable.turn(arrival.number).await else {
            return;
        };
        match arrival.begins {
            Some(noted) => self.serve_resumable(resumable, noted),
            None if resumable.attach(&turn, &self.sessions) => {}
            None => return,
        }
        let options = &self.served.lifetime.options;
        resumable
            .carry(socket, early, turn, options, &self.sessions)
            .await;
    }

    /// Starts the hub's side.
    fn serve_resumable(self: &Arc<Self>, resumable: &Arc<Resumable>, noted: (Counted, Listed)) {
        let (mounted, resumable) = (Arc::clone(self), Arc::clone(resumable));
        let measured = Measured::new();
        tokio::spawn(async move {
            let connection = Arc::clone(&resumable.connection);
            mounted.served.handle(connection, &resumable.input).await;
            // Nothing more is taken.
            resumable.input.end(CloseReason::ClientLeft);
            resumable.over(&mounted.sessions).await;
            drop((noted, measured));
        });
    }
}
