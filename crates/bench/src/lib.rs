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
mod child;
mod churn;
mod echo;
mod figures;
mod frames;
mod gather;
mod hear;
mod idle;
mod key;
mod limit_out;
mod limit_process;
mod limit_rooms;
mod limits;
mod membership;
mod order;
mod plan;
mod pool;
mod process;
mod regular;
mod report;
mod room_beside;
mod round;
mod rounds;
mod sender;
mod silence;
mod slow;
mod spread;
mod suite;
mod talk;
mod talk_round;
mod target;
mod workload;

use anyhow::bail;

pub use crate::args::Args;
use crate::args::{Command, Common, Workload, Writes};
use crate::limit_process::LimitProcess;
use crate::report::Report;
use crate::round::Subject;
use crate::target::Target;

/// Measures what the arguments say, and prints the result on standard output and progress on standard error. An error if something was lost, doubled
/// or out of order, after the result has been printed.
pub fn run(args: &Args) -> anyhow::Result<()> {
    match &args.command {
        Command::Measure(workload) => measure(workload),
        Command::Suite(args) => suite::run(args),
        Command::Limit {
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
            limit_process::serve(*writes, names)
        }
        Command::Child { parent, command } => child::become_child(*parent, command),
    }
}

fn measure(workload: &Workload) -> anyhow::Result<()> {
    let common = workload.common();
    let mut subjects = vec![server(common)?];
    let mut limits = Vec::new();
    if common.limits {
        for writes in [Writes::Each, Writes::Together] {
            let limit = LimitProcess::start(writes, common)?;
            subjects.push(limit.subject()?);
            limits.push(limit);
        }
    }
    let mut report = Report::new(workload, &subjects);
    rounds::run(workload, &subjects, "", &mut report)?;
    drop(limits);
    report.print(common.json)?;
    if report.failed() {
        bail!("FAILED: {}", report.faults());
    }
    Ok(())
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
