//! The rounds of a workload against the server and what it is compared with, in turn.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::args::Workload;
use crate::plan::{Plan, Small};
use crate::report::Report;
use crate::round::{Progress, Round, Setup, Subject};
use crate::{churn, echo, idle, membership, talk_round};

/// Adds the rounds to the report. `place` is what progress begins with.
pub(crate) fn run(
    workload: &Workload,
    subjects: &[Subject],
    place: &str,
    report: &mut Report,
) -> anyhow::Result<()> {
    let rounds = workload.rounds();
    for number in 1..=rounds {
        for subject in subjects {
            let what = format!("{place}round {number} of {rounds}, {}", subject.name);
            let mut setup = Setup {
                common: workload.common(),
                subject,
                nonce: nonce(),
                progress: Progress::new(what),
            };
            let round = measure(workload, &mut setup)?;
            let failed = round.faults.any();
            report.add(subject.name, round);
            if failed {
                // What comes after a failure measures the failure.
                return Ok(());
            }
        }
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
                beside: (fan_out.beside_members > 0).then_some(Small {
                    members: fan_out.beside_members,
                    rate: fan_out.beside_rate,
                }),
                slow: fan_out.slow,
                strict: fan_out.strict,
            };
            talk_round::run(plan, setup)
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
                beside: None,
                slow: 0,
                strict: rooms.strict,
            };
            talk_round::run(plan, setup)
        }
        Workload::Membership { membership, .. } => membership::run(membership, setup),
        Workload::Idle { idle, .. } => idle::run(idle, setup),
        Workload::Churn { churn, .. } => churn::run(churn, setup),
    }
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
