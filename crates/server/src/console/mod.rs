//! The clients in this program: `hubcast chat`, `hubcast connect` and `hubcast tasks`, for a person at a terminal or for a script.

mod args;
mod chat;
mod connect;
mod connection;
pub(crate) mod input;
mod screen;
mod socket;
mod tasks;
pub(crate) mod text;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hubcast_broker::AmqpUrl;
use tokio::signal::unix::{self, SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::timeout;

pub(crate) use args::{ChatArgs, ConnectArgs, TasksArgs};

use input::{LineEditor, Lines, Reading, read_pipe};
use screen::{Printing, Screen};

/// How long the last lines may take to appear above an input line.
const LAST_LINES: Duration = Duration::from_secs(1);

const UNWRITABLE: &str = "standard output cannot be written";

/// Chats until the end of the input.
pub(crate) fn run_chat(args: ChatArgs) -> anyhow::Result<()> {
    run(async |console| chat::run(console, args).await)
}

/// Speaks on a WebSocket until either side closes it.
pub(crate) fn run_connect(args: &ConnectArgs) -> anyhow::Result<()> {
    run(async |console| connect::run(console, args).await)
}

/// Shows tasks that were given up, or gives them another chance.
pub(crate) fn run_tasks(args: TasksArgs, amqp: Option<AmqpUrl>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(tasks::run(args, amqp));
    runtime.shutdown_background();
    outcome
}

fn run(course: impl AsyncFnOnce(&mut Console) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(async {
        let mut console = Console::open()?;
        let outcome = course(&mut console).await;
        let shown = console.close().await;
        outcome.and(shown)
    });
    // A name that is still being looked up is not waited for.
    runtime.shutdown_background();
    outcome
}

/// A person at a terminal, or a pipe.
struct Console {
    screen: Screen,
    printing: Printing,
    editor: Option<LineEditor>,
    reading: Option<Reading>,
    wishes: Wishes,
}

/// How somebody says that they want to leave.
struct Wishes {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    /// The key for an interrupt: no signal while a line is edited.
    key: Arc<Notify>,
}

impl Wishes {
    /// Waits for the next one.
    async fn expressed(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            () = self.key.notified() => {}
        }
    }
}

impl Console {
    fn open() -> anyhow::Result<Self> {
        let wishes = Wishes {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            key: Arc::default(),
        };
        let (editor, above) = LineEditor::open().unzip();
        let (screen, printing) = Screen::open(above);
        Ok(Self {
            screen,
            printing,
            editor,
            reading: None,
            wishes,
        })
    }

    /// Begins to take lines: behind this prompt, if a person types them.
    fn read(&mut self, prompt: String) -> Lines {
        let Some(editor) = self.editor.take() else {
            return read_pipe();
        };
        let (reading, lines) = editor.read(prompt, Arc::clone(&self.wishes.key));
        self.reading = Some(reading);
        lines
    }

    /// Waits for the wish to leave, and for output that can go nowhere, which is an error.
    async fn left(&mut self) -> anyhow::Result<()> {
        tokio::select! {
            () = self.wishes.expressed() => Ok(()),
            Err(error) = self.printing.ended() => Err(error).context(UNWRITABLE),
        }
    }

    /// Shows what waits to be shown, and gives the terminal back. Fails if something could not be shown, and nobody knows it yet.
    async fn close(mut self) -> anyhow::Result<()> {
        let is_interactive = self.reading.is_some();
        let mut outcome = Ok(());
        if let Some(reading) = self.reading.take() {
            // Nothing is shown while history is searched; that ends with the input line.
            let shown = timeout(LAST_LINES, shown(&self.screen, &mut self.printing)).await;
            outcome = shown.unwrap_or(Ok(()));
            reading.end().await;
        }
        tokio::select! {
            shown = shown(&self.screen, &mut self.printing) => outcome = outcome.and(shown),
            // A pipe that nobody reads; ending the editor looks like the same wish.
            () = self.wishes.expressed(), if !is_interactive => {}
        }
        outcome.context(UNWRITABLE)
    }
}

/// Waits until everything is shown; nothing comes after it.
async fn shown(screen: &Screen, printing: &mut Printing) -> io::Result<()> {
    screen.end().await;
    printing.ended().await
}
