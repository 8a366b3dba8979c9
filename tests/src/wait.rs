//! Waiting for something to happen, always with a deadline and a name for it.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// How long anything may take that normally takes milliseconds: long enough for a busy machine, short enough to be told about.
pub const DEADLINE: Duration = Duration::from_secs(15);

/// How often [`until`] asks. Short, because some tests measure how soon something becomes true.
const POLL: Duration = Duration::from_millis(10);

/// Gives what `future` gives, or fails the test saying that `what` did not happen.
pub async fn within<T>(limit: Duration, what: impl Display, future: impl Future<Output = T>) -> T {
    timeout(limit, future)
        .await
        .unwrap_or_else(|_| panic!("{what}: did not happen within {limit:?}"))
}

/// Asks `condition` again and again until it is `Ok`, and gives its value and how long that took.
/// After `limit` it fails the test with the condition's last `Err`, which says how things stand instead.
pub async fn until<T>(
    limit: Duration,
    what: impl Display,
    mut condition: impl AsyncFnMut() -> Result<T, String>,
) -> (T, Duration) {
    let start = Instant::now();
    let mut seen = String::from("never got an answer");
    let polling = async {
        loop {
            match condition().await {
                Ok(value) => return value,
                Err(state) => seen = state,
            }
            sleep(POLL).await;
        }
    };
    match timeout(limit, polling).await.ok() {
        Some(value) => (value, start.elapsed()),
        None => panic!("{what}: not within {limit:?}; last seen: {seen}"),
    }
}
