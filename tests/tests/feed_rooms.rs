//! Exchanges of RabbitMQ that speak in rooms of the chat.

#![allow(clippy::expect_used, reason = "a panic is the report of a test")]

use std::collections::HashMap;

use end_to_end::client::Chat;
use end_to_end::hubcast::command;
use end_to_end::process::Process;
use end_to_end::wait::DEADLINE;
use end_to_end::{Client, Hubcast, RabbitMq, RedisServer};
use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, ExchangeDeleteOptions};
use lapin::types::FieldTable;
use nix::sys::signal::Signal;

/// The queue through which `logs` comes to the room `tea`.
const QUEUE: &str = "hubcast.feed.logs=tea";

/// How many messages a server is sent ahead of its acknowledgements.
const AHEAD: usize = 100;

/// A server whose room `tea` shows the exchange `logs`.
async fn server(rabbitmq: &RabbitMq, more: &[&str]) -> Hubcast {
    let url = rabbitmq.url();
    let mut arguments = vec!["--amqp", &url, "--feed", "logs=tea"];
    arguments.extend(more);
    Hubcast::start(&arguments).await
}

/// Somebody in the room `tea`.
async fn guest(server: &Hubcast) -> Client {
    let mut client = Client::connect(server.url()).await;
    client.join("tea").await;
    client
}

/// What the room shows when the exchange `logs` brings these.
fn shown<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<Chat> {
    let shown = texts
        .into_iter()
        .map(|text| ("logs".to_owned(), text.to_owned()));
    shown.collect()
}

#[tokio::test]
async fn an_exchange_speaks_in_a_room_whenever_rabbitmq_is_there() {
    let mut rabbitmq = RabbitMq::absent();
    let mut server = server(&rabbitmq, &[]).await;
    server.is_degraded(DEADLINE, "RabbitMQ is away").await;
    let mut guest = guest(&server).await;
    guest.say("tea", "ada", "is it on?").await;
    assert_eq!(guest.chat().await.1, "is it on?");

    rabbitmq.appear().await;
    server.becomes("ready", DEADLINE).await;
    rabbitmq.queue_becomes(QUEUE, 0, 1).await;
    let long = "ä".repeat(5000);
    let hostile: [&[u8]; 4] = [b"a\xffb\n<b>", long.as_bytes(), b"", b"last"];
    rabbitmq.publish_all("logs", "", hostile).await;
    let cut = "ä".repeat(3999) + "…";
    let expected = shown(["a\u{fffd}b\n<b>", &cut, "", "last"]);
    assert_eq!(guest.chats_until("last").await, expected);

    rabbitmq.vanish();
    server.is_degraded(DEADLINE, "RabbitMQ is away").await;
    guest.say("tea", "ada", "is it off?").await;
    assert_eq!(guest.chat().await.1, "is it off?");
    rabbitmq.appear().await;
    server.becomes("ready", DEADLINE).await;
    rabbitmq.publish("logs", "", b"back").await;
    // Before it, what was said, and whose acknowledgement had not reached RabbitMQ when it died.
    let mut heard = guest.chats_until("back").await;
    assert_eq!(heard.pop(), shown(["back"]).pop());
    assert!(heard.iter().all(|again| expected.contains(again)));
    assert!(guest.is_open());
    rabbitmq.queue_becomes(QUEUE, 0, 1).await;
    let told = |text| {
        server
            .output()
            .lines()
            .filter(|line| line.contains(text))
            .count()
    };
    assert_eq!(
        (told("RabbitMQ is away"), told("RabbitMQ is there")),
        (2, 2)
    );
    server.assert_calm(&[]);
    server.signal(Signal::SIGTERM);
    assert!(server.exit(DEADLINE).await.success());
    rabbitmq.queue_becomes(QUEUE, 0, 0).await;
}

