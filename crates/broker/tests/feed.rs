//! Feeds on a real RabbitMQ.
#![allow(
    clippy::expect_used,
    reason = "a test that meets the unexpected has to fail"
)]

use std::time::Duration;

use end_to_end::RabbitMq;
use end_to_end::wait::{DEADLINE, within};
use hubcast_broker::lapin::options::{ExchangeDeclareOptions, ExchangeDeleteOptions};
use hubcast_broker::lapin::types::FieldTable;
use hubcast_broker::lapin::{self, ExchangeKind};
use hubcast_broker::{AmqpUrl, Feed, FeedQueue, Link, Subscription, acknowledge};

fn link(rabbitmq: &RabbitMq) -> Link {
    Link::open(rabbitmq.url().parse::<AmqpUrl>().expect("a URL"))
}

/// The exchange `logs`, which is looked after more often than once a minute.
fn logs() -> Feed {
    let feed = Feed::new("logs".parse().expect("a name"));
    feed.declared_every(Duration::from_millis(100))
}

/// Publishes a text until it comes.
async fn hear(rabbitmq: &RabbitMq, subscription: &mut Subscription, text: &str) {
    let publishing = async {
        loop {
            rabbitmq.publish("logs", "", text.as_bytes()).await;
        }
    };
    let hearing = async {
        loop {
            let delivery = subscription.next().await.expect("a message");
            acknowledge(&delivery).await.expect("a channel");
            if delivery.data == text.as_bytes() {
                return;
            }
        }
    };
    let course = async {
        tokio::select! {
            () = hearing => {}
            () = publishing => {}
        }
    };
    within(DEADLINE, text, Box::pin(course)).await;
}

async fn delete(rabbitmq: &RabbitMq) {
    let channel = rabbitmq.channel().await;
    let deleted = channel.exchange_delete("logs".into(), ExchangeDeleteOptions::default());
    deleted.await.expect("it is deleted");
}

async fn declare(rabbitmq: &RabbitMq, kind: ExchangeKind) -> lapin::Result<()> {
    let options = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let channel = rabbitmq.channel().await;
    let declared = channel.exchange_declare("logs".into(), kind, options, FieldTable::default());
    declared.await
}

#[tokio::test]
async fn an_exchange_that_is_deleted_and_made_anew_is_heard_again() {
    let rabbitmq = RabbitMq::start().await;
    let link = link(&rabbitmq);
    for queue in [
        FeedQueue::Own,
        FeedQueue::Shared("archive".parse().expect("a name")),
        FeedQueue::InTurn("room".parse().expect("a name")),
    ] {
        let channel = link.channel().await;
        let mut subscription = logs()
            .subscribe(&link, channel, &queue)
            .await
            .expect("a subscription");
        hear(&rabbitmq, &mut subscription, "before").await;
        delete(&rabbitmq).await;
        let declared = declare(&rabbitmq, ExchangeKind::Fanout).await;
        declared.expect("an exchange as it was");
        hear(&rabbitmq, &mut subscription, "afterwards").await;
    }
}

#[tokio::test]
async fn an_exchange_that_has_become_something_else_is_refused() {
    let rabbitmq = RabbitMq::start().await;
    let link = link(&rabbitmq);
    let channel = link.channel().await;
    let logs = logs();
    let subscribing = logs.subscribe(&link, channel, &FeedQueue::Own);
    let mut subscription = within(DEADLINE, "a subscription", subscribing)
        .await
        .expect("a subscription");
    // Between these two it may be made anew as it was.
    let refused = loop {
        delete(&rabbitmq).await;
        if declare(&rabbitmq, ExchangeKind::Direct).await.is_ok() {
            break within(DEADLINE, "an end", subscription.next()).await;
        }
    };
    let text = refused.expect_err("a refusal").to_string();
    assert!(text.contains("but current is 'direct'"), "{text}");
}
