//! A raw limit as a process of its own, so that its processor time can be told from the load generator's.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};

use crate::args::{Common, Writes};
use crate::limits::{self, Names};
use crate::process::allow_connections;

/// What it prints once it accepts connections, before its URL.
const ANNOUNCEMENT: &str = "limit listening on ";

/// A running limit. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct LimitProcess {
    child: Child,
    pub(crate) url: String,
}

impl LimitProcess {
    /// Starts this very program as a limit.
    pub(crate) fn start(writes: Writes, common: &Common) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("this program does not know its own path")?;
        let mut command = Command::new(program);
        command
            .args(["bench", "limit"])
            .arg(match writes {
                Writes::Each => "each",
                Writes::Together => "together",
            })
            .args(["--receive", &common.receive_method])
            .args(["--join", &common.join_method])
            .args(["--leave", &common.leave_method])
            .args(["--echo", &common.echo_method])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let child = command.spawn().context("cannot start a raw limit")?;
        let mut limit = Self {
            child,
            url: String::new(),
        };
        let mut line = String::new();
        if let Some(stdout) = &mut limit.child.stdout {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        match line.trim_end().strip_prefix(ANNOUNCEMENT) {
            Some(url) => url.clone_into(&mut limit.url),
            None => bail!("a raw limit does not say where it listens"),
        }
        Ok(limit)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for LimitProcess {
    fn drop(&mut self) {
        // It has ended already if either fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves as a raw limit until standard input ends: with the process that started it, however that ends.
pub(crate) fn serve(writes: Writes, names: Names) -> anyhow::Result<()> {
    allow_connections(0)?;
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    limits::serve(writes, names, |address| {
        let mut stdout = std::io::stdout().lock();
        let _ = writeln!(stdout, "{ANNOUNCEMENT}http://{address}/").and_then(|()| stdout.flush());
    })
    .context("the raw limit")
}
