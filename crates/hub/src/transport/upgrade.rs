//! From an HTTP request to a socket that speaks WebSocket (RFC 6455, section 4.2).

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use sha1::{Digest, Sha1};
use tokio::net::TcpStream;

use crate::options::SubProtocolSelector;

/// A request that asks for a WebSocket, in every point that the RFC demands.
pub(crate) struct UpgradeRequest {
    on_upgrade: OnUpgrade,
    accept_key: HeaderValue,
    /// What the client offers to speak below SignalR.
    sub_protocols: Vec<String>,
}

/// A socket that has been upgraded, and what the client sent right behind its request.
pub(crate) enum UpgradedSocket {
    /// The plain case, without the layers that carried the request.
    Tcp(TcpStream, Option<Box<[u8]>>),
    /// TLS, or whatever else the application serves on.
    Other(TokioIo<Upgraded>),
}

impl UpgradeRequest {
    /// `None` if the request is not one for a WebSocket; it is then an ordinary request, as in ASP.NET Core.
    pub(crate) fn from_request(request: &mut Request) -> Option<Self> {
        let headers = request.headers();
        if request.method() != Method::GET
            || !has_token(headers, &header::CONNECTION, "upgrade")
            || !has_token(headers, &header::UPGRADE, "websocket")
            || headers.get(header::SEC_WEBSOCKET_VERSION)? != "13"
        {
            return None;
        }
        let key = headers.get(header::SEC_WEBSOCKET_KEY)?.as_bytes();
        if STANDARD.decode(key).ok()?.len() != 16 {
            return None;
        }
        let accept_key = HeaderValue::try_from(accept_key(key)).ok()?;
        let sub_protocols = words(headers, &header::SEC_WEBSOCKET_PROTOCOL);
        let sub_protocols = sub_protocols.map(str::to_owned).collect();
        let on_upgrade = request.extensions_mut().remove::<OnUpgrade>()?;
        Some(Self {
            on_upgrade,
            accept_key,
            sub_protocols,
        })
    }

    /// The answer to the client, and the socket once that has been sent. What `select` chooses is told to the client, if it can be
    /// written in a header.
    pub(crate) fn accept(
        self,
        select: Option<SubProtocolSelector>,
    ) -> (
        Response,
        impl Future<Output = Result<UpgradedSocket, hyper::Error>> + Send,
    ) {
        let offered: Vec<&str> = self.sub_protocols.iter().map(String::as_str).collect();
        let selected = select.and_then(|select| select(&offered));
        let mut response = (
            StatusCode::SWITCHING_PROTOCOLS,
            [
                (header::CONNECTION, HeaderValue::from_static("Upgrade")),
                (header::UPGRADE, HeaderValue::from_static("websocket")),
                (header::SEC_WEBSOCKET_ACCEPT, self.accept_key),
            ],
        )
            .into_response();
        if let Some(selected) = selected.and_then(|name| HeaderValue::from_str(name).ok()) {
            response
                .headers_mut()
                .insert(header::SEC_WEBSOCKET_PROTOCOL, selected);
        }
        let socket = async move { Ok(unwrap(self.on_upgrade.await?)) };
        (response, socket)
    }
}

/// What the client's key is answered with (RFC 6455, section 4.2.2).
fn accept_key(key: &[u8]) -> String {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(hash.finalize())
}

/// Takes off the layers that carried the request, where they are the usual ones.
fn unwrap(upgraded: Upgraded) -> UpgradedSocket {
    use hyper_util::server::conn::auto::upgrade::downcast;
    match downcast::<TokioIo<TcpStream>>(upgraded) {
        Ok(parts) => {
            // A copy: an empty buffer, too, may keep all of what it was read into.
            let early = (!parts.read_buf.is_empty()).then(|| parts.read_buf.as_ref().into());
            UpgradedSocket::Tcp(parts.io.into_inner(), early)
        }
        Err(upgraded) => UpgradedSocket::Other(TokioIo::new(upgraded)),
    }
}

/// Whether a header that is a list of words has this one, in any case.
fn has_token(headers: &HeaderMap, name: &header::HeaderName, token: &str) -> bool {
    words(headers, name).any(|word| word.eq_ignore_ascii_case(token))
}

/// The words of a header that is a list of them.
fn words<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(values: &[&str]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(
                header::SEC_WEBSOCKET_PROTOCOL,
                HeaderValue::from_str(value).unwrap(),
            );
        }
        let words = words(&headers, &header::SEC_WEBSOCKET_PROTOCOL);
        words.map(str::to_owned).collect()
    }

    #[test]
    fn the_key_is_answered_as_in_the_example_of_the_rfc() {
        let answer = accept_key(b"dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(answer, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn lists_may_be_in_one_header_or_in_several() {
        assert_eq!(offered(&["a, b ,c", "d"]), ["a", "b", "c", "d"]);
        assert_eq!(offered(&[]), Vec::<String>::new());
    }
}
