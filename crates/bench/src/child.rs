//! Children: programs that this one starts, and that end with it, however it ends.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::{CommandExt, parent_id};
use std::path::Path;
use std::process::{self, Command, Stdio};
use std::thread;

use anyhow::{Context, bail};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

/// A running child. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Child {
    process: process::Child,
    said: String,
}

impl Child {
    /// Starts this very program with these arguments; see [`Child::start`].
    pub(crate) fn own<A: AsRef<OsStr>>(
        arguments: impl IntoIterator<Item = A>,
        ready: impl Fn(&str) -> Option<String>,
    ) -> anyhow::Result<Self> {
        let program = env::current_exe().context("this program does not know its own path")?;
        Self::start(&program, arguments, ready)
    }

    /// Starts a program in an environment that says nothing to Hubcast, and returns once it has printed a line on standard output that `ready` makes
    /// something of. What it prints on standard error is shown.
    pub(crate) fn start<A: AsRef<OsStr>>(
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        ready: impl Fn(&str) -> Option<String>,
    ) -> anyhow::Result<Self> {
        let own = env::current_exe().context("this program does not know its own path")?;
        let mut command = Command::new(own);
        command
            .args(["bench", "child", &process::id().to_string()])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("HUBCAST_") {
                command.env_remove(name);
            }
        }
        let mut process = command
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let stdout = process.stdout.take();
        let mut child = Self {
            process,
            said: String::new(),
        };
        let mut lines = BufReader::new(stdout.context("a child without an output")?);
        let mut line = String::new();
        while lines.read_line(&mut line)? > 0 {
            if let Some(said) = ready(line.trim_end()) {
                child.said = said;
                // Whatever else it prints must not hold it up.
                thread::spawn(move || io::copy(&mut lines, &mut io::sink()));
                return Ok(child);
            }
            line.clear();
        }
        bail!("{} ends before it is ready", program.display())
    }

    /// What `ready` made of its line.
    pub(crate) fn said(&self) -> &str {
        &self.said
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It has ended already if either fails.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Turns this process into that program, which is killed when the process that started this one ends. It returns only if that fails.
pub(crate) fn become_child(parent: u32, command: &[OsString]) -> anyhow::Result<()> {
    let Some((program, arguments)) = command.split_first() else {
        bail!("there is no program to start");
    };
    set_pdeathsig(Signal::SIGKILL)?;
    // Who ended before that tells nobody any more.
    if parent_id() != parent {
        bail!("the process {parent} has ended");
    }
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot start {}", Path::new(program).display()))
}
