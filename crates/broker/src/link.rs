//! The connection to RabbitMQ: made, used, lost, made again.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::{Channel, Connection, Event};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use crate::backoff::Backoff;
use crate::connecting::{NotConnected, connect};
use crate::trouble::{Refusal, Trouble, describe};
use crate::url::AmqpUrl;

/// How long a goodbye may take.
const CLOSING: Duration = Duration::from_secs(2);

/// How often a connection is looked at that nothing is heard of.
const CHECK: Duration = Duration::from_secs(1);

/// How long a connection may take to give a channel.
const OPENING: Duration = Duration::from_secs(10);

/// How soon a connection that gives no channel, though it is there, is asked for one again.
const CHANNEL_RETRY: Duration = Duration::from_secs(1);

/// How things stand with RabbitMQ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkStatus {
    /// The first attempt has not ended.
    Connecting,
    /// There is a connection.
    Connected,
    /// There is a connection, but RabbitMQ takes no messages, because it is short of memory or disk: publishing waits.
    Blocked {
        /// What it is short of.
        reason: String,
    },
    /// There is none, and another attempt is made soon.
    Away {
        /// Why the last one has ended or failed.
        reason: String,
    },
    /// RabbitMQ does not let this user in, or not to this virtual host. Tried again, too: that can be changed there.
    Refused {
        /// What it said.
        reason: String,
    },
}

