//! Tasks in RabbitMQ: what it keeps, what is given up, and what is said when it is away, short of memory, or does not let a server work.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a panic is the report of a test"
)]

use std::process::Command;

use end_to_end::wait::{DEADLINE, until};
use end_to_end::worker::task;
use end_to_end::{Hubcast, RabbitMq, RawWorker};
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions, ExchangeDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, ExchangeKind};
use serde_json::{Value, json};

/// What `hubcast tasks` prints.
async fn console(rabbitmq: &RabbitMq, arguments: &[&str]) -> String {
    let mut command = end_to_end::hubcast::command();
    command
        .arg("tasks")
        .args(arguments)
        .args(["--amqp", &rabbitmq.url()]);
    run(command).await
}

async fn run(mut command: Command) -> String {
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = output.await.unwrap().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

#[tokio::test]
async fn a_task_stays_in_rabbitmq_until_a_worker_has_done_it() {
    let rabbitmq = RabbitMq::start().await;
    let mut server = Hubcast::with_tasks(&rabbitmq, &[]).await;
    // As anybody publishes: no id, no properties.
    rabbitmq
        .publish("", "tasks", task("Demo", 1).as_bytes())
        .await;
    server.tasks_become(DEADLINE, &json!({"waiting": 1})).await;
    let mut worker = RawWorker::join_to_answer(server.url(), "a").await;
    let told = worker.hears_json().await;
    assert_eq!(told["task"], "Demo");
    server.kill();

    // The next one gets it, since nobody has done it.
    let server = Hubcast::with_tasks(&rabbitmq, &[]).await;
    let mut worker = RawWorker::join_to_answer(server.url(), "a").await;
    let told = worker.hears_json().await;
    assert_eq!(told["task"], "Demo");
    worker.say(&json!({"done": told["id"]}).to_string()).await;
    server
        .tasks_become(DEADLINE, &json!({"done": 1, "waiting": 0}))
        .await;
    drop(server);
    rabbitmq.queue_becomes("tasks", 0, 0).await;
    for queue in ["tasks.retry", "tasks.dead"] {
        rabbitmq.queue_becomes(queue, 0, 0).await;
    }
}

#[tokio::test]
async fn what_is_given_up_can_be_looked_at_and_tried_again() {
    let rabbitmq = RabbitMq::start().await;
    let server = Hubcast::with_tasks(&rabbitmq, &["--task-attempts", "2"]).await;
    assert_eq!(
        console(&rabbitmq, &["dead"]).await,
        "no task was given up\n"
    );
    let mut worker = RawWorker::join_to_answer(server.url(), "a").await;
    // At once, and nobody is troubled with it.
    rabbitmq.publish("", "tasks", b"no task").await;
    rabbitmq.publish("", "tasks", b"\xff\x1b[31m").await;
    server.tasks_become(DEADLINE, &json!({"dead": 2})).await;
    let id = server
        .submit(&json!({"TaskName": "Hard", "TaskType": 1}))
        .await;
    for _ in 0..2 {
        let told = worker.hears_json().await;
        assert_eq!(told, json!({"id": id, "task": "Hard"}));
        worker
            .say(&json!({"refuse": id, "reason": "too hard"}).to_string())
            .await;
    }
    server
        .tasks_become(DEADLINE, &json!({"dead": 3, "running": [], "waiting": 0}))
        .await;

    for _ in 0..2 {
        let lines = console(&rabbitmq, &["dead", "--json"]).await;
        let dead: Vec<Value> = lines
            .lines()
            .map(|it| serde_json::from_str(it).unwrap())
            .collect();
        assert_eq!(dead.len(), 3, "they stay: {lines}");
        let hard = dead.iter().find(|dead| dead["id"] == json!(id)).unwrap();
        assert_eq!(
            (&hard["reason"], &hard["attempts"]),
            (&json!("refused: too hard"), &json!(2))
        );
        assert_eq!(hard["task"], r#"{"TaskName":"Hard","TaskType":1}"#);
        assert!(hard["at"].is_string());
        let malformed = dead.iter().filter(|dead| {
            dead["reason"]
                .as_str()
                .unwrap()
                .starts_with("a task is JSON")
        });
        assert_eq!(malformed.count(), 2);
    }
    let table = console(&rabbitmq, &["dead"]).await;
    assert!(table.contains("2 attempts  refused: too hard"), "{table}");
    assert!(!table.contains('\x1b'), "{table:?}");
    let through_http: Value = serde_json::from_str(&server.get("/tasks/dead").await.body).unwrap();
    assert_eq!(through_http["dead"].as_array().unwrap().len(), 3);

    let retried = console(&rabbitmq, &["retry", &id]).await;
    assert_eq!(retried, "1 task put back into the queue\n");
    assert_eq!(worker.hears_json().await["id"], json!(id));
    worker.say(&json!({"done": id}).to_string()).await;
    server
        .tasks_become(DEADLINE, &json!({"dead": 2, "done": 1}))
        .await;
    let mut command = end_to_end::hubcast::command();
    command.args(["tasks", "retry", "--server", server.url()]);
    assert_eq!(run(command).await, "2 tasks put back into the queue\n");
    // What is no task is none the second time.
    server
        .tasks_become(DEADLINE, &json!({"dead": 2, "waiting": 0}))
        .await;
}

#[tokio::test]
async fn what_nobody_can_do_is_given_up_but_not_if_somebody_elsewhere_can() {
    let rabbitmq = RabbitMq::start().await;
    let attempts = ["--task-attempts", "3"];
    let (one, two) = tokio::join!(
        Hubcast::with_tasks(&rabbitmq, &attempts),
        Hubcast::with_tasks(&rabbitmq, &attempts)
    );
    let _ones = RawWorker::join(one.url(), r#"{"id":"ones","types":[1],"capacity":5}"#).await;
    one.submit(&json!({"TaskName": "Odd", "TaskType": 7})).await;
    one.tasks_become(DEADLINE, &json!({"dead": 1, "waiting": 0}))
        .await;
    let dead = console(&rabbitmq, &["dead"]).await;
    assert!(
        dead.contains("3 attempts  no worker does tasks of type 7"),
        "{dead}"
    );

    let mut twos = RawWorker::join(two.url(), r#"{"id":"twos","types":[2]}"#).await;
    for number in 0..20 {
        one.submit(&json!({"TaskName": number.to_string(), "TaskType": 2}))
            .await;
    }
    let mut names: Vec<String> = Vec::new();
    while names.len() < 20 {
        names.push(twos.hears().await);
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 20);
    two.tasks_become(DEADLINE, &json!({"done": 20, "dead": 1, "waiting": 0}))
        .await;
}

#[tokio::test]
async fn a_server_that_starts_before_rabbitmq_gets_its_tasks_later() {
    let mut rabbitmq = RabbitMq::absent();
    let mut server = Hubcast::start(&["--amqp", &rabbitmq.url()]).await;
    let mut worker = RawWorker::join(server.url(), "a").await;
    let refused = server.post("/tasks", &task("x", 1)).await;
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert_eq!(server.tasks().await["dead"], Value::Null);
    rabbitmq.appear().await;
    until(DEADLINE, "a task is taken", async || {
        match server.post("/tasks", &task("x", 1)).await.status {
            202 => Ok(()),
            status => Err(status.to_string()),
        }
    })
    .await;
    assert_eq!(worker.hears().await, "x");
    server.assert_calm(&[]);
}

#[tokio::test]
async fn a_task_that_came_in_copies_makes_no_more_of_them() {
    let rabbitmq = RabbitMq::start().await;
    let server = Hubcast::with_tasks(&rabbitmq, &[]).await;
    let mut worker = RawWorker::join(server.url(), "a").await;
    let channel = rabbitmq.channel().await;
    // RabbitMQ puts it into the queues of this header, too.
    let queues = vec![AMQPValue::LongString("tasks".into())];
    let mut headers = FieldTable::default();
    headers.insert("CC".into(), AMQPValue::FieldArray(queues.into()));
    let published = channel.basic_publish(
        "".into(),
        "nowhere".into(),
        BasicPublishOptions::default(),
        b"no task",
        BasicProperties::default().with_headers(headers),
    );
    published.await.unwrap().await.unwrap();
    server.tasks_become(DEADLINE, &json!({"dead": 1})).await;
    // A second one would be on its way to the dead already.
    server
        .submit(&json!({"TaskName": "x", "TaskType": 1}))
        .await;
    assert_eq!(worker.hears().await, "x");
    server
        .tasks_become(DEADLINE, &json!({"dead": 1, "waiting": 0, "done": 1}))
        .await;
}

#[tokio::test]
async fn headers_larger_than_a_frame_of_rabbitmq_stop_nothing() {
    let rabbitmq = RabbitMq::start().await;
    let server = Hubcast::with_tasks(&rabbitmq, &[]).await;
    let mut worker = RawWorker::join(server.url(), "a").await;
    let channel = rabbitmq.channel().await;
    let large = AMQPValue::LongString("y".repeat(130_900).into());
    let mut headers = FieldTable::default();
    headers.insert("x".into(), large);
    headers.insert(
        "x-hubcast-attempts".into(),
        AMQPValue::LongLongInt(u32::MAX.into()),
    );
    for body in [&b"no task"[..], task("odd", 1).as_bytes()] {
        let published = channel.basic_publish(
            "".into(),
            "tasks".into(),
            BasicPublishOptions::default(),
            body,
            BasicProperties::default().with_headers(headers.clone()),
        );
        published.await.unwrap().await.unwrap();
    }
    server
        .submit(&json!({"TaskName": "x", "TaskType": 1}))
        .await;
    let mut heard = [worker.hears().await, worker.hears().await];
    heard.sort();
    assert_eq!(heard, ["odd", "x"]);
    server
        .tasks_become(DEADLINE, &json!({"dead": 1, "waiting": 0, "done": 2}))
        .await;
}

#[tokio::test]
async fn what_is_done_is_taken_out_of_a_rabbitmq_that_is_short_of_memory() {
    let rabbitmq = RabbitMq::start().await;
    let server = Hubcast::with_tasks(&rabbitmq, &[]).await;
    let mut worker = RawWorker::join_to_answer(server.url(), "a").await;
    let tasks: Vec<String> = (0..20).map(|number| task(&number.to_string(), 1)).collect();
    rabbitmq.publish_all("", "tasks", &tasks).await;
    let first = worker.hears_json().await;
    rabbitmq.limit_memory("1MB").await;
    let mut other = RawWorker::join_to_answer(server.url(), "b").await;
    let second = other.hears_json().await;
    // To be published again, which is not possible now. Both have room for one task, and are to get others all the same.
    for (who, task) in [(&mut worker, &first), (&mut other, &second)] {
        who.say(&json!({"refuse": task["id"], "reason": "not now"}).to_string())
            .await;
    }
    let all = tasks.len();
    let all_but_those = json!({"done": all - 2, "running": []});
    for to_do in [all - 2, 2] {
        for _ in 0..to_do {
            let (who, told) = tokio::select! {
                told = worker.hears_json() => (&mut worker, told),
                told = other.hears_json() => (&mut other, told),
            };
            who.say(&json!({"done": told["id"]}).to_string()).await;
        }
        if to_do > 2 {
            server.tasks_become(DEADLINE, &all_but_those).await;
            let body = server.get("/readyz").await.body;
            assert!(body.contains("RabbitMQ takes no messages"), "{body}");
            rabbitmq.limit_memory("4GB").await;
        }
    }
    let everything = json!({"done": all, "waiting": 0, "dead": 0});
    server.tasks_become(DEADLINE, &everything).await;
    // As many as workers have room for again.
    rabbitmq.queue_becomes("tasks", 0, 2).await;
}

#[tokio::test]
async fn a_queue_that_is_full_keeps_no_worker_from_its_work_and_loses_nothing() {
    let rabbitmq = RabbitMq::start().await;
    let server = Hubcast::with_tasks(&rabbitmq, &["--task-attempts", "1"]).await;
    let mut worker = RawWorker::join_to_answer(server.url(), "a").await;
    rabbitmq.close_queue("tasks.dead").await;
    let tasks: Vec<String> = (0..6).map(|number| task(&number.to_string(), 1)).collect();
    rabbitmq.publish_all("", "tasks", &tasks).await;
    // Given up, if there were room for what was given up: a quorum queue that may have none takes one.
    for _ in 0..3 {
        let told = worker.hears_json().await;
        let refusal = json!({"refuse": told["id"], "reason": "never"});
        worker.say(&refusal.to_string()).await;
    }
    for _ in 3..tasks.len() {
        let told = worker.hears_json().await;
        worker.say(&json!({"done": told["id"]}).to_string()).await;
    }
    server
        .tasks_become(DEADLINE, &json!({"done": 3, "dead": 1, "waiting": 0}))
        .await;
    rabbitmq.open_queue().await;
    server
        .tasks_become(DEADLINE, &json!({"done": 3, "dead": 3, "waiting": 0}))
        .await;
    assert!(!server.output().contains("is away"), "{}", server.output());
    // As many as workers have room for again.
    rabbitmq.queue_becomes("tasks", 0, 1).await;
}

#[tokio::test]
async fn a_queue_that_cannot_be_used_is_said_to_be_so() {
    let rabbitmq = RabbitMq::start().await;
    let channel = rabbitmq.channel().await;
    let options = ExchangeDeclareOptions::default();
    let declared = channel.exchange_declare(
        "tasks.servers".into(),
        ExchangeKind::Topic,
        options,
        FieldTable::default(),
    );
    declared.await.unwrap();
    let server = Hubcast::start(&["--amqp", &rabbitmq.url()]).await;
    server.is_degraded(DEADLINE, "tasks.servers").await;
    let refused = server.post("/tasks", &task("x", 1)).await;
    assert_eq!(refused.status, 503);
    assert!(refused.body.contains("tasks.servers"), "{}", refused.body);
    let options = ExchangeDeleteOptions::default();
    let deleted = channel.exchange_delete("tasks.servers".into(), options);
    deleted.await.unwrap();
    until(DEADLINE, "a task is taken", async || {
        match server.post("/tasks", &task("x", 1)).await.status {
            202 => Ok(()),
            status => Err(status.to_string()),
        }
    })
    .await;
    assert_eq!(server.get("/readyz").await.body, r#"{"status":"ready"}"#);
}

#[tokio::test]
async fn a_queue_that_somebody_else_keeps_for_himself_is_said_to_be_so() {
    let rabbitmq = RabbitMq::start().await;
    rabbitmq.declare_queue("tasks").await;
    let channel = rabbitmq.channel().await;
    let options = BasicConsumeOptions {
        exclusive: true,
        ..BasicConsumeOptions::default()
    };
    let none = FieldTable::default();
    let consumer = channel.basic_consume("tasks".into(), "mine".into(), options, none);
    let consumer = consumer.await.unwrap();
    let server = Hubcast::with_tasks(&rabbitmq, &[]).await;
    let mut worker = RawWorker::join(server.url(), "a").await;
    server.is_degraded(DEADLINE, "queue 'tasks'").await;
    drop(consumer);
    channel.close(200, "OK".into()).await.unwrap();
    rabbitmq.publish("", "tasks", task("x", 1).as_bytes()).await;
    assert_eq!(worker.hears().await, "x");
    assert_eq!(server.get("/readyz").await.body, r#"{"status":"ready"}"#);
}
