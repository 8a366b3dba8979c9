//! Every HTTP path of the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use hubcast::{BackplaneStatus, HubContext};
use hubcast_broker::tasks::TaskCentre;
use hubcast_broker::{Link, LinkStatus};
use serde_json::{Value, json};

use crate::feeds::FeedTroubles;
use crate::pages::Source;

/// Where the chat hub is.
pub(crate) const CHAT_HUB: &str = "/chatHub";

/// Where the hub of workers is.
pub(crate) const TASK_HUB: &str = "/taskHub";

/// What the probes look at.
#[derive(Clone)]
pub(crate) struct Probes {
    pub(crate) chat: HubContext,
    pub(crate) rabbitmq: Option<Link>,
    pub(crate) tasks: Option<TaskCentre>,
    /// What is wrong with feeds.
    pub(crate) feeds: FeedTroubles,
    pub(crate) draining: Arc<AtomicBool>,
}

/// The chat, the page, and the probes; and what `others` is.
pub(crate) fn app(chat_hub: Router, others: Router, pages: &Source, probes: Probes) -> Router {
    let probes = Router::new()
        .route(
            "/healthz",
            get(|| async { Json(json!({ "status": "alive" })) }),
        )
        .route("/readyz", get(ready))
        .with_state(probes);
    Router::new()
        .nest(CHAT_HUB, chat_hub)
        .merge(others)
        .merge(probes)
        .merge(pages.routes())
}

/// Whether clients should be sent here: 200 if they can be served, though maybe without other servers; 503 if not.
async fn ready(State(probes): State<Probes>) -> (StatusCode, Json<Value>) {
    if probes.draining.load(Ordering::SeqCst) {
        let body = json!({ "status": "draining" });
        return (StatusCode::SERVICE_UNAVAILABLE, Json(body));
    }
    let mut reasons = Vec::new();
    reasons.extend(match probes.chat.backplane_status() {
        None | Some(BackplaneStatus::Connected) => None,
        Some(BackplaneStatus::Connecting) => Some("Redis has not answered yet".to_owned()),
        Some(BackplaneStatus::Disconnected { reason }) => Some(format!("Redis is away: {reason}")),
    });
    reasons.extend(probes.rabbitmq.as_ref().and_then(missing));
    let trouble = probes.tasks.as_ref().and_then(TaskCentre::trouble);
    reasons.extend(trouble.map(|it| format!("no tasks: {it}")));
    reasons.extend(probes.feeds.now());
    let body = if reasons.is_empty() {
        json!({ "status": "ready" })
    } else {
        json!({ "status": "degraded", "reason": reasons.join("; ") })
    };
    (StatusCode::OK, Json(body))
}

/// What is wrong with RabbitMQ.
fn missing(link: &Link) -> Option<String> {
    match &*link.status().borrow() {
        LinkStatus::Connected => None,
        LinkStatus::Connecting => Some("RabbitMQ has not answered yet".to_owned()),
        LinkStatus::Blocked { reason } => Some(format!("RabbitMQ takes no messages: {reason}")),
        LinkStatus::Away { reason } => Some(format!("RabbitMQ is away: {reason}")),
        LinkStatus::Refused { reason } => Some(format!("RabbitMQ does not let us in: {reason}")),
    }
}
