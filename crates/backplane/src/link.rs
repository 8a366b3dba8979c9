//! The connection to Redis: made, used, lost, made again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hubcast::Receiver;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, PushInfo, PushKind, RedisError, Value};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use crate::ledger::{Batch, Ledger};

/// No answer for this long is an outage.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often a connection that has nothing to do asks whether Redis is still there.
const CHECK: Duration = Duration::from_millis(500);

/// How long to wait before the next attempt to connect: short at first, and never so long that a Redis which is
/// back is not noticed within two seconds.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_millis(500);

/// How long a connection must have held for the next attempt to be quick again.
const STABLE: Duration = Duration::from_secs(5);

/// How many channels one SUBSCRIBE names.
const CHANNELS: usize = 512;

/// Why a connection ended, for the log and the readiness probe.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("no answer for {} s", PATIENCE.as_secs())]
    Silent,
    #[error("{0}")]
    Failed(RedisError),
    #[error("the connection was closed")]
    Closed,
}

impl From<RedisError> for Lost {
    fn from(error: RedisError) -> Self {
        if error.is_timeout() {
            Self::Silent
        } else {
            Self::Failed(error)
        }
    }
}

/// Keeps a connection to Redis for as long as the task lives.
pub(crate) async fn run(client: redis::Client, ledger: Arc<Ledger>, receiver: Arc<dyn Receiver>) {
    ledger.set_receiver(receiver);
    let mut retry = FIRST_RETRY;
    let mut previous = None;
    loop {
        let lost = match connect(&client, &ledger, &mut previous).await {
            Ok(mut link) => {
                let began = Instant::now();
                let Err(lost) = link.serve(&ledger).await;
                // A link that breaks at once is not tried again at once.
                if began.elapsed() > STABLE {
                    retry = FIRST_RETRY;
                }
                lost
            }
            Err(lost) => lost,
        };
        let reason = lost.to_string();
        tracing::warn!(
            reason,
            "Redis is away; clients of this server still reach each other"
        );
        ledger.down(reason);
        sleep(retry).await;
        retry = (retry * 2).min(LAST_RETRY);
    }
}

/// A connection that is joining or up.
struct Link {
    connection: MultiplexedConnection,
    /// Told when the connection ends while nothing is asked of it.
    closed: Arc<Notify>,
}

/// What Redis calls a connection. The number alone is not enough: a Redis that has restarted counts from the start
/// again, and would know somebody else by it.
struct Identity {
    id: String,
    address: String,
}

/// Connects, and makes sure that what the previous connection sent is over and done with.
async fn connect(
    client: &redis::Client,
    ledger: &Arc<Ledger>,
    previous: &mut Option<Identity>,
) -> Result<Link, Lost> {
    // The epoch begins when the connection is known to be good; until then it has subscribed to nothing.
    let epoch = Arc::new(std::sync::OnceLock::new());
    let closed = Arc::new(Notify::new());
    let push = {
        let (ledger, epoch, closed) = (Arc::clone(ledger), Arc::clone(&epoch), Arc::clone(&closed));
        move |push: PushInfo| {
            match push.kind {
                PushKind::Message => {
                    if let (Some(epoch), Some((channel, payload))) =
                        (epoch.get(), message(push.data))
                    {
                        ledger.arrived(*epoch, &channel, payload);
                    }
                }
                PushKind::Disconnection => closed.notify_one(),
                _ => {}
            }
            Ok::<(), redis::aio::SendError>(())
        }
    };
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE))
        .set_push_sender(push);
    let connecting = client.get_multiplexed_async_connection_with_config(&config);
    let mut connection = timeout(PATIENCE, connecting)
        .await
        .map_err(|_| Lost::Silent)??;

    let identity = identify(&mut connection).await?;
    if let Some(previous) = previous {
        // A Redis that was only frozen may hold publications of the old connection, which have been delivered here
        // already. Once it is killed they are either out or never will be, and nothing here has subscribed yet.
        let mut kill = redis::cmd("CLIENT");
        kill.arg("KILL")
            .arg("ID")
            .arg(&previous.id)
            .arg("ADDR")
            .arg(&previous.address);
        permitted(kill.query_async(&mut connection).await)?;
    }
    *previous = identity;
    // Nothing has been subscribed to before this, so no message can have come before the epoch was known.
    let _ = epoch.set(ledger.joining());
    Ok(Link { connection, closed })
}

