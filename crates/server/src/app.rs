//! Every HTTP path of the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use hubcast::{BackplaneStatus, HubContext};
use serde_json::{Value, json};

use crate::pages::Source;
use crate::raw::RawWebSockets;

/// Where the chat hub is.
pub(crate) const CHAT_HUB: &str = "/chatHub";

/// What the probes look at.
#[derive(Clone)]
pub(crate) struct Probes {
    pub(crate) chat: HubContext,
    pub(crate) draining: Arc<AtomicBool>,
}

/// The page, the hub, the raw WebSockets and the probes.
pub(crate) fn app(chat_hub: Router, raw: &RawWebSockets, pages: &Source, probes: Probes) -> Router {
    let probes = Router::new()
        .route(
            "/healthz",
            get(|| async { Json(json!({ "status": "alive" })) }),
        )
        .route("/readyz", get(ready))
        .with_state(probes);
    Router::new()
        .nest(CHAT_HUB, chat_hub)
        .merge(raw.routes())
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
