//! Who a connection belongs to.

use std::time::SystemTime;

use crate::connecting::ConnectingRequest;

/// The id of the user whose client makes a request.
///
/// Put into the request's extensions by a middleware that has found out who the client is, it is what
/// [`Clients::user`](crate::Clients::user) knows the connection by, unless
/// [`HubEndpoint::user_id_provider`](crate::HubEndpoint::user_id_provider) says otherwise. An empty id is none.
///
/// ```
/// use axum::extract::Request;
/// use axum::middleware::Next;
/// use axum::response::Response;
/// use hubcast::UserId;
///
/// async fn authenticate(mut request: Request, next: Next) -> Response {
///     // Where a real one would check a token.
///     let user = String::from("ada");
///     request.extensions_mut().insert(UserId(user));
///     next.run(request).await
/// }
/// # let _: axum::Router = axum::Router::new().layer(axum::middleware::from_fn(authenticate));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserId(pub String);

/// When the authentication of a request ends, put into its extensions by the middleware that has checked it: the expiry of a token.
///
/// With [`HubOptions::close_on_authentication_expiration`](crate::HubOptions::close_on_authentication_expiration) a connection lasts no longer than
/// that of the request it began with; each poll of Long Polling, and each further socket of stateful reconnect, may bring a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthenticationExpiration(pub SystemTime);

/// Says which user a connection belongs to. ASP.NET Core's `IUserIdProvider`.
///
/// Implemented for closures:
///
/// ```
/// # use hubcast::{ConnectingRequest, Hub, HubEndpoint, Methods};
/// # struct ChatHub;
/// # impl Hub for ChatHub { fn methods() -> Methods<Self> { Methods::new() } }
/// #[derive(Clone)]
/// struct Claims { subject: String }
///
/// let endpoint = HubEndpoint::new(ChatHub).user_id_provider(|request: &ConnectingRequest| {
///     Some(request.extension::<Claims>()?.subject.clone())
/// });
/// # drop(endpoint);
/// ```
pub trait UserIdProvider: Send + Sync + 'static {
    /// The user's id; `None`, or an empty one, for a client that cannot be addressed by its user.
    ///
    /// Asked with the request that the connection's transport began with. Several connections of one user are normal.
    ///
    /// What it says then holds for as long as the connection lives. It is asked again of each further request that may begin a
    /// connection, such as a socket that goes on with one (stateful reconnect), which is refused if it is of another user.
    fn user_id(&self, request: &ConnectingRequest) -> Option<String>;
}

impl<F> UserIdProvider for F
where
    F: Fn(&ConnectingRequest) -> Option<String> + Send + Sync + 'static,
{
    fn user_id(&self, request: &ConnectingRequest) -> Option<String> {
        self(request)
    }
}

/// Takes the [`UserId`] that a middleware has put into the request.
pub(crate) struct UserIdOfMiddleware;

impl UserIdProvider for UserIdOfMiddleware {
    fn user_id(&self, request: &ConnectingRequest) -> Option<String> {
        let UserId(id) = request.extension()?;
        Some(id.clone())
    }
}
