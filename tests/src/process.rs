//! A child process whose output is kept, and which never outlives the test that started it.

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::until;

/// How many of its last lines a process shows when a test fails.
const TAIL: usize = 60;

/// A running program. Dropping it kills it and waits for it; if the test is failing, it prints the end of its output first.
pub struct Process {
    name: String,
    child: Child,
    stdout: Lines,
    stderr: Lines,
}

impl Process {
    /// Starts `command` with no input, and with both outputs read at all times, so that it never waits for us.
    pub fn start(name: impl Into<String>, mut command: Command) -> Self {
        command.stdin(Stdio::null());
        Self::spawn(name.into(), command)
    }

    /// The same with an input, which ends when it is dropped.
    pub fn start_with_input(name: impl Into<String>, mut command: Command) -> (Self, ChildStdin) {
        command.stdin(Stdio::piped());
        let mut process = Self::spawn(name.into(), command);
        let input = process.child.stdin.take().expect("piped above");
        (process, input)
    }

    /// The same with input and outputs at a terminal, of which this gives copies. Here its output is not read.
    pub fn start_in(
        name: impl Into<String>,
        mut command: Command,
        terminal: impl Fn() -> OwnedFd,
    ) -> Self {
        command
            .stdin(terminal())
            .stdout(terminal())
            .stderr(terminal());
        Self::running(name.into(), command.spawn())
    }

    fn spawn(name: String, mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Self::running(name, command.spawn())
    }

    fn running(name: String, child: io::Result<Child>) -> Self {
        let mut child = child.unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let stdout = child.stdout.take().map(Lines::read).unwrap_or_default();
        let stderr = child.stderr.take().map(Lines::read).unwrap_or_default();
        Self {
            name,
            child,
            stdout,
            stderr,
        }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line on standard output that `pick` accepts, and gives what it made of it; `None` if the process ends first.
    pub async fn stdout_line<T>(
        &mut self,
        limit: Duration,
        what: &str,
        pick: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        self.line(|process| process.stdout.clone(), limit, what, pick)
            .await
    }

    /// The same for standard error, where logs go.
    pub async fn stderr_line<T>(
        &mut self,
        limit: Duration,
        what: &str,
        pick: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        self.line(|process| process.stderr.clone(), limit, what, pick)
            .await
    }

    async fn line<T>(
        &mut self,
        output: impl Fn(&Self) -> Lines,
        limit: Duration,
        what: &str,
        pick: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let lines = output(self);
        let what = format!("{}: {what}", self.name);
        until(limit, what, async || {
            // Asked first: whatever it printed before it ended is in `lines` by the time that the readers are done.
            let ended = self.has_ended() && lines.complete();
            match (lines.find(&pick), ended) {
                (Some(value), _) => Ok(Some(value)),
                (None, true) => Ok(None),
                (None, false) => Err(format!("{} lines of output", lines.count())),
            }
        })
        .await
        .0
    }

    /// Everything it has printed so far, standard output first.
    pub fn output(&self) -> String {
        self.stdout.last(usize::MAX) + &self.stderr.last(usize::MAX)
    }

    /// What it has printed on standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.last(usize::MAX)
    }

    /// What it has printed on standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.last(usize::MAX)
    }

    /// How much memory it occupies, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))
            .expect("a running process has a status");
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .expect("a running process has memory");
        let kibibytes: u64 = line
            .split_whitespace()
            .nth(1)
            .and_then(|number| number.parse().ok())
            .expect("a number of kB");
        kibibytes * 1024
    }

    /// Sends a signal. Fails the test if the process is gone already.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("process ids fit an i32");
        if let Err(error) = kill(Pid::from_raw(pid), signal) {
            panic!("{} cannot be sent {signal}: {error}", self.name);
        }
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().expect("a child of ours can be killed");
        self.child.wait().expect("a killed child can be waited for");
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("a child of ours can be asked")
            .is_some()
    }

    /// Waits for it to end by itself. Afterwards, all of its output can be asked for.
    pub async fn exit(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("{} ends", self.name);
        let child = &mut self.child;
        let (status, _) = until(limit, what, async || {
            let status = child.try_wait().expect("a child of ours can be asked");
            status.ok_or_else(|| String::from("still running"))
        })
        .await;
        let what = format!("{} closes its outputs", self.name);
        until(limit, what, async || {
            let complete = self.stdout.complete() && self.stderr.complete();
            complete
                .then_some(())
                .ok_or_else(|| String::from("a child of its own has them"))
        })
        .await;
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A stopped process dies of this as well. Errors mean that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!(
                "---- {} (process {}), end of its output:\n{}{}----",
                self.name,
                self.child.id(),
                self.stdout.last(TAIL),
                self.stderr.last(TAIL)
            );
        }
    }
}

/// The lines that a process has printed on one of its outputs, growing while it runs.
#[derive(Clone)]
struct Lines(Arc<Mutex<Output>>);

#[derive(Default)]
struct Output {
    lines: Vec<String>,
    complete: bool,
}

/// Of an output that is not read: nothing more comes.
impl Default for Lines {
    fn default() -> Self {
        let nothing = Output {
            lines: Vec::new(),
            complete: true,
        };
        Self(Arc::new(Mutex::new(nothing)))
    }
}

impl Lines {
    fn read(pipe: impl Read + Send + 'static) -> Self {
        let lines = Self(Arc::new(Mutex::new(Output::default())));
        let writer = lines.clone();
        // A thread rather than a task: it goes on reading while a test computes, and needs no runtime when one is dropped.
        thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                writer
                    .0
                    .lock()
                    .expect("readers do not panic")
                    .lines
                    .push(line);
            }
            writer.0.lock().expect("readers do not panic").complete = true;
        });
        lines
    }

    fn find<T>(&self, pick: impl Fn(&str) -> Option<T>) -> Option<T> {
        self.0
            .lock()
            .expect("readers do not panic")
            .lines
            .iter()
            .find_map(|line| pick(line))
    }

    fn count(&self) -> usize {
        self.0.lock().expect("readers do not panic").lines.len()
    }

    fn complete(&self) -> bool {
        self.0.lock().expect("readers do not panic").complete
    }

    fn last(&self, count: usize) -> String {
        let output = self.0.lock().expect("readers do not panic");
        let first = output.lines.len().saturating_sub(count);
        output.lines[first..]
            .iter()
            .flat_map(|line| [line.as_str(), "\n"])
            .collect()
    }
}
