//! A backplane that does what it is told, and a server of which there is only the backplane.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, mpsc, watch};

use super::client::soon;
use crate::backplane::{Backplane, BackplaneStatus, LocalBackplane, Receiver};

/// A backplane that may be away, may take its time, and may not count.
pub(super) struct Troubled {
    inner: LocalBackplane,
    tells: fn(Option<u64>) -> Option<u64>,
    confirmed: Option<(String, Arc<Semaphore>)>,
}

impl Troubled {
    /// Reaches nobody but its own server, as while Redis is away.
    pub(super) fn away() -> Self {
        Self {
            inner: LocalBackplane::new(),
            tells: |_| None,
            confirmed: None,
        }
    }

    /// Confirms subscriptions to a channel when there is a permit.
    pub(super) fn slow(channel: &str, permits: &Arc<Semaphore>) -> Self {
        Self {
            inner: LocalBackplane::new(),
            tells: |receivers| receivers,
            confirmed: Some((channel.to_owned(), Arc::clone(permits))),
        }
    }

    /// A member of a bus that does not know how many servers a publication reaches.
    pub(super) fn uncounted(bus: &LocalBackplane) -> Self {
        Self {
            inner: bus.join(),
            tells: |_| Some(1),
            confirmed: None,
        }
    }
}

impl Backplane for Troubled {
    fn start(&self, receiver: Arc<dyn Receiver>) {
        self.inner.start(receiver);
    }

    fn publish<'a>(&'a self, channel: &'a str, payload: Bytes) -> BoxFuture<'a, Option<u64>> {
        let published = self.inner.publish(channel, payload);
        Box::pin(async { (self.tells)(published.await) })
    }

    fn subscribe(&self, channel: &str) -> BoxFuture<'static, ()> {
        let subscribed = self.inner.subscribe(channel);
        let confirmed = self.confirmed.as_ref().filter(|(slow, _)| slow == channel);
        let Some((_, permits)) = confirmed else {
            return subscribed;
        };
        let permits = Arc::clone(permits);
        Box::pin(async move { permits.acquire_owned().await.unwrap().forget() })
    }

    fn unsubscribe(&self, channel: &str) {
        self.inner.unsubscribe(channel);
    }

    fn agree<'a>(
        &'a self,
        key: &'a str,
        proposal: Bytes,
        lifetime: Option<Duration>,
    ) -> BoxFuture<'a, Option<Bytes>> {
        self.inner.agree(key, proposal, lifetime)
    }

    fn status(&self) -> watch::Receiver<BackplaneStatus> {
        self.inner.status()
    }
}

/// A server of which only the backplane exists, so that every byte of it can be chosen and seen.
pub(super) struct Stranger {
    backplane: LocalBackplane,
    arrived: mpsc::UnboundedReceiver<(String, Bytes)>,
}

struct Inbox(mpsc::UnboundedSender<(String, Bytes)>);

impl Receiver for Inbox {
    fn receive(&self, channel: &str, payload: Bytes) {
        let _ = self.0.send((channel.to_owned(), payload));
    }
}

impl Stranger {
    pub(super) async fn join(bus: &LocalBackplane, channels: &[&str]) -> Self {
        let (inbox, arrived) = mpsc::unbounded_channel();
        let backplane = bus.join();
        backplane.start(Arc::new(Inbox(inbox)));
        for channel in channels {
            backplane.subscribe(channel).await;
        }
        Self { backplane, arrived }
    }

    pub(super) async fn publish(&self, channel: &str, payload: &[u8]) {
        let payload = Bytes::copy_from_slice(payload);
        assert_eq!(self.backplane.publish(channel, payload).await, Some(1));
    }

    pub(super) async fn next(&mut self) -> (String, Bytes) {
        soon(self.arrived.recv()).await.unwrap()
    }

    /// Asks the client of a connection as .NET does.
    pub(super) async fn ask(
        &self,
        connection: &str,
        protocol: &str,
        id: &str,
        return_channel: &str,
    ) {
        let message = format!(
            "{{\"type\":1,\"invocationId\":\"{id}\",\"target\":\"Question\",\"arguments\":[\"why?\"]}}\x1e"
        );
        let mut payload = b"\x94\x90\x81".to_vec();
        put_text(&mut payload, protocol);
        if protocol == "json" {
            payload.extend([0xc4, u8::try_from(message.len()).unwrap()]);
            payload.extend(message.as_bytes());
        } else {
            payload.extend(b"\xc4\x03\x02\x91\x06");
        }
        put_text(&mut payload, id);
        put_text(&mut payload, return_channel);
        self.publish(&format!("TestHub:connection:{connection}"), &payload)
            .await;
    }
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend([0xd9, u8::try_from(text.len()).unwrap()]);
    bytes.extend(text.as_bytes());
}
