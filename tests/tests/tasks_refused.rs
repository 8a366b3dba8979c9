//! What RabbitMQ does not let a server do, and what cannot be a queue of tasks: told, and nothing is left behind.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use std::time::{Duration, Instant};

use end_to_end::wait::{DEADLINE, until};
use end_to_end::worker::task;
use end_to_end::{Hubcast, RabbitMq, RawWorker};
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};

#[tokio::test]
async fn who_may_not_write_is_told_so_at_once_and_leaves_nothing_behind() {
    let rabbitmq = RabbitMq::start().await;
    // Who makes the queues.
    let _other = Hubcast::with_tasks(&rabbitmq, &[]).await;
    rabbitmq.control(&["add_user", "ro", "secret"]).await;
    rabbitmq
        .control(&["set_permissions", "ro", ".*", "^$", ".*"])
        .await;
    let url = rabbitmq.url().replace("//", "//ro:secret@");
    let server = Hubcast::start(&["--amqp", &url]).await;
    let refused = "access to queue of its own";
    // Several attempts.
    server.is_degraded(DEADLINE, refused).await;
    for _ in 0..5 {
        let began = Instant::now();
        let answer = server
            .post("/tasks", r#"{"TaskName": "Demo", "TaskType": 1}"#)
            .await;
        assert_eq!(answer.status, 503);
        assert!(answer.body.contains(refused), "{}", answer.body);
        assert!(began.elapsed() < Duration::from_secs(2), "it waited");
    }
    until(DEADLINE, "no queue is left", async || {
        let queues = rabbitmq.control(&["list_queues", "name"]).await;
        // The other server has one.
        match queues.matches("amq.gen-").count() {
            1 => Ok(()),
            _ => Err(queues),
        }
    })
    .await;
    until(DEADLINE, "the log says so once", async || {
        let log = server.output();
        match log.matches("does not let the task centre work").count() {
            1 => Ok(()),
            _ => Err(log),
        }
    })
    .await;
}

#[tokio::test]
async fn who_may_not_speak_to_the_other_servers_is_told_so() {
    let rabbitmq = RabbitMq::start().await;
    rabbitmq.control(&["add_user", "mute", "secret"]).await;
    let all_but_that = r"^(?!tasks\.servers).*$";
    rabbitmq
        .control(&["set_permissions", "mute", ".*", all_but_that, ".*"])
        .await;
    let url = rabbitmq.url().replace("//", "//mute:secret@");
    let server = Hubcast::start(&["--amqp", &url]).await;
    server
        .is_degraded(
            DEADLINE,
            "speaking to the other servers of the queue: ACCESS_REFUSED",
        )
        .await;
    rabbitmq
        .control(&["set_permissions", "mute", ".*", ".*", ".*"])
        .await;
    let mut worker = RawWorker::join(server.url(), "a").await;
    rabbitmq
        .publish("", "tasks", task("Demo", 1).as_bytes())
        .await;
    assert_eq!(worker.hears().await, "Demo");
    let ready = server.get("/readyz").await;
    assert_eq!(ready.body, r#"{"status":"ready"}"#);
}

#[tokio::test]
async fn a_stream_is_no_queue_of_tasks_and_one_that_is_not_durable_is_warned_of() {
    let rabbitmq = RabbitMq::start().await;
    let declare = async |queue: &str, durable, kind: &str| {
        let channel = rabbitmq.channel().await;
        let options = QueueDeclareOptions {
            durable,
            ..QueueDeclareOptions::default()
        };
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
        let declared = channel.queue_declare(queue.into(), options, arguments);
        declared.await.unwrap();
    };
    declare("log", true, "stream").await;
    declare("short", false, "classic").await;
    let url = rabbitmq.url();
    let server = Hubcast::start(&["--amqp", &url, "--task-queue", "log"]).await;
    server
        .is_degraded(DEADLINE, "the queue 'log' is a stream")
        .await;
    let server = Hubcast::start(&["--amqp", &url, "--task-queue", "short"]).await;
    let mut worker = RawWorker::join(server.url(), "a").await;
    rabbitmq
        .publish("", "short", task("Demo", 1).as_bytes())
        .await;
    assert_eq!(worker.hears().await, "Demo");
    until(DEADLINE, "the server warns", async || {
        let log = server.output();
        if log.contains("is not durable") {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await;
}
