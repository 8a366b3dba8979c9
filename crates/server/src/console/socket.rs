//! A connection to a server, as the scheme of its URL wants it.

use hubcast_tls::Stream;
use tokio::net::TcpStream;

/// Where a server is, and how it is spoken to.
#[derive(Debug)]
pub(super) struct Address {
    /// Whether with TLS.
    tls: bool,
    /// An address of version 6 may have brackets.
    host: String,
    port: u16,
}

impl Address {
    /// The port is the usual one if none is given.
    pub(super) fn new(tls: bool, host: &str, port: Option<u16>) -> Self {
        Self {
            tls,
            host: host.to_owned(),
            port: port.unwrap_or(if tls { 443 } else { 80 }),
        }
    }

    /// Connects, to say something in HTTP there. How long that takes is not limited.
    pub(super) async fn open(&self) -> anyhow::Result<Box<dyn Stream>> {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let socket = TcpStream::connect((host, self.port)).await?;
        // Messages are small and must leave at once.
        socket.set_nodelay(true)?;
        if self.tls {
            let encrypted = hubcast_tls::connect_for_http(socket, host).await?;
            Ok(Box::new(encrypted))
        } else {
            Ok(Box::new(socket))
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}:{}", self.host, self.port)
    }
}
