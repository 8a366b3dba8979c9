//! What any `Backplane` promises, as tests. Hand each of them two fresh backplanes that are joined.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is the report of a test"
)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hubcast::{Backplane, BackplaneStatus, Receiver};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// A server of which only the backplane exists.
pub(crate) struct Member {
    pub(crate) backplane: Arc<dyn Backplane>,
    arrived: mpsc::UnboundedReceiver<(String, Bytes)>,
}

struct Inbox(mpsc::UnboundedSender<(String, Bytes)>);

impl Receiver for Inbox {
    fn receive(&self, channel: &str, payload: Bytes) {
        let _ = self.0.send((channel.to_owned(), payload));
    }
}

impl Member {
    /// Starts a backplane and waits until it reaches the others.
    pub(crate) async fn start(backplane: Arc<dyn Backplane>) -> Self {
        let (inbox, arrived) = mpsc::unbounded_channel();
        backplane.start(Arc::new(Inbox(inbox)));
        let mut status = backplane.status();
        let connected = status.wait_for(|status| *status == BackplaneStatus::Connected);
        timeout(DEADLINE, connected)
            .await
            .expect("a connection in time")
            .unwrap();
        Self { backplane, arrived }
    }

    async fn publish(&self, channel: &str, text: &str) -> Option<u64> {
        let payload = Bytes::copy_from_slice(text.as_bytes());
        self.backplane.publish(channel, payload).await
    }

    async fn next(&mut self) -> (String, Bytes) {
        timeout(DEADLINE, self.arrived.recv())
            .await
            .expect("a message in time")
            .unwrap()
    }

    async fn expect(&mut self, channel: &str, text: &str) {
        let (seen, payload) = self.next().await;
        assert_eq!((seen.as_str(), &*payload), (channel, text.as_bytes()));
    }
}

const DEADLINE: Duration = Duration::from_secs(10);

/// A publication reaches every subscriber once, the publisher included.
pub(crate) async fn reaches_every_subscriber_once(mut one: Member, mut other: Member) {
    one.backplane.subscribe("c").await;
    other.backplane.subscribe("c").await;
    one.publish("c", "1").await;
    other.publish("c", "2").await;
    one.publish("c", "3").await;
    for member in [&mut one, &mut other] {
        for text in ["1", "2", "3"] {
            member.expect("c", text).await;
        }
    }
}

/// Only subscribers get a publication, and only while they are subscribed. Names are exact, whatever is in them.
pub(crate) async fn reaches_nobody_else(mut one: Member, mut other: Member) {
    for odd in ["a*", "a?[b]", "a b", "ä:ö"] {
        one.backplane.subscribe(odd).await;
        other.publish("axx", "pattern").await;
        other.publish(odd, "exact").await;
        one.expect(odd, "exact").await;
        one.backplane.unsubscribe(odd);
        one.backplane.subscribe("marker").await;
        // What is under way may still arrive, but not for ever.
        loop {
            other.publish(odd, "too late").await;
            other.publish("marker", odd).await;
            if one.next().await.0 == "marker" {
                break;
            }
            one.expect("marker", odd).await;
        }
    }
    other.backplane.subscribe("end").await;
    one.publish("end", "x").await;
    other.expect("end", "x").await;
}

/// Whoever publishes is told how many servers that reached.
pub(crate) async fn counts_whom_a_publication_reaches(mut one: Member, mut other: Member) {
    assert_eq!(one.publish("c", "nobody").await, Some(0));
    other.backplane.subscribe("c").await;
    assert_eq!(one.publish("c", "the other").await, Some(1));
    assert_eq!(other.publish("c", "itself").await, Some(1));
    one.backplane.subscribe("c").await;
    one.backplane.subscribe("d").await;
    // Several at once: each is told of its own.
    let counts = tokio::join!(
        one.publish("c", "both"),
        one.publish("d", "itself"),
        one.publish("e", "nobody"),
    );
    assert_eq!(counts, (Some(2), Some(1), Some(0)));
    for text in ["the other", "itself", "both"] {
        other.expect("c", text).await;
    }
    one.expect("c", "both").await;
    one.expect("d", "itself").await;
}

/// What counts is the order in which subscribing and unsubscribing are called.
pub(crate) async fn the_last_call_counts(mut one: Member, other: Member) {
    for round in 0..50 {
        let text = round.to_string();
        drop(one.backplane.subscribe("c"));
        one.backplane.unsubscribe("c");
        let subscribed = one.backplane.subscribe("c");
        subscribed.await;
        other.publish("c", &text).await;
        one.expect("c", &text).await;
        one.backplane.unsubscribe("c");
    }
}

/// All subscribers see the publications of a channel in one order, whoever publishes.
pub(crate) async fn everybody_sees_one_order(mut one: Member, mut other: Member) {
    one.backplane.subscribe("c").await;
    other.backplane.subscribe("c").await;
    let publishers = [&one, &other].map(|member| {
        let backplane = Arc::clone(&member.backplane);
        tokio::spawn(async move {
            for number in 0..200u8 {
                backplane.publish("c", Bytes::from(vec![number])).await;
            }
        })
    });
    for publisher in publishers {
        publisher.await.unwrap();
    }
    for _ in 0..400 {
        assert_eq!(one.next().await, other.next().await);
    }
}

/// The first proposal for a key is everybody's, until its time is over.
pub(crate) async fn the_first_proposal_wins(one: Member, other: Member) {
    let agree = async |member: &Member, key: &str, proposal: &'static str, lifetime| {
        let proposal = Bytes::from_static(proposal.as_bytes());
        member
            .backplane
            .agree(key, proposal, lifetime)
            .await
            .unwrap()
    };
    assert_eq!(agree(&one, "k", "1", None).await, "1");
    assert_eq!(agree(&other, "k", "2", None).await, "1");
    assert_eq!(agree(&other, "another", "2", None).await, "2");

    let short = Some(Duration::from_millis(50));
    assert_eq!(agree(&one, "short", "1", short).await, "1");
    let forgotten = async {
        while agree(&other, "short", "2", short).await != "2" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(DEADLINE, forgotten)
        .await
        .expect("a key to be forgotten");
}
