//! One round against one server: what is counted in it, and what that cost.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::account::Faults;
use crate::args::Common;
use crate::process::{cpu_seconds, resident_bytes};
use crate::target::Target;

/// A server to load.
#[derive(Debug)]
pub(crate) struct Subject {
    /// What it is called in the report.
    pub(crate) name: &'static str,
    pub(crate) targets: Vec<Target>,
    /// Its processes, if they are known.
    pub(crate) pids: Vec<u32>,
}

/// What every workload is given.
#[derive(Debug)]
pub(crate) struct Setup<'a> {
    pub(crate) common: &'a Common,
    pub(crate) subject: &'a Subject,
    /// Differs from round to round and from run to run: no two meet in a room.
    pub(crate) nonce: String,
    pub(crate) progress: Progress,
}

impl Setup<'_> {
    pub(crate) fn patience(&self) -> Duration {
        Duration::from_secs_f64(self.common.patience)
    }
}

/// What a round has found.
#[derive(Debug)]
pub(crate) struct Round {
    /// How long was measured.
    pub(crate) seconds: f64,
    /// How much was done in that time: deliveries, calls, connections.
    pub(crate) count: f64,
    /// Processor time of the server, in seconds.
    pub(crate) server_cpu: Option<f64>,
    /// Processor time of the load generator, in seconds.
    pub(crate) own_cpu: f64,
    /// Resident memory of the server at the end of the measurement, in bytes.
    pub(crate) resident: Option<u64>,
    /// The most resident memory of the server that was seen in the round, in bytes.
    pub(crate) resident_at_most: Option<u64>,
    /// Resident memory that came with the connections, per connection, in bytes.
    pub(crate) resident_each: Option<f64>,
    /// All resident memory of the server, per connection, in bytes.
    pub(crate) resident_of_all_each: Option<f64>,
    /// In nanoseconds.
    pub(crate) latency: Histogram<u64>,
    /// Of calls beside a room, in nanoseconds.
    pub(crate) beside: Histogram<u64>,
    /// Of deliveries in a room beside another one, in nanoseconds.
    pub(crate) room_beside: Histogram<u64>,
    /// How many members who do not read were ended by the server, if there were any.
    pub(crate) slow_ended: Option<usize>,
    /// How many deliveries came in another order than elsewhere in their room, if any room talked.
    pub(crate) disordered: Option<u64>,
    /// How many calls were answered before their own message came back.
    pub(crate) early: Option<u64>,
    /// How long a quiet connection heard nothing at most.
    pub(crate) silence: Option<Duration>,
    pub(crate) faults: Faults,
}

#[cfg(test)]
impl Round {
    /// A round of two seconds in which so much was done in so much processor time.
    pub(crate) fn example(count: f64, server_cpu: f64) -> Self {
        Self {
            seconds: 2.0,
            count,
            server_cpu: Some(server_cpu),
            own_cpu: 0.1,
            resident: None,
            resident_at_most: None,
            resident_each: None,
            resident_of_all_each: None,
            latency: latencies(),
            beside: latencies(),
            room_beside: latencies(),
            slow_ended: None,
            disordered: None,
            early: None,
            silence: None,
            faults: Faults::default(),
        }
    }
}

/// The clocks of a round, started.
#[derive(Debug)]
pub(crate) struct Meter<'a> {
    pids: &'a [u32],
    started: Instant,
    server_cpu: f64,
    own_cpu: f64,
}

impl<'a> Meter<'a> {
    pub(crate) fn start(pids: &'a [u32]) -> anyhow::Result<Self> {
        Ok(Self {
            pids,
            server_cpu: cpu_seconds(pids)?,
            own_cpu: cpu_seconds(&[std::process::id()])?,
            started: Instant::now(),
        })
    }

    /// Stops the clocks. Latencies and faults may still be added.
    pub(crate) fn stop(self, count: f64) -> anyhow::Result<Round> {
        let seconds = self.started.elapsed().as_secs_f64();
        let known = !self.pids.is_empty();
        Ok(Round {
            seconds,
            count,
            server_cpu: if known {
                Some(cpu_seconds(self.pids)? - self.server_cpu)
            } else {
                None
            },
            own_cpu: cpu_seconds(&[std::process::id()])? - self.own_cpu,
            resident: known.then(|| resident_bytes(self.pids)).transpose()?,
            resident_at_most: None,
            resident_each: None,
            resident_of_all_each: None,
            latency: latencies(),
            beside: latencies(),
            room_beside: latencies(),
            slow_ended: None,
            disordered: None,
            early: None,
            silence: None,
            faults: Faults::default(),
        })
    }
}

