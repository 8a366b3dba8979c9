//! The connection of a chat: how it comes back, and what is said when there is none.

use std::error::Error;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use hubcast_client::{
    ConnectionError, HubConnection, HubConnectionBuilder, RetryContext, StartError,
};

use super::args::{ChatArgs, Encoding};
use super::screen::Screen;
use super::text::one_line;

/// How long is waited before each attempt to connect again; the last of these again and again.
const DELAYS: [u64; 5] = [0, 2, 5, 10, 15];

/// After how long a script is told that the connection is lost for good. A person decides that by leaving.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long a connection must have lasted for what was before it to be forgotten.
const LASTING: Duration = Duration::from_secs(10);

/// A connection that comes back by itself, and says so.
pub(super) fn connection(args: &ChatArgs, screen: &Screen) -> anyhow::Result<HubConnection> {
    let screen = screen.clone();
    let losses = Mutex::default();
    let mut builder = HubConnectionBuilder::new(&args.url)
        .encoding(match args.encoding {
            Encoding::Json => hubcast_client::Encoding::Json,
            Encoding::Messagepack => hubcast_client::Encoding::MessagePack,
        })
        .automatic_reconnect_with(move |attempt| {
            let mut losses: MutexGuard<'_, Losses> =
                losses.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let trouble = losses.count(attempt.previous_retry_count, now);
            let delay = next_delay(&trouble, attempt.retry_reason, screen.is_interactive)?;
            losses.attempt = Some(now + delay);
            screen.try_note(&lost(attempt, delay));
            Some(delay)
        });
    if let Some(token) = &args.token {
        builder = builder.access_token(&token.0);
    }
    Ok(builder.build()?)
}

/// What one loss after another comes to. A server that lets in and hangs up is no better than one that lets nobody in, and is not come back to at once again and again.
#[derive(Default)]
struct Losses {
    /// When the connection was lost from which on none has lasted.
    since: Option<Instant>,
    /// When the last attempt was due.
    attempt: Option<Instant>,
    /// How many attempts have failed since then, and how many of these before the connection was lost last.
    failed: usize,
    failed_before: usize,
}

/// How bad it is.
#[derive(Debug, PartialEq, Eq)]
struct Trouble {
    failed: usize,
    lasts: Duration,
}

impl Losses {
    /// Takes in that a connection was lost (`retries` is 0), or that so many attempts have failed since.
    fn count(&mut self, retries: usize, now: Instant) -> Trouble {
        if retries == 0 {
            let has_lasted = |attempt| now.saturating_duration_since(attempt) >= LASTING;
            if self.attempt.is_none_or(has_lasted) {
                *self = Self::default();
            } else {
                // The attempt that brought this connection.
                self.failed_before = self.failed + 1;
            }
        }
        self.failed = self.failed_before + retries;
        Trouble {
            failed: self.failed,
            lasts: now.saturating_duration_since(*self.since.get_or_insert(now)),
        }
    }
}

fn next_delay(
    trouble: &Trouble,
    reason: Option<&(dyn Error + Send + Sync + 'static)>,
    is_interactive: bool,
) -> Option<Duration> {
    // Who is not let in any more will not be later.
    let is_refused = matches!(
        reason.and_then(|it| it.downcast_ref()),
        Some(StartError::NegotiationStatus { status: 401 | 403 })
    );
    if is_refused || (!is_interactive && trouble.lasts > PATIENCE) {
        return None;
    }
    let seconds = DELAYS.get(trouble.failed);
    let [.., longest] = DELAYS;
    Some(Duration::from_secs(*seconds.unwrap_or(&longest)))
}

fn lost(attempt: &RetryContext<'_>, delay: Duration) -> String {
    let reason = attempt.retry_reason.map(ToString::to_string);
    let reason = reason.unwrap_or_else(|| "the server asks to come back".to_owned());
    let reason = one_line(&reason);
    match (attempt.previous_retry_count, delay.as_secs()) {
        (0, 0) => format!("the connection is lost ({reason}); reconnecting"),
        (0, seconds) => {
            format!("the connection is lost again ({reason}); reconnecting in {seconds} s")
        }
        (_, seconds) => format!("no connection yet ({reason}); reconnecting in {seconds} s"),
    }
}

/// Says what can be done about a connection that was not made.
pub(super) fn not_connected(error: &StartError) -> anyhow::Error {
    let text = error.to_string();
    let text = one_line(&text);
    match error {
        StartError::Unreachable { .. } => {
            anyhow!("{text}; is a server running there? `hubcast` starts one")
        }
        StartError::NegotiationStatus { status: 404 } => {
            anyhow!("{text}; a Hubcast server has its chat at /chatHub")
        }
        StartError::NegotiationStatus { status: 401 | 403 } => {
            anyhow!("{text}; a token is given with --token or in HUBCAST_TOKEN")
        }
        _ => anyhow!("{text}"),
    }
}

/// Says that a connection is lost for good.
pub(super) fn closed(reason: Option<&ConnectionError>) -> anyhow::Error {
    let Some(reason) = reason else {
        return anyhow!("the server has closed the connection; it gave no reason");
    };
    let text = reason.to_string();
    anyhow!("{}; start again to come back", one_line(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_lets_in_and_hangs_up_is_one_that_lets_nobody_in() {
        let (mut losses, mut now) = (Losses::default(), Instant::now());
        let mut next = |retries, later: u64| {
            now += Duration::from_secs(later);
            let trouble = losses.count(retries, now);
            let delay = next_delay(&trouble, None, false);
            if let Some(delay) = delay {
                now += delay;
                losses.attempt = Some(now);
            }
            delay.map(|it| it.as_secs())
        };
        // Each connection lasts a second.
        let delays: Vec<_> = (0..8).map_while(|_| next(0, 1)).collect();
        assert_eq!(delays, [0, 2, 5, 10, 15, 15, 15]);
        // The script has ended by then. One that went on would begin anew after a connection that lasts.
        assert_eq!(next(0, 10), Some(0));
        assert_eq!(next(1, 0), Some(2));
        assert_eq!(next(2, 0), Some(5));
        assert_eq!(next(0, 9), Some(10));
        assert_eq!(next(1, 0), Some(15));
        assert_eq!(next(0, 10), Some(0));
    }

    #[test]
    fn a_script_gives_up_after_a_minute_and_a_person_never() {
        let trouble = |lasts| Trouble {
            failed: 99,
            lasts: Duration::from_secs(lasts),
        };
        let longest = Some(Duration::from_secs(15));
        assert_eq!(next_delay(&trouble(60), None, false), longest);
        assert_eq!(next_delay(&trouble(61), None, false), None);
        assert_eq!(next_delay(&trouble(61), None, true), longest);
        let status = |status| StartError::NegotiationStatus { status };
        assert_eq!(next_delay(&trouble(0), Some(&status(403)), true), None);
        assert_eq!(next_delay(&trouble(0), Some(&status(500)), true), longest);
    }
}
