//! A real Redis that can be killed, brought back on the same port, frozen and thawed.

use std::process::Command;
use std::time::Duration;

use futures_util::StreamExt;
use nix::sys::signal::Signal;
use redis::FromRedisValue;
use redis::aio::{MultiplexedConnection, PubSub};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::ports::free_port;
use crate::process::Process;
use crate::wait::{DEADLINE, until, within};

/// How often starting is tried anew when somebody else took the port first.
const ATTEMPTS: usize = 5;

/// A Redis of our own in a temporary folder, without persistence. Dropping it kills it.
pub struct RedisServer {
    port: u16,
    folder: TempDir,
    process: Option<Process>,
}

impl RedisServer {
    /// Starts a Redis on a free port, and returns once it answers.
    pub async fn start() -> Self {
        for _ in 0..ATTEMPTS {
            let mut redis = Self::absent();
            if redis.try_start().await {
                return redis;
            }
        }
        panic!("redis-server did not start on any of {ATTEMPTS} ports");
    }

    /// A place where a Redis can be started later; until then nobody listens there.
    pub fn absent() -> Self {
        Self {
            port: free_port(),
            folder: TempDir::new().expect("a temporary folder"),
            process: None,
        }
    }

    /// Starts it, for the first time or again, on the port that it has always had.
    pub async fn appear(&mut self) {
        assert!(
            self.try_start().await,
            "redis-server does not start on port {}",
            self.port
        );
    }

    async fn try_start(&mut self) -> bool {
        let mut command = Command::new("redis-server");
        command
            .args([
                "--bind",
                "127.0.0.1",
                "--port",
                &self.port.to_string(),
                "--save",
                "",
                "--appendonly",
                "no",
                "--dir",
            ])
            .arg(self.folder.path());
        let mut process = Process::start("redis-server", command);
        let ready = process.stdout_line(DEADLINE, "accepts connections", |line| {
            line.contains("Ready to accept connections").then_some(())
        });
        if ready.await.is_none() {
            return false;
        }
        self.process = Some(process);
        true
    }

    /// `redis://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// `kill -9`: connections to it break at once, and nobody listens on its port.
    pub fn vanish(&mut self) {
        self.process.take().expect("a running Redis").kill();
    }

    /// Stops the process without ending it: connections stay open, and nothing answers any more.
    pub fn freeze(&self) {
        self.process
            .as_ref()
            .expect("a running Redis")
            .signal(Signal::SIGSTOP);
    }

    /// Lets a frozen Redis go on.
    pub fn thaw(&self) {
        self.process
            .as_ref()
            .expect("a running Redis")
            .signal(Signal::SIGCONT);
    }

    /// Waits until it answers `PING`.
    pub async fn answers(&self) {
        let what = format!("Redis on port {} answers PING", self.port);
        until(DEADLINE, what, async || {
            match timeout(Duration::from_millis(200), self.ping()).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(String::from("silence")),
            }
        })
        .await;
    }

    async fn ping(&self) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.write_all(b"PING\r\n").await?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).await?;
        assert_eq!(&answer, b"+PONG\r\n");
        Ok(())
    }

    /// Publishes these bytes, and gives how many subscribers Redis handed them to.
    pub async fn publish(&self, channel: &str, payload: &[u8]) -> u64 {
        self.ask(redis::cmd("PUBLISH").arg(channel).arg(payload))
            .await
    }

    /// Publishes all of these, one right after the other.
    pub async fn publish_all(&self, channel: &str, payloads: &[Vec<u8>]) {
        let mut pipeline = redis::pipe();
        for payload in payloads {
            pipeline.cmd("PUBLISH").arg(channel).arg(payload).ignore();
        }
        let mut connection = self.connect().await;
        let published = pipeline.exec_async(&mut connection).await;
        published.unwrap_or_else(|error| panic!("Redis: {error}"));
    }

    /// The channels that anybody is subscribed to and that match `pattern`, in alphabetical order.
    pub async fn channels(&self, pattern: &str) -> Vec<String> {
        let mut channels: Vec<String> = self
            .ask(redis::cmd("PUBSUB").arg("CHANNELS").arg(pattern))
            .await;
        channels.sort_unstable();
        channels
    }

    /// How many connections are subscribed to this channel.
    pub async fn subscribers(&self, channel: &str) -> u64 {
        let (_, count): (String, u64) = self
            .ask(redis::cmd("PUBSUB").arg("NUMSUB").arg(channel))
            .await;
        count
    }

    /// Waits until exactly `count` connections are subscribed to this channel.
    pub async fn subscribers_become(&self, channel: &str, count: u64) {
        let what = format!("{channel} has {count} subscribers");
        until(DEADLINE, what, async || {
            match self.subscribers(channel).await {
                now if now == count => Ok(()),
                now => Err(format!("{now} subscribers")),
            }
        })
        .await;
    }

    /// A connection that is subscribed to this channel.
    pub async fn subscribe(&self, channel: &str) -> PubSub {
        let mut subscriber = within(
            DEADLINE,
            "connecting to Redis",
            self.client().get_async_pubsub(),
        )
        .await
        .expect("Redis accepts");
        subscriber
            .subscribe(channel)
            .await
            .expect("Redis subscribes");
        subscriber
    }

    async fn ask<T: FromRedisValue>(&self, command: &redis::Cmd) -> T {
        let mut connection = self.connect().await;
        let answer = command.query_async(&mut connection);
        let answer = within(DEADLINE, "an answer of Redis", answer).await;
        answer.unwrap_or_else(|error| panic!("Redis: {error}"))
    }

    async fn connect(&self) -> MultiplexedConnection {
        let client = self.client();
        let connecting = client.get_multiplexed_async_connection();
        let connection = within(DEADLINE, "connecting to Redis", connecting).await;
        connection.unwrap_or_else(|error| panic!("Redis: {error}"))
    }

    fn client(&self) -> redis::Client {
        redis::Client::open(self.url()).expect("our own address is an address")
    }
}

/// The payload of the next message on a subscribed channel.
pub async fn payload(subscriber: &mut PubSub) -> Vec<u8> {
    let message = within(DEADLINE, "a message on a channel of Redis", async {
        subscriber.on_message().next().await
    })
    .await;
    message
        .expect("an open subscription")
        .get_payload_bytes()
        .to_vec()
}
