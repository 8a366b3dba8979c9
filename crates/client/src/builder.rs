//! How a connection is to be made.

use std::fmt::{self, Display};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use hubcast_protocol::Encoding;
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};

use crate::connection::HubConnection;
use crate::connector::{Connector, TokenProvider};
use crate::error::{BuildError, UrlError};
use crate::lifecycle::Shared;
use crate::retry::{RetryContext, RetryPolicy};
use crate::url::HubUrl;
use crate::wire::Settings;

/// Describes a connection, and makes it. SignalR's `HubConnectionBuilder`, with the same defaults.
///
/// ```
/// use hubcast_client::{Encoding, HubConnectionBuilder};
///
/// let connection = HubConnectionBuilder::new("http://localhost:8080/chatHub")
///     .encoding(Encoding::MessagePack)
///     .automatic_reconnect()
///     .build()?;
/// # Ok::<(), hubcast_client::BuildError>(())
/// ```
pub struct HubConnectionBuilder {
    url: Result<HubUrl, UrlError>,
    headers: Vec<(String, String)>,
    access_token: Option<TokenProvider>,
    skip_negotiation: bool,
    retry: Option<RetryPolicy>,
    settings: Settings,
}

/// Neither headers nor tokens nor the query of the URL are shown.
impl fmt::Debug for HubConnectionBuilder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("HubConnectionBuilder")
            .field("url", &self.url)
            .field("skip_negotiation", &self.skip_negotiation)
            .field("automatic_reconnect", &self.retry.is_some())
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl HubConnectionBuilder {
    /// A connection to the hub at this URL: `http` or `ws`, which mean the same here, or with TLS `https` or `wss`, which do, too.
    ///
    /// With TLS (1.2 or 1.3) the server has to show a certificate for the host of this URL that was issued by an authority which the system
    /// trusts, or, if `SSL_CERT_FILE` or `SSL_CERT_DIR` is set in the environment, one of those in there. Certificates of clients are not
    /// supported.
    pub fn new(url: &str) -> Self {
        Self {
            url: HubUrl::parse(url),
            headers: Vec::new(),
            access_token: None,
            skip_negotiation: false,
            retry: None,
            settings: Settings {
                encoding: Encoding::Json,
                keep_alive_interval: Duration::from_secs(15),
                server_timeout: Duration::from_secs(30),
                handshake_timeout: Duration::from_secs(15),
                max_message_size: 4 * 1024 * 1024,
            },
        }
    }

    /// Opens the WebSocket without asking first (off by default). Saves a request, and needs no sticky sessions whatever the
    /// server; but the connection then has no [`connection_id`](HubConnection::connection_id), and is not redirected.
    pub fn skip_negotiation(mut self) -> Self {
        self.skip_negotiation = true;
        self
    }

    /// How messages are written: JSON by default.
    pub fn encoding(mut self, encoding: Encoding) -> Self {
        self.settings.encoding = encoding;
        self
    }

    /// Adds a header to every request. An `Authorization` header gives way to an access token.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Shows this token to the server with every request, as `Authorization: Bearer`.
    pub fn access_token(self, token: impl Into<String>) -> Self {
        let token = token.into();
        self.access_token_provider(move || {
            let token = token.clone();
            async move { Ok::<_, std::convert::Infallible>(token) }
        })
    }

    /// Asks for a token before every request, negotiations and reconnects included, and shows it to the server as
    /// `Authorization: Bearer`. The stock clients' `accessTokenFactory`.
    ///
    /// An empty token means none. An error fails the attempt to connect, as does a panic; its text is in
    /// [`StartError::AccessToken`](crate::StartError::AccessToken), so it must not have a secret in it.
    ///
    /// ```
    /// use hubcast_client::HubConnectionBuilder;
    ///
    /// let builder = HubConnectionBuilder::new("http://localhost:8080/chatHub")
    ///     .access_token_provider(|| async { std::fs::read_to_string("token") });
    /// ```
    pub fn access_token_provider<F, Fut, E>(mut self, provider: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<String, E>> + Send + 'static,
        E: Display,
    {
        self.access_token = Some(Arc::new(move || {
            let token = provider();
            token
                .map(|token| token.map_err(|error| error.to_string()))
                .boxed()
        }));
        self
    }

    /// Makes a lost connection anew: at once and, while that fails, after 2, 10 and 30 more seconds, as the stock clients do. Off
    /// by default. The first start is never tried again.
    ///
    /// What was before does not count once there is a connection, as with the stock clients: a server that lets in and hangs up at once is come back to at once, again and again. A
    /// policy of your own ([`Self::automatic_reconnect_with`]) can remember when it was last asked, and wait.
    pub fn automatic_reconnect(mut self) -> Self {
        self.retry = Some(RetryPolicy::stock());
        self
    }

    /// The same with one attempt after each of these delays.
    pub fn automatic_reconnect_after(mut self, delays: impl IntoIterator<Item = Duration>) -> Self {
        self.retry = Some(RetryPolicy::delays(delays.into_iter().collect()));
        self
    }

    /// The same with a policy that says how long to wait before the next attempt, or `None` to give up.
    pub fn automatic_reconnect_with(
        mut self,
        policy: impl Fn(&RetryContext<'_>) -> Option<Duration> + Send + Sync + 'static,
    ) -> Self {
        self.retry = Some(RetryPolicy::new(policy));
        self
    }

    /// How long nothing is sent before a ping is: 15 seconds by default. Servers give a client up after twice that.
    pub fn keep_alive_interval(mut self, interval: Duration) -> Self {
        self.settings.keep_alive_interval = interval;
        self
    }

    /// How long nothing may come from the server before it counts as gone: 30 seconds by default, twice what servers leave
    /// between pings.
    ///
    /// Also how long a handler or a stream may hold up the connection once no more of its input fits into memory.
    pub fn server_timeout(mut self, timeout: Duration) -> Self {
        self.settings.server_timeout = timeout;
        self
    }

    /// How long the handshake may take, and each request before it: 15 seconds by default.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.settings.handshake_timeout = timeout;
        self
    }

    /// The most bytes that one message of the server may have, its separator or length prefix included: 4 MiB by default, which is
    /// as much as a Hubcast server lets wait for a client. The stock clients have no limit.
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.settings.max_message_size = bytes;
        self
    }

    /// Makes the connection, which then waits to be [started](HubConnection::start).
    pub fn build(self) -> Result<HubConnection, BuildError> {
        let url = self.url?;
        let mut headers = HeaderMap::new();
        for (name, value) in self.headers {
            let parsed = (
                HeaderName::from_bytes(name.as_bytes()),
                HeaderValue::from_str(&value),
            );
            let (Ok(key), Ok(mut value)) = parsed else {
                return Err(BuildError::Header { name });
            };
            value.set_sensitive(true);
            headers.append(key, value);
        }
        let connector = Connector {
            url,
            headers,
            access_token: self.access_token,
            skip_negotiation: self.skip_negotiation,
            encoding: self.settings.encoding,
            limit: self.settings.handshake_timeout,
            max_message_size: self.settings.max_message_size,
        };
        let shared = Shared::new(Box::new(connector), self.settings, self.retry);
        Ok(HubConnection::new(shared))
    }
}