/// Asks Redis (6.2 or newer) what it calls this connection.
async fn identify(connection: &mut MultiplexedConnection) -> Result<Option<Identity>, Lost> {
    let info = redis::cmd("CLIENT")
        .arg("INFO")
        .query_async(connection)
        .await;
    let Some(Value::VerbatimString { text, .. }) = permitted(info)? else {
        return Ok(None);
    };
    let field = |name: &str| {
        let found = text
            .split_whitespace()
            .find_map(|field| field.strip_prefix(name));
        found.map(str::to_owned)
    };
    Ok(field("id=")
        .zip(field("addr="))
        .map(|(id, address)| Identity { id, address }))
}

/// What one can do without: an older or a restricted Redis may refuse it. Without it, what was under way when a Redis
/// froze may arrive twice.
fn permitted(answer: Result<Value, RedisError>) -> Result<Option<Value>, Lost> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_timeout() || error.is_unrecoverable_error() => Err(error.into()),
        Err(error) => {
            tracing::warn!(%error, "Redis does not let connections be told apart");
            Ok(None)
        }
    }
}

/// The channel and the payload of a message.
fn message(data: Vec<Value>) -> Option<(String, Bytes)> {
    let [channel, payload] = <[Value; 2]>::try_from(data).ok()?;
    match (channel, payload) {
        (Value::BulkString(channel), Value::BulkString(payload)) => {
            Some((String::from_utf8(channel).ok()?, payload.into()))
        }
        _ => None,
    }
}

impl Link {
    /// Subscribes to everything wanted, then sends whatever there is to send, until the connection is lost.
    async fn serve(&mut self, ledger: &Ledger) -> Result<std::convert::Infallible, Lost> {
        while let Some(batch) = ledger.take_batch() {
            self.send(ledger, batch).await?;
        }
        ledger.up(self.connection.clone());
        tracing::info!("Redis is there");
        loop {
            while let Some(batch) = ledger.take_batch() {
                self.send(ledger, batch).await?;
            }
            tokio::select! {
                () = ledger.work.notified() => {}
                () = self.closed.notified() => return Err(Lost::Closed),
                () = sleep(CHECK) => {
                    let _: Value = redis::cmd("PING").query_async(&mut self.connection).await?;
                    ledger.idle();
                }
            }
        }
    }

    async fn send(&mut self, ledger: &Ledger, batch: Batch) -> Result<(), Lost> {
        match self.try_send(ledger, &batch).await {
            Ok(receivers) => {
                ledger.answered(batch, receivers);
                Ok(())
            }
            Err(lost) => {
                // Kept: dropping it would tell those who wait to go on before `down` has delivered what they published.
                ledger.failed(batch);
                Err(lost)
            }
        }
    }

    /// Gives how many servers got each publication.
    async fn try_send(&mut self, ledger: &Ledger, batch: &Batch) -> Result<Vec<u64>, Lost> {
        for channels in batch.subscribe.chunks(CHANNELS) {
            self.connection.subscribe(names(channels)).await?;
            ledger.confirm(channels);
        }
        let mut receivers = Vec::new();
        if !batch.publish.is_empty() {
            let mut pipeline = redis::pipe();
            for publication in &batch.publish {
                pipeline
                    .cmd("PUBLISH")
                    .arg(&*publication.channel)
                    .arg(&*publication.payload);
            }
            receivers = pipeline.query_async(&mut self.connection).await?;
        }
        for channels in batch.unsubscribe.chunks(CHANNELS) {
            self.connection.unsubscribe(names(channels)).await?;
        }
        Ok(receivers)
    }
}

fn names(channels: &[Arc<str>]) -> Vec<&str> {
    channels.iter().map(|channel| &**channel).collect()
}

/// Sets a key if it is not set, and gives its value. `None` if Redis does not say.
pub(crate) async fn first_value(
    mut connection: MultiplexedConnection,
    key: &str,
    value: &[u8],
    lifetime: Option<Duration>,
) -> Option<Bytes> {
    let mut pipeline = redis::pipe();
    let set = pipeline.cmd("SET").arg(key).arg(value).arg("NX");
    if let Some(lifetime) = lifetime {
        let milliseconds = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
        set.arg("PX").arg(milliseconds);
    }
    pipeline.ignore().cmd("GET").arg(key);
    let answer: Result<(Option<Vec<u8>>,), RedisError> =
        pipeline.query_async(&mut connection).await;
    match answer {
        Ok((value,)) => value.map(Bytes::from),
        Err(error) => {
            tracing::warn!(%error, "Redis did not say what a key is: tokens hold on the server that gave them only");
            None
        }
    }
}
