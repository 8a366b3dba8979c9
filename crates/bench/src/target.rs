//! Where a server is, as its URL says.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

use anyhow::{Context, bail};

/// How many loopback addresses connections come from: each has its own ports, of which there are some 28,000.
const SOURCES: usize = 16;

/// A hub of a server.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// The request that turns a connection into a WebSocket, without a negotiation before.
    pub(crate) upgrade: Vec<u8>,
}

impl Target {
    /// Reads `http://host:port/path` (or `ws://`), and looks the host up.
    pub(crate) fn parse(url: &str) -> anyhow::Result<Self> {
        let rest = match url.split_once("://") {
            Some(("http" | "ws", rest)) => rest,
            Some(("https" | "wss", _)) => bail!("{url}: TLS is not measured; use http://"),
            _ => bail!("{url}: not a URL such as http://127.0.0.1:8080/chatHub"),
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        if path.contains(|byte: char| byte.is_ascii_whitespace() || byte.is_ascii_control()) {
            bail!("{url}: not a URL");
        }
        let has_port = authority
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let with_port = if has_port {
            authority.to_owned()
        } else {
            format!("{authority}:80")
        };
        let address = with_port
            .to_socket_addrs()
            .with_context(|| format!("cannot find {authority}"))?
            .min_by_key(SocketAddr::is_ipv6)
            .with_context(|| format!("{authority} has no address"))?;
        let upgrade = format!(
            "GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: aHViY2FzdC1iZW5jaC1rZQ==\r\n\r\n"
        );
        Ok(Self {
            address,
            upgrade: upgrade.into_bytes(),
        })
    }

    /// The address that the connection of this number comes from: one of many if the server is on the IPv4 loopback.
    pub(crate) fn source(&self, number: usize) -> Option<SocketAddr> {
        let IpAddr::V4(host) = self.address.ip() else {
            return None;
        };
        let last = u8::try_from(number % SOURCES + 1).ok()?;
        host.is_loopback()
            .then(|| SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_and_what() {
        let target = Target::parse("ws://127.0.0.1:81/chatHub?a=b").unwrap();
        assert_eq!(target.address.to_string(), "127.0.0.1:81");
        let upgrade = String::from_utf8(target.upgrade.clone()).unwrap();
        assert!(upgrade.starts_with("GET /chatHub?a=b HTTP/1.1\r\nHost: 127.0.0.1:81\r\n"));
        assert_ne!(target.source(0), target.source(1));
        let six = Target::parse("http://[::1]/").unwrap();
        assert_eq!(six.address.to_string(), "[::1]:80");
        assert_eq!(six.source(0), None);
        let elsewhere = Target::parse("http://10.1.2.3").unwrap();
        assert_eq!(elsewhere.source(0), None);
    }

    #[test]
    fn what_is_no_url_or_needs_tls_is_refused() {
        for wrong in [
            "",
            "127.0.0.1:80",
            "https://127.0.0.1/",
            "http:///x",
            "http://127.0.0.1/a b",
        ] {
            assert!(Target::parse(wrong).is_err(), "{wrong}");
        }
    }
}
