//! What is wanted from Redis, what waits to be sent to it, and what has been sent and not come back.
//!
//! No I/O: the link takes batches from here and reports what became of them.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use hubcast::{BackplaneStatus, Receiver};
use redis::aio::MultiplexedConnection;
use tokio::sync::{Notify, Semaphore, oneshot, watch};

/// The most kibibytes of publications that wait for Redis at once; who comes later waits for room. 64 MiB.
const ROOM: usize = 64 * 1024;

/// How often what queued up while Redis was given up on is delivered in order, before order has to stand back behind
/// connecting again. Reached only by senders that never pause.
const ROUNDS: usize = 1000;

/// How many publications, and about how many of their bytes, are sent as one pipeline, which must be answered in time
/// over a slow network, too.
const BATCH: usize = 1024;
const BATCH_BYTES: usize = 512 * 1024;

pub(crate) struct Ledger {
    state: Mutex<State>,
    receiver: OnceLock<Arc<dyn Receiver>>,
    /// Told when there is something to send.
    pub(crate) work: Notify,
    room: Semaphore,
    status: watch::Sender<BackplaneStatus>,
}

#[derive(Default)]
struct State {
    link: Link,
    /// Counts links, so that what an old one still says can be told from what the present one says.
    epoch: u64,
    wanted: HashMap<Arc<str>, Subscription>,
    /// Channels to subscribe to, if they are wanted when their turn comes, and to unsubscribe from, if not.
    changed: Vec<Arc<str>>,
    outgoing: VecDeque<Publication>,
    /// Publications of ours that will come back, in the order in which they will.
    echoes: VecDeque<Echo>,
    /// The number of the batch that was taken last.
    batch: u64,
    /// What was being sent when the link was lost.
    failed: Option<Batch>,
}

#[derive(Default)]
enum Link {
    #[default]
    Down,
    /// Connected, and subscribing to everything that is wanted.
    Joining,
    Up(MultiplexedConnection),
}

#[derive(Default)]
struct Subscription {
    confirmed: bool,
    waiting: Vec<oneshot::Sender<()>>,
}

/// A message on its way to Redis.
pub(crate) struct Publication {
    pub(crate) channel: Arc<str>,
    pub(crate) payload: Bytes,
    /// Whoever waits for the publication: told how many servers got it when Redis has answered, dropped when Redis is
    /// given up on.
    done: oneshot::Sender<u64>,
}

struct Echo {
    channel: Arc<str>,
    payload: Bytes,
    /// Which batch it leaves with.
    batch: u64,
}

/// What is to be sent next, in this order.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) number: u64,
    pub(crate) subscribe: Vec<Arc<str>>,
    pub(crate) publish: Vec<Publication>,
    pub(crate) unsubscribe: Vec<Arc<str>>,
}

