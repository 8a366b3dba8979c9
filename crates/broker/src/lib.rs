//! What Hubcast has to do with RabbitMQ, over AMQP 0-9-1.
//!
//! [`Link`] is one connection that is brought back for ever; whoever uses it gets channels of it, each of which belongs to one connection. [`Publisher`]
//! publishes with confirmations. [`Feed`] is an exchange that everybody may listen to. [`Trouble`] tells what passes from what somebody has to put right. [`tasks`] is the task centre.

mod backoff;
mod connecting;
mod feed;
mod link;
mod name;
mod publisher;
pub mod tasks;
mod trouble;
mod url;

pub use lapin;

pub use feed::{Feed, FeedQueue};
pub use link::{Link, LinkStatus};
pub use name::{InvalidName, Name, TaskQueue};
pub use publisher::{Confirming, Message, PublishError, Publisher};
pub use trouble::{Refusal, Trouble};
pub use url::{AmqpUrl, InvalidUrl};

use lapin::message::Delivery;
use lapin::options::BasicAckOptions;

/// Acknowledges one delivery, on the channel that delivered it. Fails when that is gone: then it is delivered again elsewhere.
pub async fn acknowledge(delivery: &Delivery) -> Result<(), Trouble> {
    if delivery.ack(BasicAckOptions::default()).await? {
        Ok(())
    } else {
        Err(Trouble::lost("the channel of this delivery is closed"))
    }
}
