//! Paths of hubs, which SignalR compares ignoring case and a slash at the end; routers do not.

use axum::extract::Request;

/// Gives the path of a request for a hub the shape in which the hub is mounted, as ASP.NET Core takes it: `/CHATHUB/` and
/// `/chathub/negotiate/` become `/chatHub` and `/chatHub/negotiate`. Other requests pass unchanged.
///
/// `mounted` is the path that the endpoint's [`routes`](crate::HubEndpoint::routes) are nested under. To be put around the whole application, since a
/// layer within a router comes too late:
///
/// ```no_run
/// use axum::{Router, ServiceExt};
/// use hubcast::{Hub, HubEndpoint, Methods, fold_hub_path};
/// use tower::Layer;
/// use tower::util::MapRequestLayer;
///
/// # struct ChatHub;
/// # impl Hub for ChatHub { fn methods() -> Methods<Self> { Methods::new() } }
/// # #[tokio::main]
/// # async fn main() -> std::io::Result<()> {
/// let app = Router::new().nest("/chatHub", HubEndpoint::new(ChatHub).routes());
/// let fold = MapRequestLayer::new(|request| fold_hub_path("/chatHub", request));
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
/// axum::serve(listener, fold.layer(app).into_make_service()).await
/// # }
/// ```
pub fn fold_hub_path(mounted: &str, mut request: Request) -> Request {
    let path = request.uri().path();
    let Some(start) = path.get(..mounted.len()) else {
        return request;
    };
    let rest = path.get(mounted.len()..).unwrap_or_default();
    let is_hub = start.eq_ignore_ascii_case(mounted) && (rest.is_empty() || rest.starts_with('/'));
    let rest = match rest.strip_suffix('/') {
        // Doubled slashes are left as they are: they lead nowhere.
        Some(shorter) if !shorter.ends_with('/') => shorter,
        _ => rest,
    };
    if !is_hub || path.strip_prefix(mounted) == Some(rest) {
        return request;
    }
    let query = request
        .uri()
        .query()
        .map_or(String::new(), |query| format!("?{query}"));
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = format!("{mounted}{rest}{query}").parse().ok();
    if let Ok(uri) = parts.try_into() {
        *request.uri_mut() = uri;
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    fn folded(uri: &str) -> String {
        let request = Request::builder().uri(uri).body(Body::empty()).unwrap();
        fold_hub_path("/chatHub", request).uri().to_string()
    }

    #[test]
    fn only_the_path_of_the_hub_loses_its_case() {
        assert_eq!(folded("/CHATHUB"), "/chatHub");
        assert_eq!(
            folded("/chathub/Negotiate?ID=aB"),
            "/chatHub/Negotiate?ID=aB"
        );
        assert_eq!(folded("/chatHub/?id=x"), "/chatHub?id=x");
        assert_eq!(folded("/chatHub/negotiate/"), "/chatHub/negotiate");
        for other in [
            "/chatHub?id=x",
            "/chathubs",
            "/chatHub//",
            "/App.js",
            "/",
            "/chat%48ub",
        ] {
            assert_eq!(folded(other), other);
        }
    }
}
