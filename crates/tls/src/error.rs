//! Why there is no TLS, each with what to do about it.

use std::io;

use rustls::{CertificateError, Error};

/// A connection was not encrypted, and is closed.
///
/// The texts go behind the address of the server. None has a text of the server's in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// No trusted certificate was found on this side, so nobody could be believed; this is why.
    #[error(
        "no certificates are trusted here ({0}): install those of the system (ca-certificates in Debian), or name a file \
         that has the trusted ones in SSL_CERT_FILE"
    )]
    NoRoots(String),
    /// The host is neither a name that a certificate could be for, nor an address.
    #[error("no certificate could be for a host of this name")]
    Host,
    /// The server has a certificate that nobody issued who is trusted here.
    #[error(
        "its certificate was not issued by an authority that is trusted here: if it is one of your own, name a file that has \
         its certificate in SSL_CERT_FILE"
    )]
    UnknownIssuer,
    /// The server has a certificate for other names.
    #[error("its certificate is for another host: connect to a name that it is for")]
    OtherHost,
    /// The certificate was valid once.
    #[error("its certificate has expired")]
    Expired,
    /// The certificate will be valid one day.
    #[error("its certificate is not valid yet: check the clocks of both sides")]
    NotYetValid,
    /// The certificate is an authority's own, as when somebody has made one for everything. Such a one vouches for servers, and is none of theirs.
    #[error(
        "its certificate is that of an authority: have that authority issue one for the server, without the right to issue more"
    )]
    Authority,
    /// The certificate is not one for a server, or is broken; this says how.
    #[error("its certificate is not one that a server can have: {0}")]
    Certificate(String),
    /// What answers is not TLS.
    #[error("it does not speak TLS: check the port, or connect without TLS")]
    NoTls,
    /// The connection broke before it was encrypted. Some servers that do not speak TLS hang up like this, too.
    #[error("the connection was lost in the TLS handshake: {0}; does it speak TLS?")]
    Lost(io::Error),
    /// Both speak TLS, and do not agree; this says about what.
    #[error("the TLS handshake failed: {0}")]
    Failed(String),
}

impl TlsError {
    /// What an error of the handshake means.
    pub(crate) fn handshake(error: io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref());
        let Some(tls) = tls else {
            return Self::Lost(error);
        };
        match tls {
            Error::InvalidCertificate(problem) => Self::certificate(problem),
            Error::InvalidMessage(_) => Self::NoTls,
            other => Self::Failed(other.to_string()),
        }
    }

    fn certificate(problem: &CertificateError) -> Self {
        match problem {
            // The second is an authority of the same name, with another key.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownIssuer,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::OtherHost
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::NotYetValid
            }
            // The error itself belongs to a crate that is none of ours.
            CertificateError::Other(other) if other.0.to_string() == "CaUsedAsEndEntity" => {
                Self::Authority
            }
            other => Self::Certificate(other.to_string()),
        }
    }
}
