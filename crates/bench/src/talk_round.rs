//! A round in which rooms talk: one large (`fan-out`), or many small ones (`rooms`), and whatever happens beside them.

use std::time::{Duration, Instant};

use crate::beside::Beside;
use crate::calls;
use crate::gather::{gather, leave};
use crate::plan::{Plan, Small};
use crate::pool::Pool;
use crate::process::allow_connections;
use crate::regular::Calls;
use crate::round::{Course, Round, Setup};
use crate::slow;
use crate::talk::Talk;

/// The length of what is called beside a room.
const BYTES: u32 = 64;

/// Runs one round: what it counts are deliveries.
pub(crate) fn run(plan: Plan, setup: &mut Setup<'_>) -> anyhow::Result<Round> {
    let links = plan.listeners() + plan.slow as usize;
    let small = plan.beside.map_or(0, |small| small.members);
    allow_connections(links + plan.callers as usize + small as usize)?;
    let mut pool = Pool::new(&setup.subject.targets)?;
    let nonce = setup.nonce.clone();
    let servers = setup.subject.targets.len();
    let mut talk = Talk::new(plan, servers, setup.common, &nonce)?;
    gather(&mut pool, &mut talk, links, setup)?;
    talk.slow.stop_reading(&mut pool)?;
    let callers = match plan.callers {
        0 => None,
        count => Some(calls_beside(count, setup)?),
    };
    let room = match plan.beside {
        None => None,
        Some(small) => Some(room_beside(small, plan.strict, setup)?),
    };

    let began = Instant::now();
    let mut course = Course::new(began, setup.common, setup.subject);
    talk.measure_from = course.measure_from;
    let callers = callers.map(|beside| beside.start(began, &course, setup.patience()));
    let room = room.map(|beside| beside.start(began, &course, setup.patience()));
    let mut due = 0_u64;
    talk.last_delivery = began;
    while talk.faults.errors == 0 {
        let now = Instant::now();
        course.is_measuring(now, talk.delivered)?;
        let mut wake = course.next();
        match plan.rate {
            // What is due by the end is said, however late it has become, and its latency counts.
            Some(rate) => {
                let next =
                    talk.say_what_is_due(&mut pool, began, now.min(course.end), rate, &mut due);
                wake = wake.min(next);
            }
            None if now < course.end => talk.say_all(&mut pool),
            None => {}
        }
        if now >= course.end {
            break;
        }
        if talk.is_stuck(now, setup.patience()) {
            break;
        }
        let state = || format!("{} deliveries", talk.delivered);
        setup.progress.tell(state);
        pool.turn(wake.min(setup.progress.next()), &mut talk)?;
    }
    let mut round = course.stop(talk.delivered)?;

    // What is under way still counts: it may be lost, and it may be late.
    talk.last_delivery = Instant::now();
    while talk.is_waiting() && talk.faults.errors == 0 {
        let now = Instant::now();
        if talk.is_stuck(now, setup.patience()) {
            break;
        }
        pool.turn(now + Duration::from_millis(20), &mut talk)?;
    }
    if let Some(callers) = callers {
        let calls = callers.finish(setup)?;
        talk.faults.add(&calls.faults);
        round.beside = calls.latency;
    }
    if let Some(room) = room {
        let other = room.finish(setup)?;
        talk.faults.add(&other.faults);
        talk.disordered += other.disordered;
        talk.early += other.early;
        round.room_beside = other.latency;
    }
    match slow::ask(&mut pool, &mut talk, setup)? {
        0 => {}
        left => talk.faults.error(format!(
            "{left} slow members are neither answered nor ended"
        )),
    }
    talk.leaving = true;
    leave(&mut pool, &mut talk, links, setup)?;
    talk.close();
    round.disordered = Some(talk.disordered);
    round.early = Some(talk.early);
    round.slow_ended = talk.slow.ended();
    round.latency = talk.latency;
    round.faults = talk.faults;
    Ok(round)
}

/// Connections in no room, which are to call.
fn calls_beside(count: u32, setup: &mut Setup<'_>) -> anyhow::Result<Beside<Calls>> {
    let call = calls::echo(setup.common, BYTES)?;
    let ear = calls::ear(setup.common, BYTES, true);
    Beside::gather(Calls::new(count, call, ear), count as usize, setup)
}

/// Another room, which is to talk.
fn room_beside(small: Small, strict: bool, setup: &mut Setup<'_>) -> anyhow::Result<Beside<Talk>> {
    let plan = Plan::beside(small, strict);
    let name = format!("{}-beside", setup.nonce);
    let talk = Talk::new(plan, setup.subject.targets.len(), setup.common, &name)?;
    Beside::gather(talk, small.members as usize, setup)
}
