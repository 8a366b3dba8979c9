//! What happens beside a room while it talks, and finds out what its noise costs others: each thing at its time, whatever has become of those before.
//!
//! It has a thread and a poll of its own: on the room's, its latencies would be those of the load generator, which is busy reading.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::account::Faults;
use crate::gather::{Gathered, gather, leave};
use crate::pool::{Listener, Pool};
use crate::round::{Course, Setup};

/// How long the thread waits at most before it looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(20);

/// Something to do at fixed times.
pub(crate) trait Regular:
    Listener + AsRef<Gathered> + AsRef<Faults> + Send + 'static
{
    /// How often there is something to do, per second.
    fn rate(&self) -> f64;
    /// Latencies of what is due before do not count.
    fn measure_from(&mut self, from: Instant);
    /// Does what was due then, as the how manyth thing.
    fn act(&mut self, pool: &mut Pool, number: u64, due: Instant, now: Instant);
    /// How much of it has not come to its end.
    fn under_way(&self) -> usize;
    /// Whether something has been under way for so long that nobody waits for it any more.
    fn gives_up(&mut self, now: Instant, patience: Duration) -> bool;
    /// Says goodbye: whatever is said from now on is no fault.
    fn leaves(&mut self);
    /// Counts what has not come.
    fn close(&mut self);
}

/// Connections that are ready.
pub(crate) struct Beside<T> {
    pool: Pool,
    what: T,
    links: usize,
}

/// Connections that are at work.
pub(crate) struct AtWork<T> {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<Beside<T>>>,
}

impl<T: Regular> Beside<T> {
    /// Opens so many connections.
    pub(crate) fn gather(mut what: T, links: usize, setup: &mut Setup<'_>) -> anyhow::Result<Self> {
        let mut pool = Pool::new(&setup.subject.targets)?;
        gather(&mut pool, &mut what, links, setup)?;
        Ok(Self { pool, what, links })
    }

    /// Lets them work from `began` to the end of the course; what is under way for longer than `patience` has failed.
    pub(crate) fn start(
        mut self,
        began: Instant,
        course: &Course<'_>,
        patience: Duration,
    ) -> AtWork<T> {
        self.what.measure_from(course.measure_from);
        let end = course.end;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            self.work(began, end, patience, &stopped)?;
            Ok(self)
        });
        AtWork { stop, thread }
    }

    fn work(
        &mut self,
        began: Instant,
        mut end: Instant,
        patience: Duration,
        stopped: &AtomicBool,
    ) -> anyhow::Result<()> {
        let mut due = 0;
        let mut looked = began;
        while !self.has_failed() {
            let now = Instant::now();
            if stopped.load(Ordering::Relaxed) {
                end = end.min(now);
            }
            // What is due by the end is done, however late it has become.
            let next = self.do_what_is_due(began, now.min(end), &mut due);
            if now >= end && self.what.under_way() == 0 {
                break;
            }
            if now > looked + LOOK {
                looked = now;
                if self.what.gives_up(now, patience) {
                    break;
                }
            }
            let wake = if next > end {
                now + LOOK
            } else {
                next.min(now + LOOK)
            };
            self.pool.turn(wake, &mut self.what)?;
        }
        Ok(())
    }

    fn has_failed(&self) -> bool {
        let faults: &Faults = self.what.as_ref();
        faults.errors > 0
    }

    /// Does what is due, which is spread evenly, and returns when the next thing is. `due` counts.
    fn do_what_is_due(&mut self, began: Instant, until: Instant, due: &mut u64) -> Instant {
        let rate = self.what.rate();
        loop {
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            let when = began + Duration::from_secs_f64(*due as f64 / rate);
            if when > until || self.has_failed() {
                return when;
            }
            self.what.act(&mut self.pool, *due, when, until);
            *due += 1;
        }
    }
}

impl<T: Regular> AtWork<T> {
    /// Waits until all that was due has come to its end, and says goodbye. Nothing more becomes due.
    pub(crate) fn finish(self, setup: &mut Setup<'_>) -> anyhow::Result<T> {
        self.stop.store(true, Ordering::Relaxed);
        let Ok(beside) = self.thread.join() else {
            bail!("the thread beside the room has ended");
        };
        let Beside {
            mut pool,
            mut what,
            links,
        } = beside?;
        what.leaves();
        leave(&mut pool, &mut what, links, setup)?;
        what.close();
        Ok(what)
    }
}
