//! A real RabbitMQ that can be killed, and brought back on the same port with everything that it had on its disk.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
    QueuePurgeOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::amqp::{GOODBYE, Publication};
use crate::authority::Identity;
use crate::ports::free_port;
use crate::process::Process;
use crate::wait::{DEADLINE, until, within};

/// How often starting is tried anew when somebody else took a port first.
const ATTEMPTS: usize = 5;

/// It normally takes five seconds.
const STARTING: Duration = Duration::from_secs(90);

/// The delivery mode of messages that survive a restart.
const PERSISTENT: u8 = 2;

/// The policy of a queue that takes no messages.
const CLOSED: &str = "closed";

/// A RabbitMQ of our own: one Erlang node without plugins, with its data, its log, its cookie and its port mapper in a temporary
/// folder and on ports of its own. Dropping it kills it.
pub struct RabbitMq {
    port: u16,
    secure_port: u16,
    /// What its configuration says about TLS.
    secure: Option<String>,
    distribution_port: u16,
    mapper_port: u16,
    folder: TempDir,
    node: Option<Node>,
}

/// Dropped in this order.
struct Node {
    broker: Process,
    /// Erlang's port mapper (`epmd`). A node without one would start one, for all nodes of this machine, and leave it behind.
    _mapper: Process,
}

impl RabbitMq {
    /// Starts a RabbitMQ on free ports, and returns once it accepts connections.
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    /// Starts a RabbitMQ that speaks TLS, too, on a port of its own, and shows this certificate there.
    pub async fn start_with_tls(identity: &Identity) -> Self {
        Self::start_with(Some(identity)).await
    }

    async fn start_with(identity: Option<&Identity>) -> Self {
        for _ in 0..ATTEMPTS {
            let mut rabbitmq = Self::absent();
            rabbitmq.secure = identity.map(|identity| {
                format!(
                    "listeners.ssl.1 = 127.0.0.1:{}\n\
                     ssl_options.certfile = {}\n\
                     ssl_options.keyfile = {}\n\
                     ssl_options.verify = verify_none\n",
                    rabbitmq.secure_port,
                    identity.certificate.display(),
                    identity.key.display()
                )
            });
            if rabbitmq.try_start().await {
                return rabbitmq;
            }
        }
        panic!("rabbitmq-server did not start on any of {ATTEMPTS} ports");
    }

    /// A place where a RabbitMQ can be started later; until then nobody listens there.
    pub fn absent() -> Self {
        Self {
            port: free_port(),
            secure_port: free_port(),
            secure: None,
            distribution_port: free_port(),
            mapper_port: free_port(),
            folder: TempDir::new().expect("a temporary folder"),
            node: None,
        }
    }

    /// Starts it, for the first time or again, on the port that it has always had. Durable queues and the persistent messages in them are
    /// as they were.
    pub async fn appear(&mut self) {
        assert!(
            self.try_start().await,
            "rabbitmq-server does not start on port {}",
            self.port
        );
    }

    async fn try_start(&mut self) -> bool {
        assert!(self.node.is_none(), "this RabbitMQ is running");
        let mut command = Command::new("epmd");
        command.args(["-address", "127.0.0.1", "-port"]);
        command.arg(self.mapper_port.to_string());
        let mut mapper = Process::start("epmd", command);
        if !accepts(self.mapper_port, &mut mapper).await {
            return false;
        }
        let mut broker = Process::start("rabbitmq-server", self.command());
        let ready = broker.stdout_line(STARTING, "starts", |line| {
            line.contains("completed with").then_some(())
        });
        if ready.await.is_none() {
            return false;
        }
        self.node = Some(Node {
            broker,
            _mapper: mapper,
        });
        true
    }

