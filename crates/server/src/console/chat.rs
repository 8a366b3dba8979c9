//! A chat on a SignalR connection: one room, one name.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{anyhow, bail};
use hubcast_client::{
    ConnectionEvent, ConnectionEvents, HubConnection, InvokeError, WeakHubConnection,
};
use serde::de::IgnoredAny;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::Console;
use super::args::ChatArgs;
use super::connection::{closed, connection, not_connected};
use super::input::Lines;
use super::screen::Screen;
use super::text::one_line;
use crate::limits;
use crate::notices::{Said, said, short};

/// How long the goodbye to the room may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// How long a script that has said everything waits to hear it from the room, too.
const ECHO: Duration = Duration::from_secs(2);

/// How many texts of our own are waited for.
const MOST_OWN: usize = 64;

/// Connects, joins, talks, and leaves.
pub(super) async fn run(console: &mut Console, args: ChatArgs) -> anyhow::Result<()> {
    let screen = console.screen.clone();
    let connection = connection(&args, &screen)?;
    let mut events = connection.events();
    let chat = Chat {
        connection,
        room: args.room,
        user: args.user,
        screen,
        in_room: watch::Sender::new(false),
        own: Arc::default(),
    };
    chat.listen();
    tokio::select! {
        started = chat.enter() => started?,
        left = console.left() => {
            left?;
            bail!("stopped before there was a connection");
        }
    }
    let lines = console.read(format!("{}: ", chat.user));
    let outcome = tokio::select! {
        sent = chat.send_all(lines) => sent,
        Err(error) = chat.follow(&mut events) => Err(error),
        left = console.left() => left,
    };
    if *chat.in_room.borrow() {
        let goodbye = chat
            .connection
            .invoke::<IgnoredAny>("LeaveRoom", (&*chat.room,));
        // A hub without a goodbye is left all the same.
        let _ = timeout(GOODBYE, goodbye).await;
    }
    chat.connection.stop().await;
    outcome
}

struct Chat {
    connection: HubConnection,
    room: String,
    user: String,
    screen: Screen,
    /// Whether the hub has put this connection into the room.
    in_room: watch::Sender<bool>,
    own: Arc<Own>,
}

/// What was said here and has not come back from the room.
#[derive(Default)]
struct Own {
    texts: Mutex<VecDeque<String>>,
    fewer: Notify,
}

impl Own {
    fn texts(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, text: &str) {
        let mut texts = self.texts();
        // In a room that does not say everything, the oldest never come.
        if texts.len() == MOST_OWN {
            texts.pop_front();
        }
        texts.push_back(text.to_owned());
    }

    /// Whether it was there.
    fn take(&self, text: &str) -> bool {
        let mut texts = self.texts();
        let place = texts.iter().position(|own| own == text);
        let taken = place.and_then(|place| texts.remove(place));
        self.fewer.notify_one();
        taken.is_some()
    }

    /// They went to a connection that is lost.
    fn forget(&self) {
        self.texts().clear();
        self.fewer.notify_one();
    }

    /// Waits until all have come back.
    async fn are_back(&self) {
        while !self.texts().is_empty() {
            self.fewer.notified().await;
        }
    }
}

impl Chat {
    /// Shows what the hub says.
    fn listen(&self) {
        let (room, me) = (Arc::<str>::from(&*self.room), Arc::<str>::from(&*self.user));
        let screen = self.screen.clone();
        let connection = self.connection.downgrade();
        let own = Arc::clone(&self.own);
        let show = move |user: Option<String>, text: Option<String>| {
            let (room, me) = (Arc::clone(&room), Arc::clone(&me));
            let (screen, connection, own) = (screen.clone(), connection.clone(), Arc::clone(&own));
            async move {
                let user = user.as_deref().unwrap_or("(nobody)");
                let text = text.as_deref().unwrap_or_default();
                match said(user, text, &room) {
                    Said::Message(user, text) => {
                        let is_own = user == &*me;
                        // What was typed at a terminal stands on its screen already.
                        if is_own && screen.is_interactive && own.take(text) {
                            return;
                        }
                        let name = screen.name(&one_line(user));
                        screen.line(format!("{name}: {}", one_line(text))).await;
                        if is_own {
                            own.take(text);
                        }
                    }
                    Said::Joined(id) => came_or_went(&screen, &connection, id, "joined").await,
                    Said::Left(id) => came_or_went(&screen, &connection, id, "left").await,
                }
            }
        };
        self.connection.on("ReceiveMessage", show);
    }

