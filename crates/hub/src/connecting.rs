//! What is known of the request that a connection began with.

use std::fmt;

use axum::RequestExt;
use axum::extract::{MatchedPath, NestedPath, OriginalUri, RawPathParams, Request};
use axum::http::{Extensions, HeaderMap};
use hyper::upgrade::OnUpgrade;

/// The request that a connection's transport began with; not that of the negotiation before it.
///
/// ASP.NET Core's `Context.GetHttpContext()`, as far as it outlives the request. It is kept with the connection, and
/// never shown in `Debug`: it may hold tokens.
#[derive(Default)]
pub struct ConnectingRequest {
    /// A line `name:value` for each header, in which no line ends can be.
    headers: Box<str>,
    query: Box<str>,
    extensions: Extensions,
}

impl fmt::Debug for ConnectingRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ConnectingRequest")
            .finish_non_exhaustive()
    }
}

impl ConnectingRequest {
    /// Takes out of a request what is to be kept.
    pub(crate) async fn take_from(request: &mut Request) -> Self {
        Self {
            headers: copy_headers(request.headers()),
            query: request.uri().query().unwrap_or_default().into(),
            extensions: take_extensions(request).await,
        }
    }

    /// The value of a header, whose name is compared ignoring case. Values of a repeated one are joined by `, `; values
    /// that are not text are left out.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.headers.lines().filter_map(|line| line.split_once(':'));
        let found = lines.find(|(header, _)| header.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value)
    }

    /// The value of a query parameter, whose name is compared ignoring case. Values of a repeated one are joined by
    /// commas, as in ASP.NET Core.
    pub fn query(&self, name: &str) -> Option<String> {
        query_value(&self.query, name)
    }

    /// What a middleware has put into the request, for example the claims of a token.
    pub fn extension<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.extensions.get()
    }
}

/// The value of a parameter in a query string; see [`ConnectingRequest::query`].
pub(crate) fn query_value(query: &str, name: &str) -> Option<String> {
    let pairs = form_urlencoded::parse(query.as_bytes());
    let values: Vec<_> = pairs
        .filter(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
        .collect();
    (!values.is_empty()).then(|| values.join(","))
}

/// Copies headers into one small allocation: as they are they would keep the whole buffer that they were read into.
fn copy_headers(headers: &HeaderMap) -> Box<str> {
    let mut lines = String::new();
    for name in headers.keys() {
        let values = headers.get_all(name).iter();
        let mut values = values.filter_map(|value| std::str::from_utf8(value.as_bytes()).ok());
        let Some(first) = values.next() else {
            continue;
        };
        lines.extend([name.as_str(), ":", first]);
        for value in values {
            lines.extend([", ", value]);
        }
        lines.push('\n');
    }
    lines.into()
}

/// Takes what the application has put into a request, without what its router and the HTTP server have.
async fn take_extensions(request: &mut Request) -> Extensions {
    let extensions = request.extensions_mut();
    extensions.remove::<OnUpgrade>();
    extensions.remove::<OriginalUri>();
    extensions.remove::<MatchedPath>();
    extensions.remove::<NestedPath>();
    // The parameters of the path can be seen, but not be taken away.
    let parameters = request.extract_parts::<RawPathParams>().await;
    let extensions = std::mem::take(request.extensions_mut());
    if extensions.len() <= usize::from(parameters.is_ok()) {
        // Costs nothing, unlike one that has been emptied.
        return Extensions::new();
    }
    extensions
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::http::{HeaderValue, StatusCode};
    use axum::routing::any;
    use tower::util::ServiceExt;

    use super::*;

    fn request() -> Request {
        Request::get("/chatHub?Room=a%20b&x=&room=c&token=swordfish")
            .header("X-One", "1")
            .header("x-many", "a")
            .header("X-Many", "b:c")
            .header("x-utf8", HeaderValue::from_bytes("zoë".as_bytes()).unwrap())
            .header("x-binary", HeaderValue::from_bytes(b"\xff").unwrap())
            .header("x-empty", "")
            .header("cookie", "swordfish")
            .body(Body::empty())
            .unwrap()
    }

    #[tokio::test]
    async fn headers_and_query_are_found_whatever_their_case() {
        let kept = ConnectingRequest::take_from(&mut request()).await;
        for (name, value) in [
            ("x-one", Some("1")),
            ("X-ONE", Some("1")),
            ("x-many", Some("a, b:c")),
            ("x-utf8", Some("zoë")),
            ("x-empty", Some("")),
            ("x-binary", None),
            ("x-on", None),
            ("", None),
            ("x-many:a, b", None),
        ] {
            assert_eq!(kept.header(name), value, "{name}");
        }
        for (name, value) in [
            ("room", Some("a b,c")),
            ("ROOM", Some("a b,c")),
            ("X", Some("")),
            ("y", None),
        ] {
            assert_eq!(kept.query(name).as_deref(), value, "{name}");
        }
        let nothing = ConnectingRequest::default();
        assert_eq!((nothing.header("x-one"), nothing.query("x")), (None, None));
    }

    #[tokio::test]
    async fn nothing_of_it_is_shown() {
        let mut request = request();
        request.extensions_mut().insert("swordfish");
        let kept = ConnectingRequest::take_from(&mut request).await;
        assert_eq!(kept.extension(), Some(&"swordfish"));
        assert!(!format!("{kept:?}").contains("swordfish"));
    }

    /// What is kept of a request that came through a router.
    async fn routed(app: Router, request: Request) -> ConnectingRequest {
        let (keeping, kept) = std::sync::mpsc::channel();
        let keep = any(async move |mut request: Request| {
            let kept = ConnectingRequest::take_from(&mut request).await;
            keeping.send(kept).unwrap();
            StatusCode::OK
        });
        let inner = Router::new().fallback(keep);
        let answer = app.nest("/chatHub", inner).oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        kept.recv().unwrap()
    }

    #[tokio::test]
    async fn of_a_routers_own_extensions_nothing_is_kept() {
        let kept = routed(Router::new(), request()).await;
        assert!(kept.extensions.is_empty());

        let mut request = request();
        request.extensions_mut().insert(7_u8);
        let kept = routed(Router::new(), request).await;
        assert_eq!(kept.extension(), Some(&7_u8));
        assert!(kept.extension::<OriginalUri>().is_none());
        assert!(kept.extension::<MatchedPath>().is_none());
        assert!(kept.extension::<NestedPath>().is_none());
    }
}
