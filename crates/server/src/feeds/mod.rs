//! Feeds, which are fanout exchanges of RabbitMQ: `hubcast publish` and `hubcast subscribe`, and rooms that show them.

mod args;
mod output;
mod publish;
mod room;
mod subscribe;

use std::io::{self, Write};
use std::time::Duration;

use anyhow::{anyhow, bail};
use hubcast_broker::{AmqpUrl, Feed, Link, LinkStatus, Refusal};
use tokio::signal::unix::{SignalKind, signal};

pub(crate) use args::{PublishArgs, SubscribeArgs};
pub(crate) use room::{FeedRoom, FeedTroubles, Feeds};

/// How long what has begun may take when the program is told to end.
const GRACE: Duration = Duration::from_secs(1);

/// Publishes the lines of standard input.
pub(crate) fn run_publish(args: PublishArgs, url: AmqpUrl) -> anyhow::Result<()> {
    run(async {
        let link = Link::open(url);
        let outcome = tokio::select! {
            outcome = publish::run(&link, Feed::new(args.exchange.exchange)) => outcome,
            refused = tell(&link) => refused,
        };
        link.close().await;
        outcome
    })
}

/// Prints what an exchange brings.
pub(crate) fn run_subscribe(args: SubscribeArgs, url: AmqpUrl) -> anyhow::Result<()> {
    run(async {
        let link = Link::open(url);
        let feed = Feed::new(args.exchange.exchange);
        let outcome = tokio::select! {
            outcome = subscribe::run(&link, feed, args.queue) => outcome,
            refused = tell(&link) => refused,
        };
        link.close().await;
        outcome
    })
}

fn run(course: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(course);
    // Input that nobody wants any more is not waited for.
    runtime.shutdown_background();
    outcome
}

/// Waits until somebody wants the program to end.
async fn told_to_end() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Tells on standard error when RabbitMQ goes away and when it is back. Returns only when it has refused us from the start: who has been let in before
/// will be let in again.
async fn tell(link: &Link) -> anyhow::Result<()> {
    let mut status = link.status();
    let (mut was_there, mut is_told) = (false, false);
    loop {
        let now = status.borrow_and_update().clone();
        match now {
            LinkStatus::Connecting => {}
            LinkStatus::Connected => {
                was_there = true;
                if std::mem::take(&mut is_told) {
                    note("RabbitMQ is there");
                }
            }
            LinkStatus::Refused { reason } if !was_there => {
                bail!(
                    "RabbitMQ does not let us in: {reason}; check the user, the password and the virtual host of --amqp"
                );
            }
            LinkStatus::Blocked { reason }
            | LinkStatus::Away { reason }
            | LinkStatus::Refused { reason } => {
                if !std::mem::replace(&mut is_told, true) {
                    note(&format!("RabbitMQ is away: {reason}; waiting for it"));
                }
            }
        }
        if status.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Whoever does not want to hear of it may close standard error.
fn note(text: &str) {
    let _ = writeln!(io::stderr(), "hubcast: {text}");
}

/// What to do about it.
fn refused(refusal: &Refusal) -> anyhow::Error {
    anyhow!(
        "{refusal}\nAn exchange is used if it is a durable fanout exchange, and a queue as it is, if this user may configure, write and read them. \
         Choose other names, or change this in RabbitMQ."
    )
}
