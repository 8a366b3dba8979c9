//! The handlers of a connection by the names of their methods, and how they are run.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::FutureExt;
use hubcast_protocol::{Arguments, HubMessage};

use crate::handler::{Asked, Target};
use crate::session::Session;

/// What the stock clients answer when nobody has a result.
const NO_RESULT: &str = "Client didn't provide a result.";

/// What the .NET client answers when the arguments do not fit.
const NOT_BOUND: &str = "Client failed to parse argument(s).";

const PANICKED: &str = "The handler of the client panicked.";

/// A call of the server that waits for its handlers.
pub(crate) struct Job {
    /// An Invocation, as it came.
    pub(crate) record: Bytes,
    /// Who has asked: the answer must not go to another connection.
    pub(crate) session: Arc<Session>,
}

/// The handlers of a connection. Names are compared ignoring ASCII case, as the stock clients do.
#[derive(Default)]
pub(crate) struct Handlers(Mutex<Table>);

#[derive(Default)]
struct Table {
    by_name: HashMap<String, Vec<Registered>>,
    last: u64,
}

#[derive(Clone)]
struct Registered {
    number: u64,
    target: Arc<dyn Target>,
}

impl Handlers {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a handler, and gives the number that it is known by. One with a result takes the place of another.
    pub(crate) fn add(&self, method: &str, target: Arc<dyn Target>) -> u64 {
        let mut table = self.table();
        table.last += 1;
        let number = table.last;
        let handlers = table
            .by_name
            .entry(method.to_ascii_lowercase())
            .or_default();
        if target.has_result() {
            handlers.retain(|other| !other.target.has_result());
        }
        handlers.push(Registered { number, target });
        number
    }

    pub(crate) fn remove(&self, method: &str, number: u64) {
        let mut table = self.table();
        let key = method.to_ascii_lowercase();
        if let Some(handlers) = table.by_name.get_mut(&key) {
            handlers.retain(|other| other.number != number);
            if handlers.is_empty() {
                table.by_name.remove(&key);
            }
        }
    }

    pub(crate) fn remove_all(&self, method: &str) {
        self.table().by_name.remove(&method.to_ascii_lowercase());
    }

    fn find(&self, method: &str) -> Vec<Registered> {
        let key = method.to_ascii_lowercase();
        self.table().by_name.get(&key).cloned().unwrap_or_default()
    }

    /// Runs all handlers of a call, one after another, and answers if the server asks for a result.
    pub(crate) async fn run(&self, job: Job) {
        let encoding = job.session.encoding;
        let Ok(HubMessage::Invocation(invocation)) = encoding.parse(&job.record) else {
            return;
        };
        let method = &*invocation.target;
        let asked = || {
            let id = invocation.invocation_id.as_deref()?.to_owned();
            Some(Asked { encoding, id })
        };
        let handlers = self.find(method);
        if handlers.is_empty() {
            tracing::debug!(method, "the server called a method that nobody handles");
        }
        let mut answer = None;
        for Registered { target, .. } in handlers {
            let completion = run(&*target, method, invocation.arguments, asked()).await;
            answer = completion.or(answer);
        }
        if let Some(asked) = asked() {
            let answer = answer.unwrap_or_else(|| asked.failure(NO_RESULT));
            job.session.reply(answer).await;
        }
    }
}

/// Runs one handler, and gives what there is to answer.
async fn run(
    target: &dyn Target,
    method: &str,
    arguments: Arguments<'_>,
    asked: Option<Asked>,
) -> Option<Vec<u8>> {
    let answers = asked.as_ref().filter(|_| target.has_result());
    let failure = |text: &str| answers.map(|asked| asked.failure(text));
    let (not_bound, panicked) = (failure(NOT_BOUND), failure(PANICKED));
    let running = async {
        match target.call(arguments, asked) {
            Ok(running) => running.await,
            Err(reason) => {
                tracing::warn!(
                    method,
                    reason,
                    "a call of the server does not fit its handler"
                );
                not_bound
            }
        }
    };
    // A handler that panics has told so already, and harms nobody else.
    let outcome = AssertUnwindSafe(running).catch_unwind().await;
    outcome.unwrap_or_else(|_| {
        tracing::error!(method, "a handler panicked");
        panicked
    })
}