/// One connection to a RabbitMQ, brought back for ever: by attempts that are 0.25 s apart at first, 5 s in the end, and take 10 s at most.
///
/// Clones share it. It ends, and with it all its channels, when the last clone is dropped.
///
/// lapin could bring connections back itself, with everything that was declared. It is not asked to, so that every channel belongs to
/// one connection for good: what was delivered on it can be acknowledged there and never elsewhere, and whoever uses it knows that it
/// is gone, what that leaves undecided, and what has to be declared again.
#[derive(Debug, Clone)]
pub struct Link(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    url: AmqpUrl,
    status: watch::Receiver<LinkStatus>,
    connections: watch::Receiver<Option<Arc<Connection>>>,
    task: AbortHandle,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Link {
    /// Begins to connect; a RabbitMQ that is away is no error. Needs a tokio runtime.
    pub fn open(url: AmqpUrl) -> Self {
        Self::begin(url, true)
    }

    /// `is_told`: whether it is in the log that the connection comes and goes.
    fn begin(url: AmqpUrl, is_told: bool) -> Self {
        let (status, status_seen) = watch::channel(LinkStatus::Connecting);
        let (connections, connections_seen) = watch::channel(None);
        let kept = url.clone();
        let keeping =
            tokio::spawn(async move { match keep(&kept, is_told, &status, &connections).await {} });
        Self(Arc::new(Shared {
            url,
            status: status_seen,
            connections: connections_seen,
            task: keeping.abort_handle(),
        }))
    }

    /// A second connection to the same RabbitMQ. While RabbitMQ is short of memory or disk it does not listen to connections that publish, not even to acknowledgements, which would
    /// help; so whoever does both has two.
    pub fn another(&self) -> Self {
        Self::begin(self.0.url.clone(), false)
    }

    /// How things stand, now and from now on.
    pub fn status(&self) -> watch::Receiver<LinkStatus> {
        self.0.status.clone()
    }

    /// A new channel. Waits for as long as there is no connection.
    ///
    /// A channel ends with its connection, or because RabbitMQ closes it; then everything on it fails, and another one is asked for here.
    pub async fn channel(&self) -> Channel {
        let mut connections = self.0.connections.clone();
        loop {
            let connection = connections.borrow_and_update().clone();
            if let Some(connection) = connection {
                let opening = timeout(OPENING, connection.create_channel());
                tokio::select! {
                    biased;
                    opened = opening => if let Ok(Ok(channel)) = opened {
                        return channel;
                    },
                    // One that ends at this moment may never answer.
                    Ok(()) = connections.changed() => continue,
                }
            }
            // A connection that has just been lost is about to be replaced; one that has no channel left may have one later.
            if let Ok(Err(_)) = timeout(CHANNEL_RETRY, connections.changed()).await {
                // Nobody connects any more: the link was closed.
                return std::future::pending().await;
            }
        }
    }

    /// Does `work` on a new channel until it gives a result or is refused something. When it is [`Trouble::Lost`], it is done again from the start, on another
    /// channel, as soon as there is one, at the same pace as connecting.
    ///
    /// `work` declares what it needs each time, since that may be lost with the connection, and acknowledges what it was delivered on this
    /// channel with [`acknowledge`](crate::acknowledge).
    pub async fn run<T>(
        &self,
        mut work: impl AsyncFnMut(Channel) -> Result<T, Trouble>,
    ) -> Result<T, Refusal> {
        let mut backoff = Backoff::new();
        loop {
            let channel = self.channel().await;
            let began = Instant::now();
            match work(channel).await {
                Ok(result) => return Ok(result),
                Err(Trouble::Refused(refusal)) => return Err(refusal),
                Err(Trouble::Lost(reason)) => tracing::debug!(reason, "a channel is lost"),
            }
            backoff.rest(began.elapsed()).await;
        }
    }

    /// Ends the connection in good order: what was published and acknowledged before has arrived at RabbitMQ then, unless it does not answer within two seconds.
    /// Other clones of this link are left without a connection for good.
    pub async fn close(self) {
        self.0.task.abort();
        let connection = self.0.connections.borrow().clone();
        if let Some(connection) = connection {
            // Fails where it is lost already.
            let _ = timeout(CLOSING, connection.close(200, "OK".into())).await;
        }
    }
}

/// Keeps a connection for as long as the task lives.
async fn keep(
    url: &AmqpUrl,
    is_told: bool,
    status: &watch::Sender<LinkStatus>,
    connections: &watch::Sender<Option<Arc<Connection>>>,
) -> Infallible {
    let mut backoff = Backoff::new();
    let mut told = !is_told;
    loop {
        let began = Instant::now();
        let (state, worked) = match connect(url).await {
            Ok(connection) => {
                if is_told {
                    tracing::info!(address = url.address(), "RabbitMQ is there");
                    told = false;
                }
                let connection = Arc::new(connection);
                connections.send_replace(Some(Arc::clone(&connection)));
                status.send_replace(LinkStatus::Connected);
                let reason = lost(&connection, status).await;
                connections.send_replace(None);
                (LinkStatus::Away { reason }, began.elapsed())
            }
            Err(NotConnected::Away(reason)) => (LinkStatus::Away { reason }, Duration::ZERO),
            Err(NotConnected::Refused(reason)) => (LinkStatus::Refused { reason }, Duration::ZERO),
        };
        // Told once, not with every attempt.
        if !told {
            match &state {
                LinkStatus::Refused { reason } => {
                    tracing::warn!(
                        address = url.address(),
                        reason,
                        "RabbitMQ does not let us in"
                    );
                }
                LinkStatus::Away { reason } => {
                    tracing::warn!(address = url.address(), reason, "RabbitMQ is away");
                }
                LinkStatus::Connecting | LinkStatus::Connected | LinkStatus::Blocked { .. } => {}
            }
            told = true;
        }
        status.send_replace(state);
        backoff.rest(worked).await;
    }
}

/// Waits until a connection is lost, and gives the reason.
async fn lost(connection: &Connection, status: &watch::Sender<LinkStatus>) -> String {
    let mut events = std::pin::pin!(connection.events_listener());
    // What happened before anybody listened shows here, and what is no event: a goodbye that is no error.
    while connection.status().connected() {
        let Ok(event) = timeout(CHECK, events.next()).await else {
            continue;
        };
        match event {
            // Errors of channels are told here, too; their users know.
            Some(Event::Error(error)) if !connection.status().connected() => {
                return describe(&error);
            }
            Some(Event::ConnectionBlocked(reason)) => {
                let reason = reason.replace(char::is_control, " ");
                tracing::warn!(reason, "RabbitMQ takes no messages");
                status.send_replace(LinkStatus::Blocked { reason });
            }
            Some(Event::ConnectionUnblocked) => {
                tracing::info!("RabbitMQ takes messages again");
                status.send_replace(LinkStatus::Connected);
            }
            Some(_) => {}
            None => break,
        }
    }
    "the connection is closed".to_owned()
}
