//! Connections whose calls are due at fixed times, and are made then, whatever has become of those before.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::account::Faults;
use crate::beside::Regular;
use crate::caller::Caller;
use crate::calls;
use crate::gather::Gathered;
use crate::hear::{Ear, Heard};
use crate::key::Template;
use crate::pool::{Listener, Pool};
use crate::round::{latencies, nanoseconds};

/// How often each of them calls, per second.
const RATE: f64 = 20.0;

/// All their calls.
pub(crate) struct Calls {
    call: Template,
    ear: Ear,
    callers: Vec<Caller>,
    pub(crate) faults: Faults,
    pub(crate) latency: Histogram<u64>,
    gathered: Gathered,
    now: Instant,
    /// Latencies of calls that were due before do not count.
    measure_from: Instant,
    leaving: bool,
}

impl Calls {
    pub(crate) fn new(count: u32, call: Template, ear: Ear) -> Self {
        let now = Instant::now();
        Self {
            call,
            ear,
            callers: (0..count).map(Caller::new).collect(),
            faults: Faults::default(),
            latency: latencies(),
            gathered: Gathered::default(),
            now,
            measure_from: now,
            leaving: false,
        }
    }

    /// Makes the call of a connection that was due then.
    fn call(&mut self, id: usize, due: Instant, out: &mut Vec<u8>) {
        if let Some(caller) = self.callers.get_mut(id) {
            calls::write(&self.call, caller.call(due), out);
        }
    }

    /// Whether a call without an answer has been due for longer than that.
    fn is_stuck(&self, now: Instant, patience: Duration) -> bool {
        let mut oldest = self.callers.iter().filter_map(Caller::oldest);
        oldest.any(|since| now.saturating_duration_since(since) > patience)
    }
}

impl Regular for Calls {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    fn rate(&self) -> f64 {
        RATE * self.callers.len() as f64
    }

    fn measure_from(&mut self, from: Instant) {
        self.measure_from = from;
    }

    fn act(&mut self, pool: &mut Pool, number: u64, due: Instant, _: Instant) {
        let id = usize::try_from(number).unwrap_or(0) % self.callers.len().max(1);
        pool.send(id, |out| self.call(id, due, out));
        pool.flush(id, self);
    }

    fn under_way(&self) -> usize {
        self.callers.iter().map(Caller::under_way).sum()
    }

    fn gives_up(&mut self, now: Instant, patience: Duration) -> bool {
        let stuck = self.is_stuck(now, patience);
        if stuck {
            let what = format!("a call beside the room has been due for {patience:?}");
            self.faults.error(what);
        }
        stuck
    }

    fn leaves(&mut self) {
        self.leaving = true;
    }

    fn close(&mut self) {
        self.faults.lost += self.under_way() as u64;
    }
}

impl Listener for Calls {
    fn opened(&mut self, _: usize, _: &mut Vec<u8>) {
        self.gathered.opened += 1;
        // There is no room to join.
        self.gathered.joined += 1;
    }

    fn record(&mut self, id: usize, record: &[u8], _: &mut Vec<u8>) {
        match self.ear.hear(record) {
            Heard::Completion(key) => {
                if let Some(caller) = self.callers.get_mut(id)
                    && let Some(since) = caller.answered(key, &mut self.faults)
                    && since >= self.measure_from
                {
                    let latency = self.now.saturating_duration_since(since);
                    self.latency.saturating_record(nanoseconds(latency));
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
            self.faults
                .error(format!("connection {id} beside the room: {reason}"));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hear::Expected;
    use crate::key::Key;

    const PADDING: &str = "xxxx";

    fn calls(measure_from: Instant) -> Calls {
        let any = Key {
            sender: 0,
            number: 0,
        };
        let ear = Ear::new(Expected {
            receive: "ReceiveMessage".to_owned(),
            user: "bench".to_owned(),
            padding: PADDING.to_owned(),
            echo: true,
        });
        let mut calls = Calls::new(1, Template::new(&any.text(), any).unwrap(), ear);
        calls.measure_from = measure_from;
        calls
    }

    fn answer(number: u32) -> Vec<u8> {
        let key = Key { sender: 0, number }.text();
        let key = String::from_utf8_lossy(&key);
        format!(r#"{{"type":3,"invocationId":"{key}","result":"{key}{PADDING}"}}"#).into_bytes()
    }

    #[test]
    fn calls_are_made_when_they_are_due_and_their_latencies_count_from_then() {
        let began = Instant::now();
        let at = |milliseconds| began + Duration::from_millis(milliseconds);
        let mut calls = calls(at(50));
        let mut out = Vec::new();
        for (number, due) in [0, 50, 100].into_iter().enumerate() {
            calls.call(0, at(due), &mut out);
            assert_eq!(calls.under_way(), number + 1);
        }
        // All answers come late and at once; the first call was due before anything counts.
        calls.now = at(400);
        for number in 0..3 {
            calls.record(0, &answer(number), &mut out);
        }
        assert_eq!(calls.under_way(), 0);
        assert_eq!(calls.faults, Faults::default());
        let counted = [300, 350, 400]
            .map(|milliseconds| nanoseconds(Duration::from_millis(milliseconds)))
            .map(|latency| calls.latency.count_at(latency));
        assert_eq!(counted, [1, 1, 0]);
        assert_eq!(calls.latency.len(), 2);
    }

    #[test]
    fn who_waits_too_long_is_found_and_a_foreign_answer_is_strange() {
        let began = Instant::now();
        let patience = Duration::from_secs(1);
        let mut calls = calls(began);
        let mut out = Vec::new();
        assert!(
            !calls.is_stuck(began + 2 * patience, patience),
            "nothing is due"
        );
        calls.call(0, began, &mut out);
        assert!(!calls.is_stuck(began + patience, patience));
        assert!(calls.is_stuck(began + 2 * patience, patience));

        calls.record(0, &answer(1), &mut out);
        assert_eq!(calls.faults.strange, 1);
        assert_eq!(calls.under_way(), 1);
        calls.record(0, &answer(0), &mut out);
        calls.record(0, &answer(0), &mut out);
        assert_eq!((calls.faults.strange, calls.faults.doubled), (1, 1));
    }
}
