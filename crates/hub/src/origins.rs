//! Whose web pages may talk to a hub.
//!
//! A browser sends the page's origin with every WebSocket, and CORS does not cover WebSockets: without this
//! check any page on the web could open a socket with a visitor's cookies.

use axum::http::{HeaderMap, HeaderValue, header};

/// A rule about the `Origin` header of requests.
///
/// Requests without the header do not come from a web page and are always let in. Requests of a page from the
/// same host are, too: the origin's authority equals `Host` or `X-Forwarded-Host` (a page cannot set either);
/// a `Host` without a port, as some balancers leave it, equals any port.
#[derive(Debug, Clone, Default)]
pub struct AllowedOrigins(Rule);

#[derive(Debug, Clone)]
enum Rule {
    Listed(Vec<String>),
    Any,
}

impl Default for Rule {
    fn default() -> Self {
        Self::Listed(Vec::new())
    }
}

/// An origin that no browser would ever send.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not an origin: write scheme, host and port if it has one, without a path, such as \
     https://chat.example.com, or * for every origin"
)]
pub struct InvalidOrigin(String);

impl AllowedOrigins {
    /// Only pages of the same host; the default.
    pub fn same_host() -> Self {
        Self::default()
    }

    /// Every page on the web. Right only for a hub that treats all callers alike, cookies or not.
    pub fn any() -> Self {
        Self(Rule::Any)
    }

    /// Pages of the same host and of the listed origins, such as `https://chat.example.com`; `*` is every origin.
    pub fn list<I>(origins: I) -> Result<Self, InvalidOrigin>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let mut listed = Vec::new();
        for origin in origins {
            let origin: String = origin.into();
            if origin == "*" {
                return Ok(Self::any());
            }
            // Browsers send scheme and host in lower case.
            let lower = origin.to_ascii_lowercase();
            let authority = authority(&lower);
            if authority
                .is_none_or(|rest| rest.is_empty() || rest.contains(['/', '?', '#', '@', ' ']))
            {
                return Err(InvalidOrigin(origin));
            }
            listed.push(lower);
        }
        Ok(Self(Rule::Listed(listed)))
    }

    /// Whether a request with these headers may come in. Hubs ask this themselves; for what an application serves beside them.
    pub fn admit(&self, headers: &HeaderMap) -> bool {
        match headers.get(header::ORIGIN) {
            None => true,
            Some(origin) => self.lists(origin) || is_same_host(origin, headers),
        }
    }

    /// Whether pages of other hosts may come in at all.
    pub(crate) fn lists_any(&self) -> bool {
        match &self.0 {
            Rule::Any => true,
            Rule::Listed(listed) => !listed.is_empty(),
        }
    }

    /// Whether this origin was listed, so that its pages may read answers (CORS).
    pub(crate) fn lists(&self, origin: &HeaderValue) -> bool {
        match &self.0 {
            Rule::Any => true,
            Rule::Listed(listed) => listed
                .iter()
                .any(|listed| listed.as_bytes().eq_ignore_ascii_case(origin.as_bytes())),
        }
    }
}

fn authority(origin: &str) -> Option<&str> {
    origin.split_once("://").map(|(_, authority)| authority)
}

fn is_same_host(origin: &HeaderValue, headers: &HeaderMap) -> bool {
    let Some(authority) = origin.to_str().ok().and_then(authority) else {
        return false;
    };
    // What a balancer forwards may be a list: the first is what the browser asked for.
    let forwarded = headers
        .get("x-forwarded-host")
        .and_then(|host| host.to_str().ok()?.split(',').next());
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    [forwarded, host].into_iter().flatten().any(|host| {
        let host = host.trim();
        authority.eq_ignore_ascii_case(host) || without_port(authority).eq_ignore_ascii_case(host)
    })
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        // The colons of a bare IPv6 address are inside its brackets.
        Some((host, port)) if !port.contains(']') => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(origin: &str, host: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::ORIGIN, origin.parse().unwrap());
        headers.insert(header::HOST, host.parse().unwrap());
        headers
    }

    #[test]
    fn programs_that_are_no_browser_come_in() {
        assert!(AllowedOrigins::same_host().admit(&HeaderMap::new()));
    }

    #[test]
    fn a_page_may_talk_to_its_own_host_only() {
        let rule = AllowedOrigins::same_host();
        assert!(rule.admit(&request("http://localhost:8080", "localhost:8080")));
        assert!(rule.admit(&request("https://Chat.example", "chat.example")));
        assert!(rule.admit(&request("http://localhost:8080", "localhost")));
        assert!(rule.admit(&request("http://[::1]:8080", "[::1]:8080")));
        for stranger in ["https://evil.example", "null", "http://localhost:9999"] {
            assert!(
                !rule.admit(&request(stranger, "localhost:8080")),
                "{stranger}"
            );
        }
        assert!(!rule.admit(&request("https://chat.example.evil", "chat.example")));
    }

    #[test]
    fn a_balancer_may_say_which_host_was_asked_for() {
        let mut headers = request("https://chat.example", "backend:8080");
        assert!(!AllowedOrigins::same_host().admit(&headers));
        headers.insert("x-forwarded-host", "chat.example, other".parse().unwrap());
        assert!(AllowedOrigins::same_host().admit(&headers));
    }

    #[test]
    fn listed_origins_come_in_from_anywhere() {
        let rule = AllowedOrigins::list(["https://a.example", "http://b.example:81"]).unwrap();
        assert!(rule.admit(&request("https://a.example", "x")));
        assert!(rule.admit(&request("http://b.example:81", "x")));
        assert!(!rule.admit(&request("http://a.example", "x")));
        assert!(
            AllowedOrigins::list(["*"])
                .unwrap()
                .admit(&request("https://c", "x"))
        );
    }

    #[test]
    fn what_no_browser_sends_is_refused_at_start() {
        for wrong in [
            "chat.example",
            "https://chat.example/",
            "",
            "https://",
            "https://a b",
        ] {
            assert!(AllowedOrigins::list([wrong]).is_err(), "{wrong}");
        }
    }
}
