//! The queue in RabbitMQ, which servers share.
//!
//! Each worker is a consumer here whose prefetch is what the worker can have, so RabbitMQ keeps the rest, and gives it to whichever server has room. A task is
//! acknowledged when a worker has done it, or when it has been published to another queue and that was confirmed: it is never nowhere.

mod asks;
mod dead;
mod era;
mod ledger;
mod message;
mod names;
mod servers;

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::backoff::Backoff;
use crate::link::{Link, LinkStatus};
use crate::name::TaskQueue;
use crate::publisher::Publisher;
use crate::trouble::Trouble;

use self::era::Era;
use self::ledger::Ledger;
use self::message::Receipt;
use self::names::Names;
use super::board::{Notice, WorkerKey};
use super::task::new_id;
use super::{QueueError, QueueSide, Request};

pub use self::dead::DeadTasks;

/// How long it may take to declare everything.
const BEGINNING: Duration = Duration::from_secs(30);

pub(super) struct RabbitQueue {
    side: QueueSide,
    link: Link,
    /// Another connection to the same RabbitMQ, for all that is published.
    publishing: Link,
    names: Names,
    /// What this server is called among those of its queue.
    server: Arc<str>,
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
    pub(super) fn new(side: QueueSide, link: Link, publishing: Link, queue: &TaskQueue) -> Self {
        Self {
            ledger: Ledger::new(side.options.retry),
            side,
            publisher: Arc::new(Publisher::mandatory(&publishing)),
            publishing,
            link,
            server: new_id().into(),
            names: Names::new(queue),
            slots: HashMap::new(),
        }
    }

    /// Lives through one connection after the other.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new();
        let mut is_first = true;
        let mut worked = None;
        loop {
            let link = self.link.clone();
            let channel = {
                let mut channel = pin!(async {
                    if let Some(worked) = worked {
                        backoff.rest(worked).await;
                    }
                    link.channel().await
                });
                loop {
                    tokio::select! {
                        channel = &mut channel => break channel,
                        // So that they do not pile up.
                        notice = self.side.notices.recv() => match notice {
                            Some(notice) => self.hear_alone(&notice),
                            None => return,
                        },
                        request = self.side.requests.recv() => match request {
                            Some(request) => refuse(request, &|| self.trouble()),
                            None => return,
                        },
                    }
                }
            };
            let began = Instant::now();
            let beginning = Era::begin(&mut self, channel, is_first);
            let era = timeout(BEGINNING, beginning).await;
            let era = era.unwrap_or_else(|_| Err(Trouble::lost("RabbitMQ does not answer")));
            let end = match era {
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
                    self.tell_trouble(Some(refusal.to_string()));
                }
            }
            worked = Some(began.elapsed());
        }
    }

    /// What somebody has to put right. Told once.
    fn tell_trouble(&self, trouble: Option<String>) {
        self.side.trouble.send_if_modified(|now| {
            let is_new = *now != trouble;
            if let Some(reason) = &trouble
                && is_new
            {
                tracing::error!(reason, "RabbitMQ does not let the task centre work");
            }
            *now = trouble;
            is_new
        });
    }

    fn trouble(&self) -> QueueError {
        if let Some(trouble) = &*self.side.trouble.borrow() {
            return QueueError::Refused(trouble.clone());
        }
        for link in [&self.link, &self.publishing] {
            if let LinkStatus::Away { reason } | LinkStatus::Refused { reason } =
                &*link.status().borrow()
            {
                return QueueError::Away(reason.clone());
            }
        }
        QueueError::Away("it is being connected to".to_owned())
    }

    /// Does what the board wants while RabbitMQ is away: it has everything still, and delivers it again. What is done is not done again then.
    fn hear_alone(&mut self, notice: &Notice) {
        self.note(notice);
        match *notice {
            Notice::Done(number) => {
                self.ledger.done(number, Instant::now());
            }
            Notice::Later(number, _) | Notice::NobodyHere(number) | Notice::Dead(number, ..) => {
                self.ledger.remove(number);
            }
            // Told with the next connection.
            Notice::Opened(..) | Notice::Closed(_) | Notice::Joined(..) => {}
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
fn refuse(request: Request, error: &dyn Fn() -> QueueError) {
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
