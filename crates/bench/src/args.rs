//! The command line of `hubcast bench`.

#![allow(
    clippy::doc_markdown,
    rustdoc::bare_urls,
    reason = "these comments are the text of --help, which is not Markdown"
)]

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

use crate::suite;

/// What is said below all help.
const HUB: &str = "The hub needs four methods, or those of them that a workload calls:\n  \
    JoinRoom(room)                   puts its caller into a room\n  \
    LeaveRoom(room)                  takes it out again\n  \
    SendMessage(room, user, text)    calls ReceiveMessage(user, text) on all in the room, its caller too\n  \
    Echo(text)                       returns its argument\n\
    Their names can be changed, with --join-method and the like; what they take and return cannot.";

/// What to measure.
#[derive(Debug, clap::Args)]
#[command(after_help = HUB)]
pub struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Measure(Workload),
    /// Everything: a table of what the server costs, with a goal for each row. Starts this very program anew for every row, and measures it in turn
    /// with what it is compared with. The table is Markdown; a goal that is not reached is no failure.
    Suite(Suite),
    /// A raw limit, which this program starts by itself.
    #[command(hide = true)]
    Limit {
        #[arg(value_enum)]
        writes: Writes,
        #[arg(long)]
        receive: String,
        #[arg(long)]
        join: String,
        #[arg(long)]
        leave: String,
        #[arg(long)]
        echo: String,
    },
    /// Another program, which this one starts by itself, and which ends with the process of this id.
    #[command(hide = true)]
    Child {
        parent: u32,
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Workload {
    /// Calls and their answers: every connection calls the hub's Echo, some calls ahead of its answers.
    #[command(after_help = HUB)]
    Echo {
        #[command(flatten)]
        echo: Echo,
        #[command(flatten)]
        common: Common,
    },
    /// One room: a few of its members talk, all receive. As fast as the server can, or with --rate at a fixed rate.
    #[command(after_help = HUB)]
    FanOut {
        #[command(flatten)]
        fan_out: FanOut,
        #[command(flatten)]
        common: Common,
    },
    /// Many small rooms in which every member talks.
    #[command(after_help = HUB)]
    Rooms {
        #[command(flatten)]
        rooms: Rooms,
        #[command(flatten)]
        common: Common,
    },
    /// Connections that join and leave a room, over and over, while others are in it and silent.
    #[command(after_help = HUB)]
    Membership {
        #[command(flatten)]
        membership: Membership,
        #[command(flatten)]
        common: Common,
    },
    /// Connections that do nothing: what each of them occupies, and what keeping it alive costs. One round; start the server anew before.
    #[command(after_help = HUB)]
    Idle {
        #[command(flatten)]
        idle: Idle,
        #[command(flatten)]
        common: Common,
    },
    /// Connections that come and go: connect, handshake, close.
    #[command(after_help = HUB)]
    Churn {
        #[command(flatten)]
        churn: Churn,
        #[command(flatten)]
        common: Common,
    },
}

/// How a raw limit writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Writes {
    /// One write per delivery and per answer.
    Each,
    /// Everything that waits for a connection in one write.
    Together,
}

#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(crate) struct Echo {
    /// How many connections call.
    #[arg(long, default_value_t = 50, value_name = "COUNT", value_parser = count(1..=1_000_000))]
    pub(crate) connections: u32,
    /// How many calls each connection has under way at once.
    #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = count(1..=1_024))]
    pub(crate) depth: u32,
    /// The length of the argument, in bytes.
    #[arg(long, default_value_t = 64, value_name = "BYTES", value_parser = count(16..=1_000_000))]
    pub(crate) bytes: u32,
}

