//! The address of a hub, and the targets of the requests that are made there.

use std::fmt;

use form_urlencoded::byte_serialize;
use hyper::Uri;

use crate::error::UrlError;

/// Where a hub is. Its query may hold secrets and is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct HubUrl {
    /// Whether it is spoken to with TLS.
    pub(crate) tls: bool,
    /// For the `Host` header: the host, and the port if one was given.
    pub(crate) authority: String,
    /// Without the brackets of an IPv6 address.
    pub(crate) host: String,
    pub(crate) port: u16,
    path: String,
    query: Option<String>,
}

impl HubUrl {
    pub(crate) fn parse(text: &str) -> Result<Self, UrlError> {
        let uri: Uri = text.parse().map_err(|_| UrlError::Invalid)?;
        let scheme = uri.scheme_str().ok_or(UrlError::Invalid)?.to_owned();
        let tls = match scheme.as_str() {
            "http" | "ws" => false,
            "https" | "wss" => true,
            _ => return Err(UrlError::Scheme { scheme }),
        };
        let authority = uri.authority().ok_or(UrlError::Invalid)?;
        if authority.as_str().contains('@') {
            return Err(UrlError::UserInformation);
        }
        let host = authority.host();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(UrlError::Invalid);
        }
        let usual_port = if tls { 443 } else { 80 };
        Ok(Self {
            tls,
            authority: authority.to_string(),
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(usual_port),
            path: uri.path().to_owned(),
            query: uri.query().map(str::to_owned),
        })
    }

    /// What the negotiation is asked of: `/negotiate` below the hub, its query kept.
    pub(crate) fn negotiate_target(&self) -> String {
        let path = self.path.strip_suffix('/').unwrap_or(&self.path);
        let has_version = self.query.as_deref().is_some_and(|query| {
            form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "negotiateVersion")
        });
        let version = (!has_version).then_some("negotiateVersion=1");
        target(&format!("{path}/negotiate"), self.query.as_deref(), version)
    }

    /// What the WebSocket is asked of; without a token where nothing was negotiated.
    pub(crate) fn socket_target(&self, connection_token: Option<&str>) -> String {
        let id = connection_token.map(|token| {
            format!(
                "id={}",
                byte_serialize(token.as_bytes()).collect::<String>()
            )
        });
        target(&self.path, self.query.as_deref(), id.as_deref())
    }
}

fn target(path: &str, query: Option<&str>, addition: Option<&str>) -> String {
    let parts = [query.filter(|query| !query.is_empty()), addition];
    let parts: Vec<&str> = parts.into_iter().flatten().collect();
    if parts.is_empty() {
        return path.to_owned();
    }
    format!("{path}?{}", parts.join("&"))
}

impl fmt::Debug for HubUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(formatter, "{scheme}://{}{}", self.authority, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> HubUrl {
        HubUrl::parse(text).unwrap()
    }

    #[test]
    fn requests_go_below_the_url_and_keep_its_query() {
        let plain = url("ws://localhost:8080/chatHub");
        assert_eq!(plain.port, 8080);
        assert_eq!(
            plain.negotiate_target(),
            "/chatHub/negotiate?negotiateVersion=1"
        );
        assert_eq!(plain.socket_target(None), "/chatHub");
        assert_eq!(
            plain.socket_target(Some("a+/=b")),
            "/chatHub?id=a%2B%2F%3Db"
        );

        let query = url("http://[::1]/?room=1");
        assert_eq!((query.host.as_str(), query.port), ("::1", 80));
        assert_eq!(query.authority, "[::1]");
        assert_eq!(
            query.negotiate_target(),
            "/negotiate?room=1&negotiateVersion=1"
        );
        assert_eq!(query.socket_target(Some("t")), "/?room=1&id=t");
        let chosen = url("http://h/hub?negotiateVersion=0");
        assert_eq!(
            chosen.negotiate_target(),
            "/hub/negotiate?negotiateVersion=0"
        );
    }

    #[test]
    fn tls_is_spoken_where_the_scheme_says_so() {
        for (text, tls, port) in [
            ("http://h/hub", false, 80),
            ("ws://h/hub", false, 80),
            ("https://h/hub", true, 443),
            ("wss://h/hub", true, 443),
            ("wss://h:8443/hub", true, 8443),
            ("https://h:80/hub", true, 80),
        ] {
            let url = url(text);
            assert_eq!((url.tls, url.port), (tls, port), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_connected_to_is_refused_with_a_reason() {
        for (text, error) in [
            ("", UrlError::Invalid),
            ("/chatHub", UrlError::Invalid),
            ("localhost:8080", UrlError::Invalid),
            ("http://", UrlError::Invalid),
            ("https://", UrlError::Invalid),
            (
                "ftp://localhost/",
                UrlError::Scheme {
                    scheme: "ftp".to_owned(),
                },
            ),
            ("http://ada:secret@localhost/", UrlError::UserInformation),
        ] {
            assert_eq!(HubUrl::parse(text).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn a_query_is_never_shown() {
        let shown = format!("{:?}", url("http://h/hub?access_token=secret"));
        assert_eq!(shown, "http://h/hub");
        let shown = format!("{:?}", url("wss://h/hub?access_token=secret"));
        assert_eq!(shown, "https://h/hub");
    }
}
