//! The queue in RabbitMQ, which servers share.
//!
//! Each worker is a consumer here whose prefetch is what the worker can have, so RabbitMQ keeps the rest, and gives it to whichever server has room. A task is
//! acknowledged when a worker has done it, or when it has been published to another queue and that was confirmed: it is never nowhere.

mod dead;
mod era;
mod ledger;
mod message;
mod names;
mod servers;

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::link::{Link, LinkStatus};
use crate::publisher::Publisher;
use crate::trouble::Trouble;

use self::era::Era;
use self::ledger::Ledger;
use self::message::Receipt;
use self::names::Names;
use super::board::{Notice, WorkerKey};
use super::{QueueError, QueueSide, Request};

pub use self::dead::DeadTasks;

pub(super) struct RabbitQueue {
    side: QueueSide,
    link: Link,
    names: Names,
    publisher: Arc<Publisher>,
    /// How many tasks each worker has room for.
    slots: HashMap<WorkerKey, u32>,
    ledger: Ledger<Receipt>,
}

/// Why an era ended.
enum End {
    /// There is no task centre any more.
    Over,
    Trouble(Trouble),
}

impl<E: Into<Trouble>> From<E> for End {
    fn from(trouble: E) -> Self {
        Self::Trouble(trouble.into())
    }
}

impl RabbitQueue {
    pub(super) fn new(side: QueueSide, link: Link, queue: &str) -> Self {
        Self {
            side,
            publisher: Arc::new(Publisher::mandatory(&link)),
            link,
            names: Names::new(queue),
            slots: HashMap::new(),
            ledger: Ledger::new(),
        }
    }

    /// Lives through one connection after the other.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new();
        let mut is_first = true;
        loop {
            let link = self.link.clone();
            let channel = tokio::select! {
                channel = link.channel() => channel,
                request = self.side.requests.recv() => match request {
                    Some(request) => {
                        refuse(request, &self.trouble());
                        continue;
                    }
                    None => return,
                },
            };
            let began = Instant::now();
            let end = match Era::begin(&mut self, channel, is_first).await {
                Ok(mut era) => {
                    is_first = false;
                    era.run().await
                }
                Err(trouble) => trouble.into(),
            };
            self.ledger.lose(Instant::now());
            match end {
                End::Over => return,
                End::Trouble(Trouble::Lost(reason)) => {
                    tracing::debug!(reason, "the queue of tasks is lost");
                }
                End::Trouble(Trouble::Refused(refusal)) => {
                    tracing::error!(%refusal, "RabbitMQ does not let the task centre work");
                }
            }
            backoff.rest(began.elapsed()).await;
        }
    }

    fn trouble(&self) -> String {
        match &*self.link.status().borrow() {
            LinkStatus::Away { reason } | LinkStatus::Refused { reason } => reason.clone(),
            _ => "it is being connected to".to_owned(),
        }
    }

    /// What workers there are, which is known from connection to connection.
    fn note(&mut self, notice: &Notice) {
        match notice {
            Notice::Opened(worker, slots) => {
                self.slots.insert(*worker, *slots);
            }
            Notice::Closed(worker) => {
                self.slots.remove(worker);
            }
            _ => {}
        }
    }
}

/// Whoever asks while there is no connection is told so at once.
fn refuse(request: Request, reason: &str) {
    let error = || QueueError::Away(reason.to_owned());
    // Whoever asked may have gone.
    let _ = match request {
        Request::Submit(_, answer) => answer.send(Err(error())).is_ok(),
        Request::Counts(answer) => answer.send(Err(error())).is_ok(),
        Request::Dead(_, answer) => answer.send(Err(error())).is_ok(),
        Request::Retry(_, answer) => answer.send(Err(error())).is_ok(),
        // Nothing can be on its way.
        Request::Flush(answer) => answer.send(Ok(())).is_ok(),
    };
}
