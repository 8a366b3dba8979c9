//! The command lines of `hubcast chat`, `hubcast connect` and `hubcast tasks`.

#![allow(
    clippy::doc_markdown,
    rustdoc::bare_urls,
    reason = "these comments are the text of --help, which is not Markdown"
)]

use std::fmt;

use axum::http::Uri;
use clap::{Args, Subcommand, ValueEnum};
use hubcast_broker::TaskQueue;

use crate::limits;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  hubcast chat                               the room General of this machine
  hubcast chat http://10.0.0.5/chatHub --room tea --user Mira
  echo 'Build 17 is out' | hubcast chat --user ci

Exit status: 0 after leaving properly; 1 if there was no connection, if it was
lost for good, or if a line was not delivered; 2 for a wrong command line.")]
pub(crate) struct ChatArgs {
    /// Where the chat hub is. Begins with http:// or ws://, which mean the same, or with TLS https:// or
    /// wss://.
    #[arg(default_value = "http://127.0.0.1:8080/chatHub")]
    pub(crate) url: String,

    /// The room to be in.
    #[arg(long, env = "HUBCAST_ROOM", default_value = limits::GENERAL, value_parser = limits::room)]
    pub(crate) room: String,

    /// The name that others see. By default who uses this machine.
    #[arg(
        long,
        env = "HUBCAST_USER",
        default_value_t = limits::user(),
        value_name = "NAME",
        value_parser = limits::name
    )]
    pub(crate) user: String,

    /// An access token to show to the server. Others can see the command lines of running programs, but not the
    /// variable.
    #[arg(long, env = "HUBCAST_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<Secret>,

    /// How messages are written on the wire.
    #[arg(
        long,
        env = "HUBCAST_ENCODING",
        value_enum,
        default_value_t = Encoding::Json
    )]
    pub(crate) encoding: Encoding,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  echo hello | hubcast connect ws://127.0.0.1:8080/echo

At a terminal, control characters in messages are shown as their pictures. To a
pipe or a file messages are written as they came.

Exit status: 0 if the connection was closed by this side, or by the server with
1000; 1 if there was none, if it ended otherwise, or if a line was not sent or
a message not written; 2 for a wrong command line.")]
pub(crate) struct ConnectArgs {
    /// What to connect to: ws://host:port/path, or with TLS wss://host/path.
    pub(crate) url: String,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  hubcast tasks dead                                  of the server on this machine
  hubcast tasks dead --amqp amqp://10.0.0.5           in RabbitMQ, whether a server runs or not
  hubcast tasks retry --amqp amqp://10.0.0.5 --task-queue jobs 5f0c21

Exit status: 0 if it is done; 1 if there is no such task, nobody to ask, or no answer; 2 for a wrong command line.")]
pub(crate) struct TasksArgs {
    #[command(subcommand)]
    pub(crate) command: TasksCommand,
}

impl TasksArgs {
    /// The RabbitMQ that the tasks are in.
    pub(crate) fn amqp(&self) -> Option<&str> {
        let (TasksCommand::Dead { place, .. } | TasksCommand::Retry { place, .. }) = &self.command;
        place.amqp.as_ref().map(|Secret(url)| url.as_str())
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum TasksCommand {
    /// Show the tasks that were given up, and why. They stay where they are.
    Dead {
        /// How many at most, those first that were given up first. A server shows no more than 1000.
        #[arg(
            long,
            default_value_t = 100,
            value_name = "NUMBER",
            value_parser = clap::value_parser!(u32).range(1..=100_000)
        )]
        most: u32,

        /// One JSON object a line, for machines.
        #[arg(long)]
        json: bool,

        #[command(flatten)]
        place: Where,
    },
    /// Put tasks that were given up back into the queue, as if they were new.
    Retry {
        /// Only the task with this id, which must be there; otherwise all.
        id: Option<String>,

        #[command(flatten)]
        place: Where,
    },
}

/// Where the tasks are.
#[derive(Debug, Args)]
pub(crate) struct Where {
    /// The RabbitMQ that they are in, such as amqp://user:password@host:5672/vhost, or amqps://.. with TLS. Without it, or with --server, the server is asked.
    #[arg(long, env = "HUBCAST_AMQP", value_name = "URL", hide_env_values = true)]
    pub(crate) amqp: Option<Secret>,

    /// The queue of tasks in RabbitMQ.
    #[arg(
        long,
        env = "HUBCAST_TASK_QUEUE",
        default_value = "tasks",
        value_name = "NAME"
    )]
    pub(crate) task_queue: TaskQueue,

    /// The server to ask where no RabbitMQ is named; with TLS, https://. Given here, it is asked whatever HUBCAST_AMQP says.
    #[arg(
        long,
        default_value = "http://127.0.0.1:8080",
        value_name = "URL",
        value_parser = server
    )]
    pub(crate) server: String,
}

/// The address of a server, behind which a path can be written.
fn server(text: &str) -> Result<String, String> {
    let example =
        "write the address of a server, such as http://127.0.0.1:8080 or https://hub.example";
    let url: Uri = text.parse().map_err(|_| example)?;
    match url.scheme_str() {
        Some("http" | "https") if url.query().is_none() => {
            Ok(text.trim_end_matches('/').to_owned())
        }
        _ => Err(example.to_owned()),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Encoding {
    Json,
    Messagepack,
}

/// What is never shown.
#[derive(Clone)]
pub(crate) struct Secret(pub(crate) String);

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("(secret)")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}
