//! The queries of requests to a hub.

use std::cell::RefCell;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, Uri};
use hubcast::{Hub, HubEndpoint, Methods};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;

/// More than any answer to a negotiation has.
const LONGEST_ANSWER: usize = 1024;

struct Nothing;

impl Hub for Nothing {
    fn methods() -> Methods<Self> {
        Methods::new()
    }
}

thread_local! {
    static HUB: RefCell<(Runtime, Router)> = {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let routes = runtime.block_on(async { HubEndpoint::new(Nothing).routes() });
        RefCell::new((runtime, routes))
    };
}

/// Every query has an answer: a negotiation is granted, with all that a client needs, or refused with a reason. A
/// connection that nobody has negotiated is refused, and what was asked for is not repeated.
pub fn negotiate(query: &[u8]) {
    let Ok(query) = std::str::from_utf8(query) else {
        return;
    };
    let address = |path: &str| Uri::try_from(format!("{path}?{query}")).ok();
    let Some(negotiation) = address("/negotiate") else {
        return;
    };
    let asked_for_a_version = form_urlencoded::parse(negotiation.query().unwrap_or("").as_bytes())
        .any(|(name, _)| name.eq_ignore_ascii_case("negotiateVersion"));
    let (status, body) = ask("POST", negotiation);
    assert_eq!(status, StatusCode::OK);
    let answer: Value = serde_json::from_slice(&body).unwrap();
    if let Some(error) = answer.get("error") {
        assert!(error.as_str().is_some_and(|error| !error.is_empty()));
        assert!(answer.get("connectionId").is_none());
        assert!(asked_for_a_version, "a client need not name a version");
        return;
    }
    let version = answer
        .get("negotiateVersion")
        .and_then(Value::as_i64)
        .unwrap();
    assert!((0..=1).contains(&version));
    assert!(version == 0 || asked_for_a_version);
    let text = |name| answer.get(name).and_then(Value::as_str);
    assert!(!text("connectionId").unwrap().is_empty());
    assert_eq!(text("connectionToken").is_some(), version == 1);
    let transports = answer.get("availableTransports").and_then(Value::as_array);
    assert_eq!(transports.unwrap().len(), 3);

    for method in ["GET", "POST", "DELETE"] {
        let Some(address) = address("/") else {
            return;
        };
        let (status, body) = ask(method, address);
        assert!(status.is_client_error(), "{method}: {status}");
        assert!(body.len() < 100, "{}", body.escape_ascii());
    }
}

fn ask(method: &str, uri: Uri) -> (StatusCode, Vec<u8>) {
    let request = Request::builder().method(method).uri(uri);
    let request = request.body(Body::empty()).unwrap();
    HUB.with_borrow(|(runtime, routes)| {
        runtime.block_on(async {
            let response = routes.clone().oneshot(request).await.unwrap();
            let status = response.status();
            let body = to_bytes(response.into_body(), LONGEST_ANSWER).await;
            (status, body.unwrap().to_vec())
        })
    })
}
