//! `hubcast publish` and `hubcast subscribe` on a real RabbitMQ, and everybody dies once.

#![allow(clippy::expect_used, reason = "a panic is the report of a test")]

use std::collections::HashSet;
use std::io::Write;
use std::process::{ChildStdin, Stdio};
use std::time::Duration;

use end_to_end::amqp::{Publication, header, message_id, nested, text};
use end_to_end::hubcast::command;
use end_to_end::process::Process;
use end_to_end::wait::{DEADLINE, until};
use end_to_end::{RabbitMq, Terminal};
use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, ExchangeDeleteOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use nix::sys::signal::Signal;

/// A broker that comes back is found after five seconds at most, and may have much to write by then.
const RECOVERY: Duration = Duration::from_mins(1);

/// How many messages a subscriber is sent ahead of its acknowledgements, and a publisher sends ahead of confirmations.
const AHEAD: usize = 100;
const UNCONFIRMED: usize = 256;

const SENT: &str = " [x] Sent: ";
const RECEIVED: &str = " [x] Received: ";

fn publish(rabbitmq: &RabbitMq, more: &[&str]) -> (Process, ChildStdin) {
    let mut command = command();
    command
        .args(["publish", "--amqp", &rabbitmq.url()])
        .args(more);
    Process::start_with_input("publisher", command)
}

fn subscribe(rabbitmq: &RabbitMq, more: &[&str]) -> Process {
    let mut command = command();
    command
        .args(["subscribe", "--amqp", &rabbitmq.url()])
        .args(more);
    Process::start("subscriber", command)
}

/// Publishes these lines, and checks that it says so.
async fn published(rabbitmq: &RabbitMq, input: &[u8], more: &[&str]) {
    let (mut publisher, mut pipe) = publish(rabbitmq, more);
    pipe.write_all(input).expect("it reads");
    drop(pipe);
    let status = publisher.exit(DEADLINE).await;
    assert!(status.success(), "{}", publisher.output());
}

/// What stands behind this mark on the lines of an output.
fn marked<'a>(output: &'a str, mark: &str) -> Vec<&'a str> {
    let lines = output.lines().map(|line| line.strip_prefix(mark));
    lines
        .map(|text| text.unwrap_or_else(|| panic!("a line of another kind in {output}")))
        .collect()
}

/// Waits until a process has printed at least `count` lines.
async fn lines(process: &Process, count: usize) {
    until(RECOVERY, format!("{count} lines"), async || {
        match process.stdout().lines().count() {
            few if few < count => Err(format!("{few} lines; {}", process.stderr())),
            _ => Ok(()),
        }
    })
    .await;
}

/// What readers have received, one after the other.
fn lines_of(readers: [&Process; 2]) -> Vec<String> {
    let received = readers.map(Process::stdout);
    let received = received.iter().flat_map(|lines| marked(lines, RECEIVED));
    received.map(str::to_owned).collect()
}

/// How many of these there are more than needed.
fn twice(lines: &[String]) -> usize {
    lines.len() - lines.iter().collect::<HashSet<_>>().len()
}

