//! Rooms of the chat in which an exchange speaks.

use std::borrow::Cow;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use hubcast::{BackplaneStatus, HubContext};
use hubcast_broker::lapin::Channel;
use hubcast_broker::{Feed, FeedQueue, Link, Name, Trouble, acknowledge};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::GRACE;
use crate::limits::{self, MESSAGE, SYSTEM};

/// How soon it is tried again to listen to an exchange that RabbitMQ has refused.
const REFUSED: Duration = Duration::from_secs(10);

/// How often a Redis that is away is looked for.
const REDIS: Duration = Duration::from_millis(250);

/// `exchange=room`: what the exchange brings is said in the room, by a user of the exchange's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FeedRoom {
    exchange: Name,
    room: String,
    queue: Name,
}

impl FromStr for FeedRoom {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((exchange, room)) = text.split_once('=') else {
            return Err("write an exchange and a room, such as logs=General".to_owned());
        };
        let error = |error| format!("the exchange: {error}");
        let exchange: Name = exchange.parse().map_err(error)?;
        if exchange.as_str().eq_ignore_ascii_case(SYSTEM) {
            return Err(format!("{SYSTEM} is who the notices of the chat are from"));
        }
        let room = limits::room(room)?;
        // An exchange has no = in it here, so no two feeds have the same queue.
        let queue = format!("hubcast.feed.{exchange}={room}").parse();
        let queue = queue.map_err(|error| format!("the queue of this feed: {error}"))?;
        Ok(Self {
            exchange,
            room,
            queue,
        })
    }
}

/// The feeds of this server.
#[derive(Default)]
pub(crate) struct Feeds {
    troubles: FeedTroubles,
    ending: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// What RabbitMQ refuses to feeds; they ask again and again.
#[derive(Clone, Default)]
pub(crate) struct FeedTroubles(Vec<watch::Receiver<Option<String>>>);

impl FeedTroubles {
    /// One for each feed that has one now.
    pub(crate) fn now(&self) -> impl Iterator<Item = String> {
        self.0.iter().filter_map(|trouble| trouble.borrow().clone())
    }
}

impl Feeds {
    /// Begins to show them.
    ///
    /// All servers read one durable queue for each feed and room, one of them at a time, so a message is said once in the room, in order, and waits while no server is there.
    pub(crate) fn show(feeds: Vec<FeedRoom>, link: &Link, chat: &HubContext) -> Self {
        let mut this = Self::default();
        for feed in feeds {
            let (trouble, seen) = watch::channel(None);
            let speaker = Speaker {
                feed,
                chat: chat.clone(),
                trouble,
                ending: this.ending.subscribe(),
            };
            let course = show(link.clone(), Arc::new(speaker));
            this.tasks.push(tokio::spawn(course));
            this.troubles.0.push(seen);
        }
        this
    }

    pub(crate) fn troubles(&self) -> FeedTroubles {
        self.troubles.clone()
    }

    /// Leaves what comes to other servers, once it is told `true`.
    pub(crate) fn ending(&self) -> watch::Sender<bool> {
        self.ending.clone()
    }

    /// Waits until the message at hand is acknowledged.
    pub(crate) async fn ended(self) {
        let aborts: Vec<_> = self.tasks.iter().map(JoinHandle::abort_handle).collect();
        if timeout(GRACE, join_all(self.tasks)).await.is_err() {
            for task in aborts {
                task.abort();
            }
        }
    }
}

/// A feed and where it goes.
struct Speaker {
    feed: FeedRoom,
    chat: HubContext,
    trouble: watch::Sender<Option<String>>,
    ending: watch::Receiver<bool>,
}

/// Shows a feed until the server ends, whatever RabbitMQ does.
async fn show(link: Link, speaker: Arc<Speaker>) {
    let Speaker { feed, trouble, .. } = &*speaker;
    loop {
        let (speaking, connection) = (Arc::clone(&speaker), link.clone());
        let said = link.run(move |channel| {
            let (speaker, link) = (Arc::clone(&speaking), connection.clone());
            async move { speaker.say(&link, channel).await }
        });
        let Err(refusal) = said.await else {
            return;
        };
        let refusal = format!("the feed {}: {refusal}", feed.exchange);
        let is_new = trouble.borrow().as_ref() != Some(&refusal);
        // Told once, not with every attempt.
        if is_new {
            tracing::warn!(room = feed.room, "{refusal}");
        }
        trouble.send_replace(Some(refusal));
        sleep(REFUSED).await;
    }
}

impl Speaker {
    /// Says in the room what the exchange brings, until the channel is lost or the server ends.
    async fn say(&self, link: &Link, channel: Channel) -> Result<(), Trouble> {
        let Self { feed, chat, .. } = self;
        let mut ending = self.ending.clone();
        let source = Feed::new(feed.exchange.clone());
        let queue = FeedQueue::InTurn(feed.queue.clone());
        let mut subscription = source.subscribe(link, channel, &queue).await?;
        self.trouble.send_replace(None);
        loop {
            let next = async {
                let delivery = subscription.next().await;
                all_servers_hear(chat).await;
                delivery
            };
            let delivery = tokio::select! {
                biased;
                _ = ending.wait_for(|it| *it) => return Ok(()),
                delivery = next => delivery?,
            };
            let text = String::from_utf8_lossy(&delivery.data);
            let said = (feed.exchange.as_str(), fitting(&text));
            let room = chat.clients().group(&feed.room);
            if let Err(error) = room.send("ReceiveMessage", said).await {
                // It would be no better the next time.
                tracing::warn!(%error, room = feed.room, "a message of a feed is left out");
            }
            acknowledge(&delivery).await?;
        }
    }
}

/// Waits while Redis is away: what is said then is heard on this server only, and what waits in RabbitMQ can wait on.
async fn all_servers_hear(chat: &HubContext) {
    while !matches!(
        chat.backplane_status(),
        None | Some(BackplaneStatus::Connected)
    ) {
        sleep(REDIS).await;
    }
}

/// A text of the chat's length: a longer one is cut, which shows.
fn fitting(text: &str) -> Cow<'_, str> {
    if text.chars().nth(MESSAGE).is_none() {
        return Cow::Borrowed(text);
    }
    let cut = text.chars().take(MESSAGE - 1);
    Cow::Owned(cut.chain(['…']).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feed_is_an_exchange_and_a_room() {
        let feed: FeedRoom = "logs= tea = time ".parse().unwrap();
        assert_eq!(feed.exchange.as_str(), "logs");
        assert_eq!(feed.room, "tea = time");
        assert_eq!(feed.queue.as_str(), "hubcast.feed.logs=tea = time");
        let long = format!("{}=tea", "x".repeat(250));
        for (wrong, why) in [
            ("logs", "such as logs=General"),
            ("=tea", "the exchange: a name has at least"),
            ("logs=", "a room has at least"),
            ("system=tea", "the notices of the chat"),
            (&long, "the queue of this feed: a name has at most"),
        ] {
            let error = wrong.parse::<FeedRoom>().unwrap_err();
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_text_is_cut_where_the_chat_ends_it() {
        let whole = "ä".repeat(MESSAGE);
        assert!(matches!(fitting(&whole), Cow::Borrowed(same) if same == whole));
        let cut = fitting(&format!("{whole}b")).into_owned();
        assert_eq!(cut.chars().count(), MESSAGE);
        assert!(cut.ends_with("ä…"));
    }
}
