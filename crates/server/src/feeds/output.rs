//! Standard output, of which one has to know what is on it.

use std::io::{self, IsTerminal, Write};
use std::thread;

use tokio::sync::{mpsc, oneshot};

use crate::console::text::{broken_lines, one_line};

/// How many lines wait to be written.
const WAITING: usize = 64;

/// Lines on standard output, written by a thread of its own, since whoever reads them may keep it waiting.
pub(crate) struct Output {
    lines: mpsc::Sender<(String, oneshot::Sender<io::Result<()>>)>,
    is_terminal: bool,
}

impl Output {
    pub(crate) fn open() -> Self {
        let (lines, mut waiting) = mpsc::channel::<(String, oneshot::Sender<_>)>(WAITING);
        thread::spawn(move || {
            while let Some((line, written)) = waiting.blocking_recv() {
                let mut output = io::stdout().lock();
                let outcome = writeln!(output, "{line}").and_then(|()| output.flush());
                let has_failed = outcome.is_err();
                // Whoever waits for it may have given up.
                let _ = written.send(outcome);
                if has_failed {
                    return;
                }
            }
        });
        Self {
            lines,
            is_terminal: io::stdout().is_terminal(),
        }
    }

    /// Writes ` [x] What: text` as one line, and returns once it has left this program.
    pub(crate) async fn line(&self, what: &str, text: &str) -> io::Result<()> {
        let text = if self.is_terminal {
            one_line(text)
        } else {
            broken_lines(text)
        };
        let (written, is_written) = oneshot::channel();
        let line = format!(" [x] {what}: {text}");
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        self.lines.send((line, written)).await.map_err(|_| gone())?;
        is_written.await.map_err(|_| gone())?
    }
}
