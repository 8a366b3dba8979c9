//! A room that talks beside another one, at a rate.

use std::time::{Duration, Instant};

use crate::beside::Regular;
use crate::pool::Pool;
use crate::talk::Talk;

impl Regular for Talk {
    fn rate(&self) -> f64 {
        self.plan.rate.unwrap_or(1.0)
    }

    fn measure_from(&mut self, from: Instant) {
        self.measure_from = from;
    }

    fn act(&mut self, pool: &mut Pool, number: u64, due: Instant, now: Instant) {
        self.say_in_turn(pool, number, due, now);
    }

    fn under_way(&self) -> usize {
        Talk::under_way(self)
    }

    fn gives_up(&mut self, now: Instant, patience: Duration) -> bool {
        self.is_stuck(now, patience)
    }

    fn leaves(&mut self) {
        self.leaving = true;
    }

    fn close(&mut self) {
        Talk::close(self);
    }
}
