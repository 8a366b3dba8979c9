//! A worker, as the board knows it.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;

use super::{Delivery, DeliveryId, Prospect};
use crate::tasks::worker::{Order, Registration};

#[derive(Debug)]
pub(super) struct Worker {
    pub(super) registration: Registration,
    /// What the registration says of them, in order, and shared with whoever looks at it.
    pub(super) types: Option<Arc<[i64]>>,
    pub(super) orders: UnboundedSender<Order>,
    /// What it has, by the ids of the tasks. `None` is a task that was taken away from it, but that it may still be busy with.
    pub(super) held: HashMap<Arc<str>, Option<DeliveryId>>,
    /// Whether the queue knows of it: a worker that has only tasks that were taken away gets no more.
    pub(super) is_open: bool,
}

impl Worker {
    pub(super) fn can_do(&self, kind: i64) -> bool {
        let types = self.types.as_deref();
        types.is_none_or(|types| types.binary_search(&kind).is_ok())
    }

    pub(super) fn has_room(&self) -> bool {
        self.held.len() < self.registration.capacity as usize
    }

    /// What it is for the types that it can do.
    pub(super) fn prospect(&self) -> Prospect {
        match (self.is_open, self.has_room()) {
            (false, _) => Prospect::Nobody,
            (true, false) => Prospect::Busy,
            (true, true) => Prospect::Room,
        }
    }

    /// Whether it will get the task, if not now. What it had and was taken away from it, it does not get again while it may still be busy with it.
    pub(super) fn may_have(&self, delivery: &Delivery) -> bool {
        self.is_open && self.can_do(delivery.task.kind) && !self.held.contains_key(&delivery.id)
    }

    /// Which part of what it can have it has; lower is less loaded.
    pub(super) fn load(&self) -> Load {
        Load {
            held: self.held.len() as u64,
            capacity: u64::from(self.registration.capacity),
        }
    }
}

/// A fraction, to be compared.
#[derive(Clone, Copy)]
pub(super) struct Load {
    held: u64,
    capacity: u64,
}

impl Load {
    pub(super) fn cmp(self, other: Self) -> std::cmp::Ordering {
        (self.held * other.capacity).cmp(&(other.held * self.capacity))
    }
}
