//! The tasks that were given up: looking at them, and giving them another chance.

use lapin::Channel;
use lapin::options::BasicGetOptions;

use crate::link::Link;
use crate::name::TaskQueue;
use crate::publisher::{self, PublishError, Publisher};
use crate::trouble::{Refusal, Trouble};

use super::message::{Message, Receipt};
use super::names::{Names, state};
use crate::tasks::status::DeadTask;

/// The queue of tasks that were given up.
#[derive(Debug)]
pub struct DeadTasks {
    link: Link,
    /// What is published goes this way.
    publishing: Link,
    names: Names,
}

impl DeadTasks {
    /// Those of a queue of tasks.
    pub fn new(link: Link, queue: &TaskQueue) -> Self {
        Self::of(link.clone(), link, Names::new(queue))
    }

    pub(super) fn of(link: Link, publishing: Link, names: Names) -> Self {
        Self {
            link,
            publishing,
            names,
        }
    }

    /// Those that were given up first, so many at most. They stay where they are.
    pub async fn list(&self, most: usize) -> Result<Vec<DeadTask>, Trouble> {
        let channel = self.link.channel().await;
        let mut dead = Vec::new();
        while dead.len() < most
            && let Some((message, _)) = self.get(&channel).await?
        {
            dead.push(message.as_dead());
        }
        // Gives back what was looked at.
        channel.close(200, "OK".into()).await?;
        Ok(dead)
    }

    /// Puts tasks back into the queue as if they were new: those of an id, or all. How many it was. Those that are given up meanwhile stay.
    ///
    /// A task may be in both queues, if the connection is lost in between.
    pub async fn retry(&self, id: Option<&str>) -> Result<u64, Trouble> {
        let channel = self.link.channel().await;
        let back = Publisher::mandatory(&self.publishing);
        let tasks = self.names.tasks.as_str();
        let dead = &self.names.dead;
        let all = state(&channel, dead).await?;
        let all = all.ok_or_else(|| Refusal(format!("there is no queue '{dead}'")))?;
        let mut retried = 0;
        for _ in 0..all {
            let Some((message, receipt)) = self.get(&channel).await? else {
                break;
            };
            if id.is_some_and(|id| message.id.as_deref() != Some(id)) {
                continue;
            }
            let properties = message.forgiven();
            let message = publisher::Message::new("", tasks, message.body).properties(properties);
            back.publish_once(message)
                .await
                .map_err(|error| match error {
                    PublishError::Lost(reason) => Trouble::Lost(reason),
                    PublishError::Refused(refusal) => refusal.into(),
                    PublishError::Returned(_) => Refusal(format!("'{tasks}': {error}")).into(),
                })?;
            receipt.acknowledge().await?;
            retried += 1;
        }
        // What was passed over goes back, and all that was acknowledged has arrived when this has been answered.
        channel.close(200, "OK".into()).await?;
        Ok(retried)
    }

    async fn get(&self, channel: &Channel) -> Result<Option<(Message, Receipt)>, Trouble> {
        let dead = self.names.dead.clone();
        let asked = Trouble::asking(format!("looking into the queue '{dead}'"));
        let got = channel.basic_get(dead, BasicGetOptions::default()).await;
        Ok(got.map_err(asked)?.map(|got| Message::new(got.delivery)))
    }
}
