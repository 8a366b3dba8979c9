//! Workers without SignalR: `/push`. The first message is the worker's id, or more about it as JSON; then tasks come as texts.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::Uri;
use axum::response::Response;
use axum::routing::any;
use hubcast_broker::tasks::{Assignment, Door, Reason, Registration, TaskCentre, Worker};
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use crate::limits;
use crate::raw::{Conversation, Goodbye, Message, RawWebSockets};

/// How long a worker may take to say who it is.
const INTRODUCTION: Duration = Duration::from_secs(15);

/// What a worker is told when another one has come in its place, as such workers know it.
const REPLACED: (u16, &str) = (1011, "A new client with same id was connected!");

/// The code for a message that does not do (RFC 6455, section 7.4.1).
const POLICY: u16 = 1008;

/// The code for a kind of message that is not understood.
const UNSUPPORTED: u16 = 1003;

/// `/push`, and `/push?ack=done` for workers that say when they are done.
pub(crate) fn routes(sockets: &RawWebSockets, centre: TaskCentre) -> Router {
    let push = async |State((sockets, centre)): State<(RawWebSockets, TaskCentre)>,
                      request: Request| { push(&sockets, centre, request) };
    Router::new()
        .route("/push", any(push))
        .with_state((sockets.clone(), centre))
}

fn push(sockets: &RawWebSockets, centre: TaskCentre, request: Request) -> Response {
    match says_done(request.uri()) {
        Ok(says_done) => sockets.answer(request, async move { Ok(Push::new(centre, says_done)) }),
        Err(problem) => sockets.refuse(&request, problem),
    }
}

/// Whether the worker says when a task is done. A misspelt wish is not left out, since tasks would count as done that are not.
fn says_done(uri: &Uri) -> Result<bool, String> {
    let query = uri.query().unwrap_or_default().as_bytes();
    let mut parameters = form_urlencoded::parse(query);
    match parameters.find(|(name, _)| name == "ack") {
        None => Ok(false),
        Some((_, value)) if value == "done" => Ok(true),
        Some(_) => Err("The parameter 'ack' is 'done', or is left out.".to_owned()),
    }
}

/// What is said with one worker.
struct Push {
    centre: TaskCentre,
    /// Whether the worker says when a task is done; otherwise it is when it has been written.
    says_done: bool,
    /// By when the worker has to say who it is.
    until: Instant,
    worker: Option<Worker>,
    /// The task that is being written.
    written: Option<Arc<str>>,
}

/// What a worker answers: `{"done": id}`, `{"refuse": id, "reason": ".."}` or `{"progress": id, "text": ".."}`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Done {
        done: String,
    },
    Refuse {
        refuse: String,
        reason: Option<String>,
    },
    Progress {
        progress: String,
        text: Option<String>,
    },
}

impl Push {
    fn new(centre: TaskCentre, says_done: bool) -> Self {
        Self {
            centre,
            says_done,
            until: Instant::now() + INTRODUCTION,
            worker: None,
            written: None,
        }
    }

    fn take_in(&self, text: &str) -> Result<Worker, Goodbye> {
        let registration = if text.trim_start().starts_with('{') {
            serde_json::from_str(text)
                .map_err(|error| Goodbye::new(POLICY, format!("Not a worker: {error}")))?
        } else {
            Registration::new(text, Door::Push)
        };
        limits::worker(&registration.id).map_err(|problem| Goodbye::new(POLICY, problem))?;
        let joined = self.centre.join_worker(registration);
        joined.map_err(|error| Goodbye::new(POLICY, error.to_string()))
    }

    fn as_text(&self, Assignment { id, task, .. }: &Assignment) -> String {
        if self.says_done {
            json!({ "id": **id, "task": task.text() }).to_string()
        } else {
            task.text()
        }
    }
}

/// What a worker is told whose answer does not count: `{"error": "..", "id": ".."}`.
fn objection(error: impl Into<Cow<'static, str>>, id: Option<&str>) -> Message {
    Message::Text(json!({ "error": error.into(), "id": id }).to_string())
}

fn settle(worker: &Worker, text: &str) -> Option<Message> {
    let Ok(answer) = serde_json::from_str::<Answer>(text) else {
        let expected = r#"Say {"done": id}, {"refuse": id, "reason": ".."} or {"progress": id, "text": ".."}."#;
        return Some(objection(expected, None));
    };
    let answers = worker.answers();
    let (id, outcome) = match &answer {
        Answer::Done { done } => (done, answers.done(done)),
        Answer::Refuse { refuse, reason } => {
            let reason = Reason::new(reason.as_deref().unwrap_or("without a reason"));
            (refuse, answers.refuse(refuse, &reason))
        }
        Answer::Progress { progress, text } => {
            let text = text.as_deref().unwrap_or_default();
            (progress, answers.progress(progress, text))
        }
    };
    let refusal = outcome.err()?;
    Some(objection(refusal.to_string(), Some(id)))
}

impl Conversation for Push {
    async fn hear(&mut self, message: Message) -> Result<Option<Message>, Goodbye> {
        let Message::Text(text) = message else {
            return Err(Goodbye::new(UNSUPPORTED, "Only texts are understood."));
        };
        let Some(worker) = &self.worker else {
            self.worker = Some(self.take_in(&text)?);
            return Ok(None);
        };
        // Whoever need not answer may say what it likes.
        Ok(self.says_done.then(|| settle(worker, &text)).flatten())
    }

    async fn next(&mut self) -> Result<Message, Goodbye> {
        let Some(worker) = &mut self.worker else {
            sleep_until(self.until).await;
            return Err(Goodbye::new(POLICY, "Nobody said who they are."));
        };
        let (code, reason) = REPLACED;
        let assignment = worker.next().await;
        let assignment = assignment.ok_or_else(|| Goodbye::new(code, reason))?;
        let text = self.as_text(&assignment);
        self.written = Some(assignment.id);
        Ok(Message::Text(text))
    }

    async fn written(&mut self) {
        let written = self.written.take();
        if !self.says_done
            && let (Some(worker), Some(id)) = (&self.worker, written)
            && let Err(refusal) = worker.answers().done(&id)
        {
            tracing::info!(task = ?id, %refusal, "a task was written too late");
        }
    }
}