    /// Connects and joins the room.
    async fn enter(&self) -> anyhow::Result<()> {
        let started = self.connection.start().await;
        started.map_err(|error| not_connected(&error))?;
        self.join().await.map_err(|error| self.not_joined(&error))?;
        let welcome = format!("in the room {} as {}", self.room, self.user);
        if self.screen.is_interactive {
            self.screen.note(&format!("{welcome}; Ctrl-D leaves")).await;
        }
        Ok(())
    }

    async fn join(&self) -> Result<(), InvokeError> {
        let room = (&*self.room,);
        self.connection
            .invoke::<IgnoredAny>("JoinRoom", room)
            .await?;
        self.in_room.send_replace(true);
        Ok(())
    }

    fn not_joined(&self, error: &InvokeError) -> anyhow::Error {
        let error = error.to_string();
        anyhow!("cannot join the room {}: {}", self.room, one_line(&error))
    }

    /// Goes with the connection, and joins again when it is back, until it is lost for good.
    async fn follow(&self, events: &mut ConnectionEvents) -> anyhow::Result<()> {
        while let Some(event) = events.next().await {
            match event {
                ConnectionEvent::Reconnecting(_) => {
                    self.in_room.send_replace(false);
                    self.own.forget();
                }
                ConnectionEvent::Reconnected { .. } => match self.join().await {
                    Ok(()) => self.screen.note("back again").await,
                    // Lost once more, which is the next event.
                    Err(
                        InvokeError::ConnectionLost(_)
                        | InvokeError::Closed
                        | InvokeError::NotConnected { .. },
                    ) => {}
                    Err(error) => return Err(self.not_joined(&error)),
                },
                ConnectionEvent::Closed(reason) => return Err(closed(reason.as_ref())),
            }
        }
        Ok(())
    }

    /// Sends every line, one after another, and says which did not arrive. A script is told of that in the end, too.
    async fn send_all(&self, mut lines: Lines) -> anyhow::Result<()> {
        let mut failed = 0_u64;
        while let Some(line) = lines.recv().await {
            let sent = match line {
                Ok(line) if line.trim().is_empty() && self.screen.is_interactive => continue,
                Ok(line) => self.send(&line).await,
                Err(error) => Err(error.to_string()),
            };
            if let Err(reason) = sent {
                failed += 1;
                let text = format!("not delivered: {}", one_line(&reason));
                self.screen.trouble(&text).await;
            }
        }
        if self.screen.is_interactive {
            return Ok(());
        }
        // With several servers, answers may come sooner than what they are about.
        let _ = timeout(ECHO, self.own.are_back()).await;
        if failed > 0 {
            bail!("{failed} of the lines may not have been delivered; see above");
        }
        Ok(())
    }

    /// Sends a message, waiting for a connection if there is none. One whose answer was lost is not sent again: it could
    /// arrive twice.
    async fn send(&self, text: &str) -> Result<(), String> {
        limits::message(text)?;
        let mut in_room = self.in_room.subscribe();
        loop {
            // The sender lives as long as this.
            let _ = in_room.wait_for(|in_room| *in_room).await;
            self.own.add(text);
            let message = (&*self.room, &*self.user, text);
            let sending = self.connection.invoke::<IgnoredAny>("SendMessage", message);
            let Err(error) = sending.await else {
                return Ok(());
            };
            self.own.take(text);
            let InvokeError::NotConnected { .. } = error else {
                return Err(error.to_string());
            };
            let _ = in_room.changed().await;
        }
    }
}

/// Tells a person who comes and goes; scripts want messages only.
async fn came_or_went(screen: &Screen, connection: &WeakHubConnection, id: &str, what: &str) {
    let own_id = connection.upgrade().and_then(|it| it.connection_id());
    if screen.is_interactive && own_id.as_deref() != Some(id) {
        let id = short(id);
        screen
            .note(&format!("guest {} {what}", one_line(&id)))
            .await;
    }
}
