//! The connection of a chat: how it comes back, and what is said when there is none.

use std::time::Duration;

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

/// A connection that comes back by itself, and says so.
pub(super) fn connection(args: &ChatArgs, screen: &Screen) -> anyhow::Result<HubConnection> {
    let screen = screen.clone();
    let mut builder = HubConnectionBuilder::new(&args.url)
        .encoding(match args.encoding {
            Encoding::Json => hubcast_client::Encoding::Json,
            Encoding::Messagepack => hubcast_client::Encoding::MessagePack,
        })
        .automatic_reconnect_with(move |attempt| {
            let delay = next_delay(attempt, screen.is_interactive)?;
            screen.try_note(&lost(attempt, delay));
            Some(delay)
        });
    if let Some(token) = &args.token {
        builder = builder.access_token(&token.0);
    }
    Ok(builder.build()?)
}

fn next_delay(attempt: &RetryContext<'_>, is_interactive: bool) -> Option<Duration> {
    let reason = attempt.retry_reason.and_then(|it| it.downcast_ref());
    // Who is not let in any more will not be later.
    let is_refused = matches!(
        reason,
        Some(StartError::NegotiationStatus { status: 401 | 403 })
    );
    if is_refused || (!is_interactive && attempt.elapsed_time > PATIENCE) {
        return None;
    }
    let seconds = DELAYS.get(attempt.previous_retry_count);
    let [.., longest] = DELAYS;
    Some(Duration::from_secs(*seconds.unwrap_or(&longest)))
}

fn lost(attempt: &RetryContext<'_>, delay: Duration) -> String {
    let reason = attempt.retry_reason.map(ToString::to_string);
    let reason = reason.unwrap_or_else(|| "the server asks to come back".to_owned());
    let reason = one_line(&reason);
    match (attempt.previous_retry_count, delay.as_secs()) {
        (0, _) => format!("the connection is lost ({reason}); reconnecting"),
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