#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(crate) struct FanOut {
    /// How many are in the room.
    #[arg(long, default_value_t = 1_000, value_name = "COUNT", value_parser = count(1..=1_000_000))]
    pub(crate) members: u32,
    /// How many of them talk.
    #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = count(1..=10_000))]
    pub(crate) senders: u32,
    /// The length of the text, in bytes.
    #[arg(long, default_value_t = 64, value_name = "BYTES", value_parser = count(16..=1_000_000))]
    pub(crate) bytes: u32,
    /// How many messages each sender may be ahead of the slowest receiver. By default 64 divided among the senders, but at least 4. The bytes of as many
    /// messages of each sender wait in the server at most, per receiver.
    #[arg(long, value_name = "COUNT", value_parser = count(1..=65_536))]
    pub(crate) ahead: Option<u32>,
    /// Messages per second of all senders together, sent when they are due, whatever the server does. Latencies count from when a message was due,
    /// so that one that had to wait for its turn to be sent is not flattered. A server that falls more than ten seconds behind has failed.
    #[arg(long, value_name = "PER_SECOND", value_parser = rate, conflicts_with = "ahead")]
    pub(crate) rate: Option<f64>,
    /// How many further connections, in no room, call Echo while the room talks: each 20 times a second, with 64 bytes, whatever the server does. Their
    /// latencies are shown by themselves, and count from when a call was due.
    #[arg(long, default_value_t = 0, value_name = "COUNT", value_parser = count(0..=10_000))]
    pub(crate) callers: u32,
    /// How many are in another, small room in which one of them talks meanwhile, 64 bytes at a time, whatever the server does. Their latencies are shown by
    /// themselves, and count from when a message was due.
    #[arg(long, default_value_t = 0, value_name = "COUNT", value_parser = count(0..=10_000))]
    pub(crate) beside_members: u32,
    /// Messages per second in the small room.
    #[arg(long, default_value_t = 200.0, value_name = "PER_SECOND", value_parser = rate, requires = "beside_members")]
    pub(crate) beside_rate: f64,
    /// How many further members never read once they are in the room. The server may end them, and what they miss is not lost; everybody else is to get
    /// everything. A round has to say more than the system and the server keep for them, or nobody notices that they do not read.
    #[arg(long, default_value_t = 0, value_name = "COUNT", value_parser = count(0..=100_000))]
    pub(crate) slow: u32,
    /// Fail if members of a room on one server see its messages in different orders, or if a call is answered before its own message has come back to its
    /// caller. Both are counted and shown anyway, but not every server promises them. The second is not asked of several servers: a message may go around
    /// through what joins them.
    #[arg(long)]
    pub(crate) strict: bool,
}

#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(crate) struct Rooms {
    /// How many rooms.
    #[arg(id = "rooms", long = "rooms", default_value_t = 100, value_name = "COUNT", value_parser = count(1..=100_000))]
    pub(crate) count: u32,
    /// How many are in each room; all of them talk.
    #[arg(long, default_value_t = 10, value_name = "COUNT", value_parser = count(1..=1_000))]
    pub(crate) members: u32,
    /// The length of the text, in bytes.
    #[arg(long, default_value_t = 64, value_name = "BYTES", value_parser = count(16..=1_000_000))]
    pub(crate) bytes: u32,
    /// How many messages each member may be ahead of the slowest receiver.
    #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = count(1..=65_536))]
    pub(crate) ahead: u32,
    /// Fail if members of a room on one server see its messages in different orders, or if a call is answered before its own message has come back to its
    /// caller. Both are counted and shown anyway, but not every server promises them. The second is not asked of several servers: a message may go around
    /// through what joins them.
    #[arg(long)]
    pub(crate) strict: bool,
}

#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(crate) struct Membership {
    /// How many are in the room all the time, and silent. A hub that tells everybody in a room who comes and goes, such as the chat, has to do more
    /// the more there are; one that tells nobody shows what joining and leaving themselves cost.
    #[arg(long, default_value_t = 1_000, value_name = "COUNT", value_parser = count(0..=1_000_000))]
    pub(crate) members: u32,
    /// How many others join and leave, each as fast as it is answered.
    #[arg(long, default_value_t = 16, value_name = "COUNT", value_parser = count(1..=10_000))]
    pub(crate) movers: u32,
}

#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(crate) struct Idle {
    /// How many connections.
    #[arg(long, default_value_t = 10_000, value_name = "COUNT", value_parser = count(1..=1_000_000))]
    pub(crate) connections: u32,
    /// How many connections share a room. In a large room everybody hears of everybody who joins.
    #[arg(long, default_value_t = 10, value_name = "COUNT", value_parser = count(1..=1_000_000))]
    pub(crate) room_size: u32,
    /// How long a connection may hear nothing, in seconds: clients take a server for dead after 30. The raw limits may be silent.
    #[arg(long, default_value_t = 30.0, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) server_timeout: f64,
}

#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(crate) struct Churn {
    /// How many connections are there at once.
    #[arg(long, default_value_t = 16, value_name = "COUNT", value_parser = count(1..=10_000))]
    pub(crate) at_once: u32,
}

