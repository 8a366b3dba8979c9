//! TLS, as a client: on top of a TCP connection, with the certificates that the system trusts.
//!
//! [`connect`] and [`connect_for_http`] take a connected socket and give one on which everything is encrypted, after the other side has shown
//! a certificate for this host that a trusted authority issued. TLS 1.2 and 1.3 are spoken. Nobody is let off: there is no way to accept
//! any other certificate, and this side shows none of its own.
//!
//! Which authorities are trusted is the system's choice. Who sets `SSL_CERT_FILE` (a file) or `SSL_CERT_DIR` (folders, with `:` between
//! them) chooses: then those in there are trusted, as PEM, and no others. That is how an authority of one's own is named. They are read
//! once, before the first connection.
//!
//! Neither function limits how long it takes; dropping the future gives up.

mod error;
mod roots;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub use error::TlsError;

use roots::Configurations;

/// A connection, with TLS or without it: what is said on it is the same.
///
/// With TLS, what was written is on its way once it is flushed, and perhaps not before.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Speaks TLS on this connection to a host, which is a name or an address; one of version 6 has no brackets.
///
/// No protocol is named (ALPN), which suits AMQP.
pub async fn connect(socket: TcpStream, host: &str) -> Result<impl Stream + use<>, TlsError> {
    let Configurations { plain, .. } = roots::configurations().await?;
    handshake(plain, socket, host).await
}

/// The same, for HTTP: says that it will be `http/1.1`, so that a server that can speak HTTP/2 does not.
pub async fn connect_for_http(
    socket: TcpStream,
    host: &str,
) -> Result<impl Stream + use<>, TlsError> {
    let Configurations { http, .. } = roots::configurations().await?;
    handshake(http, socket, host).await
}

async fn handshake(
    configuration: &Arc<ClientConfig>,
    socket: TcpStream,
    host: &str,
) -> Result<TlsStream<TcpStream>, TlsError> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsError::Host)?;
    let connector = TlsConnector::from(Arc::clone(configuration));
    let connected = connector.connect(name, socket).await;
    connected.map_err(TlsError::handshake)
}
