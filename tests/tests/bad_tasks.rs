//! What is no task, and what nobody can be asked: told, kept where it can be looked at, and no trouble for the tasks and workers beside it.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a panic is the report of a test"
)]

use std::process::{Output, Stdio};

use end_to_end::amqp::{Publication, header, message_id, nested, text};
use end_to_end::wait::DEADLINE;
use end_to_end::worker::task;
use end_to_end::{Hubcast, RabbitMq, RawWorker};
use lapin::BasicProperties;
use lapin::options::{BasicGetOptions, BasicPublishOptions};
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};

/// The longest text that RabbitMQ takes as the only header of a message.
const LONGEST_TEXT: usize = 131_047;

/// Runs `hubcast tasks`, with nobody at its output if that is said.
async fn tasks(arguments: &[&str], stdout: Stdio) -> Output {
    let mut command = end_to_end::hubcast::command();
    command
        .arg("tasks")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::piped());
    let run = tokio::task::spawn_blocking(move || command.spawn()?.wait_with_output());
    run.await.unwrap().unwrap()
}

/// A pipe that nobody reads.
fn unread() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// One header, a text of so many bytes.
fn filled(length: usize) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert("a".into(), AMQPValue::LongString("x".repeat(length).into()));
    BasicProperties::default().with_headers(headers)
}

/// Publishes to the queue of tasks.
async fn publish(rabbitmq: &RabbitMq, body: &[u8], properties: BasicProperties) {
    let channel = rabbitmq.channel().await;
    let options = BasicPublishOptions::default();
    let published = channel.basic_publish("".into(), "tasks".into(), options, body, properties);
    published.await.unwrap().await.unwrap();
}

