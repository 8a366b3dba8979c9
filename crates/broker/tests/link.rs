//! The link and its publisher against a real RabbitMQ that comes and goes.
#![allow(
    clippy::expect_used,
    reason = "a test that meets the unexpected has to fail"
)]

use std::io::Read;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use end_to_end::wait::{DEADLINE, until, within};
use end_to_end::{Authority, RabbitMq, Relay};
use futures_util::StreamExt;
use hubcast_broker::lapin::options::{BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use hubcast_broker::lapin::types::FieldTable;
use hubcast_broker::lapin::{Channel, Connection, ConnectionProperties};
use hubcast_broker::{
    AmqpUrl, Link, LinkStatus, Message, PublishError, Publisher, Trouble, acknowledge,
};

/// A broker that has vanished is missed at once; coming back may take a pause of five seconds.
const RECOVERY: Duration = Duration::from_secs(30);

fn link(url: &str) -> Link {
    Link::open(url.parse::<AmqpUrl>().expect("a URL"))
}

async fn becomes(link: &Link, what: &str, wanted: impl Fn(&LinkStatus) -> bool) -> LinkStatus {
    let mut status = link.status();
    let status = within(RECOVERY, what, status.wait_for(|now| wanted(now))).await;
    status.expect("an open link").clone()
}

async fn is_connected(link: &Link) {
    becomes(link, "the link is up", |now| *now == LinkStatus::Connected).await;
}

async fn nothing(_: Channel) -> Result<(), Trouble> {
    Ok(())
}

async fn declare(channel: Channel) -> Result<(), Trouble> {
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let declared = channel.queue_declare("work".into(), options, FieldTable::default());
    declared.await.map_err(Trouble::asking("declaring"))?;
    Ok(())
}

#[tokio::test]
async fn every_message_arrives_though_the_broker_dies_in_the_middle() {
    const COUNT: usize = 5000;
    let mut rabbitmq = RabbitMq::absent();
    let link = link(&rabbitmq.url());
    let away = becomes(&link, "the link is not up", |now| {
        matches!(now, LinkStatus::Away { .. })
    })
    .await;
    assert!(format!("{away:?}").contains("refused"), "{away:?}");

    // Asked for before anybody is there.
    let publisher = Arc::new(Publisher::new(&link, declare));
    let confirmed = Arc::new(AtomicUsize::new(0));
    let publishing = tokio::spawn({
        let (publisher, confirmed) = (Arc::clone(&publisher), Arc::clone(&confirmed));
        async move {
            let all = (0..COUNT).map(|number| {
                let message = Message::new("", "work", number.to_string());
                let (publisher, confirmed) = (&publisher, &confirmed);
                async move {
                    publisher.publish(message).await.expect("a confirmation");
                    confirmed.fetch_add(1, Ordering::SeqCst);
                }
            });
            futures_util::stream::iter(all)
                .buffered(100)
                .collect::<Vec<()>>()
                .await;
        }
    });
    rabbitmq.appear().await;
    is_connected(&link).await;
    until(DEADLINE, "some are confirmed", async || {
        match confirmed.load(Ordering::SeqCst) {
            few if few < 200 => Err(few.to_string()),
            _ => Ok(()),
        }
    })
    .await;
    rabbitmq.vanish();
    becomes(&link, "the loss is noticed", |now| {
        matches!(now, LinkStatus::Away { .. })
    })
    .await;
    assert!(confirmed.load(Ordering::SeqCst) < COUNT, "killed too late");
    rabbitmq.appear().await;
    within(RECOVERY, "all are confirmed", publishing)
        .await
        .expect("no panic");

    // Taken by a consumer that loses its connection as well, and acknowledges only what it can.
    let mut seen = vec![0; COUNT];
    let mut unacknowledged = 0;
    let taken = link.run(async |channel| {
        channel.basic_qos(50, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        let consumer =
            channel.basic_consume("work".into(), "".into(), options, FieldTable::default());
        let mut consumer = consumer.await.map_err(Trouble::asking("consuming"))?;
        while let Some(delivery) = consumer.next().await {
            let delivery = delivery?;
            let number: usize = String::from_utf8_lossy(&delivery.data)
                .parse()
                .expect("ours");
            seen[number] += 1;
            if number == COUNT / 2 && seen[number] == 1 {
                rabbitmq.vanish();
                rabbitmq.appear().await;
            }
            acknowledge(&delivery)
                .await
                .inspect_err(|_| unacknowledged += 1)?;
            if seen.iter().all(|times| *times > 0) {
                return Ok(());
            }
        }
        Err(Trouble::lost("no consumer any more"))
    });
    within(2 * RECOVERY, "all have arrived", taken)
        .await
        .expect("nothing is refused");
    assert_eq!(unacknowledged, 1, "the one in hand when the broker died");
    link.close().await;
    let left = rabbitmq.queue("work").await.expect("a queue").messages;
    // Sent again because the broker died before it confirmed them; no more than can be under way.
    assert!(left <= 256, "{left}");
}

/// The threads in which lapin reads from its connections.
fn readers() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("this process has threads");
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("lapin")).count()
}