#[tokio::test]
async fn several_servers_say_it_once_in_order_and_the_next_goes_on_where_one_died() {
    const COUNT: usize = 600;
    let (rabbitmq, mut redis) = tokio::join!(RabbitMq::start(), RedisServer::start());
    let redis_url = redis.url();
    let shared = ["--redis", &redis_url];
    let mut one = server(&rabbitmq, &shared).await;
    rabbitmq.queue_becomes(QUEUE, 0, 1).await;
    let two = server(&rabbitmq, &shared).await;
    rabbitmq.queue_becomes(QUEUE, 0, 2).await;
    // Has no feed, and shows it all the same, because it is on the same Redis.
    let mut three = Hubcast::start(&shared).await;
    let mut guests = [guest(&one).await, guest(&two).await, guest(&three).await];

    let texts: Vec<String> = (0..COUNT).map(|number| number.to_string()).collect();
    let all = || texts.iter().map(String::as_str);
    rabbitmq.publish_all("logs", "", &texts).await;
    rabbitmq.publish("logs", "", b"first round").await;
    for guest in &mut guests {
        let heard = guest.chats_until("first round").await;
        assert_eq!(heard, shown(all().chain(["first round"])));
    }

    // The first server reads the queue; it dies in the middle.
    let [_, guest_of_two, guest_of_three] = &mut guests;
    rabbitmq.publish_all("logs", "", &texts).await;
    assert_eq!(guest_of_two.chat().await.1, "0");
    one.kill();
    rabbitmq.publish("logs", "", b"second round").await;
    let mut heard = guest_of_two.chats_until("second round").await;
    heard.insert(0, ("logs".to_owned(), "0".to_owned()));
    let mut times: HashMap<&str, usize> = HashMap::new();
    for (_, text) in &heard {
        *times.entry(text).or_default() += 1;
    }
    assert_eq!(times.len(), COUNT + 1);
    let twice = heard.len() - times.len();
    assert!(twice <= AHEAD, "{twice} were said twice");
    assert_eq!(guest_of_three.chats_until("second round").await, heard);

    // While Redis is away it is not said at all, rather than on one server alone.
    redis.vanish();
    two.is_degraded(DEADLINE, "Redis is away").await;
    three.is_degraded(DEADLINE, "Redis is away").await;
    rabbitmq.publish("logs", "", b"without Redis").await;
    redis.appear().await;
    for guest in [&mut *guest_of_two, &mut *guest_of_three] {
        assert_eq!(
            guest.chat().await,
            ("logs".to_owned(), "without Redis".to_owned())
        );
    }

    // While no server is there that listens to it, it waits.
    two.signal(Signal::SIGTERM);
    rabbitmq.queue_becomes(QUEUE, 0, 0).await;
    rabbitmq.publish("logs", "", b"kept").await;
    rabbitmq.queue_becomes(QUEUE, 1, 0).await;
    let _four = server(&rabbitmq, &shared).await;
    assert_eq!(
        guest_of_three.chat().await,
        ("logs".to_owned(), "kept".to_owned())
    );
    three.assert_calm(&[]);
}

#[tokio::test]
async fn what_a_feed_cannot_be_is_told() {
    let usage = [
        (&["--feed", "logs=tea"][..], "--amqp <URL>"),
        (
            &["--amqp", "amqp://host", "--feed", "logs"],
            "such as logs=General",
        ),
        (
            &["--amqp", "amqp://host", "--feed", "=tea"],
            "at least one character",
        ),
        (
            &["--amqp", "amqp://host", "--feed", "System=tea"],
            "notices of the chat",
        ),
        (
            &["--amqp", "http://me:geheim@host"],
            "not the URL of a RabbitMQ",
        ),
    ];
    for (arguments, text) in usage {
        let mut command = command();
        command.arg("serve").args(arguments);
        let mut process = Process::start("hubcast", command);
        let status = process.exit(DEADLINE).await;
        let output = process.output();
        assert_eq!(status.code(), Some(2), "{arguments:?}: {output}");
        assert!(output.contains(text), "{arguments:?}: {output}");
        assert!(!output.contains("geheim"), "{output}");
    }

    // An exchange of another kind: the server serves, says so, and shows the feed as soon as that is put right.
    let rabbitmq = RabbitMq::start().await;
    let channel = rabbitmq.channel().await;
    let (options, none) = (ExchangeDeclareOptions::default(), FieldTable::default());
    let declared = channel.exchange_declare("logs".into(), ExchangeKind::Topic, options, none);
    declared.await.expect("an exchange");
    let mut server = server(&rabbitmq, &["--feed", "other=tea"]).await;
    server
        .is_degraded(
            DEADLINE,
            "the feed logs: declaring the durable fanout exchange 'logs': PRECONDITION_FAILED",
        )
        .await;
    let mut guest = guest(&server).await;
    rabbitmq.queue_becomes("hubcast.feed.other=tea", 0, 1).await;
    rabbitmq.publish("other", "", b"works").await;
    assert_eq!(guest.chat().await, ("other".to_owned(), "works".to_owned()));
    let deleted = channel.exchange_delete("logs".into(), ExchangeDeleteOptions::default());
    deleted.await.expect("it is deleted");
    rabbitmq.queue_becomes(QUEUE, 0, 1).await;
    server.becomes("ready", DEADLINE).await;
    rabbitmq.publish("logs", "", b"right").await;
    assert_eq!(guest.chat().await, ("logs".to_owned(), "right".to_owned()));
    server.assert_calm(&[]);
}
