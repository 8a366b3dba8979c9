//! What this server itself is asked for: a new task, how things stand, the tasks that were given up.

use std::sync::Arc;

use super::Era;
use super::settling::{Job, Settled};
use crate::publisher;
use crate::tasks::rabbit::dead::DeadTasks;
use crate::tasks::rabbit::message::new_task;
use crate::tasks::rabbit::names::state;
use crate::tasks::rabbit::servers::What;
use crate::tasks::task::{Task, new_id};
use crate::tasks::{Answer, Counts, QueueError, Request};
use crate::trouble::Trouble;

impl Era<'_> {
    pub(super) fn begin_request(&mut self, request: Request) {
        let job: Job = match request {
            Request::Submit(task, answer) => self.submit(&task, answer),
            Request::Counts(answer) => {
                let (looking, names) = (self.looking.clone(), self.queue.names.clone());
                Box::pin(async move {
                    let gone = || Trouble::lost("a queue was deleted");
                    let tasks = state(&looking, &names.tasks).await?.ok_or_else(gone)?;
                    let retry = state(&looking, &names.retry).await?.ok_or_else(gone)?;
                    let dead = state(&looking, &names.dead).await?.ok_or_else(gone)?;
                    let counts = Counts {
                        waiting: tasks + retry,
                        dead,
                    };
                    let _ = answer.send(Ok(counts));
                    Ok(Settled::Other)
                })
            }
            Request::Dead(most, answer) => {
                let dead = self.dead();
                Box::pin(async move {
                    let _ = answer.send(dead.list(most).await.map_err(away));
                    Ok(Settled::Other)
                })
            }
            Request::Retry(id, answer) => {
                let dead = self.dead();
                Box::pin(async move {
                    let _ = answer.send(dead.retry(id.as_deref()).await.map_err(away));
                    Ok(Settled::Other)
                })
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
                    let outcome = published.map(|()| id).map_err(away);
                    // Whoever asked may have gone.
                    let _ = answer.send(outcome);
                }
                // Who has waited in vain tries again, and then it would be there twice. What has been sent cannot be taken back.
                () = answer.closed() => {}
            }
            Ok(Settled::Other)
        })
    }

    fn dead(&self) -> DeadTasks {
        let queue = &self.queue;
        let publishing = queue.publishing.clone();
        DeadTasks::of(queue.link.clone(), publishing, queue.names.clone())
    }

    /// Nothing is under way any more: when RabbitMQ has answered this, it has all that was sent before.
    pub(super) fn flush(&mut self) {
        let (channel, names) = (self.channel.clone(), self.queue.names.clone());
        let voice = self.voice.clone();
        let waiting = std::mem::take(&mut self.flushing);
        self.jobs.push(Box::pin(async move {
            // So that nobody waits for answers. What is not done by now is for others.
            voice.announce(What::Bye).await?;
            state(&channel, &names.tasks).await?;
            for answer in waiting {
                let _ = answer.send(Ok(()));
            }
            Ok(Settled::Other)
        }));
    }
}

fn away(error: impl std::fmt::Display) -> QueueError {
    QueueError::Away(error.to_string())
}
