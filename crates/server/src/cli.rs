//! The command line. Every flag of the server is an environment variable, too.

#![allow(
    clippy::doc_markdown,
    rustdoc::bare_urls,
    reason = "these comments are the text of --help, which is not Markdown"
)]

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use hubcast::AllowedOrigins;
use hubcast_broker::TaskQueue;

use crate::feeds::FeedRoom;
use crate::{console, feeds};

/// A real-time server that SignalR clients talk to: one program with a chat page and its hub.
///
/// Without a command it serves. Alone it needs nothing else; several servers that are given one Redis are one
/// server to their clients, behind any balancer, without sticky sessions.
#[derive(Debug, Parser)]
#[command(
    name = "hubcast",
    version,
    args_conflicts_with_subcommands = true,
    max_term_width = 100,
    after_help = "Examples:
  hubcast                                   the chat, on http://127.0.0.1:8080
  hubcast serve --listen 0.0.0.0:80         open to other machines
  hubcast serve --redis redis://10.0.0.5    one of several servers
  hubcast serve --allow-origin https://a.example   for a page from elsewhere
  hubcast chat --room tea                   talk there without a browser
  hubcast publish < app.log                 every line to an exchange of RabbitMQ

Signals: SIGTERM and SIGINT end the server in good order within five seconds; its clients are told to reconnect."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) serve: Serve,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve the chat page, its hub, and the task centre; the default.
    Serve(Serve),
    /// Load a SignalR server, this one or another, count every message, and measure what it costs.
    ///
    /// The server under test is started by you, unless it is `suite` that measures. Results go to standard output, progress to standard error. A run in which anything was lost, doubled
    /// or out of order says FAILED and ends with status 1.
    Bench(hubcast_bench::Args),
    /// Chat at a terminal or in a script, on this server or another.
    ///
    /// At a terminal, what others say appears above the line that you write. In a pipe, messages are lines `name: text`, every line of the input is
    /// sent, and after the last one has been acknowledged the program leaves.
    Chat(console::ChatArgs),
    /// Exchange lines with a WebSocket server.
    ///
    /// Every line goes out as a text message, and messages come in as lines. `exit` alone on a line, or the end of the input, closes with 1000 and waits for the server to close, too.
    Connect(console::ConnectArgs),
    /// Look at tasks that were given up, or give them another chance.
    Tasks(console::TasksArgs),
    /// Publish lines to an exchange of RabbitMQ.
    ///
    /// Every line of the input becomes a persistent message of the same bytes, and is told of as ` [x] Sent: line` once RabbitMQ has confirmed it.
    Publish(feeds::PublishArgs),
    /// Print what is published to an exchange of RabbitMQ.
    ///
    /// Every message becomes a line ` [x] Received: text`, and is acknowledged when it is printed.
    Subscribe(feeds::SubscribeArgs),
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Address and port to accept connections on; port 0 takes any free one, and the line on standard output says
    /// which.
    #[arg(
        long,
        env = "HUBCAST_LISTEN",
        default_value = "127.0.0.1:8080",
        value_name = "ADDRESS",
        value_parser = address
    )]
    pub(crate) listen: String,

    /// The Redis that joins several servers into one, such as redis://user:password@host:6379. Needs one Redis 6 or
    /// newer. Without it the server is alone. While Redis is away, clients of this server still reach each other.
    #[arg(
        long,
        env = "HUBCAST_REDIS",
        value_name = "URL",
        hide_env_values = true
    )]
    pub(crate) redis: Option<String>,

    /// Put before the name of every Redis channel, without a separator; for several applications on one Redis.
    /// The channelPrefix of StackExchange.Redis.
    #[arg(
        long,
        env = "HUBCAST_REDIS_PREFIX",
        default_value = "",
        value_name = "PREFIX"
    )]
    pub(crate) redis_prefix: String,

    /// The name of the chat hub on Redis. To share it with ASP.NET Core servers: the full name of the hub's class
    /// there, such as MyApp.Hubs.ChatHub.
    #[arg(
        long,
        env = "HUBCAST_HUB_NAME",
        default_value = "ChatHub",
        value_name = "NAME"
    )]
    pub(crate) hub_name: String,

    /// A folder with the page to serve at /. By default the folder `web` here, if it has an index.html, and
    /// otherwise the page that is built in.
    #[arg(long, env = "HUBCAST_WEB", value_name = "DIR")]
    pub(crate) web: Option<PathBuf>,

    /// An origin whose pages may talk to this server, such as https://example.com; * is every origin. Pages from this
    /// server itself always may. Give it several times, or separate several by commas in the variable.
    #[arg(
        long = "allow-origin",
        env = "HUBCAST_ALLOW_ORIGIN",
        value_name = "ORIGIN",
        value_delimiter = ',',
        value_parser = origin
    )]
    pub(crate) allow_origins: Vec<String>,

    /// Keep the connections of clients that use withStatefulReconnect() for 15 seconds when their network is lost, with everything that was sent to
    /// them meanwhile. Costs up to 100,000 bytes for each. With several servers a client must meet the same one again; elsewhere it connects anew.
    #[arg(long, env = "HUBCAST_STATEFUL_RECONNECT")]
    pub(crate) stateful_reconnect: bool,

    /// How many bytes a message to a WebSocket without SignalR (/ws, /echo, /api/chat, /push) may have; a longer one ends its connection with 1009. Such a
    /// connection costs about four times as much at most.
    #[arg(
        long,
        env = "HUBCAST_WEBSOCKET_MAX_MESSAGE",
        default_value_t = 1024 * 1024,
        value_name = "BYTES",
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    pub(crate) websocket_max_message: u64,

    /// How many WebSockets without SignalR (/ws, /echo, /api/chat, /push) there are together at most; further ones are refused with 503.
    #[arg(
        long,
        env = "HUBCAST_WEBSOCKET_MAX_CONNECTIONS",
        default_value_t = 10_000,
        value_name = "NUMBER"
    )]
    pub(crate) websocket_max_connections: u32,

    /// After how many seconds clients without SignalR (of /ws, /echo, /api/chat, /push) are sent a ping, each time; who has said nothing until the next one is due is closed.
    #[arg(
        long,
        env = "HUBCAST_WEBSOCKET_KEEP_ALIVE",
        default_value_t = 120,
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u64).range(1..=86_400)
    )]
    pub(crate) websocket_keep_alive: u64,

    /// The RabbitMQ of tasks and feeds, such as amqp://user:password@host:5672/vhost, or amqps://.. with TLS. Without it tasks wait in memory.
    #[arg(long, env = "HUBCAST_AMQP", value_name = "URL", hide_env_values = true)]
    pub(crate) amqp: Option<String>,

    /// The queue of tasks in RabbitMQ. Those that were given up are in <queue>.dead.
    #[arg(
        long,
        env = "HUBCAST_TASK_QUEUE",
        default_value = "tasks",
        value_name = "NAME"
    )]
    pub(crate) task_queue: TaskQueue,

    /// An exchange of RabbitMQ and a room in which its messages appear, such as logs=General. Give it several times, or separate several by commas. All servers
    /// share one durable queue for it, so every message appears once, also after a time without any server; several servers without one Redis
    /// should not have the same feed, since only one of them shows it. Needs --amqp.
    #[arg(
        long = "feed",
        env = "HUBCAST_FEED",
        value_name = "EXCHANGE=ROOM",
        value_delimiter = ',',
        requires = "amqp"
    )]
    pub(crate) feeds: Vec<FeedRoom>,

    /// Without the task centre: /tasks, /push and /taskHub are not there. They ask nobody who they are, so a server that others can reach should have them only
    /// behind something that does. The other flags of tasks mean nothing then.
    #[arg(long, env = "HUBCAST_NO_TASKS")]
    pub(crate) no_tasks: bool,

    /// How many seconds a worker has a task before another worker gets it, unless it says that it is still at it.
    #[arg(
        long,
        env = "HUBCAST_TASK_LEASE",
        default_value_t = 60,
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u64).range(1..=86_400)
    )]
    pub(crate) task_lease: u64,

    /// How often a task is tried before it is given up.
    #[arg(
        long,
        env = "HUBCAST_TASK_ATTEMPTS",
        default_value_t = 5,
        value_name = "NUMBER",
        value_parser = clap::value_parser!(u32).range(1..=1000)
    )]
    pub(crate) task_attempts: u32,

    /// How many seconds a task waits that was refused, or that no worker can do, before it is tried again.
    #[arg(
        long,
        env = "HUBCAST_TASK_RETRY",
        default_value_t = 5,
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u64).range(1..=86_400)
    )]
    pub(crate) task_retry: u64,

    /// How log lines on standard error look.
    #[arg(long, env = "HUBCAST_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    pub(crate) log_format: LogFormat,

    /// What is logged: error, warn, info, debug or trace, for all or by part, such as info,hubcast=debug.
    #[arg(
        long,
        env = "HUBCAST_LOG",
        default_value = "info",
        value_name = "FILTER"
    )]
    pub(crate) log: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for machines.
    Json,
}