#[tokio::test]
async fn what_is_no_task_is_given_up_at_once_and_the_others_are_done() {
    let rabbitmq = RabbitMq::start().await;
    let mut server = Hubcast::start(&["--amqp", &rabbitmq.url()]).await;
    let mut worker = RawWorker::join(server.url(), "a").await;
    server.has_its_queues(DEADLINE).await;
    let deep = "[".repeat(60_000);
    let large = "x".repeat(1024 * 1024);
    let bodies: &[(&[u8], &str)] = &[
        (b"", "EOF"),
        (b"\0", "expected value"),
        (b"\xff\xfe", "expected value"),
        (b"null", "invalid type: null"),
        (br#"{"TaskName":"a"}"#, "missing field `TaskType`"),
        (
            br#"{"TaskName":"a","TaskType":1e400}"#,
            "number out of range",
        ),
        (br#"{"TaskName":"a","TaskType":1}{}"#, "trailing characters"),
        (deep.as_bytes(), "invalid type: array"),
        (large.as_bytes(), "65536 bytes at most"),
    ];
    for (number, (body, _)) in bodies.iter().enumerate() {
        publish(&rabbitmq, body, BasicProperties::default()).await;
        let name = format!("task {number}");
        server
            .submit(&json!({"TaskName": name, "TaskType": 1}))
            .await;
        assert_eq!(worker.hears().await, name);
    }
    let all = bodies.len();
    server
        .tasks_become(DEADLINE, &json!({"done": all, "dead": all, "waiting": 0}))
        .await;
    let dead = tasks(
        &["dead", "--json", "--amqp", &rabbitmq.url()],
        Stdio::piped(),
    )
    .await;
    let dead = String::from_utf8(dead.stdout).unwrap();
    let mut reasons: Vec<String> = dead
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["reason"].to_string())
        .collect();
    for (body, why) in bodies {
        let known = reasons.iter().position(|reason| reason.contains(why));
        let known = known.unwrap_or_else(|| panic!("{why} of {} bytes: {reasons:?}", body.len()));
        reasons.remove(known);
    }
    server.assert_calm(&[]);
}

#[tokio::test]
async fn headers_that_fill_a_frame_do_not_end_the_connection() {
    let rabbitmq = RabbitMq::start().await;
    let server = Hubcast::start(&["--amqp", &rabbitmq.url()]).await;
    let mut worker = RawWorker::join(server.url(), "a").await;
    let mut headers = FieldTable::default();
    headers.insert("trace".into(), AMQPValue::LongString("abc".into()));
    // With what else is in the frame, a few bytes less than RabbitMQ takes.
    let filling = "x".repeat(130_900);
    headers.insert("filling".into(), AMQPValue::LongString(filling.into()));
    let large = BasicProperties::default().with_headers(headers);
    server.has_its_queues(DEADLINE).await;
    publish(&rabbitmq, b"nonsense", large).await;
    server
        .submit(&json!({"TaskName": "Demo", "TaskType": 1}))
        .await;
    assert_eq!(worker.hears().await, "Demo");
    server
        .tasks_become(DEADLINE, &json!({"dead": 1, "waiting": 0}))
        .await;
    assert!(
        !server.output().contains("RabbitMQ is away"),
        "{}",
        server.output()
    );
    let channel = rabbitmq.channel().await;
    let dead = channel.basic_get("tasks.dead".into(), BasicGetOptions::default());
    let dead = dead.await.unwrap().unwrap();
    let headers = dead.delivery.properties.headers().clone().unwrap();
    let names: Vec<_> = headers
        .into_iter()
        .map(|(name, _)| name.to_string())
        .collect();
    assert!(names.contains(&"trace".to_owned()), "{names:?}");
    assert!(!names.contains(&"filling".to_owned()), "{names:?}");
}

#[tokio::test]
async fn attempts_are_counted_however_much_others_have_written_beside_a_task() {
    let rabbitmq = RabbitMq::start().await;
    let server = Hubcast::with_tasks(&rabbitmq, &["--task-attempts", "2"]).await;
    let mut worker = RawWorker::join_to_answer(server.url(), "a").await;
    publish(&rabbitmq, task("poison", 1).as_bytes(), filled(65_520)).await;
    for attempt in 1..=2 {
        let told = worker.hears_json().await;
        assert_eq!(told["task"], "poison", "{attempt}: {told}");
        let refusal = json!({"refuse": told["id"], "reason": "no"});
        worker.say(&refusal.to_string()).await;
    }
    let given_up = json!({"dead": 1, "waiting": 0, "running": []});
    server.tasks_become(DEADLINE, &given_up).await;
    let url = rabbitmq.url();
    let dead = tasks(&["dead", "--json", "--amqp", &url], Stdio::piped()).await;
    let dead: Value = serde_json::from_slice(&dead.stdout).unwrap();
    assert_eq!(
        (&dead["attempts"], &dead["reason"]),
        (&json!(2), &json!("refused: no"))
    );
}

#[tokio::test]
async fn headers_do_not_end_a_connection_whose_url_asks_for_short_frames() {
    let rabbitmq = RabbitMq::start().await;
    let url = format!("{}?frame_max=4096", rabbitmq.url());
    let server = Hubcast::with_tasks_at(&url, &["--task-attempts", "1"]).await;
    let mut worker = RawWorker::join(server.url(), r#"{"id": "a", "types": [1]}"#).await;
    for (number, length) in [20_000, 4000, 2040].into_iter().enumerate() {
        // For the second one there is nobody, and it is published again.
        for kind in [1, 2] {
            let task = task(&number.to_string(), kind);
            publish(&rabbitmq, task.as_bytes(), filled(length)).await;
        }
        assert_eq!(worker.hears().await, number.to_string());
    }
    let all = json!({"done": 3, "dead": 3, "waiting": 0});
    server.tasks_become(DEADLINE, &all).await;
    let log = server.output();
    assert!(!log.contains("RabbitMQ is away"), "{log}");
}

#[tokio::test]
async fn a_queue_is_used_though_rabbitmq_cuts_its_name_in_a_character() {
    let rabbitmq = RabbitMq::start().await;
    // It is there already, and is another kind of queue, which RabbitMQ explains.
    let name = "\u{fc}".repeat(100);
    rabbitmq.declare_queue(&name).await;
    let amqp = rabbitmq.url();
    let server = Hubcast::start(&["--amqp", &amqp, "--task-queue", &name]).await;
    let mut worker = RawWorker::join(server.url(), "a").await;
    rabbitmq
        .publish("", &name, task("Demo", 1).as_bytes())
        .await;
    assert_eq!(worker.hears().await, "Demo");
}

#[tokio::test]
async fn however_many_headers_cannot_be_read_the_log_has_one_line_about_them() {
    let rabbitmq = RabbitMq::start().await;
    let server = Hubcast::with_tasks(&rabbitmq, &[]).await;
    let mut worker = RawWorker::join(server.url(), "a").await;
    let table = [1, 0xFF, b'V'].repeat(43_000);
    let length = u32::try_from(table.len()).unwrap();
    let properties = [&[0x20, 0x00], &length.to_be_bytes()[..], &table].concat();
    let payload = task("Demo", 1);
    let publication = Publication {
        exchange: "",
        routing_key: b"tasks",
        payload: payload.as_bytes(),
        properties: &properties,
    };
    rabbitmq.publish_bytes(&publication).await;
    assert_eq!(worker.hears().await, "Demo");
    let log = server.output();
    let told: Vec<_> = log
        .lines()
        .filter(|line| line.contains("legible"))
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("count=43000 bytes=129000"), "{told:?}");
}

#[tokio::test]
async fn what_cannot_be_looked_at_or_tried_again_is_told() {
    let rabbitmq = RabbitMq::start().await;
    let server = Hubcast::start(&[]).await;
    let (url, amqp) = (server.url(), &*rabbitmq.url());
    let wrong = amqp.replace("//", "//guest:geheim@");
    let nowhere = format!("{amqp}/nowhere");
    let long = "x".repeat(256);
    let no_http = amqp.replace("amqp:", "http:");
    let cases: &[(&[&str], i32, &str)] = &[
        (&["dead", "--task-queue", &long], 2, "at most 255 bytes"),
        (&["retry", "--task-queue", &long], 2, "at most 255 bytes"),
        (
            &["dead", "--amqp", "geheim"],
            2,
            "not the URL of a RabbitMQ",
        ),
        (&["dead", "--amqp", amqp], 1, "no queue 'tasks.dead'"),
        (&["retry", "--amqp", amqp], 1, "no queue 'tasks.dead'"),
        (&["retry", "--amqp", amqp, "x"], 1, "no queue 'tasks.dead'"),
        (&["dead", "--amqp", &wrong], 1, "ACCESS_REFUSED"),
        (&["retry", "--amqp", &nowhere], 1, "NOT_ALLOWED"),
        (&["dead", "--server", "127.0.0.1:80"], 2, "such as http://"),
        (
            &["dead", "--server", "https://127.0.0.1:1"],
            1,
            "no server at",
        ),
        (&["dead", "--server", &no_http], 1, "no server at"),
        (
            &["retry", "--server", url, "a\u{7}b"],
            1,
            "id 'a␇b' was given up",
        ),
        (&["retry", "--server", url, ""], 1, "id '' was given up"),
        (&["dead", "--server", &format!("{url}/ws")], 1, "404"),
    ];
    for (arguments, code, why) in cases {
        let output = tasks(arguments, Stdio::piped()).await;
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(*code), "{arguments:?}: {said}");
        assert!(said.contains(why), "{arguments:?}: {said}");
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");
        assert!(!said.contains("geheim"), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
    for path in ["/tasks/dead/retry?ids=5", "/tasks/dead/retry?id=a&id=b"] {
        assert_eq!(server.post(path, "").await.status, 400, "{path}");
    }
    // The server is as it was.
    let mut worker = RawWorker::join(url, "a").await;
    server
        .submit(&json!({"TaskName": "Demo", "TaskType": 1}))
        .await;
    assert_eq!(worker.hears().await, "Demo");
}

#[tokio::test]
async fn no_more_tasks_that_were_given_up_are_shown_than_were_asked_for() {
    let server = Hubcast::start(&["--task-attempts", "1"]).await;
    let _worker = RawWorker::join(server.url(), r#"{"id": "a", "types": [1]}"#).await;
    server
        .tasks_become(DEADLINE, &json!({"workerCount": 1}))
        .await;
    for name in ["first", "second", "third"] {
        server
            .submit(&json!({"TaskName": name, "TaskType": 2}))
            .await;
    }
    server.tasks_become(DEADLINE, &json!({"dead": 3})).await;
    // A server shows 1000 at most, and is asked for no more.
    for (most, shown) in [("2", 2), ("100000", 3)] {
        let arguments = ["dead", "--json", "--most", most, "--server", server.url()];
        let output = tasks(&arguments, Stdio::piped()).await;
        let text = String::from_utf8(output.stdout).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(text.lines().count(), shown, "{text} {said}");
        assert!(text.contains("first"), "{text}");
    }
}

#[tokio::test]
async fn a_reader_who_has_gone_is_no_error() {
    let server = Hubcast::start(&[]).await;
    for command in ["dead", "retry"] {
        let output = tasks(&[command, "--server", server.url()], unread()).await;
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{command}: {said}");
        assert_eq!(said, "", "{command}");
    }
    let full = std::fs::File::options().write(true).open("/dev/full");
    let output = tasks(&["dead", "--server", server.url()], full.unwrap().into()).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("standard output cannot be written"), "{said}");
}

#[tokio::test]
async fn what_cannot_be_read_beside_a_task_is_left_out_and_the_task_is_done() {
    let rabbitmq = RabbitMq::start().await;
    let mut server = Hubcast::start(&["--amqp", &rabbitmq.url(), "--feed", "logs=General"]).await;
    let mut worker = RawWorker::join(server.url(), "a").await;
    server.has_its_queues(DEADLINE).await;
    let unnamed = [&[0x20, 0, 0, 0, 0, 3, 1, 0xFF, b'V'][..]].concat();
    let all = [
        // As many levels as fit into a frame.
        header(&nested(b'A', 26_000)),
        header(&nested(b'F', 21_800)),
        // As much as RabbitMQ takes, to which it adds what it has to say itself.
        header(&text(LONGEST_TEXT)),
        message_id(b"\xFF\xFE"),
        unnamed,
    ];
    for properties in &all {
        for payload in [&b"no task"[..], br#"{"TaskName":"fine","TaskType":1}"#] {
            let publication = Publication {
                exchange: "",
                routing_key: b"tasks",
                payload,
                properties,
            };
            rabbitmq.publish_bytes(&publication).await;
        }
        assert_eq!(worker.hears().await, "fine");
    }
    let count = all.len();
    let dead = json!({"dead": count, "done": count, "waiting": 0});
    server.tasks_become(DEADLINE, &dead).await;
    server.assert_calm(&[]);
    // Others may have put such things where tasks are that were given up.
    for properties in &all {
        let publication = Publication {
            exchange: "",
            routing_key: b"tasks.dead",
            payload: b"strange",
            properties,
        };
        rabbitmq.publish_bytes(&publication).await;
    }
    let looked = tasks(&["dead", "--amqp", &rabbitmq.url()], Stdio::piped()).await;
    let text = String::from_utf8(looked.stdout).unwrap();
    let said = String::from_utf8_lossy(&looked.stderr);
    assert_eq!(text.matches("strange").count(), count, "{text} {said}");
}