#[tokio::test]
async fn nothing_that_was_confirmed_is_lost_when_everybody_dies_once() {
    const COUNT: usize = 3000;
    let mut rabbitmq = RabbitMq::start().await;
    let all: Vec<String> = (0..COUNT).map(|number| format!("line {number}")).collect();
    let write = |pipe: &mut ChildStdin, lines: &[String]| {
        let text = lines.join("\n") + "\n";
        pipe.write_all(text.as_bytes()).expect("it reads");
    };
    let mut first_reader = subscribe(&rabbitmq, &["--queue", "archive"]);
    rabbitmq.queue_becomes("archive", 0, 1).await;

    let (mut first_writer, mut pipe) = publish(&rabbitmq, &[]);
    write(&mut pipe, &all[..1000]);
    lines(&first_reader, 300).await;
    first_reader.kill();
    lines(&first_writer, 500).await;
    first_writer.kill();
    let told = first_writer.stdout();
    let told = marked(&told, SENT);
    assert_eq!(
        told,
        all[..told.len()],
        "what was confirmed is told in order"
    );

    // Begins where the first has said that it was.
    let (mut second_writer, mut pipe) = publish(&rabbitmq, &[]);
    write(&mut pipe, &all[told.len()..2000]);
    let mut second_reader = subscribe(&rabbitmq, &["--queue", "archive"]);
    lines(&second_reader, 500).await;
    rabbitmq.vanish();
    // What it had got by then it has printed when it says that it waits.
    let noticed = second_reader.stderr_line(DEADLINE, "notices", |line| {
        line.contains("RabbitMQ is away").then_some(())
    });
    noticed.await.expect("it waits for RabbitMQ");
    let until_then = second_reader.stdout();
    write(&mut pipe, &all[2000..]);
    drop(pipe);
    let noticed = second_writer.stderr_line(DEADLINE, "notices", |line| {
        line.contains("RabbitMQ is away").then_some(())
    });
    noticed.await.expect("it waits for RabbitMQ");
    let before = second_writer.stdout();
    rabbitmq.appear().await;
    let status = second_writer.exit(RECOVERY).await;
    assert!(status.success(), "{}", second_writer.output());
    assert!(
        second_writer
            .stderr()
            .ends_with("hubcast: RabbitMQ is there\n")
    );
    let after = second_writer.stdout();
    assert_eq!(marked(&after, SENT), all[told.len()..]);
    assert!(before.len() < after.len(), "killed too late");

    let mut received = Vec::new();
    until(RECOVERY, "all are received", async || {
        received = lines_of([&first_reader, &second_reader]);
        match received.iter().collect::<HashSet<_>>().len() {
            COUNT => Ok(()),
            few => Err(format!("{few} of {COUNT}")),
        }
    })
    .await;
    rabbitmq.queue_becomes("archive", 0, 1).await;
    let received = lines_of([&first_reader, &second_reader]);
    let before = first_reader.stdout().lines().count() + until_then.lines().count();
    let (before, after) = received.split_at(before);
    // A reader that died between printing and acknowledging, and a writer between sending and confirmation.
    let most = AHEAD + UNCONFIRMED;
    assert!(twice(before) <= most, "{} duplicates", twice(before));
    // The same of a writer and a reader that lost their connections. What was acknowledged before that comes once more, too, if RabbitMQ had not written it to its disk,
    // which it does now and then.
    assert!(twice(after) <= most, "{} later", twice(after));
}

#[tokio::test]
async fn an_exchange_that_is_deleted_is_made_anew_by_whoever_publishes() {
    let rabbitmq = RabbitMq::start().await;
    let (mut writer, mut pipe) = publish(&rabbitmq, &[]);
    writeln!(pipe, "before").expect("it reads");
    lines(&writer, 1).await;
    let channel = rabbitmq.channel().await;
    let deleted = channel.exchange_delete("logs".into(), ExchangeDeleteOptions::default());
    deleted.await.expect("it is deleted");
    writeln!(pipe, "again").expect("it reads");
    lines(&writer, 2).await;
    // A queue that is bound now gets what comes now.
    let reader = subscribe(&rabbitmq, &["--queue", "archive"]);
    rabbitmq.queue_becomes("archive", 0, 1).await;
    writeln!(pipe, "heard").expect("it reads");
    lines(&reader, 1).await;
    assert_eq!(marked(&reader.stdout(), RECEIVED), ["heard"]);
    drop(pipe);
    let status = writer.exit(DEADLINE).await;
    assert!(status.success(), "{}", writer.output());
    assert_eq!(marked(&writer.stdout(), SENT), ["before", "again", "heard"]);
}

#[tokio::test]
async fn lines_that_are_no_text_are_published_as_they_are() {
    let rabbitmq = RabbitMq::start().await;
    let mut reader = subscribe(&rabbitmq, &["--queue", "kept"]);
    rabbitmq.queue_becomes("kept", 0, 1).await;
    reader.signal(Signal::SIGTERM);
    assert!(reader.exit(DEADLINE).await.success());
    let (mut writer, mut pipe) = publish(&rabbitmq, &[]);
    pipe.write_all(b"M\xe4rz\n\xff\0\r\n").expect("it reads");
    drop(pipe);
    assert!(writer.exit(DEADLINE).await.success());
    let told = ["M\u{fffd}rz", "\u{fffd}\0"];
    assert_eq!(marked(&writer.stdout(), SENT), told);
    assert_eq!(rabbitmq.drain("kept").await, [&b"M\xe4rz"[..], b"\xff\0"]);
}

