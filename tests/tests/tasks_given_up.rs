//! Tasks that were given up, when there are many of them: all are seen, and are tried again once each, however RabbitMQ is.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a panic is the report of a test"
)]

use std::collections::HashSet;
use std::process::{Command, Output};

use axum::routing::post;
use axum::{Json, Router};
use end_to_end::wait::{DEADLINE, until, within};
use end_to_end::worker::task;
use end_to_end::{Hubcast, RabbitMq, RawWorker};
use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// What `hubcast tasks retry` says, and whether it is content.
async fn retry(server: &str) -> Output {
    let mut command: Command = end_to_end::hubcast::command();
    command.args(["tasks", "retry", "--server", server]);
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = within(DEADLINE, "hubcast tasks retry", output).await;
    output.unwrap().unwrap()
}

#[tokio::test]
async fn however_many_tasks_were_given_up_all_are_seen_and_tried_again() {
    const MANY: usize = 3000;
    let rabbitmq = RabbitMq::start().await;
    let server = Hubcast::with_tasks(&rabbitmq, &[]).await;
    let dead: Vec<String> = (0..MANY).map(|n| task(&n.to_string(), 1)).collect();
    rabbitmq.publish_all("", "tasks.dead", &dead).await;
    let with_id = BasicProperties::default().with_message_id("last".into());
    let channel = rabbitmq.channel().await;
    let options = BasicPublishOptions::default();
    let published = channel.basic_publish("".into(), "tasks.dead".into(), options, b"{}", with_id);
    published.await.unwrap().await.unwrap();
    rabbitmq.queue_becomes("tasks.dead", 3001, 0).await;
    // Several look at once, and none hides anything from another.
    let looks = (0..8).map(|_| server.get("/tasks/dead"));
    for looked in futures_util::future::join_all(looks).await {
        let looked: Value = serde_json::from_str(&looked.body).unwrap();
        assert_eq!(looked["dead"].as_array().unwrap().len(), 1000);
        assert_eq!(looked["dead"][0]["task"], dead[0]);
    }
    let one = server.post("/tasks/dead/retry?id=last", "").await;
    assert_eq!(one.body, r#"{"retried":1,"left":0}"#);
    let none = server.post("/tasks/dead/retry?id=nobody", "").await;
    assert_eq!(none.body, r#"{"retried":0,"left":0}"#);
    rabbitmq.queue_becomes("tasks.dead", 3000, 0).await;
    let retried = retry(server.url()).await;
    assert_eq!(retried.stdout, b"3000 tasks put back into the queue\n");
    rabbitmq.queue_becomes("tasks.dead", 0, 0).await;
    rabbitmq.queue_becomes("tasks", 3001, 0).await;
}

#[tokio::test]
async fn what_a_full_queue_does_not_take_stays_and_what_it_takes_is_done_once() {
    const MANY: usize = 300;
    let rabbitmq = RabbitMq::start().await;
    let server = Hubcast::with_tasks(&rabbitmq, &[]).await;
    let full = r#"{"max-length":3,"overflow":"reject-publish"}"#;
    rabbitmq
        .control(&["set_policy", "small", "^tasks$", full])
        .await;
    let dead: Vec<String> = (0..MANY).map(|n| task(&n.to_string(), 1)).collect();
    rabbitmq.publish_all("", "tasks.dead", &dead).await;
    let mut worker = RawWorker::join(server.url(), r#"{"id":"a","capacity":2}"#).await;
    let hearing = tokio::spawn(async move {
        let mut heard = HashSet::new();
        while heard.len() < MANY {
            let name = worker.hears().await;
            assert!(heard.insert(name.clone()), "{name} comes twice");
        }
        worker
    });
    let (mut all, mut refused) = (0, 0);
    until(DEADLINE, "everything is put back", async || {
        let answer = server.post("/tasks/dead/retry", "").await;
        let retried: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        match answer.status {
            200 => all += retried["retried"].as_u64().unwrap(),
            _ => assert!(answer.body.contains("has not taken"), "{}", answer.body),
        }
        refused += u32::from(retried["left"] != 0);
        if retried["left"] == 0 {
            Ok(())
        } else {
            Err(answer.body)
        }
    })
    .await;
    assert!(refused > 0, "there was room for everything");
    assert_eq!(all, MANY as u64);
    let _worker = within(DEADLINE, "all are done", hearing).await.unwrap();
    server
        .tasks_become(DEADLINE, &json!({"done": MANY, "waiting": 0, "dead": 0}))
        .await;
}

#[tokio::test]
async fn what_is_given_up_again_at_once_is_not_put_back_for_ever() {
    // As with tasks that nobody can do: however many are put back, as many are there again.
    let always = json!({"retried": 100, "left": 200});
    let routes = Router::new().route("/tasks/dead/retry", post(async || Json(always)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async { axum::serve(listener, routes).await });
    let retried = retry(&url).await;
    serving.abort();
    let rounds = String::from_utf8(retried.stderr).unwrap();
    assert_eq!(
        rounds.lines().collect::<Vec<_>>(),
        [
            "100 tasks put back into the queue, 200 to go",
            "200 tasks put back into the queue, 100 to go"
        ]
    );
    assert_eq!(retried.stdout, b"300 tasks put back into the queue\n");
    assert!(retried.status.success());
}

#[tokio::test]
async fn one_who_tries_again_while_rabbitmq_takes_no_messages_is_told_so_and_hinders_nobody() {
    const MANY: usize = 300;
    let rabbitmq = RabbitMq::start().await;
    let server = Hubcast::with_tasks(&rabbitmq, &[]).await;
    let dead: Vec<String> = (0..MANY).map(|n| task(&n.to_string(), 1)).collect();
    rabbitmq.publish_all("", "tasks.dead", &dead).await;
    // The server learns of it with the first that it publishes.
    rabbitmq.limit_memory("1MB").await;
    let retried = retry(server.url()).await;
    assert!(!retried.status.success());
    let said = String::from_utf8(retried.stderr).unwrap();
    assert!(said.contains("no messages"), "{said}");
    // Nobody is at it any more.
    let looked = server.get("/tasks/dead?most=1000").await;
    let looked: Value = serde_json::from_str(&looked.body).unwrap();
    assert!(looked["dead"].as_array().unwrap().len() > MANY / 2);

    rabbitmq.limit_memory("4GB").await;
    until(DEADLINE, "everything is put back", async || {
        let answer = server.post("/tasks/dead/retry", "").await;
        match serde_json::from_str::<Value>(&answer.body) {
            Ok(retried) if retried["left"] == 0 => Ok(()),
            _ => Err(answer.body),
        }
    })
    .await;
    rabbitmq.queue_becomes("tasks.dead", 0, 0).await;
    let tasks = rabbitmq.drain("tasks").await;
    let back: HashSet<_> = tasks.iter().map(Vec::as_slice).collect();
    assert!(dead.iter().all(|task| back.contains(task.as_bytes())));
    // Sent, but not read before it was given up.
    assert!(tasks.len() <= MANY + 8, "{} tasks", tasks.len());
}
