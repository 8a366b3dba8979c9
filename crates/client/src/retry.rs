//! When a lost connection is made anew.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What there is to know when the next attempt is decided on. ASP.NET Core's `RetryContext`.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct RetryContext<'a> {
    /// How many attempts have failed since the connection was lost.
    pub previous_retry_count: usize,
    /// How long ago it was lost.
    pub elapsed_time: Duration,
    /// Why the last attempt failed or, before the first, the connection was lost; `None` if the server asked to come back.
    pub retry_reason: Option<&'a (dyn Error + Send + Sync + 'static)>,
}

type Decide = dyn Fn(&RetryContext<'_>) -> Option<Duration> + Send + Sync;

/// Decides how long to wait before each attempt, and when to give up (`None`).
#[derive(Clone)]
pub(crate) struct RetryPolicy(Arc<Decide>);

impl RetryPolicy {
    pub(crate) fn new(
        decide: impl Fn(&RetryContext<'_>) -> Option<Duration> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(decide))
    }

    /// One attempt after each of these delays.
    pub(crate) fn delays(delays: Vec<Duration>) -> Self {
        Self::new(move |context| delays.get(context.previous_retry_count).copied())
    }

    /// The stock clients' attempts: at once, and after 2, 10 and 30 seconds.
    pub(crate) fn stock() -> Self {
        Self::delays([0, 2, 10, 30].map(Duration::from_secs).to_vec())
    }

    pub(crate) fn next_delay(&self, context: &RetryContext<'_>) -> Option<Duration> {
        (self.0)(context)
    }
}

impl fmt::Debug for RetryPolicy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("RetryPolicy")
    }
}
