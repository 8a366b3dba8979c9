//! The server under test, started as its users start it: the program, its flags, and the one line that it prints.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::OnceLock;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::http::{self, Response};
use crate::ports::free_port;
use crate::process::Process;
use crate::rabbitmq::RabbitMq;
use crate::redis_server::RedisServer;
use crate::wait::{DEADLINE, until};

/// What the server prints once it accepts connections, followed by its address.
const ANNOUNCEMENT: &str = "hubcast listening on ";

/// A running server. Dropping it kills it.
pub struct Hubcast {
    process: Process,
    url: String,
    /// What it was started with, where it is to [come back](Self::come_back).
    arguments: Vec<String>,
}

impl Hubcast {
    /// Starts a server on a free port with these further arguments, and returns once it accepts connections.
    pub async fn start(arguments: &[&str]) -> Self {
        let mut command = command();
        command
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(arguments);
        Self::from_command(command).await
    }

    /// Starts a server that shares this Redis with others.
    pub async fn with_redis(redis: &RedisServer) -> Self {
        Self::start(&["--redis", &redis.url()]).await
    }

    /// Starts `count` servers that share this Redis, and returns once each of them is ready.
    pub async fn cluster<const COUNT: usize>(redis: &RedisServer) -> [Self; COUNT] {
        let mut servers = Vec::with_capacity(COUNT);
        for _ in 0..COUNT {
            servers.push(Self::with_redis(redis).await);
        }
        for server in &servers {
            server.becomes("ready", DEADLINE).await;
        }
        servers
            .try_into()
            .unwrap_or_else(|_| unreachable!("as many as were asked for"))
    }

    /// Starts a server whose tasks are in the RabbitMQ at this address, where they come again after a second, and returns once it has its queues there.
    pub async fn with_tasks_at(amqp: &str, further: &[&str]) -> Self {
        let arguments = [&["--amqp", amqp, "--task-retry", "1"], further].concat();
        let server = Self::start(&arguments).await;
        server.has_its_queues(DEADLINE).await;
        server
    }

    /// The same for a RabbitMQ of the test's.
    pub async fn with_tasks(rabbitmq: &RabbitMq, further: &[&str]) -> Self {
        Self::with_tasks_at(&rabbitmq.url(), further).await
    }

    /// Starts a server on a port that nobody else is given while it is away, so that it can [come back](Self::come_back), with these further arguments.
    pub async fn start_to_return(arguments: &[&str]) -> Self {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        for _ in 0..20 {
            let command = on_port(free_port(), &arguments);
            if let Ok(started) = Self::try_from_command(command).await {
                return Self {
                    arguments,
                    ..started
                };
            }
        }
        panic!("hubcast could not have any of twenty ports")
    }

    /// Starts it anew where it was, with the arguments that it had.
    pub async fn come_back(&mut self) {
        let port = self.authority().rsplit(':').next();
        let port = port.and_then(|port| port.parse().ok()).expect("a port");
        let arguments = std::mem::take(&mut self.arguments);
        let returned = Self::from_command(on_port(port, &arguments)).await;
        *self = Self {
            arguments,
            ..returned
        };
    }

    /// Starts a server from a command made with [`command`], and returns once it accepts connections.
    pub async fn from_command(command: Command) -> Self {
        let started = Self::try_from_command(command).await;
        started.unwrap_or_else(|output| panic!("hubcast ended before it listened:\n{output}"))
    }

    /// The error is what it has printed.
    async fn try_from_command(command: Command) -> Result<Self, String> {
        let mut process = Process::start("hubcast", command);
        let announced = process.stdout_line(DEADLINE, "says where it listens", |line| {
            line.strip_prefix(ANNOUNCEMENT).map(str::to_owned)
        });
        match announced.await {
            Some(url) => Ok(Self {
                process,
                url,
                arguments: Vec::new(),
            }),
            None => Err(process.output()),
        }
    }

    /// The address it printed: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its host and port: `127.0.0.1:PORT`.
    pub fn authority(&self) -> &str {
        http::authority(&self.url)
    }

    /// Puts a task into the queue, and gives its id.
    pub async fn submit(&self, task: &Value) -> String {
        let answer = self.post("/tasks", &task.to_string()).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        let answer: Value = serde_json::from_str(&answer.body).expect("JSON");
        answer["id"].as_str().expect("an id").to_owned()
    }

    /// What `GET /tasks` says.
    pub async fn tasks(&self) -> Value {
        let answer = self.get("/tasks").await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        serde_json::from_str(&answer.body).expect("JSON")
    }

    /// Waits until the server has its queues of tasks.
    pub async fn has_its_queues(&self, limit: Duration) {
        until(limit, "a server has its queues", async || {
            match self.tasks().await {
                tasks if tasks["waiting"].is_number() => Ok(()),
                tasks => Err(tasks.to_string()),
            }
        })
        .await;
    }

