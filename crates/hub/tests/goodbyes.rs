//! What a client has said before it says goodbye is heard, over HTTP as over a socket.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a panic is the report of a test"
)]

use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use hubcast::{CallerContext, CloseReason, Hub, HubEndpoint, HubResult, Methods};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tower::util::ServiceExt;

struct NotingHub(mpsc::UnboundedSender<String>);

impl Hub for NotingHub {
    fn methods() -> Methods<Self> {
        Methods::new().method("Note", Self::note)
    }

    async fn on_disconnected(&self, _: &CallerContext, reason: &CloseReason) -> HubResult {
        Ok(self.0.send(reason.name().to_owned())?)
    }
}

impl NotingHub {
    async fn note(&self, _: &CallerContext, text: String) -> HubResult {
        self.0.send(text)?;
        tokio::task::yield_now().await;
        Ok(())
    }
}

/// Asks for `/hub<rest>`; gives the status and the body.
async fn ask(app: &Router, method: &str, rest: &str, body: &str) -> (u16, String) {
    let request = Request::builder()
        .method(method)
        .uri(format!("/hub{rest}"))
        .body(Body::from(body.to_owned()))
        .unwrap();
    let answer = app.clone().oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn what_was_posted_before_a_delete_is_done_before_the_connection_ends() {
    let (noting, mut noted) = mpsc::unbounded_channel();
    let app = Router::new().nest("/hub", HubEndpoint::new(NotingHub(noting)).routes());
    let (_, negotiated) = ask(&app, "POST", "/negotiate?negotiateVersion=1", "").await;
    let negotiated: Value = serde_json::from_str(&negotiated).unwrap();
    let id = format!("?id={}", negotiated["connectionToken"].as_str().unwrap());
    assert_eq!(ask(&app, "GET", &id, "").await.0, 200);
    let handshake = "{\"protocol\":\"json\",\"version\":1}\x1e";
    assert_eq!(ask(&app, "POST", &id, handshake).await.0, 200);
    assert_eq!(ask(&app, "GET", &id, "").await.1, "{}\x1e");
    let calls = ["1", "2", "3"]
        .map(|call| json!({"type": 1, "target": "Note", "arguments": [call]}).to_string() + "\x1e")
        .concat();
    assert_eq!(ask(&app, "POST", &id, &calls).await.0, 200);
    assert_eq!(ask(&app, "DELETE", &id, "").await.0, 202);
    for expected in ["1", "2", "3", "polling_ended"] {
        let heard = timeout(Duration::from_secs(10), noted.recv()).await;
        assert_eq!(heard.unwrap().unwrap(), expected);
    }
}