#[tokio::test]
async fn messages_are_one_line_each_and_wait_for_whoever_reads_them_next() {
    let rabbitmq = RabbitMq::start().await;
    let mut reader = subscribe(&rabbitmq, &["--queue", "kept"]);
    rabbitmq.queue_becomes("kept", 0, 1).await;
    reader.signal(Signal::SIGTERM);
    assert!(reader.exit(DEADLINE).await.success());
    assert_eq!(reader.output(), "");

    published(&rabbitmq, "one\n\nzwölf \u{1f600}\r\nlast".as_bytes(), &[]).await;
    rabbitmq.publish("logs", "", b"a\nb\r\nc\x1b[2J\xff").await;
    rabbitmq.queue_becomes("kept", 5, 0).await;
    let mut reader = subscribe(&rabbitmq, &["--queue", "kept"]);
    lines(&reader, 5).await;
    rabbitmq.queue_becomes("kept", 0, 1).await;
    reader.signal(Signal::SIGINT);
    assert!(reader.exit(DEADLINE).await.success());
    let expected = [
        "one",
        "",
        "zwölf \u{1f600}",
        "last",
        "a⏎b⏎c\u{1b}[2J\u{fffd}",
    ];
    assert_eq!(marked(&reader.stdout(), RECEIVED), expected);
    // Acknowledged before it ended: nothing is left.
    rabbitmq.queue_becomes("kept", 0, 0).await;

    // Without a queue, only what comes from now on.
    let passing = subscribe(&rabbitmq, &[]);
    until(DEADLINE, "it listens", async || {
        rabbitmq.publish("logs", "", b"now").await;
        match passing.stdout() {
            nothing if nothing.is_empty() => Err("nothing yet".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    assert!(
        marked(&passing.stdout(), RECEIVED)
            .iter()
            .all(|text| *text == "now")
    );
}

#[tokio::test]
async fn a_queue_that_is_there_is_taken_as_it_is_and_stays_bound() {
    let rabbitmq = RabbitMq::start().await;
    let channel = rabbitmq.channel().await;
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let mut arguments = FieldTable::default();
    arguments.insert("x-message-ttl".into(), AMQPValue::LongInt(600_000));
    let declared = channel.queue_declare("old".into(), durable, arguments);
    declared.await.expect("a queue");
    for exchange in ["logs", "audit"] {
        let mut reader = subscribe(&rabbitmq, &["--queue", "old", "--exchange", exchange]);
        rabbitmq.queue_becomes("old", 0, 1).await;
        rabbitmq.publish(exchange, "", exchange.as_bytes()).await;
        lines(&reader, 1).await;
        reader.signal(Signal::SIGTERM);
        assert!(reader.exit(DEADLINE).await.success());
        assert_eq!(marked(&reader.stdout(), RECEIVED), [exchange]);
    }
    rabbitmq.publish("logs", "", b"both").await;
    rabbitmq.queue_becomes("old", 1, 0).await;
}

#[tokio::test]
async fn what_cannot_be_read_beside_a_message_does_not_stop_a_feed() {
    let rabbitmq = RabbitMq::start().await;
    published(&rabbitmq, b"first\n", &[]).await;
    let reader = subscribe(&rabbitmq, &["--queue", "archive"]);
    rabbitmq.queue_becomes("archive", 0, 1).await;
    for (routing_key, properties) in [
        (&b"\xFF\xFE"[..], vec![0, 0]),
        (b"", message_id(b"\xFF")),
        (b"", header(&nested(b'A', 26_000))),
        (b"", header(&text(100_000))),
    ] {
        let publication = Publication {
            exchange: "logs",
            routing_key,
            payload: b"strange",
            properties: &properties,
        };
        rabbitmq.publish_bytes(&publication).await;
    }
    lines(&reader, 4).await;
    assert_eq!(marked(&reader.stdout(), RECEIVED), ["strange"; 4]);
    assert!(!reader.stderr().contains("away"), "{}", reader.stderr());
}

#[tokio::test]
async fn nothing_of_a_message_can_command_a_terminal() {
    let rabbitmq = RabbitMq::start().await;
    let mut command = command();
    command.args(["subscribe", "--queue", "kept", "--amqp", &rabbitmq.url()]);
    let mut terminal = Terminal::start("subscriber", command, 80, 10);
    rabbitmq.queue_becomes("kept", 0, 1).await;
    rabbitmq
        .publish("logs", "", b"a\x1b[2Jb\nc\x07\xff\xe2\x80\xaed")
        .await;
    // The screen leaves replacement characters out.
    terminal.shows_last(" [x] Received: a␛[2Jb⏎c␇d").await;
    assert_eq!(
        terminal.bytes(),
        " [x] Received: a␛[2Jb⏎c␇\u{fffd}\u{fffd}d\r\n"
    );
    terminal.signal(Signal::SIGINT);
    assert!(terminal.exit().await.success());
}

#[tokio::test]
async fn what_could_not_be_printed_is_not_acknowledged() {
    let rabbitmq = RabbitMq::start().await;
    let mut command = command();
    command.args(["subscribe", "--queue", "kept", "--amqp", &rabbitmq.url()]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut reader = command.spawn().expect("it starts");
    rabbitmq.queue_becomes("kept", 0, 1).await;
    drop(reader.stdout.take());
    published(&rabbitmq, b"one\ntwo\n", &[]).await;
    let status = tokio::task::spawn_blocking(move || reader.wait_with_output());
    let output = status.await.expect("no panic").expect("it ends");
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    rabbitmq.queue_becomes("kept", 2, 0).await;
}

#[tokio::test]
async fn what_cannot_be_is_told_and_not_tried_for_ever() {
    let rabbitmq = RabbitMq::start().await;
    let channel = rabbitmq.channel().await;
    let (options, none) = (ExchangeDeclareOptions::default(), FieldTable::default());
    let declared = channel.exchange_declare("taken".into(), ExchangeKind::Direct, options, none);
    declared.await.expect("an exchange");
    let url = rabbitmq.url();
    let wrong = url.replace("//", "//guest:geheim@");
    let long = "x".repeat(256);
    let cases: &[(&[&str], i32, &str)] = &[
        (
            &["--exchange", "taken", "--amqp", &url],
            1,
            "but current is 'direct'",
        ),
        (
            &["--exchange", "amq.mine", "--amqp", &url],
            1,
            "ACCESS_REFUSED",
        ),
        (&["--amqp", &wrong], 1, "check the user, the password"),
        (&["--amqp", &format!("{url}/nowhere")], 1, "NOT_ALLOWED"),
        (&["--amqp", "geheim"], 2, "not the URL of a RabbitMQ"),
        (&["--amqp", "amqps:geheim"], 2, "or with TLS amqps://"),
        (&["--exchange", ""], 2, "at least one character"),
        (&["--exchange", &long], 2, "at most 255 bytes"),
    ];
    for program in ["publish", "subscribe"] {
        for (arguments, code, text) in cases {
            let mut command = command();
            command.arg(program).args(*arguments);
            let (mut process, mut pipe) = Process::start_with_input(program, command);
            // It may have ended before it reads.
            let _ = pipe.write_all(b"a line\n");
            drop(pipe);
            let status = process.exit(DEADLINE).await;
            let output = process.output();
            assert_eq!(
                status.code(),
                Some(*code),
                "{program} {arguments:?}: {output}"
            );
            assert!(output.contains(text), "{program} {arguments:?}: {output}");
            assert!(
                !output.contains("geheim"),
                "{program} {arguments:?}: {output}"
            );
            assert_eq!(process.stdout(), "", "{program} {arguments:?}");
        }
    }
    let mut reader = subscribe(&rabbitmq, &["--queue", "amq.mine"]);
    assert_eq!(reader.exit(DEADLINE).await.code(), Some(1));
    assert!(reader.stderr().contains("declaring the queue 'amq.mine'"));

    // A line that is too long is told of, and the others are published.
    let (mut writer, mut pipe) = publish(&rabbitmq, &[]);
    let mut input = vec![b'x'; 1024 * 1024 + 1];
    input.extend(b"\nshort\n");
    pipe.write_all(&input).expect("it reads");
    drop(pipe);
    assert_eq!(writer.exit(DEADLINE).await.code(), Some(1));
    assert_eq!(writer.stdout(), format!("{SENT}short\n"));
    assert!(
        writer.stderr().contains("more than 1048576 bytes"),
        "{}",
        writer.stderr()
    );
}