/// lapin tells of the end of a connection in a task, and takes no orders any more by then.
#[tokio::test]
async fn what_is_acknowledged_while_the_connection_ends_is_told_to_be_lost() {
    let rabbitmq = RabbitMq::start().await;
    rabbitmq.declare_queue("work").await;
    rabbitmq.publish("", "work", b"x").await;
    let relay = Relay::to(rabbitmq.url().strip_prefix("amqp://").expect("a URL")).await;
    let url = format!("amqp://{}", relay.authority());
    let connection = Connection::connect(&url, ConnectionProperties::default());
    let connection = connection.await.expect("a connection");
    let channel = connection.create_channel().await.expect("a channel");
    let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
    let consumer = channel.basic_consume("work".into(), "".into(), options, none);
    let mut consumer = consumer.await.expect("a consumer");
    let delivery = consumer
        .next()
        .await
        .expect("a message")
        .expect("a message");
    let before = readers();
    relay.cut();
    // Each time this runs on for a little while without giving way, so that nothing is told before lapin has noticed it.
    let noticing = async {
        while readers() == before {
            tokio::task::yield_now().await;
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(50) && readers() == before {
                std::thread::yield_now();
            }
        }
    };
    within(DEADLINE, "lapin notices it", noticing).await;
    let acknowledged = within(DEADLINE, "an answer", acknowledge(&delivery)).await;
    assert!(
        matches!(acknowledged, Err(Trouble::Lost(_))),
        "{acknowledged:?}"
    );
}

#[tokio::test]
async fn what_no_queue_takes_comes_back_to_whoever_sent_it() {
    let rabbitmq = RabbitMq::start().await;
    rabbitmq.declare_queue("there").await;
    let link = link(&rabbitmq.url());
    let publisher = Publisher::mandatory(&link);
    let all = (0..400).map(|number| {
        let queue = if number % 3 == 0 { "missing" } else { "there" };
        let publishing = publisher.publish_once(Message::new("", queue, number.to_string()));
        async move { (queue, publishing.await) }
    });
    let outcomes = futures_util::stream::iter(all)
        .buffer_unordered(64)
        .collect::<Vec<_>>();
    for (queue, outcome) in within(DEADLINE, "all answers", outcomes).await {
        match (queue, outcome) {
            ("there", Ok(())) | ("missing", Err(PublishError::Returned(_))) => {}
            (queue, outcome) => panic!("{queue}: {outcome:?}"),
        }
    }
    rabbitmq.queue_becomes("there", 266, 0).await;
    let to_nowhere = Publisher::new(&link, nothing);
    let refused = to_nowhere.publish(Message::new("no-exchange", "", "x"));
    let refused = within(DEADLINE, "an answer", refused).await.unwrap_err();
    assert!(refused.to_string().contains("NOT_FOUND"), "{refused}");
    let refused = link.run(async |channel| {
        let passive = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let asked = channel.queue_declare("missing".into(), passive, FieldTable::default());
        asked
            .await
            .map_err(Trouble::asking("looking for 'missing'"))?;
        Ok(())
    });
    let refused = within(DEADLINE, "an answer", refused).await.unwrap_err();
    assert!(
        refused
            .to_string()
            .starts_with("looking for 'missing': NOT_FOUND"),
        "{refused}"
    );
    // Channels were closed, and the connection was not.
    assert_eq!(*link.status().borrow(), LinkStatus::Connected);
}