#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(crate) struct Suite {
    /// How long each round measures, in seconds.
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) seconds: f64,
    /// How long each round runs before it measures, in seconds.
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) warm_up: f64,
    /// How many rounds; what is shown is the median. Idle connections have one, as their memory can be measured once.
    #[arg(long, default_value_t = 5, value_name = "COUNT", value_parser = count(1..=1_000))]
    pub(crate) rounds: u32,
    /// Only the rows whose name contains this text, and those that they are compared with.
    #[arg(long, value_name = "TEXT", value_parser = suite::part_of_a_name)]
    pub(crate) only: Option<String>,
    /// The redis-server that joins several servers into one. By default the one in PATH; without one, rows that need it are left out, which is said.
    #[arg(long, value_name = "PATH")]
    pub(crate) redis_server: Option<PathBuf>,
    /// Print JSON instead of a table: the rows, and every round of each.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(crate) struct Common {
    /// The hub to load, such as http://127.0.0.1:8080/chatHub. Several are one service: connections are dealt out in turn. WebSockets without
    /// negotiation, JSON, no TLS.
    #[arg(
        long = "url",
        default_value = "http://127.0.0.1:8080/chatHub",
        value_name = "URL"
    )]
    pub(crate) urls: Vec<String>,
    /// The process of the server, if it runs on this machine: its processor time and its memory are measured. Several are added up.
    #[arg(long = "pid", value_name = "PID")]
    pub(crate) pids: Vec<u32>,
    /// How long each round measures, in seconds.
    #[arg(long, default_value_t = 3.0, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) seconds: f64,
    /// How long each round runs before it measures, in seconds.
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) warm_up: f64,
    /// How many rounds; what is shown is the median.
    #[arg(long, default_value_t = 5, value_name = "COUNT", value_parser = count(1..=1_000))]
    pub(crate) rounds: u32,
    /// How long nothing may arrive before what is missing counts as lost, in seconds.
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) patience: f64,
    /// Measure the raw limits of this machine in turn with the server, and show every figure as a ratio to them: servers that only move the same bytes,
    /// one with a write per message, one with everything that waits for a connection in one write.
    #[arg(long)]
    pub(crate) limits: bool,
    /// Print JSON instead of a table: every round, the medians and the ratios.
    #[arg(long)]
    pub(crate) json: bool,
    /// The hub's method that puts its caller into a room: JoinRoom(room).
    #[arg(long, default_value = "JoinRoom", value_name = "NAME", value_parser = name)]
    pub(crate) join_method: String,
    /// The hub's method that takes its caller out of a room: LeaveRoom(room).
    #[arg(long, default_value = "LeaveRoom", value_name = "NAME", value_parser = name)]
    pub(crate) leave_method: String,
    /// The hub's method that tells everybody in a room something: SendMessage(room, user, text).
    #[arg(long, default_value = "SendMessage", value_name = "NAME", value_parser = name)]
    pub(crate) send_method: String,
    /// The hub's method that gives its argument back: Echo(text).
    #[arg(long, default_value = "Echo", value_name = "NAME", value_parser = name)]
    pub(crate) echo_method: String,
    /// The client's method that is called with what was said: ReceiveMessage(user, text).
    #[arg(long, default_value = "ReceiveMessage", value_name = "NAME", value_parser = name)]
    pub(crate) receive_method: String,
}

impl FanOut {
    /// How many messages each sender may be ahead.
    pub(crate) fn ahead(&self) -> u32 {
        self.ahead.unwrap_or((64 / self.senders.max(1)).max(4))
    }
}

fn count(range: RangeInclusive<i64>) -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(range)
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds @ 0.0..=86_400.0) => Ok(seconds),
        _ => Err("write a number of seconds, at most a day".to_owned()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate @ 0.001..=100_000.0) => Ok(rate),
        _ => Err("write a number of messages per second, at most 100000".to_owned()),
    }
}

/// The name of a method, as it stands in JSON without being escaped.
fn name(text: &str) -> Result<String, String> {
    let plain =
        !text.is_empty() && !text.contains(|c: char| c.is_control() || c == '"' || c == '\\');
    plain
        .then(|| text.to_owned())
        .ok_or_else(|| "write the name of a method".to_owned())
}

/// What all workloads have, of this command line.
#[cfg(test)]
pub(crate) fn common(line: &[&str]) -> Common {
    use clap::Parser;

    #[derive(Debug, Parser)]
    #[command(no_binary_name = true)]
    struct Line {
        #[command(subcommand)]
        workload: Workload,
    }
    let line = Line::try_parse_from(line).unwrap_or_else(|error| panic!("{error}"));
    line.workload.common().clone()
}
