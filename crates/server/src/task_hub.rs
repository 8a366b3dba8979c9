//! Workers that speak SignalR: the hub at `/taskHub`. What a worker's `ExecuteTask` returns is its acknowledgement.

use std::collections::BTreeSet;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use hubcast::{CallerContext, CloseReason, Hub, HubError, HubResult, InvokeError, Methods};
use hubcast_broker::tasks::{
    Answers, Assignment, Door, Reason, Registration, RegistrationError, TaskCentre, Worker,
};
use serde::Serialize;
use serde::de::IgnoredAny;
use tokio::sync::oneshot;

use crate::limits;

/// The hub at `/taskHub`. Its clients implement `ExecuteTask({id, name, type, attempt})`, whose result, whatever it is, says that the task is
/// done, and whose error that the client does not do it.
pub(crate) struct TaskHub {
    centre: TaskCentre,
}

/// What is kept with a connection that is a worker's.
struct Employed {
    answers: Answers,
    /// Dropped with the connection, which ends the work.
    _ends: oneshot::Sender<()>,
}

/// What a client is asked to do.
#[derive(Serialize)]
struct Execution<'a> {
    id: &'a str,
    name: &'a str,
    #[serde(rename = "type")]
    kind: i64,
    attempt: u32,
}

impl Hub for TaskHub {
    fn methods() -> Methods<Self> {
        Methods::new()
            .method("Register", Self::register)
            .method("Progress", Self::progress)
    }

    async fn on_disconnected(&self, ctx: &CallerContext, _: &CloseReason) -> HubResult {
        // Its tasks are others' from now on.
        drop(ctx.items().remove::<Option<Employed>>());
        Ok(())
    }
}

impl TaskHub {
    pub(crate) fn new(centre: TaskCentre) -> Self {
        Self { centre }
    }

    /// Makes the caller a worker: its id, the types of tasks that it can do (`null` is all), and how many it can have at once (`null` is one).
    #[expect(clippy::unused_async, reason = "every hub method is async")]
    async fn register(
        &self,
        ctx: &CallerContext,
        id: String,
        types: Option<BTreeSet<i64>>,
        capacity: Option<i64>,
    ) -> HubResult {
        if ctx
            .items()
            .update(|employed: &mut Option<Employed>| employed.is_some())
        {
            return Err(HubError::new("This connection is a worker's already."));
        }
        limits::worker(&id).map_err(HubError::new)?;
        let capacity =
            u32::try_from(capacity.unwrap_or(1)).map_err(|_| RegistrationError::Capacity);
        let worker = capacity.and_then(|capacity| {
            self.centre.join_worker(Registration {
                types,
                capacity,
                ..Registration::new(id, Door::TaskHub)
            })
        });
        let worker = worker.map_err(|error| HubError::new(error.to_string()))?;
        let (ends, ended) = oneshot::channel();
        let answers = worker.answers().clone();
        let employed = Employed {
            answers,
            _ends: ends,
        };
        ctx.items().insert(Some(employed));
        // Who has gone meanwhile is not seen off again.
        if !ctx.is_cancelled() {
            tokio::spawn(work(ctx.clone(), worker, ended));
        }
        Ok(())
    }

    /// Says that the caller is still at a task, and how far it is: its lease begins anew.
    #[expect(clippy::unused_async, reason = "every hub method is async")]
    async fn progress(&self, ctx: &CallerContext, id: String, text: Option<String>) -> HubResult {
        let answers = ctx.items().update(|employed: &mut Option<Employed>| {
            let employed = employed.as_ref();
            employed.map(|employed| employed.answers.clone())
        });
        let answers = answers.ok_or_else(|| HubError::new("Call Register first."))?;
        let outcome = answers.progress(&id, text.unwrap_or_default());
        outcome.map_err(|refusal| HubError::new(refusal.to_string()))
    }
}

/// Hands a worker its tasks until its connection ends, or another worker has taken its place.
async fn work(ctx: CallerContext, mut worker: Worker, mut ended: oneshot::Receiver<()>) {
    let mut executions = FuturesUnordered::new();
    loop {
        tokio::select! {
            // What a worker said before it went counts.
            biased;
            Some((assignment, outcome)) = executions.next() => {
                settle(worker.answers(), &assignment, outcome);
            }
            _ = &mut ended => {
                // It may have been said since the first branch was looked at.
                while let Some(Some((assignment, outcome))) = executions.next().now_or_never() {
                    settle(worker.answers(), &assignment, outcome);
                }
                return;
            }
            assignment = worker.next() => {
                let Some(assignment) = assignment else {
                    // Another worker has its id.
                    ctx.abort();
                    return;
                };
                executions.push(execute(&ctx, assignment));
            }
        }
    }
}

async fn execute(
    ctx: &CallerContext,
    assignment: Assignment,
) -> (Assignment, Result<IgnoredAny, InvokeError>) {
    let hub = ctx.hub();
    let Assignment { id, task, attempt } = &assignment;
    let execution = Execution {
        id,
        name: &task.name,
        kind: task.kind,
        attempt: *attempt,
    };
    let client = hub.clients().client(ctx.connection_id());
    // Without a limit: the lease is one, and a worker that is late is to be told so.
    let outcome = client.invoke("ExecuteTask", (execution,)).await;
    (assignment, outcome)
}

fn settle(answers: &Answers, assignment: &Assignment, outcome: Result<IgnoredAny, InvokeError>) {
    let id = &assignment.id;
    let settled = match outcome {
        Ok(IgnoredAny) => answers.done(id),
        // The hub is about to hear of it, and to give the task to another.
        Err(InvokeError::Disconnected { .. } | InvokeError::NotFound { .. }) => return,
        Err(error) => answers.refuse(id, &Reason::new(error.to_string())),
    };
    if let Err(refusal) = settled {
        tracing::info!(task = ?id, %refusal, "an answer came too late");
    }
}