    /// Waits until `GET /tasks` has these members.
    pub async fn tasks_become(&self, limit: Duration, wanted: &Value) -> Value {
        let wanted_members = wanted.as_object().expect("an object");
        let what = format!("the tasks are {wanted}");
        let becoming = until(limit, what, async || {
            let tasks = self.tasks().await;
            if wanted_members
                .iter()
                .all(|(name, value)| tasks[name] == *value)
            {
                Ok(tasks)
            } else {
                Err(tasks.to_string())
            }
        });
        becoming.await.0
    }

    /// Waits until `/readyz` says that the server is degraded, and why.
    pub async fn is_degraded(&self, limit: Duration, why: &str) {
        let what = format!("/readyz says {why}");
        until(limit, what, async || {
            let body = self.get("/readyz").await.body;
            if body.contains("degraded") && body.contains(why) {
                return Ok(());
            }
            Err(body)
        })
        .await;
    }

    /// `POST path`.
    pub async fn post(&self, path: &str, body: &str) -> Response {
        http::request(&self.url, "POST", path, &[], body)
            .await
            .unwrap_or_else(|error| panic!("POST {path}: {error}"))
    }

    /// `GET path`.
    pub async fn get(&self, path: &str) -> Response {
        http::request(&self.url, "GET", path, &[], "")
            .await
            .unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// Waits until `/readyz` answers 200 with this status, and gives the whole answer and how long it took.
    pub async fn becomes(&self, status: &str, limit: Duration) -> (Value, Duration) {
        until(
            limit,
            format_args!("{} becomes {status}", self.url),
            async || {
                let answer = self.get("/readyz").await;
                match serde_json::from_str::<Value>(&answer.body) {
                    Ok(body) if answer.status == 200 && body["status"] == status => Ok(body),
                    _ => Err(format!("{answer:?}")),
                }
            },
        )
        .await
    }

    /// Everything it has printed so far, on both outputs.
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// Waits for a line in the log that contains all of these texts.
    pub async fn logs(&mut self, limit: Duration, texts: &[&str]) -> String {
        let what = format!("logs a line with {texts:?}");
        let found = self.process.stderr_line(limit, &what, |line| {
            texts
                .iter()
                .all(|text| line.contains(text))
                .then(|| line.to_owned())
        });
        found
            .await
            .unwrap_or_else(|| panic!("hubcast ended without a log line with {texts:?}"))
    }

    /// Fails the test if the server has panicked somewhere, or printed any of these secrets.
    pub fn assert_calm(&mut self, secrets: &[&str]) {
        assert!(!self.process.has_ended(), "hubcast has ended");
        let output = self.output();
        assert!(!output.contains("panicked"), "hubcast panicked:\n{output}");
        for secret in secrets {
            assert!(
                !output.contains(secret),
                "a secret ({secret}) is in the log:\n{output}"
            );
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// How much memory it occupies, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.process.resident_bytes()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Waits for it to end by itself.
    pub async fn exit(&mut self, limit: Duration) -> ExitStatus {
        self.process.exit(limit).await
    }
}

fn on_port(port: u16, arguments: &[String]) -> Command {
    let mut command = command();
    command
        .args(["serve", "--listen", &format!("127.0.0.1:{port}")])
        .args(arguments);
    command
}

/// The program without arguments, in an environment that says nothing to it.
pub fn command() -> Command {
    let mut command = Command::new(binary());
    for (name, _) in env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("HUBCAST_") || name_text == "RUST_LOG" {
            command.env_remove(&name);
        }
    }
    command
}

/// Where the program is: what `HUBCAST_BIN` says, or else built from this workspace, once per test program.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match env::var_os("HUBCAST_BIN") {
        Some(given) => fs::canonicalize(&given)
            .unwrap_or_else(|error| panic!("HUBCAST_BIN={}: {error}", given.display())),
        None => build(&["--bin", "hubcast"]).join("hubcast"),
    })
}

/// The root of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("this crate is inside the workspace")
}

/// Builds a program of this workspace as this test program was built, and gives the folder of that profile.
pub(crate) fn build(what: &[&str]) -> PathBuf {
    // This program is `<target>/<profile>/deps/<name>`; the server has to come from the same target folder and profile.
    let me = env::current_exe().expect("a test program knows its path");
    let profile = me
        .ancestors()
        .nth(2)
        .expect("test programs lie in <target>/<profile>/deps");
    let target = profile
        .parent()
        .expect("test programs lie in <target>/<profile>/deps");

    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into()));
    // The whole workspace, so that dependencies are taken with the features they were just built with for the tests.
    cargo
        .args(["build", "--quiet", "--workspace"])
        .args(what)
        .arg("--target-dir")
        .arg(target);
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let built = cargo
        .current_dir(workspace())
        .output()
        .expect("cargo can be started");
    assert!(
        built.status.success(),
        "{what:?} does not build:\n{}",
        String::from_utf8_lossy(&built.stderr)
    );
    profile.to_owned()
}