/// How often the server's memory is looked at. That is cheap, but not free.
const LOOK: Duration = Duration::from_millis(50);

/// The course of a round: first the server warms up, then it is measured.
#[derive(Debug)]
pub(crate) struct Course<'a> {
    pids: &'a [u32],
    pub(crate) measure_from: Instant,
    pub(crate) end: Instant,
    /// The clocks, and what had been counted when they were started.
    meter: Option<(Meter<'a>, u64)>,
    /// The most memory that was seen, and when to look again.
    resident: u64,
    look: Instant,
}

impl<'a> Course<'a> {
    pub(crate) fn new(began: Instant, common: &Common, subject: &'a Subject) -> Self {
        let measure_from = began + Duration::from_secs_f64(common.warm_up);
        Self {
            pids: &subject.pids,
            measure_from,
            end: measure_from + Duration::from_secs_f64(common.seconds),
            meter: None,
            resident: 0,
            look: began,
        }
    }

    /// Starts the clocks when the server is warm; whether they run. `count` is what has been done so far.
    pub(crate) fn is_measuring(&mut self, now: Instant, count: u64) -> anyhow::Result<bool> {
        if now >= self.look && !self.pids.is_empty() {
            self.look = now + LOOK;
            self.resident = self.resident.max(resident_bytes(self.pids)?);
        }
        if self.meter.is_none() && now >= self.measure_from {
            self.meter = Some((Meter::start(self.pids)?, count));
        }
        Ok(self.meter.is_some())
    }

    /// When there is something to do again.
    pub(crate) fn next(&self) -> Instant {
        let next = match self.meter {
            Some(_) => self.end,
            None => self.measure_from,
        };
        if self.pids.is_empty() {
            next
        } else {
            next.min(self.look)
        }
    }

    /// Stops the clocks. A round that ended before they were started has measured nothing.
    pub(crate) fn stop(self, count: u64) -> anyhow::Result<Round> {
        let (meter, before) = match self.meter {
            Some(meter) => meter,
            None => (Meter::start(self.pids)?, count),
        };
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let mut round = meter.stop((count - before) as f64)?;
        round.resident_at_most = round.resident.map(|bytes| bytes.max(self.resident));
        Ok(round)
    }
}

/// An empty histogram: from a microsecond to ten minutes, to three digits.
pub(crate) fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 600_000_000_000, 3)
        .or_else(|_| Histogram::new(3))
        .unwrap_or_else(|_| unreachable!("three digits are allowed"))
}

pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Says on standard error how it goes: one line that changes on a terminal, a line every five seconds elsewhere.
#[derive(Debug)]
pub(crate) struct Progress {
    what: String,
    terminal: bool,
    next: Instant,
}

impl Progress {
    pub(crate) fn new(what: String) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self {
            what,
            terminal,
            next: Instant::now(),
        }
    }

    /// When there is something to say again.
    pub(crate) fn next(&self) -> Instant {
        self.next
    }

    pub(crate) fn tell(&mut self, state: impl FnOnce() -> String) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        let mut stderr = std::io::stderr().lock();
        // Progress that cannot be shown is no reason to stop.
        let _ = if self.terminal {
            self.next = now + Duration::from_millis(250);
            write!(stderr, "\r\x1b[K{}: {}", self.what, state()).and_then(|()| stderr.flush())
        } else {
            self.next = now + Duration::from_secs(5);
            writeln!(stderr, "{}: {}", self.what, state())
        };
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::common;

    #[test]
    fn memory_that_is_given_back_before_the_end_was_seen() {
        let common = common(&["echo"]);
        let subject = Subject {
            name: "this process",
            targets: Vec::new(),
            pids: vec![std::process::id()],
        };
        let began = Instant::now();
        let mut course = Course::new(began, &common, &subject);
        let much = vec![1_u8; 256 << 20];
        assert!(!course.is_measuring(began, 0).unwrap());
        assert!(course.next() <= began + LOOK, "it is looked at again");
        drop(std::hint::black_box(much));
        let measuring = course.is_measuring(course.measure_from, 3).unwrap();
        assert!(measuring);
        let round = course.stop(5).unwrap();
        let most = round.resident_at_most.unwrap();
        assert!(most > 200 << 20, "{most}");
        assert!(round.resident.unwrap() < 200 << 20, "{round:?}");
        assert!((round.count - 2.0).abs() < 1e-9, "{round:?}");
    }
}
