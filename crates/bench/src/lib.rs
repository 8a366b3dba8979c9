//! `hubcast bench`: loads a SignalR server, counts every message, and measures what it costs.
//!
//! It loads any server by its URL; what it does not know is which one. A workload runs on one thread with one poll, and a message that is received
//! costs a comparison of its bytes with what they should be, so that the server is the busier of the two. Every message carries its sender and its
//! number, and every receiver's are checked: a run in which something was lost, doubled or out of order has failed, whatever its figures.
//!
//! With `--limits` the raw limits of the machine are measured in turn with the server: two servers that only move the same bytes, which this program
//! starts as children of its own, as `hubcast bench limit`.

mod account;
mod args;
mod beside;
mod caller;
mod calling;
mod calls;
mod churn;
mod echo;
mod frames;
mod gather;
mod hear;
mod idle;
mod key;
mod limit_process;
mod limit_rooms;
mod limits;
mod membership;
mod pool;
mod process;
mod regular;
mod report;
mod round;
mod sender;
mod slow;
mod talk;
mod target;

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::bail;

pub use crate::args::Args;
use crate::args::{Common, Workload, Writes};
use crate::limit_process::LimitProcess;
use crate::report::Report;
use crate::round::{Progress, Round, Setup, Subject};
use crate::talk::Plan;
use crate::target::Target;

/// Measures what the arguments say, and prints the result on standard output and progress on standard error. An error if something was lost, doubled
/// or out of order, after the result has been printed.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let (common, rounds, unit) = match &args.workload {
        Workload::Limit {
            writes,
            receive,
            join,
            leave,
            echo,
        } => {
            let names = limits::Names {
                receive: receive.clone(),
                join: join.clone(),
                leave: leave.clone(),
                echo: echo.clone(),
            };
            return limit_process::serve(*writes, names);
        }
        Workload::Echo { common, .. } => (common, common.rounds, "calls"),
        Workload::FanOut { common, .. } | Workload::Rooms { common, .. } => {
            (common, common.rounds, "deliveries")
        }
        Workload::Membership { common, .. } => (common, common.rounds, "joins and leaves"),
        // Memory that was used once is not given back: a second round would measure less than the first.
        Workload::Idle { common, .. } => (common, 1, "connection seconds"),
        Workload::Churn { common, .. } => (common, common.rounds, "connections"),
    };
    let mut subjects = vec![server(common)?];
    let mut children = Vec::new();
    if common.limits {
        for (name, writes) in [
            (report::ONE_WRITE, Writes::Each),
            (report::COALESCED, Writes::Together),
        ] {
            let child = LimitProcess::start(writes, common)?;
            subjects.push(Subject {
                name,
                targets: vec![Target::parse(&child.url)?],
                pids: vec![child.pid()],
            });
            children.push(child);
        }
    }

    let mut report = Report::new(describe(&args.workload, rounds), unit, &subjects);
    'rounds: for number in 1..=rounds {
        for subject in &subjects {
            let what = format!("round {number} of {rounds}, {}", subject.name);
            let mut setup = Setup {
                common,
                subject,
                nonce: nonce(),
                progress: Progress::new(what),
            };
            let round = measure(&args.workload, &mut setup)?;
            let failed = round.faults.any();
            report.add(subject.name, round);
            if failed {
                // What comes after a failure measures the failure.
                break 'rounds;
            }
        }
    }
    drop(children);
    report.print(common.json)?;
    if report.failed() {
        bail!("FAILED: {}", report.faults());
    }
    Ok(())
}

fn measure(workload: &Workload, setup: &mut Setup<'_>) -> anyhow::Result<Round> {
    match workload {
        Workload::Echo { echo, .. } => echo::run(echo, setup),
        Workload::FanOut { fan_out, .. } => {
            let plan = Plan {
                rooms: 1,
                members: fan_out.members,
                senders: fan_out.senders,
                bytes: fan_out.bytes,
                ahead: fan_out.ahead(),
                rate: fan_out.rate,
                callers: fan_out.callers,
                slow: fan_out.slow,
            };
            talk::run(plan, setup)
        }
        Workload::Rooms { rooms, .. } => {
            let plan = Plan {
                rooms: rooms.count,
                members: rooms.members,
                senders: rooms.members,
                bytes: rooms.bytes,
                ahead: rooms.ahead,
                rate: None,
                callers: 0,
                slow: 0,
            };
            talk::run(plan, setup)
        }
        Workload::Membership { membership, .. } => membership::run(membership, setup),
        Workload::Idle { idle, .. } => idle::run(idle, setup),
        Workload::Churn { churn, .. } => churn::run(churn, setup),
        Workload::Limit { .. } => bail!("a limit is served, not measured"),
    }
}

/// The server under test.
fn server(common: &Common) -> anyhow::Result<Subject> {
    let targets = common.urls.iter().map(|url| Target::parse(url));
    // Asked for once before anything is begun, so that a wrong process is found at once.
    process::cpu_seconds(&common.pids)?;
    Ok(Subject {
        name: report::SERVER,
        targets: targets.collect::<Result<_, _>>()?,
        pids: common.pids.clone(),
    })
}

/// What is measured, in a line.
fn describe(workload: &Workload, rounds: u32) -> String {
    let (what, common) = match workload {
        Workload::Echo { echo, common } => {
            let connections = counted(echo.connections, "connection");
            let depth = counted(echo.depth, "call");
            let bytes = counted(echo.bytes, "byte");
            let what = format!("echo: {connections}, {depth} ahead, {bytes}");
            (what, common)
        }
        Workload::FanOut { fan_out, common } => {
            let pace = match fan_out.rate {
                Some(rate) => format!("{rate} messages per second"),
                None => format!("saturated, {} ahead", counted(fan_out.ahead(), "message")),
            };
            let members = counted(fan_out.members, "member");
            let senders = counted(fan_out.senders, "sender");
            let bytes = counted(fan_out.bytes, "byte");
            let mut what = format!("fan-out: {members}, {senders}, {bytes}, {pace}");
            if fan_out.callers > 0 {
                what = format!("{what}, {} beside", counted(fan_out.callers, "caller"));
            }
            if fan_out.slow > 0 {
                what = format!("{what}, {}", counted(fan_out.slow, "slow member"));
            }
            (what, common)
        }
        Workload::Rooms { rooms, common } => {
            let count = counted(rooms.count, "room");
            let bytes = counted(rooms.bytes, "byte");
            let ahead = counted(rooms.ahead, "message");
            let what = format!(
                "rooms: {count} of {}, all talk, {bytes}, {ahead} ahead",
                rooms.members
            );
            (what, common)
        }
        Workload::Membership { membership, common } => {
            let movers = counted(membership.movers, "connection");
            let members = counted(membership.members, "silent member");
            let what = format!("membership: {movers} in and out of a room of {members}");
            (what, common)
        }
        Workload::Idle { idle, common } => {
            let connections = counted(idle.connections, "connection");
            let what = format!("idle: {connections} in rooms of {}", idle.room_size);
            (what, common)
        }
        Workload::Churn { churn, common } => {
            let connections = counted(churn.at_once, "connection");
            (format!("churn: {connections} at once"), common)
        }
        Workload::Limit { .. } => return String::new(),
    };
    format!(
        "{what}; {} of {} s after {} s",
        counted(rounds, "round"),
        common.seconds,
        common.warm_up
    )
}

/// So many of a thing, in words.
fn counted(count: u32, thing: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {thing}{plural}")
}

/// A name that no other round has.
fn nonce() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    format!(
        "b{}-{}",
        std::process::id(),
        now.unwrap_or_default().as_micros()
    )
}
