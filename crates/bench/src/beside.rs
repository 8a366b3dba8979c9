//! Calls beside a room: connections that are in none call while it talks, and find out what its noise costs them.
//!
//! They have a thread and a poll of their own: on the room's, their latencies would be those of the load generator, which is busy reading.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::bail;
use hdrhistogram::Histogram;

use crate::account::Faults;
use crate::calls;
use crate::gather::{gather, leave};
use crate::pool::Pool;
use crate::regular::Calls;
use crate::round::{Course, Setup};

/// How often each of them calls, per second.
const RATE: f64 = 20.0;

/// The length of what they say.
const BYTES: u32 = 64;

/// How long the thread waits at most before it looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(20);

/// Connections that are ready to call.
pub(crate) struct Beside {
    pool: Pool,
    calls: Calls,
}

/// Connections that call.
pub(crate) struct Calling {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<Beside>>,
}

impl Beside {
    /// Opens so many connections.
    pub(crate) fn gather(count: u32, setup: &mut Setup<'_>) -> anyhow::Result<Self> {
        let mut pool = Pool::new(&setup.subject.targets)?;
        let call = calls::echo(setup.common, BYTES)?;
        let ear = calls::ear(setup.common, BYTES, true);
        let mut calls = Calls::new(count, call, ear);
        gather(&mut pool, &mut calls, count as usize, setup)?;
        Ok(Self { pool, calls })
    }

    /// Lets them call from `began` to the end of the course; who waits longer than `patience` for an answer has failed.
    pub(crate) fn start(
        mut self,
        began: Instant,
        course: &Course<'_>,
        patience: Duration,
    ) -> Calling {
        self.calls.measure_from = course.measure_from;
        let end = course.end;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            self.call(began, end, patience, &stopped)?;
            Ok(self)
        });
        Calling { stop, thread }
    }

    fn call(
        &mut self,
        began: Instant,
        mut end: Instant,
        patience: Duration,
        stopped: &AtomicBool,
    ) -> anyhow::Result<()> {
        let mut due = 0;
        let mut looked = began;
        while self.calls.faults.errors == 0 {
            let now = Instant::now();
            if stopped.load(Ordering::Relaxed) {
                end = end.min(now);
            }
            // What is due by the end is called, however late it has become.
            let next = self.call_what_is_due(began, now.min(end), &mut due);
            if now >= end && self.calls.under_way() == 0 {
                break;
            }
            if now > looked + LOOK {
                looked = now;
                if self.calls.is_stuck(now, patience) {
                    let what = format!("a call beside the room has been due for {patience:?}");
                    self.calls.faults.error(what);
                }
            }
            let wake = if next > end {
                now + LOOK
            } else {
                next.min(now + LOOK)
            };
            self.pool.turn(wake, &mut self.calls)?;
        }
        Ok(())
    }

    /// Makes the calls that are due, which are spread evenly, and returns when the next is. `due` counts.
    fn call_what_is_due(&mut self, began: Instant, until: Instant, due: &mut u64) -> Instant {
        let count = self.calls.count();
        loop {
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            let when = began + Duration::from_secs_f64(*due as f64 / (RATE * count as f64));
            if when > until {
                return when;
            }
            let id = usize::try_from(*due).unwrap_or(0) % count.max(1);
            let calls = &mut self.calls;
            self.pool.send(id, |out| calls.call(id, when, out));
            self.pool.flush(id, calls);
            *due += 1;
        }
    }
}

impl Calling {
    /// Waits until all calls that were due are answered, and says goodbye. Nothing more becomes due.
    pub(crate) fn finish(self, setup: &mut Setup<'_>) -> anyhow::Result<(Histogram<u64>, Faults)> {
        self.stop.store(true, Ordering::Relaxed);
        let Ok(beside) = self.thread.join() else {
            bail!("the thread of the calls beside the room has ended");
        };
        let Beside {
            mut pool,
            mut calls,
        } = beside?;
        calls.leaving = true;
        let count = calls.count();
        leave(&mut pool, &mut calls, count, setup)?;
        calls.faults.lost += calls.under_way() as u64;
        Ok((calls.latency, calls.faults))
    }
}
