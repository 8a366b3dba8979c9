//! The task centre over HTTP: putting tasks in, looking at them, and giving those another chance that were given up.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use hubcast::AllowedOrigins;
use hubcast_broker::tasks::{LARGEST_TASK, Malformed, QueueError, Task, TaskCentre};
use serde::Deserialize;
use serde_json::json;
use tokio::time::timeout;

/// How long a client may take to send a task, as long as for the head of its request. Bounds what a socket that says nothing more costs.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);

/// How many of the tasks that were given up are shown at most.
pub(crate) const MOST_DEAD: usize = 1000;

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
async fn submit(State(tasks): State<Tasks>, request: Request) -> Response {
    if !tasks.origins.admit(request.headers()) {
        return forbidden();
    }
    let body = match timeout(BODY_TIMEOUT, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => body,
        Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            return (rejection.status(), Malformed::TooLarge.to_string()).into_response();
        }
        Ok(Err(rejection)) => return rejection.into_response(),
        Err(_) => return late(),
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

/// How many are to be shown.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HowMany {
    /// As many as are shown at all if it is left out.
    most: Option<usize>,
}

async fn dead(State(tasks): State<Tasks>, Query(HowMany { most }): Query<HowMany>) -> Response {
    let most = most.unwrap_or(MOST_DEAD);
    if !(1..=MOST_DEAD).contains(&most) {
        let text = format!("The parameter 'most' is 1 to {MOST_DEAD}.");
        return (StatusCode::BAD_REQUEST, text).into_response();
    }
    match tasks.centre.dead(most).await {
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

/// Answers `{"retried": 3, "left": 0}`.
async fn retry(
    State(tasks): State<Tasks>,
    headers: HeaderMap,
    Query(Which { id }): Query<Which>,
) -> Response {
    if !tasks.origins.admit(&headers) {
        return forbidden();
    }
    match tasks.centre.retry(id).await {
        Ok(retried) => Json(retried).into_response(),
        Err(error) => failed(&error),
    }
}

fn failed(error: &QueueError) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response()
}

fn forbidden() -> Response {
    (StatusCode::FORBIDDEN, "This origin is not allowed.").into_response()
}

/// What is still to come is not waited for, so the connection is good for nothing more.
fn late() -> Response {
    let seconds = BODY_TIMEOUT.as_secs();
    let text = format!("The task did not come within {seconds} seconds.");
    let close = [(header::CONNECTION, "close")];
    (StatusCode::REQUEST_TIMEOUT, close, text).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use futures_util::{StreamExt, stream};
    use hubcast_broker::tasks::{Door, Registration, TaskOptions};
    use tokio::time::{Instant, sleep};
    use tower::ServiceExt;

    use super::*;

    /// A body whose parts come so far apart.
    fn slow(parts: &'static [&'static str], pause: Duration) -> Body {
        let parts = stream::iter(parts).then(move |part| async move {
            sleep(pause).await;
            Ok::<_, std::io::Error>(*part)
        });
        Body::from_stream(parts)
    }

    async fn posted(body: Body) -> Response {
        let centre = TaskCentre::in_memory(TaskOptions::default());
        let request = Request::post("/tasks").body(body).unwrap();
        let routes = routes(centre, AllowedOrigins::default());
        routes.oneshot(request).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_come_in_time_is_not_waited_for() {
        // Something comes all the time, but not all of it.
        let trickle = slow(&["{"; 1000], Duration::from_secs(1));
        let start = Instant::now();
        let answer = posted(trickle).await;
        assert_eq!(start.elapsed().as_secs(), 15);
        assert_eq!(answer.status(), StatusCode::REQUEST_TIMEOUT);
        assert_eq!(answer.headers()[header::CONNECTION], "close");
        let text = to_bytes(answer.into_body(), 1000).await.unwrap();
        assert_eq!(text, "The task did not come within 15 seconds.");
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_tasks_that_were_given_up_are_shown_as_are_asked_for() {
        let options = TaskOptions {
            attempts: 1,
            ..TaskOptions::default()
        };
        let centre = TaskCentre::in_memory(options);
        let worker = Registration {
            types: Some([1].into()),
            ..Registration::new("a", Door::Push)
        };
        let _worker = centre.join_worker(worker).unwrap();
        for name in ["first", "second", "third"] {
            let name = name.to_owned();
            centre.submit(Task { name, kind: 2 }).await.unwrap();
        }
        while centre.status().await.dead != Some(3) {
            sleep(Duration::from_millis(1)).await;
        }
        for (query, expected) in [
            ("", Some(3)),
            ("?most=2", Some(2)),
            ("?most=1000", Some(3)),
            ("?most=0", None),
            ("?most=1001", None),
            ("?most=many", None),
            ("?many=1", None),
        ] {
            let path = format!("/tasks/dead{query}");
            let request = Request::get(path).body(Body::empty()).unwrap();
            let routes = routes(centre.clone(), AllowedOrigins::default());
            let answer = routes.oneshot(request).await.unwrap();
            let status = answer.status();
            let body = to_bytes(answer.into_body(), 10_000).await.unwrap();
            let shown = body.windows(4).filter(|it| it == b"\"id\"").count();
            match expected {
                Some(number) => assert_eq!((status, shown), (StatusCode::OK, number), "{query}"),
                None => assert_eq!(status, StatusCode::BAD_REQUEST, "{query}"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_is_too_large_is_told_so_however_it_comes() {
        let halves = ["x".repeat(40_000), "x".repeat(40_000)];
        let in_parts = Body::from_stream(stream::iter(halves.map(Ok::<_, std::io::Error>)));
        for body in [Body::from("x".repeat(65_537)), in_parts] {
            let answer = posted(body).await;
            assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
            let text = to_bytes(answer.into_body(), 1000).await.unwrap();
            assert_eq!(text, "a task has 65536 bytes at most");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_comes_slowly_is_taken() {
        let task = &["{\"TaskName\": \"Demo\",", "\"TaskType\": 1}"];
        let answer = posted(slow(task, Duration::from_secs(7))).await;
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
    }
}
