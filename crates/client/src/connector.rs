//! Getting a WebSocket to a hub: negotiation, and the switch from HTTP.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hubcast_protocol::Encoding;
use hyper::header::{
    AUTHORIZATION, CONNECTION, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::{HeaderMap, Method, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::error::StartError;
use crate::http;
use crate::negotiate::{Negotiated, Secret};
use crate::url::HubUrl;

/// How often a client lets itself be sent on, as the stock clients do.
const MAX_REDIRECTS: usize = 100;

/// A server may put several hub messages into one WebSocket message: ASP.NET Core as many as wait, up to 64 KiB and one
/// more message.
const BATCH: usize = 128 * 1024;

/// What carries a WebSocket.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

pub(crate) type Socket = WebSocketStream<Box<dyn Io>>;

/// A WebSocket on which nothing has been said yet.
pub(crate) struct Opened {
    pub(crate) socket: Socket,
    /// What the negotiation called the connection.
    pub(crate) connection_id: Option<Arc<str>>,
}

/// A way to get a WebSocket, again and again.
pub(crate) trait Connect: Send + Sync {
    fn connect(&self) -> BoxFuture<'_, Result<Opened, StartError>>;
}

/// Asks the program for an access token.
pub(crate) type TokenProvider =
    Arc<dyn Fn() -> BoxFuture<'static, Result<String, String>> + Send + Sync>;

/// The way over TCP, with TLS where the URL says so.
pub(crate) struct Connector {
    pub(crate) url: HubUrl,
    pub(crate) headers: HeaderMap,
    pub(crate) access_token: Option<TokenProvider>,
    pub(crate) skip_negotiation: bool,
    pub(crate) encoding: Encoding,
    /// How long each request may take.
    pub(crate) limit: Duration,
    pub(crate) max_message_size: usize,
}

/// Where to open the WebSocket, and how.
struct Destination {
    url: HubUrl,
    connection_id: Option<String>,
    connection_token: Option<Secret>,
    /// The token that a redirect brought; it stands in for the client's own.
    access_token: Option<Secret>,
}

impl Connect for Connector {
    fn connect(&self) -> BoxFuture<'_, Result<Opened, StartError>> {
        Box::pin(async {
            let destination = if self.skip_negotiation {
                Destination {
                    url: self.url.clone(),
                    connection_id: None,
                    connection_token: None,
                    access_token: None,
                }
            } else {
                self.negotiate().await?
            };
            self.open(destination).await
        })
    }
}

impl Connector {
    async fn negotiate(&self) -> Result<Destination, StartError> {
        let mut url = self.url.clone();
        let mut access_token = None;
        for _ in 0..MAX_REDIRECTS {
            let headers = self.headers(access_token.as_ref()).await?;
            let target = url.negotiate_target();
            let request = http::request(Method::POST, &url, &target, headers);
            let answer = self.in_time("negotiation", request).await?;
            if answer.status != StatusCode::OK {
                let status = answer.status.as_u16();
                return Err(StartError::NegotiationStatus { status });
            }
            match Negotiated::read(&answer.body, self.encoding)? {
                Negotiated::Connection {
                    connection_id,
                    token,
                } => {
                    return Ok(Destination {
                        url,
                        connection_id: Some(connection_id),
                        connection_token: Some(token),
                        access_token,
                    });
                }
                Negotiated::Redirect {
                    url: next,
                    access_token: token,
                } => {
                    url = HubUrl::parse(&next)?;
                    access_token = token.or(access_token);
                }
            }
        }
        Err(StartError::TooManyRedirects)
    }

    async fn open(&self, destination: Destination) -> Result<Opened, StartError> {
        let key = generate_key();
        let accept = derive_accept_key(key.as_bytes());
        let mut headers = self.headers(destination.access_token.as_ref()).await?;
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        if let Ok(key) = HeaderValue::from_str(&key) {
            headers.insert(SEC_WEBSOCKET_KEY, key);
        }
        let url = destination.url;
        let token = destination.connection_token;
        let target = url.socket_target(token.as_ref().map(|Secret(token)| token.as_str()));
        let request = http::request(Method::GET, &url, &target, headers);
        let answer = self.in_time("WebSocket upgrade", request).await?;
        let Some(upgraded) = answer.upgraded else {
            let status = answer.status.as_u16();
            return Err(StartError::UpgradeStatus { status });
        };
        check_upgrade(&answer.headers, &accept)?;
        let io: Box<dyn Io> = Box::new(TokioIo::new(upgraded));
        let config = socket_config(self.max_message_size);
        Ok(Opened {
            socket: WebSocketStream::from_raw_socket(io, Role::Client, Some(config)).await,
            connection_id: destination.connection_id.map(Arc::from),
        })
    }

    /// The headers of the next request: a new token for each.
    async fn headers(&self, redirected: Option<&Secret>) -> Result<HeaderMap, StartError> {
        let mut headers = self.headers.clone();
        let token = match (redirected, &self.access_token) {
            (Some(Secret(token)), _) => token.clone(),
            (None, Some(provider)) => ask(provider).await.map_err(StartError::AccessToken)?,
            (None, None) => String::new(),
        };
        if !token.is_empty() {
            let bearer = HeaderValue::from_str(&format!("Bearer {token}"));
            let mut bearer = bearer.map_err(|_| StartError::InvalidAccessToken)?;
            bearer.set_sensitive(true);
            headers.insert(AUTHORIZATION, bearer);
        }
        Ok(headers)
    }

    async fn in_time<T>(
        &self,
        step: &'static str,
        request: impl Future<Output = Result<T, StartError>>,
    ) -> Result<T, StartError> {
        let limit = self.limit;
        let answer = timeout(limit, request).await;
        answer.unwrap_or(Err(StartError::TimedOut { step, limit }))
    }
}

/// A provider that panics has no token, and harms nobody else.
async fn ask(provider: &TokenProvider) -> Result<String, String> {
    let asking = async { provider().await };
    let outcome = AssertUnwindSafe(asking).catch_unwind().await;
    outcome.unwrap_or_else(|_| {
        tracing::error!("the provider of access tokens panicked");
        Err("its provider panicked".to_owned())
    })
}

/// Small buffers, and no WebSocket message larger than what a server may have put together.
pub(crate) fn socket_config(max_message_size: usize) -> WebSocketConfig {
    let largest = max_message_size.saturating_add(BATCH);
    WebSocketConfig::default()
        .read_buffer_size(8 * 1024)
        .write_buffer_size(8 * 1024)
        .max_message_size(Some(largest))
        .max_frame_size(Some(largest))
}

/// RFC 6455, section 4.1, as far as it is about what the server has to answer.
fn check_upgrade(headers: &HeaderMap, accept: &str) -> Result<(), StartError> {
    let has = |name: HeaderName, wanted: &str| {
        let values = headers.get_all(name).into_iter();
        values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|value| value.trim().eq_ignore_ascii_case(wanted))
    };
    if !has(UPGRADE, "websocket") || !has(CONNECTION, "upgrade") {
        return Err(StartError::UpgradeInvalid(
            "its answer does not say that it upgrades to websocket",
        ));
    }
    if headers.get(SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes) != Some(accept.as_bytes()) {
        return Err(StartError::UpgradeInvalid(
            "its Sec-WebSocket-Accept is not that of our request",
        ));
    }
    Ok(())
}
