//! Where a RabbitMQ is, and who one is there.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use lapin::uri::AMQPUri;
use url::{Host, Url};

use crate::name::short;

/// How often both sides of a connection say that they are there, in seconds; a peer that says nothing for twice as long is gone.
/// RabbitMQ would choose 60.
const HEARTBEAT: u16 = 10;

/// The least that AMQP calls a frame, in bytes; with less nobody could say who they are.
const SMALLEST_FRAME: u32 = 4096;

/// How long connecting may take altogether.
const CONNECTING: Duration = Duration::from_secs(10);

/// The address of a RabbitMQ: `amqp://user:password@host:port/vhost`, or with TLS `amqps://user:password@host:port/vhost`.
///
/// With TLS (1.2 or 1.3) RabbitMQ has to show a certificate for this host that was issued by an authority which the system trusts, or, if `SSL_CERT_FILE` or
/// `SSL_CERT_DIR` is set in the environment, one of those in there. Certificates of clients are not supported.
///
/// What is left out is `guest`, `guest`, `localhost`, 5672 (with TLS 5671) and the virtual host `/`; so is a virtual host without a name, which
/// `amqp://host/` would be to the letter, since no RabbitMQ has one unless somebody insists. Other names of virtual hosts are percent-encoded.
/// The parameters `heartbeat` (seconds, default 10; 0 is none), `connection_timeout` (milliseconds, default 10,000), `channel_max`, `frame_max`
/// and `auth_mechanism` are known.
#[derive(Clone)]
pub struct AmqpUrl(AMQPUri);

/// A URL that does not lead to a RabbitMQ. Does not repeat it, because it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    /// Neither `amqp` nor `amqps`, or no URL at all.
    #[error(
        "not the URL of a RabbitMQ, such as amqp://user:password@host:5672/vhost, or with TLS amqps://user:password@host:5671/vhost"
    )]
    NotAmqp,
    /// A name of a virtual host that no virtual host has.
    #[error("the name of a virtual host, behind the / of this URL, has at most 255 bytes")]
    VirtualHost,
    /// A query that cannot be understood.
    #[error(
        "a parameter behind the ? of this URL has a value that it cannot have: heartbeat, connection_timeout, channel_max and frame_max are numbers, connection_timeout is 1 or \
         more, and frame_max 0 or {SMALLEST_FRAME} or more"
    )]
    Parameter,
}

impl AmqpUrl {
    pub(crate) fn uri(&self) -> &AMQPUri {
        &self.0
    }

    /// How long connecting may take.
    pub(crate) fn patience(&self) -> Duration {
        let asked_for = self.0.query.connection_timeout;
        asked_for.map_or(CONNECTING, Duration::from_millis)
    }

    /// Host and port, for people.
    pub fn address(&self) -> String {
        let (host, port) = (&self.0.authority.host, self.0.authority.port);
        if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        }
    }
}

impl FromStr for AmqpUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let url = Url::parse(text).map_err(|_| InvalidUrl::NotAmqp)?;
        if !matches!(url.scheme(), "amqp" | "amqps") || url.cannot_be_a_base() {
            return Err(InvalidUrl::NotAmqp);
        }
        // Errors of this one would repeat the URL.
        let mut uri: AMQPUri = text.parse().map_err(|_| match url.query() {
            Some(_) => InvalidUrl::Parameter,
            None => InvalidUrl::NotAmqp,
        })?;
        // It knows no addresses of version 6, and takes them for localhost.
        if let Some(Host::Ipv6(address)) = url.host() {
            uri.authority.host = address.to_string();
        }
        if uri.vhost.is_empty() {
            "/".clone_into(&mut uri.vhost);
        }
        if short(&uri.vhost).is_none() {
            return Err(InvalidUrl::VirtualHost);
        }
        let frame_max = uri.query.frame_max.unwrap_or_default();
        if uri.query.connection_timeout == Some(0) || (1..SMALLEST_FRAME).contains(&frame_max) {
            return Err(InvalidUrl::Parameter);
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT);
        Ok(Self(uri))
    }
}

/// Without the user and the password.
impl fmt::Debug for AmqpUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "AmqpUrl({} {})", self.address(), self.0.vhost)
    }
}

#[cfg(test)]
mod tests {
    use lapin::uri::AMQPScheme;

    use super::*;

    fn parsed(text: &str) -> AMQPUri {
        text.parse::<AmqpUrl>().unwrap().0
    }

    #[test]
    fn what_is_left_out_has_the_usual_value() {
        let uri = parsed("amqp://");
        assert_eq!(uri.authority.host, "localhost");
        assert_eq!(uri.authority.port, 5672);
        assert_eq!(uri.authority.userinfo.username, "guest");
        assert_eq!(uri.vhost, "/");
        assert_eq!(uri.query.heartbeat, Some(10));
        assert_eq!(parsed("amqp://host/").vhost, "/");
        assert_eq!(parsed("amqp://host/%2F").vhost, "/");
    }

    #[test]
    fn with_tls_another_port_is_usual() {
        let uri = parsed("amqps://host");
        assert_eq!(uri.scheme, AMQPScheme::AMQPS);
        assert_eq!((uri.authority.port, &*uri.vhost), (5671, "/"));
        assert_eq!(parsed("amqps://host:5672").authority.port, 5672);
        assert_eq!(parsed("amqp://host").scheme, AMQPScheme::AMQP);
    }

    #[test]
    fn what_is_said_is_taken() {
        let url: AmqpUrl =
            "amqp://me:se%40cret@[::1]:1234/my%2Fhost?heartbeat=0&connection_timeout=700"
                .parse()
                .unwrap();
        assert_eq!(url.address(), "[::1]:1234");
        assert_eq!(url.uri().authority.host, "::1");
        assert_eq!(url.uri().authority.userinfo.password, "se@cret");
        assert_eq!(url.uri().vhost, "my/host");
        assert_eq!(url.uri().query.heartbeat, Some(0));
        assert_eq!(url.patience(), Duration::from_millis(700));
        assert!(!format!("{url:?}").contains("cret"));
    }

    #[test]
    fn what_leads_nowhere_is_refused_without_being_repeated() {
        for (text, error) in [
            ("", InvalidUrl::NotAmqp),
            ("secret", InvalidUrl::NotAmqp),
            ("amqp:secret", InvalidUrl::NotAmqp),
            ("http://me:secret@host", InvalidUrl::NotAmqp),
            ("amqp://me:secret@host:99999", InvalidUrl::NotAmqp),
            ("amqp://me:secret%ff@host", InvalidUrl::NotAmqp),
            ("amqpss://me:secret@host", InvalidUrl::NotAmqp),
            ("amqps:secret", InvalidUrl::NotAmqp),
            (
                "amqp://me:secret@host?heartbeat=often",
                InvalidUrl::Parameter,
            ),
            (
                "amqp://me:secret@host?heartbeat=70000",
                InvalidUrl::Parameter,
            ),
            (
                "amqp://me:secret@host?frame_max=4095",
                InvalidUrl::Parameter,
            ),
            (
                "amqp://me:secret@host?connection_timeout=0",
                InvalidUrl::Parameter,
            ),
        ] {
            let refused = text.parse::<AmqpUrl>().unwrap_err();
            assert_eq!(refused, error, "{text}");
            assert!(!refused.to_string().contains("secret"), "{text}");
        }
        let endless = format!("amqp://host/{}", "x".repeat(256));
        assert_eq!(
            endless.parse::<AmqpUrl>().unwrap_err(),
            InvalidUrl::VirtualHost
        );
    }
}