#[tokio::test]
async fn a_wrong_password_is_told_from_a_broker_that_is_away_and_never_repeated() {
    let rabbitmq = RabbitMq::start().await;
    let url = rabbitmq.url();
    let wrong = url.replace("amqp://", "amqp://guest:geheim@");
    let unknown = format!("{url}/nowhere");
    for url in [wrong, unknown] {
        let link = link(&url);
        let status = becomes(&link, "refused", |now| {
            matches!(now, LinkStatus::Refused { .. })
        })
        .await;
        assert!(
            !format!("{status:?}{link:?}").contains("geheim"),
            "{status:?}"
        );
    }
}

/// What a broker that says nothing hears in the first of two attempts, which is over when the second one comes.
async fn said_to_nobody(scheme: &str, milliseconds: u32) -> Vec<u8> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let url = format!("{scheme}://{address}?connection_timeout={milliseconds}");
    let link = link(&url);
    let ended = tokio::task::spawn_blocking(move || {
        let (mut first, _) = listener.accept().expect("a connection");
        let (_second, _) = listener.accept().expect("a connection");
        // The first is gone by then: what it said can be read, and its end.
        first.set_read_timeout(Some(DEADLINE)).expect("a time-out");
        let mut said = Vec::new();
        first.read_to_end(&mut said).expect("an end");
        said
    });
    let said = within(DEADLINE, "two attempts", ended)
        .await
        .expect("no panic");
    let status = becomes(&link, "away", |now| matches!(now, LinkStatus::Away { .. })).await;
    assert!(format!("{status:?}").contains("no answer"), "{status:?}");
    said
}

#[tokio::test]
async fn a_broker_that_says_nothing_costs_one_connection_at_a_time() {
    assert_eq!(said_to_nobody("amqp", 200).await, b"AMQP\0\0\x09\x01");
}

#[tokio::test]
async fn with_tls_too_a_broker_that_says_nothing_costs_one_connection_at_a_time() {
    // Reading whom the system trusts takes a while, and belongs to the first attempt.
    let said = said_to_nobody("amqps", 1000).await;
    // The beginning of a handshake.
    assert_eq!(said.first_chunk(), Some(&[0x16, 3, 1]));
}

#[tokio::test]
async fn a_broker_whose_certificate_nobody_vouches_for_hears_no_password() {
    let authority = Authority::named("unknown");
    let rabbitmq = RabbitMq::start_with_tls(&authority.issue(&["localhost"])).await;
    let secret = |url: &str| url.replace("//", "//guest:geheim@");
    let without_tls = rabbitmq.url().replace("amqp:", "amqps:");
    for (url, text) in [
        (rabbitmq.secure_url(), "trusted here"),
        (without_tls, "speak TLS"),
    ] {
        let link = link(&secret(&url));
        let away = |now: &LinkStatus| matches!(now, LinkStatus::Away { .. });
        let status = format!("{:?}", becomes(&link, "away", away).await);
        assert!(status.contains(text), "{url}: {status}");
        assert!(!status.contains("geheim"), "{status}");
    }
}

#[tokio::test]
async fn a_broker_that_falls_silent_is_left_and_found_again() {
    let rabbitmq = RabbitMq::start().await;
    let link = link(&format!("{}?heartbeat=1", rabbitmq.url()));
    is_connected(&link).await;
    let publisher = Publisher::new(&link, declare);
    let publish = |text| publisher.publish(Message::new("", "work", text));
    within(DEADLINE, "a confirmation", publish("before"))
        .await
        .expect("it is confirmed");
    rabbitmq.freeze();
    let during = tokio::join!(publish("during"), async {
        let away = |now: &LinkStatus| matches!(now, LinkStatus::Away { .. });
        let status = becomes(&link, "the silence is noticed", away).await;
        assert!(format!("{status:?}").contains("silent"), "{status:?}");
        rabbitmq.thaw();
    });
    during.0.expect("it is confirmed after all");
    is_connected(&link).await;
    link.close().await;
    let mut arrived = rabbitmq.drain("work").await;
    // What the frozen broker had in its socket, it has as well.
    arrived.dedup();
    assert_eq!(arrived, [&b"before"[..], b"during"]);
}
