//! `hubcast subscribe`: messages become lines of standard output.

use std::io;

use anyhow::{Context, anyhow};
use hubcast_broker::{Feed, FeedQueue, Link, Name, acknowledge};
use tokio::sync::watch;
use tokio::time::timeout;

use super::output::Output;
use super::{GRACE, refused, told_to_end};

/// Prints every message, and acknowledges it when it is printed.
pub(super) async fn run(link: &Link, feed: Feed, queue: Option<Name>) -> anyhow::Result<()> {
    let output = Output::open();
    let queue = queue.map_or(FeedQueue::Own, FeedQueue::Shared);
    let (ending, is_ending) = watch::channel(false);
    let mut course = std::pin::pin!(link.run(async |channel| {
        let mut is_ending = is_ending.clone();
        let mut subscription = feed.subscribe(link, channel, &queue).await?;
        loop {
            let delivery = tokio::select! {
                biased;
                _ = is_ending.wait_for(|it| *it) => return Ok(Ok(())),
                delivery = subscription.next() => delivery?,
            };
            let text = String::from_utf8_lossy(&delivery.data);
            if let Err(error) = output.line("Received", &text).await {
                return Ok(Err(error));
            }
            acknowledge(&delivery).await?;
        }
    }));
    let ended = tokio::select! {
        ended = &mut course => Some(ended),
        told = told_to_end() => {
            told?;
            ending.send_replace(true);
            // The message at hand; not a connection that is not there, nor a reader who does not read.
            timeout(GRACE, course).await.ok()
        }
    };
    match ended {
        None | Some(Ok(Ok(()))) => Ok(()),
        // Nobody reads it any more.
        Some(Ok(Err(error))) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Some(Ok(Err(error))) => Err(anyhow!(error)).context("standard output cannot be written"),
        Some(Err(refusal)) => Err(refused(&refusal)),
    }
}
