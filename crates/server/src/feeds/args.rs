//! The command lines of `hubcast publish` and `hubcast subscribe`.

#![allow(
    clippy::doc_markdown,
    rustdoc::bare_urls,
    reason = "these comments are the text of --help, which is not Markdown"
)]

use clap::Args;
use hubcast_broker::Name;

/// Where a RabbitMQ is unless something else is said.
pub(crate) const DEFAULT_AMQP: &str = "amqp://127.0.0.1:5672";

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  hubcast publish                            what you type, to the exchange logs
  tail -f app.log | hubcast publish --amqp amqp://me:secret@10.0.0.5

While RabbitMQ is away, lines wait. A line whose confirmation was lost with the connection is published again, so it may arrive twice.
An exchange that somebody deletes is made anew when the next line is published.

Exit status: 0 after every line of the input was confirmed; 1 otherwise; 2 for a wrong command line.")]
pub(crate) struct PublishArgs {
    #[command(flatten)]
    pub(crate) exchange: ExchangeArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  hubcast subscribe                          what is published from now on
  hubcast subscribe --queue archive >> logs  and what was while this was not running

Every message is one line: a line break in it is shown as \u{23ce}. At a terminal, other control characters are shown as their pictures; to a pipe or a file they are written as they came.

An exchange that somebody deletes is declared and listened to anew within a minute; what is published in between is not received.

Exit status: 0 when it is told to end, or when nobody reads its output any more; 1 if RabbitMQ refuses something; 2 for a wrong command line.")]
pub(crate) struct SubscribeArgs {
    #[command(flatten)]
    pub(crate) exchange: ExchangeArgs,

    /// The queue to read, which is made if it is not there, and otherwise taken as it is, whatever its arguments. A durable one, as is made here, keeps what is published while nobody reads
    /// it; several who read it share what comes. It keeps what it was bound to: run this with one --exchange after another, and it gets what is published to all of them.
    /// Without one, what is published while there is a connection is received, and nothing else.
    #[arg(long, env = "HUBCAST_QUEUE", value_name = "NAME")]
    pub(crate) queue: Option<Name>,
}

#[derive(Debug, Args)]
pub(crate) struct ExchangeArgs {
    /// Where RabbitMQ is, such as amqp://user:password@host:5672/vhost, or amqps://.. with TLS. Others can see the command lines of running programs, but not the variable.
    #[arg(
        long,
        env = "HUBCAST_AMQP",
        default_value = DEFAULT_AMQP,
        value_name = "URL",
        hide_env_values = true
    )]
    pub(crate) amqp: String,

    /// The exchange: a durable fanout exchange, which is made if it is not there.
    #[arg(
        long,
        env = "HUBCAST_EXCHANGE",
        default_value = "logs",
        value_name = "NAME"
    )]
    pub(crate) exchange: Name,
}
