//! What a hub knows of whoever calls it, over HTTP and through axum's router and middleware.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a panic is the report of a test"
)]

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use hubcast::{CallerContext, ConnectingRequest, Hub, HubEndpoint, HubResult, Methods, UserId};
use serde_json::{Value, json};
use tower::util::ServiceExt;

struct KnowingHub;

impl Hub for KnowingHub {
    fn methods() -> Methods<Self> {
        Methods::new().method("WhatIsKnown", Self::what_is_known)
    }
}

impl KnowingHub {
    /// User, a header, a query parameter, an extension, the transport, and how many connections the hub has.
    #[expect(clippy::unused_async, reason = "every hub method is async")]
    async fn what_is_known(&self, ctx: &CallerContext) -> HubResult<Value> {
        Ok(json!([
            ctx.user_identifier(),
            ctx.header("X-Device"),
            ctx.query("ROOM"),
            ctx.extension::<Claims>().map(|claims| claims.0),
            ctx.transport(),
            ctx.hub().connection_count(),
        ]))
    }
}

#[derive(Clone)]
struct Claims(&'static str);

/// What a middleware does that has checked a token.
async fn authenticate(mut request: Request, next: Next) -> Response {
    let user = request.headers().get("x-user");
    let user = user.map(|user| UserId(user.to_str().unwrap().to_owned()));
    if let Some(user) = user {
        request.extensions_mut().insert(user);
        request.extensions_mut().insert(Claims("admin"));
    }
    next.run(request).await
}

/// Asks for `/hub<rest>` and gives the body of the answer.
async fn ask(app: &Router, method: &str, rest: &str, user: Option<&str>, body: &str) -> String {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("/hub{rest}"))
        .header("x-device", "phone");
    if let Some(user) = user {
        request = request.header("x-user", user);
    }
    let request = request.body(Body::from(body.to_owned())).unwrap();
    let answer = app.clone().oneshot(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK, "{method} {rest}");
    let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    String::from_utf8(body.to_vec()).unwrap()
}

/// What the hub knows of a client that connects with long polling and the query `room=lobby`.
async fn known(endpoint: HubEndpoint<KnowingHub>, user: Option<&str>) -> Value {
    let app = Router::new().nest("/hub", endpoint.routes());
    let app = app.layer(from_fn(authenticate));
    // Of the negotiation nothing is kept: what counts is the first request of the transport.
    let negotiated = ask(
        &app,
        "POST",
        "/negotiate?negotiateVersion=1&room=negotiated",
        Some("negotiated"),
        "",
    )
    .await;
    let negotiated: Value = serde_json::from_str(&negotiated).unwrap();
    let token = negotiated["connectionToken"].as_str().unwrap();
    let first = format!("?id={token}&room=lobby");
    let later = format!("?id={token}&room=later");
    assert_eq!(ask(&app, "GET", &first, user, "").await, "");
    let messages = "{\"protocol\":\"json\",\"version\":1}\x1e\
        {\"type\":1,\"invocationId\":\"1\",\"target\":\"WhatIsKnown\",\"arguments\":[]}\x1e";
    ask(&app, "POST", &later, Some("later"), messages).await;
    let mut got = String::new();
    while !got.contains("\"result\"") {
        got.push_str(&ask(&app, "GET", &later, Some("later"), "").await);
    }
    let completion = got.split('\x1e').nth(1).unwrap();
    let mut completion: Value = serde_json::from_str(completion).unwrap();
    completion["result"].take()
}

#[tokio::test]
async fn the_request_that_a_connection_began_with_is_known() {
    let endpoint = HubEndpoint::new(KnowingHub);
    assert_eq!(
        known(endpoint, Some("ada")).await,
        json!(["ada", "phone", "lobby", "admin", "LongPolling", 1])
    );
}

#[tokio::test]
async fn a_client_that_nobody_has_identified_is_no_user() {
    for nobody in [None, Some("")] {
        let known = known(HubEndpoint::new(KnowingHub), nobody).await;
        assert_eq!(known[0], Value::Null);
    }
}

#[tokio::test]
async fn an_application_may_say_itself_who_the_user_is() {
    let endpoint = HubEndpoint::new(KnowingHub)
        .user_id_provider(|request: &ConnectingRequest| request.query("room"));
    assert_eq!(known(endpoint, Some("ada")).await[0], "lobby");

    let endpoint = HubEndpoint::new(KnowingHub).user_id_provider(|_: &ConnectingRequest| None);
    assert_eq!(known(endpoint, Some("ada")).await[0], Value::Null);
}

#[tokio::test]
#[should_panic(expected = "configure a HubEndpoint before its context() or routes() are used")]
async fn users_are_not_redefined_while_the_hub_runs() {
    let endpoint = HubEndpoint::new(KnowingHub);
    drop(endpoint.context());
    drop(endpoint.user_id_provider(|_: &ConnectingRequest| None));
}
