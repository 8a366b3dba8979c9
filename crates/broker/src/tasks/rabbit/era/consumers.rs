//! The workers as consumers: each one that has room is one, and its prefetch is what it has room for.

use std::future::ready;

use futures_util::{StreamExt, stream};
use lapin::message::Delivery as Arrived;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};

use super::Era;
use crate::tasks::board::WorkerKey;
use crate::trouble::Trouble;

/// What came on a worker's consumer.
pub(super) enum Item {
    Task(Box<lapin::Result<Arrived>>),
    /// That was the last.
    End(WorkerKey),
}

impl Era<'_> {
    /// Makes each worker that has room a consumer, and no other.
    pub(super) async fn match_consumers(&mut self) -> Result<(), Trouble> {
        let slots = &self.queue.slots;
        let gone: Vec<_> = self
            .open
            .keys()
            .filter(|worker| !slots.contains_key(worker))
            .copied()
            .collect();
        for worker in gone {
            self.open.remove(&worker);
            let options = BasicCancelOptions::default();
            self.channel.basic_cancel(tag(worker), options).await?;
        }
        let new = slots
            .iter()
            .filter(|(worker, _)| !self.open.contains_key(worker));
        let new: Vec<(WorkerKey, u32)> = new.map(|(worker, slots)| (*worker, *slots)).collect();
        for (worker, slots) in new {
            self.open.insert(worker, slots);
            let prefetch = u16::try_from(slots).unwrap_or(u16::MAX);
            // Counts for each consumer that is made after it.
            let options = BasicQosOptions::default();
            self.channel.basic_qos(prefetch, options).await?;
            let options = BasicConsumeOptions::default();
            let queue = self.queue.names.tasks.clone();
            let none = FieldTable::default();
            let consumer = self
                .channel
                .basic_consume(queue, tag(worker), options, none);
            let items = consumer.await?.map(|item| Item::Task(Box::new(item)));
            let end = stream::once(ready(Item::End(worker)));
            self.deliveries.push(Box::pin(items.chain(end)));
        }
        Ok(())
    }
}

/// What a worker's consumer is called.
fn tag(worker: WorkerKey) -> ShortString {
    format!("worker-{worker}").into()
}