impl fmt::Debug for Ledger {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        formatter
            .debug_struct("Ledger")
            .field("status", &*self.status.borrow())
            .field("wanted", &state.wanted.len())
            .field("outgoing", &state.outgoing.len())
            .finish_non_exhaustive()
    }
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::default(),
            receiver: OnceLock::new(),
            work: Notify::new(),
            room: Semaphore::new(ROOM),
            status: watch::Sender::new(BackplaneStatus::Connecting),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn status(&self) -> watch::Receiver<BackplaneStatus> {
        self.status.subscribe()
    }

    /// The connection, while Redis is there.
    pub(crate) fn connection(&self) -> Option<MultiplexedConnection> {
        match &self.state().link {
            Link::Up(connection) => Some(connection.clone()),
            Link::Down | Link::Joining => None,
        }
    }

    pub(crate) fn set_receiver(&self, receiver: Arc<dyn Receiver>) {
        // Set once, by the one link there is.
        let _ = self.receiver.set(receiver);
    }

    fn deliver(&self, channel: &str, payload: Bytes) {
        if let Some(receiver) = self.receiver.get() {
            receiver.receive(channel, payload);
        }
    }

    /// Sends a message; done when Redis has it, and says how many servers got it then, or when it has been delivered
    /// here because Redis is away.
    pub(crate) async fn publish(&self, channel: Arc<str>, payload: Bytes) -> Option<u64> {
        let kibibytes = u32::try_from(payload.len() / 1024 + 1).unwrap_or(u32::MAX);
        // The semaphore is never closed; a payload larger than all of the room does not wait.
        let _room = self.room.acquire_many(kibibytes.min(1024)).await;
        let done = {
            let mut state = self.state();
            if let Link::Up(_) = state.link {
                let (done, finished) = oneshot::channel();
                state.outgoing.push_back(Publication {
                    channel,
                    payload,
                    done,
                });
                finished
            } else {
                let is_wanted = state.wanted.contains_key(&channel);
                drop(state);
                count_local_only(1);
                if is_wanted {
                    self.deliver(&channel, payload);
                }
                return None;
            }
        };
        self.work.notify_one();
        done.await.ok()
    }

    /// Wants a channel. What comes back is told when the subscription is in effect; `None` if it is, or if it will be
    /// before Redis counts as back.
    pub(crate) fn subscribe(&self, channel: &str) -> Option<oneshot::Receiver<()>> {
        let mut state = self.state();
        let connected = !matches!(state.link, Link::Down);
        let channel: Arc<str> = match state.wanted.get_key_value(channel) {
            Some((channel, _)) => Arc::clone(channel),
            None => channel.into(),
        };
        let subscription = state.wanted.entry(Arc::clone(&channel)).or_default();
        if subscription.confirmed || !connected {
            return None;
        }
        let (confirm, confirmed) = oneshot::channel();
        let is_new = subscription.waiting.is_empty();
        subscription.waiting.push(confirm);
        if is_new {
            state.changed.push(channel);
            drop(state);
            self.work.notify_one();
        }
        Some(confirmed)
    }

    /// Wants a channel no longer.
    pub(crate) fn unsubscribe(&self, channel: &str) {
        let mut state = self.state();
        let Some((channel, _)) = state.wanted.remove_entry(channel) else {
            return;
        };
        if !matches!(state.link, Link::Down) {
            state.changed.push(channel);
            drop(state);
            self.work.notify_one();
        }
    }

    /// A connection has been made: begins a new epoch, in which everything wanted is subscribed to first.
    pub(crate) fn joining(&self) -> u64 {
        let mut state = self.state();
        state.link = Link::Joining;
        state.epoch += 1;
        state.changed = state.wanted.keys().map(Arc::clone).collect();
        state.epoch
    }

    /// Everything that was wanted is subscribed to: Redis is back.
    pub(crate) fn up(&self, connection: MultiplexedConnection) {
        self.state().link = Link::Up(connection);
        self.status.send_replace(BackplaneStatus::Connected);
    }

    /// A batch could not be sent, or was not answered; [`down`](Self::down) comes next.
    pub(crate) fn failed(&self, batch: Batch) {
        self.state().failed = Some(batch);
    }

    /// Redis is gone. What would have come back from it is delivered here, and so is everything from now on.
    ///
    /// What is published meanwhile queues up behind that, so that nobody's messages overtake each other.
    pub(crate) fn down(&self, reason: String) {
        let mut failed = {
            let mut state = self.state();
            // What the lost link may still say is heard no more.
            state.epoch += 1;
            state.failed.take()
        };
        self.status
            .send_replace(BackplaneStatus::Disconnected { reason });
        for round in 0..=ROUNDS {
            let (echoes, outgoing, is_last) = {
                let mut state = self.state();
                let mut echoes = std::mem::take(&mut state.echoes);
                let outgoing = std::mem::take(&mut state.outgoing);
                for Publication {
                    channel, payload, ..
                } in &outgoing
                {
                    if state.wanted.contains_key(channel) {
                        echoes.push_back(Echo {
                            channel: Arc::clone(channel),
                            payload: payload.clone(),
                            batch: 0,
                        });
                    }
                }
                let is_last = round == ROUNDS || (echoes.is_empty() && outgoing.is_empty());
                if is_last {
                    state.link = Link::Down;
                    state.changed = Vec::new();
                    for subscription in state.wanted.values_mut() {
                        *subscription = Subscription::default();
                    }
                }
                (echoes, outgoing, is_last)
            };
            count_local_only(outgoing.len().max(echoes.len()));
            for echo in echoes {
                self.deliver(&echo.channel, echo.payload);
            }
            // Only now: whoever waits for a publication finds it delivered.
            drop((failed.take(), outgoing));
            if is_last {
                break;
            }
        }
    }

    /// Takes what is to be sent; `None` if there is nothing.
    pub(crate) fn take_batch(&self) -> Option<Batch> {
        let mut state = self.state();
        if state.changed.is_empty() && state.outgoing.is_empty() {
            return None;
        }
        let State {
            changed, wanted, ..
        } = &mut *state;
        changed.sort_unstable();
        changed.dedup();
        let (subscribe, unsubscribe) = std::mem::take(changed)
            .into_iter()
            .partition(|channel| wanted.contains_key(channel));
        state.batch += 1;
        let number = state.batch;
        let mut publish = Vec::new();
        let mut bytes = 0;
        while publish.len() < BATCH
            && bytes < BATCH_BYTES
            && let Some(publication) = state.outgoing.pop_front()
        {
            bytes += publication.payload.len();
            // Subscribed to by now, or first thing in this batch; what is unsubscribed from in it, is so after this.
            if state.wanted.contains_key(&publication.channel) {
                state.echoes.push_back(Echo {
                    channel: Arc::clone(&publication.channel),
                    payload: publication.payload.clone(),
                    batch: number,
                });
            }
            publish.push(publication);
        }
        Some(Batch {
            number,
            subscribe,
            publish,
            unsubscribe,
        })
    }

    /// Redis has confirmed subscriptions.
    pub(crate) fn confirm(&self, channels: &[Arc<str>]) {
        let mut waiting = Vec::new();
        {
            let mut state = self.state();
            for channel in channels {
                if let Some(subscription) = state.wanted.get_mut(channel) {
                    subscription.confirmed = true;
                    waiting.append(&mut subscription.waiting);
                }
            }
        }
        for confirm in waiting {
            let _ = confirm.send(());
        }
    }

    /// Redis has answered a whole batch, with how many servers got each publication. Of earlier batches nothing can
    /// come back any more: what it sends, it sends in order.
    pub(crate) fn answered(&self, batch: Batch, receivers: Vec<u64>) {
        self.forget_echoes(batch.number);
        for (publication, receivers) in batch.publish.into_iter().zip(receivers) {
            // Whoever waited may have given up.
            let _ = publication.done.send(receivers);
        }
    }

    /// Redis has answered something that was asked when nothing else was under way.
    pub(crate) fn idle(&self) {
        let next = self.state().batch + 1;
        self.forget_echoes(next);
    }

    /// Forgets what was sent before a batch and has not come back.
    fn forget_echoes(&self, batch: u64) {
        let mut state = self.state();
        let before = state.echoes.len();
        state.echoes.retain(|echo| echo.batch >= batch);
        let lost = before - state.echoes.len();
        drop(state);
        if lost > 0 {
            tracing::warn!(lost, "Redis did not send back what it was sent");
        }
    }

    /// The link of an epoch brought a message.
    pub(crate) fn arrived(&self, epoch: u64, channel: &str, payload: Bytes) {
        {
            let mut state = self.state();
            if state.epoch != epoch {
                return;
            }
            let first = state.echoes.front();
            if first.is_some_and(|echo| *echo.channel == *channel && echo.payload == payload) {
                state.echoes.pop_front();
            }
        }
        self.deliver(channel, payload);
    }
}

