//! The two doors of the task centre, as one to a worker of the storm.

use end_to_end::wait::{DEADLINE, within};
use end_to_end::{RawWorker, Relay};
use hubcast_client::{ConnectionEvent, ConnectionEvents, HubConnection, HubConnectionBuilder};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::Message;

/// How a worker comes, and how it says that a task is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `/push`: it does not say so; what is on the wire is done.
    Plain,
    /// `/push?ack=done`.
    Answering,
    /// `/taskHub`.
    Hub,
}

/// Who a worker is.
#[derive(Debug, Clone)]
pub(crate) struct Who {
    pub(crate) kind: Kind,
    pub(crate) id: String,
    /// `null` is all.
    pub(crate) types: Value,
    pub(crate) capacity: usize,
}

/// What comes to a worker.
pub(crate) enum Heard {
    Task(Task),
    /// An answer about the task of that id did not count.
    Objection {
        id: String,
        text: String,
    },
    /// The server has hung up.
    End,
}

pub(crate) struct Task {
    pub(crate) name: String,
    /// Empty where workers do not answer.
    pub(crate) id: String,
    verdict: Option<oneshot::Sender<Result<String, String>>>,
}

/// A connection to a server.
pub(crate) enum Door {
    Raw(Box<RawWorker>, Kind),
    Hub {
        connection: HubConnection,
        events: ConnectionEvents,
        told: UnboundedReceiver<Task>,
        /// What breaks when the worker crashes.
        relay: Relay,
    },
}

impl Door {
    /// Comes to a server; `None` if it is not there, or dies meanwhile.
    pub(crate) async fn enter(server: &str, who: &Who) -> Option<Self> {
        let Who {
            id,
            types,
            capacity,
            ..
        } = who;
        let introduction = match types {
            Value::Null => json!({"id": id, "capacity": capacity}),
            types => json!({"id": id, "types": types, "capacity": capacity}),
        };
        let introduction = introduction.to_string();
        let path = match who.kind {
            Kind::Plain => "/push",
            Kind::Answering => "/push?ack=done",
            Kind::Hub => return Self::enter_hub(server, who).await,
        };
        let worker = RawWorker::join_if_there(server, path, &introduction).await?;
        Some(Self::Raw(Box::new(worker), who.kind))
    }

    async fn enter_hub(server: &str, who: &Who) -> Option<Self> {
        let relay = Relay::to(end_to_end::http::authority(server)).await;
        let url = format!("http://{}/taskHub", relay.authority());
        let connection = HubConnectionBuilder::new(&url).build().unwrap();
        let (tell, told) = unbounded_channel();
        connection.on_result("ExecuteTask", move |task: Value| {
            let text = |name: &str| task[name].as_str().unwrap_or_default().to_owned();
            let (verdict, awaited) = oneshot::channel();
            let _ = tell.send(Task {
                name: text("name"),
                id: text("id"),
                verdict: Some(verdict),
            });
            // Nobody says anything any more when the worker has gone.
            async { awaited.await.unwrap_or_else(|_| Err("gone".to_owned())) }
        });
        let events = connection.events();
        let started = within(DEADLINE, "a worker connects", connection.start());
        started.await.ok()?;
        let register = connection.invoke::<()>("Register", (&who.id, &who.types, who.capacity));
        within(DEADLINE, "Register", register).await.ok()?;
        Some(Self::Hub {
            connection,
            events,
            told,
            relay,
        })
    }

    pub(crate) async fn next(&mut self) -> Heard {
        match self {
            Self::Raw(worker, kind) => match worker.next().await {
                Err(_) => Heard::End,
                Ok(text) if *kind == Kind::Plain => Heard::Task(Task {
                    name: name_in(&text),
                    id: String::new(),
                    verdict: None,
                }),
                Ok(text) => {
                    let said: Value = serde_json::from_str(&text).unwrap();
                    let id = said["id"].as_str().unwrap_or_default().to_owned();
                    match (said["task"].as_str(), &said["error"]) {
                        (Some(text), _) => Heard::Task(Task {
                            name: name_in(text),
                            id,
                            verdict: None,
                        }),
                        (None, error) => Heard::Objection {
                            id,
                            text: error.to_string(),
                        },
                    }
                }
            },
            Self::Hub { events, told, .. } => loop {
                tokio::select! {
                    biased;
                    Some(task) = told.recv() => return Heard::Task(task),
                    event = events.next() => match event {
                        Some(ConnectionEvent::Closed(_)) | None => return Heard::End,
                        Some(_) => {}
                    }
                }
            },
        }
    }

    /// Says that a task is done; an error refuses it.
    pub(crate) async fn answer(&mut self, task: Task, outcome: Result<(), &str>) {
        match (self, task.verdict) {
            (Self::Raw(worker, Kind::Answering), _) => {
                let answer = match outcome {
                    Ok(()) => json!({"done": task.id}),
                    Err(reason) => json!({"refuse": task.id, "reason": reason}),
                };
                worker.say(&answer.to_string()).await;
            }
            (_, Some(verdict)) => {
                let outcome = outcome.map(|()| "done".to_owned());
                let _ = verdict.send(outcome.map_err(str::to_owned));
            }
            _ => {}
        }
    }

    /// Goes without a word, in the middle of whatever there is.
    pub(crate) fn break_down(self) {
        if let Self::Hub { relay, .. } = &self {
            relay.cut();
        }
    }

    /// Says goodbye. A raw worker hears what comes until the server has said so, too.
    pub(crate) async fn say_goodbye(&mut self) {
        match self {
            Self::Raw(worker, _) => worker.send(Message::Close(None)).await,
            Self::Hub { connection, .. } => {
                within(DEADLINE, "a goodbye", connection.stop()).await;
            }
        }
    }
}

/// The name of a task, as raw workers are told it.
fn name_in(text: &str) -> String {
    text.strip_prefix("Special-").unwrap_or(text).to_owned()
}
