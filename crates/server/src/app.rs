//! Every HTTP path of the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use hubcast::{BackplaneStatus, HubContext};
use serde_json::{Value, json};

use crate::pages::Source;

/// Where the chat hub is.
const CHAT_HUB: &str = "/chatHub";

/// What the probes look at.
#[derive(Clone)]
pub(crate) struct Probes {
    pub(crate) chat: HubContext,
    pub(crate) draining: Arc<AtomicBool>,
}

/// The page, the hub and the probes.
pub(crate) fn app(chat_hub: Router, pages: &Source, probes: Probes) -> Router {
    let probes = Router::new()
        .route(
            "/healthz",
            get(|| async { Json(json!({ "status": "alive" })) }),
        )
        .route("/readyz", get(ready))
        .with_state(probes);
    Router::new()
        .nest(CHAT_HUB, chat_hub)
        .merge(probes)
        .merge(pages.routes())
}

/// Whether clients should be sent here: 200 if they can be served, though maybe without other servers; 503 if not.
async fn ready(State(probes): State<Probes>) -> (StatusCode, Json<Value>) {
    if probes.draining.load(Ordering::SeqCst) {
        let body = json!({ "status": "draining" });
        return (StatusCode::SERVICE_UNAVAILABLE, Json(body));
    }
    let body = match probes.chat.backplane_status() {
        None | Some(BackplaneStatus::Connected) => json!({ "status": "ready" }),
        Some(BackplaneStatus::Connecting) => {
            json!({ "status": "degraded", "reason": "Redis has not answered yet" })
        }
        Some(BackplaneStatus::Disconnected { reason }) => {
            json!({ "status": "degraded", "reason": format!("Redis is away: {reason}") })
        }
    };
    (StatusCode::OK, Json(body))
}

/// Gives the hub's path the shape it is mounted in: SignalR compares paths ignoring case and a slash at the end,
/// routers do not.
pub(crate) fn fold_hub_path(mut request: Request) -> Request {
    let path = request.uri().path();
    let Some(start) = path.get(..CHAT_HUB.len()) else {
        return request;
    };
    let rest = path.get(CHAT_HUB.len()..).unwrap_or_default();
    let is_hub = start.eq_ignore_ascii_case(CHAT_HUB) && (rest.is_empty() || rest.starts_with('/'));
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if !is_hub || path.strip_prefix(CHAT_HUB) == Some(rest) {
        return request;
    }
    let query = request
        .uri()
        .query()
        .map_or(String::new(), |query| format!("?{query}"));
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = format!("{CHAT_HUB}{rest}{query}").parse().ok();
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
        fold_hub_path(request).uri().to_string()
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
        for other in ["/chatHub?id=x", "/chathubs", "/App.js", "/", "/chat%48ub"] {
            assert_eq!(folded(other), other);
        }
    }
}