fn count_local_only(publications: usize) {
    metrics::counter!("hubcast_backplane_local_only_total").increment(publications as u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Inbox(Mutex<Vec<String>>);

    impl Receiver for Inbox {
        fn receive(&self, channel: &str, payload: Bytes) {
            let payload = String::from_utf8_lossy(&payload);
            self.0.lock().unwrap().push(format!("{channel}={payload}"));
        }
    }

    fn ledger() -> (Arc<Ledger>, Arc<Inbox>) {
        let (ledger, inbox) = (Arc::new(Ledger::new()), Arc::new(Inbox::default()));
        ledger.set_receiver(Arc::clone(&inbox) as Arc<dyn Receiver>);
        (ledger, inbox)
    }

    /// Puts a publication among what waits, as `publish` does while Redis is there.
    fn enqueue(ledger: &Ledger, channel: &str, payload: &'static str) {
        let (done, _) = oneshot::channel();
        ledger.state().outgoing.push_back(Publication {
            channel: channel.into(),
            payload: Bytes::from_static(payload.as_bytes()),
            done,
        });
    }

    #[test]
    fn what_has_not_come_back_is_delivered_once_when_redis_goes_away() {
        let (ledger, inbox) = ledger();
        let epoch = ledger.joining();
        ledger.subscribe("all");
        for payload in ["1", "2", "3"] {
            enqueue(&ledger, "all", payload);
        }
        let batch = ledger.take_batch().unwrap();
        enqueue(&ledger, "all", "4");
        enqueue(&ledger, "nobody", "5");
        ledger.arrived(epoch, "all", Bytes::from_static(b"1"));
        ledger.failed(batch);
        ledger.down("gone".to_owned());
        // What the lost link says too late is heard no more.
        ledger.arrived(epoch, "all", Bytes::from_static(b"2"));
        assert_eq!(
            *inbox.0.lock().unwrap(),
            ["all=1", "all=2", "all=3", "all=4"]
        );
    }

    #[test]
    fn what_can_not_come_back_does_not_stand_in_the_way_of_what_does() {
        let (ledger, inbox) = ledger();
        let epoch = ledger.joining();
        ledger.subscribe("all");
        ledger.subscribe("group");
        enqueue(&ledger, "group", "gone");
        ledger.unsubscribe("group");
        enqueue(&ledger, "all", "1");
        let batch = ledger.take_batch().unwrap();
        assert_eq!(batch.unsubscribe.len(), 1);
        ledger.arrived(epoch, "all", Bytes::from_static(b"1"));
        ledger.answered(batch, vec![0, 1]);
        ledger.idle();
        assert!(ledger.state().echoes.is_empty());
        ledger.down("gone".to_owned());
        assert_eq!(*inbox.0.lock().unwrap(), ["all=1"]);
    }

    #[test]
    fn whoever_publishes_is_told_how_many_servers_it_reached() {
        let (ledger, _) = ledger();
        ledger.joining();
        let mut reached = Vec::new();
        for _ in 0..3 {
            let (done, told) = oneshot::channel();
            ledger.state().outgoing.push_back(Publication {
                channel: "c".into(),
                payload: Bytes::new(),
                done,
            });
            reached.push(told);
        }
        let batch = ledger.take_batch().unwrap();
        // An answer too few: whoever is left is told that nothing is known.
        ledger.answered(batch, vec![2, 0]);
        let told: Vec<_> = reached
            .iter_mut()
            .map(|told| told.try_recv().ok())
            .collect();
        assert_eq!(told, [Some(2), Some(0), None]);
    }

    #[test]
    fn a_batch_is_bounded_in_bytes_and_keeps_the_order() {
        let (ledger, _) = ledger();
        ledger.joining();
        let large: &'static str = "x".repeat(300 * 1024).leak();
        for _ in 0..5 {
            enqueue(&ledger, "c", large);
        }
        let sizes: Vec<_> =
            std::iter::from_fn(|| Some(ledger.take_batch()?.publish.len())).collect();
        assert_eq!(sizes, [2, 2, 1]);
    }
}
