//! What this server itself is asked for: a new task, how things stand, the tasks that were given up.

use std::sync::Arc;
use std::time::Duration;

use lapin::Channel;
use tokio::time::timeout;

use super::Era;
use super::settling::{Job, Settled};
use crate::publisher::{self, PublishError};
use crate::tasks::rabbit::dead::DeadTasks;
use crate::tasks::rabbit::message::new_task;
use crate::tasks::rabbit::names::{Names, state};
use crate::tasks::rabbit::servers::What;
use crate::tasks::status::{DeadTask, Retried};
use crate::tasks::task::{Task, new_id};
use crate::tasks::{Answer, Counts, QueueError, Request};
use crate::trouble::Trouble;

/// How many may wait to look at the tasks that were given up.
const MOST_LOOKS: usize = 64;

/// How long tasks that were given up are put back for one request: whoever asks waits ten seconds.
const RETRYING: Duration = Duration::from_secs(5);

/// How long saying goodbye to the other servers may take.
const GOODBYE: Duration = Duration::from_millis(500);

/// Somebody wants to see the tasks that were given up, or to try them again.
pub(super) enum Look {
    List(usize, Answer<Vec<DeadTask>>),
    Retry(Option<String>, Answer<Retried>),
}

impl Era<'_> {
    pub(super) fn begin_request(&mut self, request: Request) {
        let job: Job = match request {
            Request::Submit(task, answer) => self.submit(&task, answer),
            Request::Counts(mut answer) => {
                let (looking, names) = (self.looking.clone(), self.queue.names.clone());
                Box::pin(async move {
                    tokio::select! {
                        biased;
                        // Nobody waits for it any more.
                        () = answer.closed() => {}
                        counts = counts(&looking, &names) => drop(answer.send(Ok(counts?))),
                    }
                    Ok(Settled::Other)
                })
            }
            Request::Dead(most, answer) => {
                self.look_at_dead(Look::List(most, answer));
                return;
            }
            Request::Retry(id, answer) => {
                self.look_at_dead(Look::Retry(id, answer));
                return;
            }
            Request::Flush(answer) => {
                self.flushing.push(answer);
                return;
            }
        };
        self.jobs.push(job);
    }

    fn submit(&self, task: &Task, mut answer: Answer<String>) -> Job {
        let id = new_id();
        let body = serde_json::to_vec(task).unwrap_or_default();
        let tasks = self.queue.names.tasks.clone();
        let message = publisher::Message::new("", tasks.as_str(), body).properties(new_task(&id));
        let queues = Arc::clone(&self.queue.publisher);
        Box::pin(async move {
            tokio::select! {
                biased;
                published = queues.publish_once(message) => {
                    let outcome = published.map(|()| id).map_err(QueueError::from);
                    // Whoever asked may have gone.
                    let _ = answer.send(outcome);
                }
                // Who has waited in vain tries again, and then it would be there twice. What has been sent cannot be taken back.
                () = answer.closed() => {}
            }
            Ok(Settled::Other)
        })
    }

    /// What one looks at is hidden from others, so they look one after the other.
    fn look_at_dead(&mut self, look: Look) {
        if self.looks.len() < MOST_LOOKS {
            self.looks.push_back(look);
        } else {
            match look {
                Look::List(_, answer) => drop(answer.send(Err(QueueError::Busy))),
                Look::Retry(_, answer) => drop(answer.send(Err(QueueError::Busy))),
            }
        }
        self.look_on();
    }

    /// Begins the next look, if none is being taken.
    pub(super) fn look_on(&mut self) {
        if self.is_looking {
            return;
        }
        let Some(look) = self.looks.pop_front() else {
            return;
        };
        self.is_looking = true;
        let queue = &self.queue;
        let publishing = queue.publishing.clone();
        let dead = DeadTasks::of(queue.link.clone(), publishing, queue.names.clone());
        self.jobs.push(Box::pin(async move {
            match look {
                // Nothing more is done when whoever asked has gone.
                Look::List(most, mut answer) => tokio::select! {
                    biased;
                    () = answer.closed() => {}
                    listed = dead.list(most) => drop(answer.send(listed.map_err(QueueError::from))),
                },
                Look::Retry(_, answer) if answer.is_closed() => {}
                // What has been begun is brought to its end, since a task could be in both queues otherwise.
                Look::Retry(id, answer) => {
                    let retried = dead.retry(id.as_deref(), RETRYING).await;
                    let _ = answer.send(retried.map_err(QueueError::from));
                }
            }
            Ok(Settled::Looked)
        }));
    }

    /// Nothing is under way any more: when RabbitMQ has answered this, it has all that was sent before.
    pub(super) fn flush(&mut self) {
        let (channel, names) = (self.channel.clone(), self.queue.names.clone());
        // So that nobody waits for answers. What is not done by now is for others.
        let goodbye = self.voice.announce_last(What::Bye);
        let waiting = std::mem::take(&mut self.flushing);
        self.jobs.push(Box::pin(async move {
            // Not said while RabbitMQ takes no messages.
            let _ = timeout(GOODBYE, goodbye).await;
            state(&channel, &names.tasks).await?;
            for answer in waiting {
                let _ = answer.send(Ok(()));
            }
            Ok(Settled::Other)
        }));
    }
}

async fn counts(looking: &Channel, names: &Names) -> Result<Counts, Trouble> {
    let gone = || Trouble::lost("a queue was deleted");
    let tasks = state(looking, &names.tasks).await?.ok_or_else(gone)?;
    let retry = state(looking, &names.retry).await?.ok_or_else(gone)?;
    let dead = state(looking, &names.dead).await?.ok_or_else(gone)?;
    Ok(Counts {
        waiting: tasks + retry,
        dead,
    })
}

impl From<Trouble> for QueueError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Lost(reason) => Self::Away(reason),
            Trouble::Refused(refusal) => Self::Refused(refusal.to_string()),
        }
    }
}

impl From<PublishError> for QueueError {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Lost(_) => Self::Away(error.to_string()),
            PublishError::Refused(_) | PublishError::Returned(_) => {
                Self::Refused(error.to_string())
            }
        }
    }
}
