//! Calls and their answers.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::account::Faults;
use crate::args;
use crate::calls;
use crate::gather::{Gathered, gather, leave};
use crate::hear::{Ear, Heard};
use crate::key::{Key, Template};
use crate::pool::{Listener, Pool};
use crate::process::allow_connections;
use crate::round::{Course, Round, Setup, latencies, nanoseconds};

#[derive(Debug, Default)]
struct Caller {
    sent: u32,
    /// Calls under way and when they were made, oldest first.
    waiting: VecDeque<(u32, Instant)>,
}

struct Calls {
    call: Template,
    depth: usize,
    ear: Ear,
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

/// Runs one round.
pub(crate) fn run(echo: &args::Echo, setup: &mut Setup<'_>) -> anyhow::Result<Round> {
    let links = echo.connections as usize;
    allow_connections(links)?;
    let mut pool = Pool::new(&setup.subject.targets)?;
    let now = Instant::now();
    let mut calls = Calls {
        call: calls::echo(setup.common, echo.bytes)?,
        depth: echo.depth as usize,
        ear: calls::ear(setup.common, echo.bytes, true),
        callers: (0..links).map(|_| Caller::default()).collect(),
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
    for id in 0..links {
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
    let lost: usize = calls
        .callers
        .iter()
        .map(|caller| caller.waiting.len())
        .sum();
    calls.faults.lost += lost as u64;
    round.latency = calls.latency;
    round.faults = calls.faults;
    Ok(round)
}

impl Calls {
    fn call_until_full(&mut self, id: usize, out: &mut Vec<u8>) {
        let Some(caller) = self.callers.get_mut(id) else {
            return;
        };
        while caller.waiting.len() < self.depth {
            let key = Key {
                sender: u32::try_from(id).unwrap_or(u32::MAX),
                number: caller.sent,
            };
            caller.sent += 1;
            caller.waiting.push_back((key.number, self.now));
            calls::write(&self.call, key, out);
        }
    }

    fn answered(&mut self, id: usize, key: Key) {
        let Some(caller) = self
            .callers
            .get_mut(id)
            .filter(|_| key.sender as usize == id)
        else {
            self.faults.strange += 1;
            return;
        };
        // Answers may overtake each other: calls may run side by side.
        let Some(at) = caller
            .waiting
            .iter()
            .position(|(number, _)| *number == key.number)
        else {
            if key.number < caller.sent {
                self.faults.doubled += 1;
            } else {
                self.faults.strange += 1;
            }
            return;
        };
        if let Some((_, when)) = caller.waiting.remove(at)
            && self.measuring
            && self.calling
        {
            let latency = self.now.saturating_duration_since(when);
            self.latency.saturating_record(nanoseconds(latency));
        }
        self.answered += 1;
        self.last_answer = self.now;
    }

    fn is_waiting(&self) -> bool {
        self.callers.iter().any(|caller| !caller.waiting.is_empty())
    }

    fn is_stuck(&self, now: Instant, patience: Duration) -> bool {
        now.saturating_duration_since(self.last_answer) > patience
    }
}

impl Listener for Calls {
    fn opened(&mut self, _: usize, _: &mut Vec<u8>) {
        self.gathered.opened += 1;
        // There is no room to join.
        self.gathered.joined += 1;
    }

    fn record(&mut self, id: usize, record: &[u8], out: &mut Vec<u8>) {
        match self.ear.hear(record) {
            Heard::Completion(key) => {
                self.answered(id, key);
                if self.calling {
                    self.call_until_full(id, out);
                }
            }
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

impl AsRef<Gathered> for Calls {
    fn as_ref(&self) -> &Gathered {
        &self.gathered
    }
}

impl AsRef<Faults> for Calls {
    fn as_ref(&self) -> &Faults {
        &self.faults
    }
}
