//! What Hubcast has to do with RabbitMQ, over AMQP 0-9-1.
//!
//! [`Link`] is one connection that is brought back for ever; whoever uses it gets channels of it, each of which belongs to one connection. [`Publisher`]
//! publishes with confirmations. [`Feed`] is an exchange that everybody may listen to. [`Trouble`] tells what passes from what somebody has to put right. [`tasks`] is the task centre.

mod backoff;
mod carrier;
mod connecting;
mod feed;
mod legible;
mod link;
mod name;
mod publisher;
pub mod tasks;
mod trouble;
mod url;

pub use lapin;

pub use feed::{Feed, FeedQueue, Subscription};
pub use link::{Link, LinkStatus};
pub use name::{InvalidName, Name, TaskQueue};
pub use publisher::{Confirming, Message, PublishError, Publisher};
pub use trouble::{Refusal, Trouble};
pub use url::{AmqpUrl, InvalidUrl};

use std::pin::pin;
use std::time::Duration;

use lapin::Channel;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicNackOptions};
use tokio::time::timeout;

/// How often it is looked at whether a channel is still there on which somebody waits.
const CHECK: Duration = Duration::from_secs(1);

/// Waits for something on a channel, for as long as that is there. A channel that is lost ends what waits on it, or should: this does not rely on it.
pub async fn while_connected<T>(
    channel: &Channel,
    waiting: impl Future<Output = T>,
) -> Result<T, Trouble> {
    while_there(|| channel.status().connected(), waiting).await
}

async fn while_there<T>(
    is_there: impl Fn() -> bool,
    waiting: impl Future<Output = T>,
) -> Result<T, Trouble> {
    let mut waiting = pin!(waiting);
    loop {
        if let Ok(result) = timeout(CHECK, &mut waiting).await {
            return Ok(result);
        }
        if !is_there() {
            return Err(Trouble::lost("the channel is closed"));
        }
    }
}

/// Acknowledges one delivery, on the channel that delivered it. Fails when that is gone: then it is delivered again elsewhere.
pub async fn acknowledge(delivery: &Delivery) -> Result<(), Trouble> {
    settle(delivery, delivery.ack(BasicAckOptions::default())).await
}

/// Hands one delivery back to its queue, which delivers it again. Fails when its channel is gone, which comes to the same.
pub(crate) async fn hand_back(delivery: &Delivery) -> Result<(), Trouble> {
    let options = BasicNackOptions {
        requeue: true,
        ..BasicNackOptions::default()
    };
    settle(delivery, delivery.nack(options)).await
}

async fn settle(
    delivery: &Delivery,
    sending: impl Future<Output = lapin::Result<bool>>,
) -> Result<(), Trouble> {
    // What is said of it between the end of a connection and lapin's word of it is never answered: lapin has ceased to take orders by then, and keeps them.
    if while_there(|| !delivery.acker.poisoned(), sending).await?? {
        Ok(())
    } else {
        Err(Trouble::lost("the channel of this delivery is closed"))
    }
}