/// A name or an address, and a port. Names are looked up when the server listens.
fn address(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
            Ok(text.to_owned())
        }
        _ => Err(
            "write an address and a port, such as 127.0.0.1:8080, [::1]:8080 or localhost:0"
                .to_owned(),
        ),
    }
}

fn origin(text: &str) -> Result<String, String> {
    AllowedOrigins::list([text])
        .map(|_| text.to_owned())
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serving_is_what_happens_without_a_command() {
        let cli = Cli::parse_from(["hubcast", "--listen", "127.0.0.1:0"]);
        assert!(cli.command.is_none());
        assert_eq!(cli.serve.listen, "127.0.0.1:0");
        let cli = Cli::parse_from([
            "hubcast",
            "serve",
            "--allow-origin",
            "https://a",
            "--allow-origin",
            "*",
        ]);
        let Some(Command::Serve(serve)) = cli.command else {
            panic!("{cli:?}");
        };
        assert_eq!(serve.allow_origins, ["https://a", "*"]);
    }

    #[test]
    fn an_address_without_a_port_is_refused() {
        for wrong in ["x", "127.0.0.1", ":80", "localhost:http", "localhost:70000"] {
            assert!(
                Cli::try_parse_from(["hubcast", "--listen", wrong]).is_err(),
                "{wrong}"
            );
        }
        for right in ["localhost:8080", "[::]:0"] {
            assert!(
                Cli::try_parse_from(["hubcast", "--listen", right]).is_ok(),
                "{right}"
            );
        }
    }

    #[test]
    fn names_that_rabbitmq_cannot_have_are_refused() {
        let too_long = "x".repeat(201);
        let names = [&too_long, &"x".repeat(256), "", "amq.tasks", "a\nb"];
        for name in names {
            for command in [
                &["hubcast", "serve"][..],
                &["hubcast", "tasks", "dead"],
                &["hubcast", "tasks", "retry"],
            ] {
                let arguments = command.iter().copied().chain(["--task-queue", name]);
                assert!(
                    Cli::try_parse_from(arguments).is_err(),
                    "{command:?} {name}"
                );
            }
        }
        let longest = "x".repeat(200);
        let arguments = ["hubcast", "tasks", "retry", "--task-queue", &longest];
        assert!(Cli::try_parse_from(arguments).is_ok());
    }

    #[test]
    fn what_tasks_cannot_ask_is_refused() {
        for wrong in [
            ["--server", "nowhere"],
            ["--server", "ftp://127.0.0.1"],
            ["--server", "http://127.0.0.1?x=y"],
            ["--server", ""],
            ["--most", "0"],
            ["--most", "100001"],
        ] {
            let arguments = ["hubcast", "tasks", "dead"].into_iter().chain(wrong);
            assert!(Cli::try_parse_from(arguments).is_err(), "{wrong:?}");
        }
        for server in ["http://[::1]:80/a/", "https://hub.example"] {
            let arguments = ["hubcast", "tasks", "dead", "--server", server];
            assert!(Cli::try_parse_from(arguments).is_ok(), "{server}");
        }
    }

    #[test]
    fn an_origin_with_a_path_is_refused() {
        assert!(Cli::try_parse_from(["hubcast", "--allow-origin", "https://a/b"]).is_err());
    }
}
