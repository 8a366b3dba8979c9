//! A queue that is bounded by the bytes of what waits in it.

use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What an item costs beyond its bytes, so that many small ones are bounded, too.
const OVERHEAD: usize = 64;

/// The receiver is gone, or wants no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closed;

/// The room that an item takes up, until this is dropped.
pub(crate) type Room = Option<OwnedSemaphorePermit>;

pub(crate) struct Sender<T> {
    items: UnboundedSender<(T, Room)>,
    room: Arc<Semaphore>,
    capacity: usize,
}

pub(crate) struct Receiver<T> {
    items: UnboundedReceiver<(T, Room)>,
    room: Arc<Semaphore>,
}

/// A queue for `capacity` bytes; an item that is larger has it for itself.
pub(crate) fn queue<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = unbounded_channel();
    let room = Arc::new(Semaphore::new(capacity));
    let sender = Sender {
        items: sender,
        room: Arc::clone(&room),
        capacity,
    };
    let receiver = Receiver {
        items: receiver,
        room,
    };
    (sender, receiver)
}

impl<T> Sender<T> {
    /// Waits for room for an item of so many bytes.
    pub(crate) async fn room(&self, bytes: usize) -> Result<Room, Closed> {
        let cost = bytes.saturating_add(OVERHEAD).min(self.capacity);
        let cost = u32::try_from(cost).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(cost).await;
        room.map(Some).map_err(|_| Closed)
    }

    /// Appends an item that has its room.
    pub(crate) fn push(&self, item: T, room: Room) -> Result<(), Closed> {
        self.items.send((item, room)).map_err(|_| Closed)
    }

    /// Waits for room and appends an item. If this is dropped while it waits, nothing is appended.
    pub(crate) async fn send(&self, item: T, bytes: usize) -> Result<(), Closed> {
        let room = self.room(bytes).await?;
        self.push(item, room)
    }

    /// Appends an item at once. What may be sent so is bounded by something else.
    pub(crate) fn send_free(&self, item: T) -> Result<(), Closed> {
        self.push(item, None)
    }
}

impl<T> Receiver<T> {
    /// The next item, and its room, which is free for others when it is dropped; `None` when there will be no more.
    pub(crate) async fn next(&mut self) -> Option<(T, Room)> {
        self.items.recv().await
    }

    /// The same for `poll` functions.
    pub(crate) fn poll_next(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<(T, Room)>> {
        self.items.poll_recv(context)
    }

    /// An item that is there already.
    pub(crate) fn ready(&mut self) -> Option<(T, Room)> {
        self.items.try_recv().ok()
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        // Whoever waits for room hears that there will be none.
        self.room.close();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn senders_wait_for_room_and_an_item_larger_than_the_queue_has_it_for_itself() {
        let (sender, mut receiver) = queue(1000);
        sender.send("small", 10).await.unwrap();
        let mut large = Box::pin(sender.send("large", 1_000_000));
        assert_eq!((&mut large).now_or_never(), None);
        let (item, room) = receiver.next().await.unwrap();
        assert_eq!(item, "small");
        assert_eq!((&mut large).now_or_never(), None, "it still takes up room");
        drop(room);
        assert_eq!(large.await, Ok(()));
        assert_eq!(sender.send("next", 1).now_or_never(), None);
        assert_eq!(receiver.ready().unwrap().0, "large");
        assert_eq!(sender.send("next", 1).now_or_never(), Some(Ok(())));
    }

    #[tokio::test]
    async fn who_waits_for_room_hears_that_the_receiver_is_gone() {
        let (sender, mut receiver) = queue(100);
        sender.send(1, 100).await.unwrap();
        let waiting = sender.send(2, 1);
        let _taken = receiver.next().await.unwrap();
        drop(receiver);
        assert_eq!(waiting.await, Err(Closed));
        assert_eq!(sender.send_free(3), Err(Closed));
    }
}
