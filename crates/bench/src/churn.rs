//! Connections that come and go.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::account::Faults;
use crate::args;
use crate::pool::{Listener, Pool};
use crate::process::allow_connections;
use crate::round::{Course, Round, Setup, latencies, nanoseconds};

struct Coming {
    /// When each connection was begun.
    begun: Vec<Instant>,
    /// Those whose handshake is done, and those that have ended.
    opened: Vec<usize>,
    ended: Vec<usize>,
    count: u64,
    faults: Faults,
    latency: Histogram<u64>,
    now: Instant,
    measuring: bool,
}

/// Runs one round: what it counts are connections, from their first packet to the end that the server has confirmed. Their latency is the time
/// to the end of the handshake.
pub(crate) fn run(churn: &args::Churn, setup: &mut Setup<'_>) -> anyhow::Result<Round> {
    let at_once = churn.at_once as usize;
    allow_connections(at_once)?;
    let mut pool = Pool::new(&setup.subject.targets)?;
    let began = Instant::now();
    let mut coming = Coming {
        begun: vec![began; at_once],
        opened: Vec::new(),
        ended: (0..at_once).collect(),
        count: 0,
        faults: Faults::default(),
        latency: latencies(),
        now: began,
        measuring: false,
    };
    let mut course = Course::new(began, setup.common, setup.subject);
    let mut last = (0, began);
    while coming.faults.errors == 0 {
        let now = Instant::now();
        if now >= course.end {
            break;
        }
        coming.measuring = course.is_measuring(now, coming.count)?;
        while let Some(id) = coming.ended.pop() {
            if let Some(begun) = coming.begun.get_mut(id) {
                *begun = Instant::now();
            }
            pool.connect(id)?;
        }
        coming.say_goodbye(&mut pool);
        if coming.count != last.0 {
            last = (coming.count, now);
        } else if now > last.1 + setup.patience() {
            coming
                .faults
                .error("no connection comes to its end any more");
            break;
        }
        let wake = course.next();
        setup
            .progress
            .tell(|| format!("{} connections", coming.count));
        pool.turn(wake.min(setup.progress.next()), &mut coming)?;
        // Whoever was opened by this turn leaves before anything else is waited for.
        coming.say_goodbye(&mut pool);
    }
    let mut round = course.stop(coming.count)?;
    coming.measuring = false;

    // Those that are under way are seen off.
    let deadline = Instant::now() + setup.patience();
    while coming.ended.len() < at_once && coming.faults.errors == 0 {
        let now = Instant::now();
        if now > deadline {
            let left = at_once - coming.ended.len();
            coming
                .faults
                .error(format!("{left} connections do not come to their end"));
            break;
        }
        coming.say_goodbye(&mut pool);
        pool.turn(now + Duration::from_millis(20), &mut coming)?;
    }
    round.latency = coming.latency;
    round.faults = coming.faults;
    Ok(round)
}

impl Coming {
    fn say_goodbye(&mut self, pool: &mut Pool) {
        while let Some(id) = self.opened.pop() {
            pool.close(id, self);
        }
    }
}

impl Listener for Coming {
    fn opened(&mut self, id: usize, _: &mut Vec<u8>) {
        if self.measuring
            && let Some(begun) = self.begun.get(id)
        {
            let latency = self.now.saturating_duration_since(*begun);
            self.latency.saturating_record(nanoseconds(latency));
        }
        self.opened.push(id);
    }

    fn record(&mut self, _: usize, _: &[u8], _: &mut Vec<u8>) {}

    fn closed(&mut self, id: usize, reason: Option<String>) {
        self.ended.push(id);
        match reason {
            None => self.count += 1,
            Some(reason) => self.faults.error(format!("connection {id}: {reason}")),
        }
    }

    fn now(&mut self, now: Instant) {
        self.now = now;
    }
}
