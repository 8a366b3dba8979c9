//! What is shown: above the input line of a terminal, or as plain lines.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::io::{self, IsTerminal, Write};
use std::thread;

use rustyline::ExternalPrinter;
use tokio::sync::{mpsc, oneshot};

/// How many lines wait to be shown. Whoever has more waits, in the end for the reader of the terminal or the pipe.
const WAITING: usize = 64;

/// Notes are faint.
const QUIET: &str = "2";

/// Where lines are shown. Clones show them in the same place.
#[derive(Clone)]
pub(crate) struct Screen {
    lines: mpsc::Sender<Shown>,
    /// Whether a person types into it.
    pub(crate) is_interactive: bool,
    /// Whether output goes to a terminal, whatever input does: then it must be safe to show.
    pub(crate) is_terminal: bool,
    colours: bool,
}

enum Shown {
    /// What was asked for: goes to standard output.
    Line(String),
    /// About the connection: goes to standard error, unless there is an input line.
    Note(String),
    /// Nothing comes after this.
    End,
}

/// The lines of a screen being written, by a thread, since a terminal or a pipe may keep it waiting.
pub(crate) struct Printing(Option<oneshot::Receiver<io::Result<()>>>);

impl Printing {
    /// Waits until everything is written, or cannot be, which is told once.
    pub(crate) async fn ended(&mut self) -> io::Result<()> {
        let Some(ended) = &mut self.0 else {
            return Ok(());
        };
        let outcome = ended.await.unwrap_or(Ok(()));
        self.0 = None;
        outcome
    }
}

impl Screen {
    /// Lines go above the input line if there is a printer that knows it.
    pub(crate) fn open(above: Option<Box<dyn ExternalPrinter + Send>>) -> (Self, Printing) {
        let (lines, waiting) = mpsc::channel(WAITING);
        let (sender, ended) = oneshot::channel();
        let is_terminal = io::stdout().is_terminal();
        let is_interactive = above.is_some();
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        thread::spawn(move || sender.send(print(above, waiting)));
        let screen = Self {
            lines,
            is_interactive,
            is_terminal,
            colours: is_interactive && !no_colour,
        };
        (screen, Printing(Some(ended)))
    }

    /// Shows a line, which must be [safe](super::text) where it is of others. Does nothing once output has failed.
    pub(crate) async fn line(&self, line: String) {
        let _ = self.lines.send(Shown::Line(line)).await;
    }

    /// Tells something about the connection.
    pub(crate) async fn note(&self, note: &str) {
        let _ = self.lines.send(Shown::Note(self.about(note, QUIET))).await;
    }

    /// The same where nobody can wait; not told if many lines wait to be shown.
    pub(crate) fn try_note(&self, note: &str) {
        let _ = self.lines.try_send(Shown::Note(self.about(note, QUIET)));
    }

    /// Tells that something went wrong.
    pub(crate) async fn trouble(&self, text: &str) {
        let note = self.about(text, "33");
        let _ = self.lines.send(Shown::Note(note)).await;
    }

    /// Nothing is shown after this.
    pub(crate) async fn end(&self) {
        let _ = self.lines.send(Shown::End).await;
    }

    /// A name, always in the same colour.
    pub(crate) fn name(&self, name: &str) -> String {
        const COLOURS: [&str; 6] = ["1;31", "1;32", "1;33", "1;34", "1;35", "1;36"];
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let mut colours = COLOURS.iter().cycle();
        let nth = usize::try_from(hasher.finish() % 6).unwrap_or(0);
        self.styled(colours.nth(nth).unwrap_or(&"1"), name)
    }

    fn about(&self, text: &str, style: &str) -> String {
        if self.is_interactive {
            self.styled(style, &format!("· {text}"))
        } else {
            format!("hubcast: {text}")
        }
    }

    fn styled(&self, style: &str, text: &str) -> String {
        if self.colours {
            format!("\x1b[{style}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

fn print(
    mut above: Option<Box<dyn ExternalPrinter + Send>>,
    mut waiting: mpsc::Receiver<Shown>,
) -> io::Result<()> {
    while let Some(shown) = waiting.blocking_recv() {
        match (shown, &mut above) {
            (Shown::End, None) => break,
            (Shown::End, Some(above)) => {
                // The printer takes one line ahead, and forgets it when the input line goes. So the last that it takes is
                // one that does nothing: up, and down again.
                let _ = above.print("\x1b[A\n".to_owned());
                break;
            }
            (Shown::Line(mut line) | Shown::Note(mut line), Some(above)) => {
                line.push('\n');
                // Fails while the input line is being taken away for good; there is nothing to spoil any more then.
                if above.print(line.clone()).is_err() {
                    io::stdout().write_all(line.as_bytes())?;
                }
            }
            (Shown::Line(line), None) => writeln!(io::stdout(), "{line}")?,
            // Whoever does not want to hear of it may close standard error.
            (Shown::Note(note), None) => drop(writeln!(io::stderr(), "{note}")),
        }
    }
    io::stdout().flush()
}
