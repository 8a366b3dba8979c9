//! Several servers as one, over Redis pub/sub.
//!
//! Channels and payloads are those of ASP.NET Core's `Microsoft.AspNetCore.SignalR.StackExchangeRedis` (they are made
//! in `hubcast`, this crate only carries them), so servers of both kinds share one Redis.
//!
//! # How it keeps its promises
//!
//! Each hub has **one** RESP3 connection, which publishes, subscribes and receives. Redis executes a connection's
//! commands in order and sends it everything in order, so this server knows of each of its own publications whether it
//! has come back:
//!
//! - Everything that waits is taken at once and sent as one pipeline, subscriptions first; while that is under way,
//!   the next one gathers.
//! - What has been published and has not come back is remembered. When Redis goes away, exactly that is delivered to the
//!   clients of this server, once, and from then on everything is, at once. What other servers missed is lost and
//!   counted (`hubcast_backplane_local_only_total`).
//! - No answer for two seconds is an outage, too. Before a new connection subscribes, it has Redis kill the old one, so
//!   that a Redis that wakes up again cannot send what has been delivered already.
//! - A connection that is back subscribes to everything that is wanted before it counts as back.

mod ledger;
mod link;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use hubcast::{Backplane, BackplaneStatus, Receiver};
use redis::{IntoConnectionInfo, ProtocolVersion};
use tokio::sync::{OnceCell, watch};
use tokio::task::AbortHandle;

use crate::ledger::Ledger;

/// A hub's connection to Redis, and with it to all servers that use the same Redis and hub name.
///
/// Needs Redis 6 or newer, or anything that speaks RESP3 and pub/sub as it does. `redis://` and `unix://` URLs; TLS
/// (`rediss://`) is not built in.
#[derive(Debug)]
pub struct RedisBackplane {
    client: redis::Client,
    prefix: String,
    ledger: Arc<Ledger>,
    task: OnceCell<AbortHandle>,
}

/// A URL that does not lead to a Redis. Does not repeat it, because it may hold a password.
#[derive(Debug, thiserror::Error)]
#[error("not the URL of a Redis, such as redis://user:password@host:6379: {0}")]
pub struct InvalidUrl(redis::RedisError);

impl RedisBackplane {
    /// Prepares a connection; it is made, and kept, once a hub uses it. A Redis that is away is no error.
    pub fn new(url: &str) -> Result<Self, InvalidUrl> {
        let info = url.into_connection_info().map_err(InvalidUrl)?;
        let settings = info.redis_settings().clone();
        let info = info.set_redis_settings(settings.set_protocol(ProtocolVersion::RESP3));
        Ok(Self {
            client: redis::Client::open(info).map_err(InvalidUrl)?,
            prefix: String::new(),
            ledger: Arc::new(Ledger::new()),
            task: OnceCell::new(),
        })
    }

    /// Puts a prefix before every channel and key, verbatim. Default: none.
    ///
    /// The `ChannelPrefix` of StackExchange.Redis: several applications on one Redis need different ones, else hubs of
    /// the same name mix.
    pub fn channel_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    fn prefixed(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

impl Drop for RedisBackplane {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

impl Backplane for RedisBackplane {
    fn start(&self, receiver: Arc<dyn Receiver>) {
        let link = link::run(
            self.client.clone(),
            Arc::clone(&self.ledger),
            Arc::new(WithoutPrefix {
                prefix: self.prefix.clone(),
                receiver,
            }),
        );
        if self.task.set(tokio::spawn(link).abort_handle()).is_err() {
            tracing::error!("a backplane belongs to one hub, and was given to two");
        }
    }

    fn publish<'a>(&'a self, channel: &'a str, payload: Bytes) -> BoxFuture<'a, Option<u64>> {
        let channel = self.prefixed(channel).into();
        Box::pin(self.ledger.publish(channel, payload))
    }

    fn subscribe(&self, channel: &str) -> BoxFuture<'static, ()> {
        let confirmed = self.ledger.subscribe(&self.prefixed(channel));
        Box::pin(async {
            if let Some(confirmed) = confirmed {
                // Dropped when Redis goes away: until it is back, nothing can be missed that others send.
                let _ = confirmed.await;
            }
        })
    }

    fn unsubscribe(&self, channel: &str) {
        self.ledger.unsubscribe(&self.prefixed(channel));
    }

    fn agree<'a>(
        &'a self,
        key: &'a str,
        proposal: Bytes,
        lifetime: Option<Duration>,
    ) -> BoxFuture<'a, Option<Bytes>> {
        Box::pin(async move {
            let connection = self.ledger.connection()?;
            link::first_value(connection, &self.prefixed(key), &proposal, lifetime).await
        })
    }

    fn status(&self) -> watch::Receiver<BackplaneStatus> {
        self.ledger.status()
    }
}

/// Hides the prefix from the hub.
struct WithoutPrefix {
    prefix: String,
    receiver: Arc<dyn Receiver>,
}

impl Receiver for WithoutPrefix {
    fn receive(&self, channel: &str, payload: Bytes) {
        if let Some(channel) = channel.strip_prefix(&self.prefix) {
            self.receiver.receive(channel, payload);
        }
    }
}
