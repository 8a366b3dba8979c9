//! The hub that shows everything: the example `conformance` of the library, started as its users start it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::hubcast::build;
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
        static BINARY: OnceLock<PathBuf> = OnceLock::new();
        let binary = BINARY
            .get_or_init(|| build(&["--example", "conformance"]).join("examples/conformance"));
        let mut command = Command::new(binary);
        command.args(["--listen", "127.0.0.1:0"]);
        let mut process = Process::start("conformance", command);
        let announced = process.stdout_line(DEADLINE, "says where it listens", |line| {
            line.strip_prefix(ANNOUNCEMENT).map(str::to_owned)
        });
        let Some(url) = announced.await else {
            panic!(
                "conformance ended before it listened:\n{}",
                process.output()
            )
        };
        Self { process, url }
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