    fn command(&self) -> Command {
        let folder = self.folder.path();
        let configuration = folder.join("rabbitmq.conf");
        // A machine that is short of memory or disk must not make it refuse messages.
        let secure = self.secure.as_deref().unwrap_or_default();
        let text = format!(
            "listeners.tcp.1 = 127.0.0.1:{}\n\
             {secure}\
             disk_free_limit.absolute = 1MB\n\
             vm_memory_high_watermark.absolute = 4GB\n\
             log.console = true\n\
             log.console.level = warning\n\
             log.file = false\n",
            self.port
        );
        fs::write(&configuration, text).expect("a temporary folder can be written to");
        let mut command = Command::new(program("rabbitmq-server"));
        self.environment(&mut command);
        command
            // Makes the script become the node, instead of starting one and waiting for it: so there is one process to kill.
            .env("detached", "true")
            // One thread of each kind: it starts sooner, and leaves the machine to what is tested.
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "+S 1:1 +SDcpu 1:1 +SDio 1 +A 4 +sbt u -kernel inet_dist_use_interface {127,0,0,1}",
            );
        command
    }

    /// What all programs of this node need.
    fn environment(&self, command: &mut Command) {
        let folder = self.folder.path();
        let configuration = folder.join("rabbitmq.conf");
        command.env_clear();
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command
            // Erlang's cookie is made and looked for here.
            .env("HOME", folder)
            .env("LANG", "C.UTF-8")
            .env("RABBITMQ_NODENAME", "rabbit@localhost")
            .env("RABBITMQ_CONF_ENV_FILE", folder.join("none"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", folder.join("none"))
            .env("RABBITMQ_CONFIG_FILE", configuration)
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("plugins"))
            .env("RABBITMQ_MNESIA_BASE", folder.join("data"))
            .env("RABBITMQ_LOG_BASE", folder.join("log"))
            .env("RABBITMQ_PID_FILE", folder.join("pid"))
            .env("RABBITMQ_DIST_PORT", self.distribution_port.to_string())
            .env("ERL_EPMD_PORT", self.mapper_port.to_string())
            .env("ERL_CRASH_DUMP", "/dev/null")
            // For all Erlang programs that the script starts.
            .env("ERL_ZFLAGS", "-start_epmd false");
    }

    /// Runs `rabbitmqctl` with these arguments, and gives what it says.
    pub async fn control(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(program("rabbitmqctl"));
        self.environment(&mut command);
        command.arg("--quiet").args(arguments);
        let output = tokio::task::spawn_blocking(move || command.output());
        let output = output.await.unwrap().expect("rabbitmqctl runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What it has said so far: warnings and errors, and how it started.
    pub fn output(&self) -> String {
        let node = self.node.as_ref().expect("a running RabbitMQ");
        node.broker.output()
    }

    /// Says that there is so much memory and no more, in a unit of its own such as `1MB`: with less than it uses, it takes no messages.
    pub async fn limit_memory(&self, limit: &str) {
        self.control(&["set_vm_memory_high_watermark", "absolute", limit])
            .await;
    }

    /// Lets no message into a queue any more.
    pub async fn close_queue(&self, queue: &str) {
        let pattern = format!("^{}$", queue.replace('.', "\\."));
        let full = r#"{"max-length":0,"overflow":"reject-publish"}"#;
        self.control(&["set_policy", CLOSED, &pattern, full, "--apply-to", "queues"])
            .await;
    }

    /// Lets messages into the closed queue again.
    pub async fn open_queue(&self) {
        self.control(&["clear_policy", CLOSED]).await;
    }

    /// `amqp://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("amqp://127.0.0.1:{}", self.port)
    }

    /// `kill -9`: connections to it break at once, and nobody listens on its port.
    pub fn vanish(&mut self) {
        let mut node = self.node.take().expect("a running RabbitMQ");
        node.broker.kill();
    }

    /// Stops in good order, as an operator stops it, and waits until it has: its clients are told.
    pub async fn stop(&mut self) {
        let mut node = self.node.take().expect("a running RabbitMQ");
        node.broker.signal(Signal::SIGTERM);
        node.broker.exit(STARTING).await;
    }

    /// Stops the process without ending it: connections stay open, and nothing answers any more.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets a frozen RabbitMQ go on.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let node = self.node.as_ref().expect("a running RabbitMQ");
        node.broker.signal(signal);
    }

    /// `amqps://localhost:PORT`, where it was started with TLS.
    pub fn secure_url(&self) -> String {
        format!("amqps://localhost:{}", self.secure_port)
    }

    /// A connection of the test's own, as lapin makes it.
    pub async fn connect(&self) -> Connection {
        let url = self.url();
        let connecting = Connection::connect(&url, ConnectionProperties::default());
        let connection = within(DEADLINE, "connecting to RabbitMQ", connecting).await;
        connection.unwrap_or_else(|error| panic!("RabbitMQ: {error}"))
    }

    /// A channel on a connection of its own, which waits for confirmations of what it publishes. Closed when it is dropped.
    pub async fn channel(&self) -> Channel {
        let opening = async {
            let channel = self.connect().await.create_channel().await?;
            channel
                .confirm_select(ConfirmSelectOptions::default())
                .await?;
            Ok::<_, lapin::Error>(channel)
        };
        let channel = within(DEADLINE, "a channel of RabbitMQ", opening).await;
        channel.unwrap_or_else(|error| panic!("RabbitMQ: {error}"))
    }

    /// Declares a durable classic queue, which is no error if it is there already.
    pub async fn declare_queue(&self, queue: &str) {
        let options = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let channel = self.channel().await;
        let declared = channel.queue_declare(queue.into(), options, FieldTable::default());
        declared
            .await
            .unwrap_or_else(|error| panic!("declaring {queue}: {error}"));
    }

    /// Publishes a persistent message to an exchange; the exchange without a name (`""`) hands it to the queue that the routing key names.
    /// Returns once it is confirmed; that a queue has it is not asked for.
    pub async fn publish(&self, exchange: &str, routing_key: &str, payload: &[u8]) {
        self.publish_all(exchange, routing_key, [payload]).await;
    }

    /// Publishes all of these, one right after the other, and returns once they are all confirmed.
    pub async fn publish_all(
        &self,
        exchange: &str,
        routing_key: &str,
        payloads: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) {
        let plain = payloads
            .into_iter()
            .map(|payload| (BasicProperties::default(), payload));
        self.publish_with(exchange, routing_key, plain).await;
    }

    /// The same for messages with properties of their own.
    pub async fn publish_with(
        &self,
        exchange: &str,
        routing_key: &str,
        messages: impl IntoIterator<Item = (BasicProperties, impl AsRef<[u8]>)>,
    ) {
        let channel = self.channel().await;
        let mut confirmations = Vec::new();
        for (properties, payload) in messages {
            let confirmation = channel
                .basic_publish(
                    exchange.into(),
                    routing_key.into(),
                    BasicPublishOptions::default(),
                    payload.as_ref(),
                    properties.with_delivery_mode(PERSISTENT),
                )
                .await;
            confirmations.push(confirmation.expect("RabbitMQ takes messages"));
        }
        for confirmation in confirmations {
            let confirmed = within(DEADLINE, "a confirmation of RabbitMQ", confirmation).await;
            let confirmed = confirmed.expect("RabbitMQ confirms");
            assert_eq!(confirmed, Confirmation::Ack(None), "to {exchange}");
        }
    }

    /// Publishes what no library would.
    pub async fn publish_bytes(&self, publication: &Publication<'_>) {
        let address = (Ipv4Addr::LOCALHOST, self.port);
        let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
        let bytes = publication.conversation();
        let talk = async {
            socket.write_all(&bytes).await?;
            // RabbitMQ takes its leave when it has read everything.
            let mut answers = Vec::new();
            while !answers.ends_with(GOODBYE) {
                if socket.read_buf(&mut answers).await? == 0 {
                    break;
                }
            }
            std::io::Result::Ok(answers)
        };
        let answers = within(DEADLINE, "publishing byte by byte", talk).await;
        let answers = answers.expect("RabbitMQ answers");
        assert!(answers.ends_with(GOODBYE), "{answers:?}");
    }

    /// Takes the first message out of a queue, if there is one.
    pub async fn get(&self, queue: &str) -> Option<Vec<u8>> {
        let options = BasicGetOptions { no_ack: true };
        let channel = self.channel().await;
        let message = channel.basic_get(queue.into(), options).await;
        let message = message.unwrap_or_else(|error| panic!("getting from {queue}: {error}"));
        message.map(|message| message.delivery.data)
    }

    /// Takes everything out of a queue, in its order.
    pub async fn drain(&self, queue: &str) -> Vec<Vec<u8>> {
        let options = BasicGetOptions { no_ack: true };
        let channel = self.channel().await;
        let mut messages = Vec::new();
        loop {
            let message = channel.basic_get(queue.into(), options).await;
            match message.unwrap_or_else(|error| panic!("getting from {queue}: {error}")) {
                Some(message) => messages.push(message.delivery.data),
                None => return messages,
            }
        }
    }

    /// Throws away what waits in a queue.
    pub async fn purge(&self, queue: &str) {
        let channel = self.channel().await;
        let purged = channel.queue_purge(queue.into(), QueuePurgeOptions::default());
        purged
            .await
            .unwrap_or_else(|error| panic!("purging {queue}: {error}"));
    }

    /// What there is of a queue: how many messages wait in it (those that a consumer has and has not acknowledged are not counted),
    /// and how many consumers it has; `None` if there is no such queue.
    pub async fn queue(&self, queue: &str) -> Option<QueueState> {
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let channel = self.channel().await;
        let declared = channel.queue_declare(queue.into(), options, FieldTable::default());
        let queue = declared.await.ok()?;
        Some(QueueState {
            messages: queue.message_count(),
            consumers: queue.consumer_count(),
        })
    }

    /// Waits until a queue is as wanted: so many messages wait, and there are so many consumers.
    pub async fn queue_becomes(&self, queue: &str, messages: u32, consumers: u32) {
        let wanted = Some(QueueState {
            messages,
            consumers,
        });
        let what = format!("{queue} has {messages} messages and {consumers} consumers");
        until(DEADLINE, what, async || match self.queue(queue).await {
            now if now == wanted => Ok(()),
            now => Err(format!("{now:?}")),
        })
        .await;
    }
}

/// What a queue says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueState {
    /// How many messages wait to be delivered.
    pub messages: u32,
    /// How many consumers it has.
    pub consumers: u32,
}

/// Waits until a process listens on a port; `false` if it ends instead.
async fn accepts(port: u16, process: &mut Process) -> bool {
    let what = format!("somebody listens on port {port}");
    let accepting = until(DEADLINE, what, async || {
        if process.has_ended() {
            return Ok(false);
        }
        match TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => Ok(true),
            Err(error) => Err(error.to_string()),
        }
    });
    accepting.await.0
}

/// A script that does its work as whoever runs it. The one that Debian has in the path would become the user `rabbitmq`.
fn program(name: &str) -> PathBuf {
    let script = Path::new("/usr/lib/rabbitmq/bin").join(name);
    if script.exists() {
        script
    } else {
        PathBuf::from(name)
    }
}
