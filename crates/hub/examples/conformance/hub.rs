//! The hub and what its methods share; they are in a file for each kind.

mod asks;
mod calls;
mod connections;
mod failures;
mod objects;
mod streams;
mod values;

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hubcast::{CallerContext, CloseReason, Hub, HubError, HubResult, Methods};

#[derive(Default)]
pub(crate) struct TestHub {
    /// Whoever wants to hear of connections that end.
    watchers: Mutex<HashSet<String>>,
}

impl Hub for TestHub {
    fn methods() -> Methods<Self> {
        let methods = Methods::new();
        let methods = Self::values(methods);
        let methods = Self::calls_back(methods);
        let methods = Self::asks(methods);
        let methods = Self::fails(methods);
        let methods = Self::streams(methods);
        Self::connections(methods)
    }

    async fn on_disconnected(&self, ctx: &CallerContext, reason: &CloseReason) -> HubResult {
        let watchers: Vec<String> = {
            let mut watchers = self.watchers();
            watchers.remove(ctx.connection_id());
            watchers.iter().cloned().collect()
        };
        let watchers = watchers.iter().map(String::as_str);
        let ended = (ctx.connection_id(), reason.error());
        Ok(ctx
            .clients()
            .clients(watchers)
            .send("Disconnected", ended)
            .await?)
    }
}

impl TestHub {
    fn watchers(&self) -> MutexGuard<'_, HashSet<String>> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// So that nobody makes this server hold what it cannot.
fn bounded(bytes: usize) -> HubResult<usize> {
    match bytes {
        0..=16_777_216 => Ok(bytes),
        _ => Err(HubError::new("at most 16 MiB")),
    }
}
