//! Connections that call, each some calls ahead of its answers, and others that only are there.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::account::Faults;
use crate::args::Common;
use crate::caller::Caller;
use crate::calls;
use crate::gather::{Gathered, gather, leave};
use crate::hear::{Ear, Heard};
use crate::key::{Key, Template};
use crate::pool::{Listener, Pool};
use crate::process::allow_connections;
use crate::round::{Course, Round, Setup, latencies, nanoseconds};

/// Who calls what.
pub(crate) struct Plan {
    pub(crate) callers: u32,
    /// How many calls each of them has under way at once.
    pub(crate) depth: u32,
    /// What each of them calls, in turn.
    pub(crate) calls: Vec<Template>,
    /// What hears the answers.
    pub(crate) ear: Ear,
    /// How many others are in `room`, and silent.
    pub(crate) silent: u32,
    pub(crate) room: String,
}

struct Calls<'a> {
    plan: Plan,
    common: &'a Common,
    /// The first connections; the others are silent.
    callers: Vec<Caller>,
    faults: Faults,
    latency: Histogram<u64>,
    gathered: Gathered,
    answered: u64,
    now: Instant,
    last_answer: Instant,
    measuring: bool,
    /// Whether an answer is followed by the next call.
    calling: bool,
    leaving: bool,
}

/// Runs one round: what it counts are calls that were answered.
pub(crate) fn run(plan: Plan, setup: &mut Setup<'_>) -> anyhow::Result<Round> {
    let callers = plan.callers as usize;
    let links = callers + plan.silent as usize;
    allow_connections(links)?;
    let mut pool = Pool::new(&setup.subject.targets)?;
    let now = Instant::now();
    let mut calls = Calls {
        callers: (0..plan.callers).map(Caller::new).collect(),
        plan,
        common: setup.common,
        faults: Faults::default(),
        latency: latencies(),
        gathered: Gathered::default(),
        answered: 0,
        now,
        last_answer: now,
        measuring: false,
        calling: true,
        leaving: false,
    };
    gather(&mut pool, &mut calls, links, setup)?;

    let began = Instant::now();
    calls.now = began;
    calls.last_answer = began;
    for id in 0..callers {
        pool.send(id, |out| calls.call_until_full(id, out));
        pool.flush(id, &mut calls);
    }
    let mut course = Course::new(began, setup.common, setup.subject);
    while calls.faults.errors == 0 {
        let now = Instant::now();
        if now >= course.end || calls.is_stuck(now, setup.patience()) {
            break;
        }
        calls.measuring = course.is_measuring(now, calls.answered)?;
        let wake = course.next();
        setup.progress.tell(|| format!("{} calls", calls.answered));
        pool.turn(wake.min(setup.progress.next()), &mut calls)?;
    }
    let mut round = course.stop(calls.answered)?;

    calls.calling = false;
    calls.last_answer = Instant::now();
    while calls.is_waiting() && calls.faults.errors == 0 {
        let now = Instant::now();
        if calls.is_stuck(now, setup.patience()) {
            break;
        }
        pool.turn(now + Duration::from_millis(20), &mut calls)?;
    }
    calls.leaving = true;
    leave(&mut pool, &mut calls, links, setup)?;
    let lost: usize = calls.callers.iter().map(Caller::under_way).sum();
    calls.faults.lost += lost as u64;
    round.latency = calls.latency;
    round.faults = calls.faults;
    Ok(round)
}

impl Calls<'_> {
    fn call_until_full(&mut self, id: usize, out: &mut Vec<u8>) {
        let Some(caller) = self.callers.get_mut(id) else {
            return;
        };
        while caller.under_way() < self.plan.depth as usize {
            let key = caller.call(self.now);
            let turn = key.number as usize % self.plan.calls.len().max(1);
            if let Some(call) = self.plan.calls.get(turn) {
                calls::write(call, key, out);
            }
        }
    }

    fn answered(&mut self, id: usize, key: Key) {
        let Some(caller) = self.callers.get_mut(id) else {
            self.faults.strange += 1;
            return;
        };
        let Some(since) = caller.answered(key, &mut self.faults) else {
            return;
        };
        if self.measuring && self.calling {
            let latency = self.now.saturating_duration_since(since);
            self.latency.saturating_record(nanoseconds(latency));
        }
        self.answered += 1;
        self.last_answer = self.now;
    }

    fn is_waiting(&self) -> bool {
        self.callers.iter().any(|caller| caller.under_way() > 0)
    }

    fn is_stuck(&self, now: Instant, patience: Duration) -> bool {
        now.saturating_duration_since(self.last_answer) > patience
    }
}

impl Listener for Calls<'_> {
    fn opened(&mut self, id: usize, out: &mut Vec<u8>) {
        self.gathered.opened += 1;
        if id < self.callers.len() {
            // There is no room to join before it calls.
            self.gathered.joined += 1;
        } else {
            out.extend(calls::join(self.common, &self.plan.room));
        }
    }

    fn record(&mut self, id: usize, record: &[u8], out: &mut Vec<u8>) {
        match self.plan.ear.hear(record) {
            Heard::Completion(key) => {
                self.answered(id, key);
                if self.calling {
                    self.call_until_full(id, out);
                }
            }
            Heard::Joined if id >= self.callers.len() => self.gathered.joined += 1,
            Heard::Message(_) | Heard::Joined => self.faults.strange += 1,
            Heard::Nothing => {}
            Heard::Wrong(_) if self.leaving => {}
            Heard::Wrong(what) => self.faults.error(what),
        }
    }

    fn closed(&mut self, id: usize, reason: Option<String>) {
        self.gathered.closed += 1;
        if let Some(reason) = reason
            && !self.leaving
        {
            self.faults.error(format!("connection {id}: {reason}"));
        }
    }

    fn now(&mut self, now: Instant) {
        self.now = now;
    }
}

impl AsRef<Gathered> for Calls<'_> {
    fn as_ref(&self) -> &Gathered {
        &self.gathered
    }
}

impl AsRef<Faults> for Calls<'_> {
    fn as_ref(&self) -> &Faults {
        &self.faults
    }
}
