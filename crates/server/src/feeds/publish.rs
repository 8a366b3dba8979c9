//! `hubcast publish`: lines of standard input become messages.

use std::cell::Cell;

use anyhow::{Context, bail};
use hubcast_broker::{Confirming, Feed, Link, PublishError, Publisher};
use tokio::sync::mpsc;

use super::output::Output;
use super::{note, refused, told_to_end};
use crate::console::input::read_bytes;

/// How many lines wait for their confirmation to be told.
const UNCONFIRMED: usize = 256;

/// Publishes every line, and tells of each when it is confirmed, in the order of the lines.
pub(super) async fn run(link: &Link, feed: Feed) -> anyhow::Result<()> {
    let publisher = Publisher::new(link, {
        let feed = feed.clone();
        move |channel| {
            let feed = feed.clone();
            async move { feed.declare(&channel).await }
        }
    });
    let (sent, confirmations) = mpsc::channel(UNCONFIRMED);
    let confirmed = Cell::new(0);
    let course = async {
        let (refused, told) = tokio::join!(
            publish(&publisher, &feed, sent),
            tell(confirmations, &confirmed)
        );
        told?;
        if refused > 0 {
            bail!("{refused} of the lines were not published");
        }
        Ok(())
    };
    tokio::select! {
        outcome = course => outcome,
        told = told_to_end() => {
            told?;
            bail!("stopped before the end of the input; {} lines are confirmed", confirmed.get());
        }
    }
}

/// Hands all lines to the publisher, and returns how many could not be taken.
async fn publish(
    publisher: &Publisher,
    feed: &Feed,
    sent: mpsc::Sender<(Vec<u8>, Confirming)>,
) -> usize {
    let mut refused = 0;
    let mut lines = read_bytes();
    while let Some(line) = lines.recv().await {
        match line {
            Ok(line) => {
                let confirming = publisher.begin(feed.message(line.clone())).await;
                if sent.send((line, confirming)).await.is_err() {
                    break;
                }
            }
            Err(error) => {
                note(&format!("not published: {error}"));
                refused += 1;
            }
        }
    }
    refused
}

async fn tell(
    mut confirmations: mpsc::Receiver<(Vec<u8>, Confirming)>,
    confirmed: &Cell<usize>,
) -> anyhow::Result<()> {
    let output = Output::open();
    while let Some((line, confirming)) = confirmations.recv().await {
        match confirming.confirmed().await {
            Ok(()) => {}
            Err(PublishError::Refused(refusal)) => return Err(refused(&refusal)),
            Err(error) => return Err(error.into()),
        }
        confirmed.set(confirmed.get() + 1);
        let told = output.line("Sent", &String::from_utf8_lossy(&line)).await;
        told.context("standard output cannot be written")?;
    }
    Ok(())
}
