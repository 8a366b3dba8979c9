//! The task centre over HTTP: putting tasks in, looking at them, and giving those another chance that were given up.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use hubcast::AllowedOrigins;
use hubcast_broker::tasks::{LARGEST_TASK, QueueError, Task, TaskCentre};
use serde::Deserialize;
use serde_json::json;

/// How many of the tasks that were given up are shown at most.
const MOST_DEAD: usize = 1000;

#[derive(Clone)]
struct Tasks {
    centre: TaskCentre,
    /// Pages from elsewhere put no tasks in.
    origins: AllowedOrigins,
}

/// `/tasks`, `/tasks/dead` and `/tasks/dead/retry`.
pub(crate) fn routes(centre: TaskCentre, origins: AllowedOrigins) -> Router {
    Router::new()
        .route("/tasks", get(show).post(submit))
        .route("/tasks/dead", get(dead))
        .route("/tasks/dead/retry", post(retry))
        .layer(DefaultBodyLimit::max(LARGEST_TASK))
        .with_state(Tasks { centre, origins })
}

async fn show(State(tasks): State<Tasks>) -> Response {
    Json(tasks.centre.status().await).into_response()
}

/// Takes `{"TaskName": "Demo", "TaskType": 1}`, and answers `{"id": ".."}` when it is safe in the queue.
async fn submit(
    State(tasks): State<Tasks>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    if !tasks.origins.admit(&headers) {
        return forbidden();
    }
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return rejection.into_response(),
    };
    let task = match Task::parse(&body) {
        Ok(task) => task,
        Err(malformed) => return (StatusCode::BAD_REQUEST, malformed.to_string()).into_response(),
    };
    match tasks.centre.submit(task).await {
        Ok(id) => (StatusCode::ACCEPTED, Json(json!({ "id": id }))).into_response(),
        Err(error) => failed(&error),
    }
}

async fn dead(State(tasks): State<Tasks>) -> Response {
    match tasks.centre.dead(MOST_DEAD).await {
        Ok(dead) => Json(json!({ "dead": dead })).into_response(),
        Err(error) => failed(&error),
    }
}

/// Which tasks get another chance. A misspelt name is not left out, since it would mean all of them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    /// All if it is left out.
    id: Option<String>,
}

/// Answers `{"retried": 3}`.
async fn retry(
    State(tasks): State<Tasks>,
    headers: HeaderMap,
    Query(Which { id }): Query<Which>,
) -> Response {
    if !tasks.origins.admit(&headers) {
        return forbidden();
    }
    match tasks.centre.retry(id).await {
        Ok(retried) => Json(json!({ "retried": retried })).into_response(),
        Err(error) => failed(&error),
    }
}

fn failed(error: &QueueError) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response()
}

fn forbidden() -> Response {
    (StatusCode::FORBIDDEN, "This origin is not allowed.").into_response()
}
