//! Lines of standard input, as a person types them or as a pipe brings them.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::signal::{Signal, raise};
use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;
use rustyline::{Config, Editor, ExternalPrinter};
use tokio::sync::{Notify, mpsc};
use tokio::time::sleep;

/// The most bytes of a line from a pipe.
const MAX_LINE: usize = 1024 * 1024;

/// How many lines wait to be sent.
const WAITING: usize = 16;

/// How often an editor is told to end until it does.
const INSIST: Duration = Duration::from_millis(10);

/// One line after another, without their ends, and after the last the end. An error is a line that cannot be taken.
pub(crate) type Lines = mpsc::Receiver<io::Result<String>>;

/// What lets a person type lines: with history, and a line that stays whole while others are printed above it.
pub(crate) struct LineEditor(Editor<(), MemHistory>);

impl LineEditor {
    /// `None` if input and output are not both terminals that this works on.
    pub(crate) fn open() -> Option<(Self, Box<dyn ExternalPrinter + Send>)> {
        let config = Config::builder().auto_add_history(true).build();
        let history = MemHistory::with_config(&config);
        let mut editor = Editor::with_history(config, history).ok()?;
        // There is none exactly where lines cannot be edited.
        let above = editor.create_external_printer().ok()?;
        Some((Self(editor), Box::new(above)))
    }

    /// Reads lines until Ctrl-D; Ctrl-C notifies.
    pub(crate) fn read(mut self, prompt: String, interrupted: Arc<Notify>) -> (Reading, Lines) {
        let (sender, lines) = mpsc::channel(WAITING);
        let is_over = Arc::new(AtomicBool::new(false));
        let is_over_too = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            while !is_over_too.load(Ordering::SeqCst) {
                let line = match self.0.readline(&prompt) {
                    Ok(line) => Ok(line),
                    Err(ReadlineError::Interrupted) => return interrupted.notify_one(),
                    Err(ReadlineError::Io(error)) => Err(error),
                    Err(_) => return,
                };
                let is_last = line.is_err();
                if sender.blocking_send(line).is_err() || is_last {
                    return;
                }
            }
        });
        (Reading { thread, is_over }, lines)
    }
}

/// A person being listened to.
pub(crate) struct Reading {
    thread: JoinHandle<()>,
    is_over: Arc<AtomicBool>,
}

impl Reading {
    /// Takes the input line away, and leaves the terminal as it was. The lines have to be dropped before.
    pub(crate) async fn end(self) {
        self.is_over.store(true, Ordering::SeqCst);
        while !self.thread.is_finished() {
            // While it waits for a key, this is how an editor is told from elsewhere.
            let _ = raise(Signal::SIGINT);
            sleep(INSIST).await;
        }
    }
}

/// Reads standard input to its end as text, in which replacement characters stand for what is none.
pub(crate) fn read_pipe() -> Lines {
    read(|line| String::from_utf8_lossy(&line).into_owned())
}

/// Reads standard input to its end, as it is.
pub(crate) fn read_bytes() -> mpsc::Receiver<io::Result<Vec<u8>>> {
    read(|line| line)
}

/// In a thread that nobody has to wait for.
fn read<T: Send + 'static>(made_of: fn(Vec<u8>) -> T) -> mpsc::Receiver<io::Result<T>> {
    let (sender, lines) = mpsc::channel(WAITING);
    thread::spawn(move || {
        let mut input = io::stdin().lock();
        while let Some(line) = next_line(&mut input).transpose() {
            let is_last = line.as_ref().is_err_and(|error| !is_too_long(error));
            if sender.blocking_send(line.map(made_of)).is_err() || is_last {
                return;
            }
        }
    });
    lines
}

fn is_too_long(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::FileTooLarge
}

/// The next line, if there is one. Of one that is too long nothing is left.
fn next_line(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let most = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
    input.by_ref().take(most + 1).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    } else if line.len() > MAX_LINE {
        input.skip_until(b'\n')?;
        let text = format!("a line has more than {MAX_LINE} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_and_a_line_that_is_too_long_is_left_out() {
        let long = "x".repeat(MAX_LINE);
        let text = format!("one\n\ntwo\r\n{long}\n{long}y\nb\u{e9}\nlast");
        let mut input = text.as_bytes();
        let mut next = || next_line(&mut input);
        for expected in ["one", "", "two", &long] {
            assert_eq!(next().unwrap().unwrap(), expected.as_bytes());
        }
        assert!(is_too_long(&next().unwrap_err()));
        assert_eq!(next().unwrap().unwrap(), "b\u{e9}".as_bytes());
        assert_eq!(next().unwrap().unwrap(), b"last");
        assert!(next().unwrap().is_none());
    }

    #[test]
    fn bytes_that_are_no_text_are_left_as_they_are() {
        let mut input = &b"a\xffb\r\n\xe4\r\0"[..];
        assert_eq!(next_line(&mut input).unwrap().unwrap(), b"a\xffb");
        assert_eq!(next_line(&mut input).unwrap().unwrap(), b"\xe4\r\0");
        assert!(next_line(&mut input).unwrap().is_none());
    }
}
