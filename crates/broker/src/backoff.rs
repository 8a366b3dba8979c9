//! How long to wait before something is tried again.

use std::time::Duration;

use tokio::time::sleep;

const FIRST: Duration = Duration::from_millis(250);
const LAST: Duration = Duration::from_secs(5);

/// How long something must have worked for the next attempt to be quick again.
const STABLE: Duration = Duration::from_secs(5);

/// Waits that double, from 0.25 s to 5 s. Each is cut by a random part, a half at most, so that not all servers knock at the same moment.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Backoff {
    pub(crate) fn new() -> Self {
        Self(FIRST)
    }

    /// Waits for the next attempt. What worked for a while is tried again soon.
    pub(crate) async fn rest(&mut self, it_worked_for: Duration) {
        sleep(self.next(it_worked_for, random())).await;
    }

    /// `random` is between 0 and 1.
    fn next(&mut self, it_worked_for: Duration, random: f64) -> Duration {
        if it_worked_for > STABLE {
            self.0 = FIRST;
        }
        let wait = self.0.mul_f64(1.0 - random / 2.0);
        self.0 = (self.0 * 2).min(LAST);
        wait
    }
}

/// Without randomness of the operating system, servers may knock together.
fn random() -> f64 {
    f64::from(getrandom::u32().unwrap_or(0)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit_and_begin_anew_after_success() {
        let mut backoff = Backoff::new();
        let mut next = |worked| backoff.next(Duration::from_secs(worked), 0.0).as_millis();
        let waits: Vec<_> = (0..7).map(|_| next(0)).collect();
        assert_eq!(waits, [250, 500, 1000, 2000, 4000, 5000, 5000]);
        assert_eq!(next(5), 5000);
        assert_eq!(next(6), 250);
        assert_eq!(next(0), 500);
    }

    #[test]
    fn chance_takes_a_half_at_most() {
        let halved = Backoff::new().next(Duration::ZERO, 1.0);
        assert_eq!(halved.as_millis(), 125);
        let random = random();
        assert!((0.0..=1.0).contains(&random), "{random}");
    }
}
