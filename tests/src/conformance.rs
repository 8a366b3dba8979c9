//! The hub that shows everything: the example `conformance` of the library, started as its users start it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::http::authority;
use crate::hubcast::build;
use crate::ports::free_port;
use crate::process::Process;
use crate::wait::DEADLINE;

/// What the example prints once it accepts connections, followed by its address.
const ANNOUNCEMENT: &str = "conformance listening on ";

/// The running example. Dropping it kills it.
pub struct Conformance {
    process: Process,
    url: String,
}

impl Conformance {
    /// Starts the example on a free port, and returns once it accepts connections.
    pub async fn start() -> Self {
        let started = Self::try_start(0).await;
        started.unwrap_or_else(|output| panic!("conformance ended before it listened:\n{output}"))
    }

    /// The same on a port that nobody else is given while it is away, so that it can [come back](Self::come_back).
    pub async fn start_to_return() -> Self {
        for _ in 0..20 {
            if let Ok(started) = Self::try_start(free_port()).await {
                return started;
            }
        }
        panic!("conformance could not have any of twenty ports")
    }

    /// `kill -9`, and waits until it is gone.
    pub fn vanish(&mut self) {
        self.process.kill();
    }

    /// Starts it anew where it was.
    pub async fn come_back(&mut self) {
        let port = authority(&self.url).rsplit(':').next();
        let port = port.and_then(|port| port.parse().ok()).expect("a port");
        let started = Self::try_start(port).await;
        *self = started.unwrap_or_else(|output| panic!("conformance did not come back:\n{output}"));
    }

    /// The error is what it has printed.
    async fn try_start(port: u16) -> Result<Self, String> {
        static BINARY: OnceLock<PathBuf> = OnceLock::new();
        let binary = BINARY
            .get_or_init(|| build(&["--example", "conformance"]).join("examples/conformance"));
        let mut command = Command::new(binary);
        command.args(["--listen", &format!("127.0.0.1:{port}")]);
        let mut process = Process::start("conformance", command);
        let announced = process.stdout_line(DEADLINE, "says where it listens", |line| {
            line.strip_prefix(ANNOUNCEMENT).map(str::to_owned)
        });
        match announced.await {
            Some(url) => Ok(Self { process, url }),
            None => Err(process.output()),
        }
    }

    /// The address it printed: `http://127.0.0.1:PORT`; its hubs are `/testHub` and others below that.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How much memory it occupies, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.process.resident_bytes()
    }

    /// Fails the test if the server has ended, or has panicked somewhere.
    pub fn assert_calm(&mut self) {
        assert!(!self.process.has_ended(), "conformance has ended");
        let output = self.process.output();
        assert!(
            !output.contains("panicked"),
            "conformance panicked:\n{output}"
        );
    }
}
