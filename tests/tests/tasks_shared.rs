//! Tasks that servers share in RabbitMQ: who gets them, where a worker is, and what is not done twice when connections are lost.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a panic is the report of a test"
)]

use std::time::{Duration, Instant};

use end_to_end::wait::{DEADLINE, until};
use end_to_end::worker::task;
use end_to_end::{Hubcast, RabbitMq, RawWorker, Relay};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};

#[tokio::test]
async fn servers_take_no_more_than_their_workers_can_have() {
    let rabbitmq = RabbitMq::start().await;
    // Declared by somebody else, as a classic queue.
    rabbitmq.declare_queue("jobs").await;
    let queue = ["--task-queue", "jobs"];
    let (one, two) = tokio::join!(
        Hubcast::with_tasks(&rabbitmq, &queue),
        Hubcast::with_tasks(&rabbitmq, &queue)
    );
    let tasks: Vec<String> = (0..10).map(|number| task(&number.to_string(), 1)).collect();
    rabbitmq.publish_all("", "jobs", &tasks).await;
    let mut here = RawWorker::join_to_answer(one.url(), r#"{"id":"here","capacity":2}"#).await;
    let mut there = RawWorker::join_to_answer(two.url(), r#"{"id":"there"}"#).await;
    let (first, second) = (here.hears_json().await, here.hears_json().await);
    there.hears_json().await;
    rabbitmq.queue_becomes("jobs", 7, 2).await;
    here.say(&json!({"done": first["id"]}).to_string()).await;
    here.hears_json().await;
    rabbitmq.queue_becomes("jobs", 6, 2).await;
    // Who has gone has room for none, and what it had is there again.
    drop(here);
    rabbitmq.queue_becomes("jobs", 6, 1).await;
    one.tasks_become(DEADLINE, &json!({"running": []})).await;
    let waiting = async || match two.tasks().await["waiting"].as_u64() {
        Some(8) => Ok(()),
        other => Err(format!("{other:?}")),
    };
    until(DEADLINE, "two have come back", waiting).await;
    assert_ne!(first["id"], second["id"]);
}

#[tokio::test]
async fn a_worker_has_its_id_on_one_server_only() {
    let rabbitmq = RabbitMq::start().await;
    let (one, two) = tokio::join!(
        Hubcast::with_tasks(&rabbitmq, &[]),
        Hubcast::with_tasks(&rabbitmq, &[])
    );
    let mut first = RawWorker::join(one.url(), "a").await;
    one.submit(&json!({"TaskName": "one", "TaskType": 1})).await;
    first.hears().await;
    let mut second = RawWorker::join(two.url(), "a").await;
    let (code, reason) = first.ends().await.unwrap();
    assert_eq!(
        (code, reason.as_str()),
        (1011, "A new client with same id was connected!")
    );
    one.submit(&json!({"TaskName": "two", "TaskType": 1})).await;
    assert_eq!(second.hears().await, "two");
}

#[tokio::test]
async fn a_rabbitmq_that_restarts_has_nothing_done_twice() {
    let mut rabbitmq = RabbitMq::start().await;
    let (one, two) = tokio::join!(
        Hubcast::with_tasks(&rabbitmq, &[]),
        Hubcast::with_tasks(&rabbitmq, &[])
    );
    let who = |id: &str| json!({"id": id, "capacity": 10}).to_string();
    let mut here = RawWorker::join_to_answer(one.url(), &who("here")).await;
    let mut there = RawWorker::join_to_answer(two.url(), &who("there")).await;
    // Half of them have an id, the others are all alike.
    for _ in 0..5 {
        one.submit(&json!({"TaskName": "With", "TaskType": 1}))
            .await;
        rabbitmq
            .publish("", "tasks", task("Without", 1).as_bytes())
            .await;
    }
    let running =
        async |server: &Hubcast| server.tasks().await["running"].as_array().unwrap().len();
    until(DEADLINE, "all are being done", async || {
        match running(&one).await + running(&two).await {
            10 => Ok(()),
            number => Err(number.to_string()),
        }
    })
    .await;
    let (mine, theirs) = (running(&one).await, running(&two).await);
    assert!(mine > 0 && theirs > 0, "{mine} and {theirs}");
    let mut told = Vec::new();
    for _ in 0..mine {
        told.push(here.hears_json().await);
    }
    // Some are done before RabbitMQ is back, some after.
    rabbitmq.vanish();
    until(DEADLINE, "the loss is noticed", async || {
        if one.tasks().await["waiting"].is_null() {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    })
    .await;
    let refused = one.post("/tasks", &task("x", 1)).await;
    assert_eq!(refused.status, 503);
    assert!(
        refused.body.starts_with("RabbitMQ is away"),
        "{}",
        refused.body
    );
    for task in &told {
        here.say(&json!({"done": task["id"]}).to_string()).await;
    }
    one.tasks_become(DEADLINE, &json!({"done": mine})).await;
    rabbitmq.appear().await;
    let nothing_waits = json!({"waiting": 0, "dead": 0});
    one.tasks_become(DEADLINE * 2, &nothing_waits).await;
    two.tasks_become(DEADLINE * 2, &nothing_waits).await;
    for _ in 0..theirs {
        let task = there.hears_json().await;
        there.say(&json!({"done": task["id"]}).to_string()).await;
    }
    two.tasks_become(DEADLINE, &json!({"done": theirs})).await;
    // Everything that came a second time has been dealt with when a new task has gone through, and the queues are empty without servers.
    let last = one
        .submit(&json!({"TaskName": "Last", "TaskType": 1}))
        .await;
    let told = tokio::select! {
        told = here.hears_json() => told,
        told = there.hears_json() => told,
    };
    assert_eq!(told["id"], json!(last));
    for worker in [&mut here, &mut there] {
        worker.say(&json!({"done": last}).to_string()).await;
    }
    until(DEADLINE, "eleven are done", async || {
        let (one, two) = (one.tasks().await, two.tasks().await);
        match one["done"].as_u64().unwrap() + two["done"].as_u64().unwrap() {
            11 => Ok(()),
            number => Err(number.to_string()),
        }
    })
    .await;
    // What one server asks the other about is nowhere to be seen meanwhile.
    let mut calm_since = None;
    until(DEADLINE, "nothing waits for a while", async || {
        for server in [&one, &two] {
            let waiting = server.tasks().await["waiting"].clone();
            if waiting != json!(0) {
                calm_since = None;
                return Err(waiting.to_string());
            }
        }
        let since = *calm_since.get_or_insert_with(Instant::now);
        let is_long = since.elapsed() > Duration::from_secs(2);
        is_long.then_some(()).ok_or_else(|| "0".to_owned())
    })
    .await;
    for mut server in [one, two] {
        server.signal(nix::sys::signal::Signal::SIGTERM);
        server.exit(DEADLINE).await;
    }
    for queue in ["tasks", "tasks.retry", "tasks.dead"] {
        rabbitmq.queue_becomes(queue, 0, 0).await;
    }
}

/// After a connection was lost, a task may be in the queue where it was and in the queue to which it was on its way, and both may come at once.
#[tokio::test]
async fn copies_of_a_task_that_come_at_once_are_done_once() {
    let rabbitmq = RabbitMq::start().await;
    let (one, two) = tokio::join!(
        Hubcast::with_tasks(&rabbitmq, &[]),
        Hubcast::with_tasks(&rabbitmq, &[])
    );
    let who = |id: &str| json!({"id": id, "capacity": 10}).to_string();
    let mut here = RawWorker::join(one.url(), &who("here")).await;
    let mut there = RawWorker::join(two.url(), &who("there")).await;
    rabbitmq.queue_becomes("tasks", 0, 2).await;
    let copy = |number: u32| {
        let mut headers = FieldTable::default();
        headers.insert("x-hubcast-maybe-twice".into(), AMQPValue::Boolean(true));
        let properties = BasicProperties::default()
            .with_message_id(number.to_string().into())
            .with_headers(headers);
        (properties, task(&number.to_string(), 1))
    };
    // Next to each other, so that they go to both servers, and then three of each, so that one server has two.
    let copies = (0..5).flat_map(|number| [copy(number), copy(number)]);
    let thrice = (5..10).flat_map(|number| [copy(number), copy(number), copy(number)]);
    rabbitmq
        .publish_with("", "tasks", copies.chain(thrice))
        .await;
    let mut names = Vec::new();
    while names.len() < 10 {
        names.push(tokio::select! {
            name = here.hears() => name,
            name = there.hears() => name,
        });
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 10, "{names:?}");
    // The copies are put off, and have come and gone when nothing is left in any queue without servers.
    for number in 0..10 {
        let copies = if number < 5 { 1 } else { 2 };
        let came = format!("task=\"{number}\" known=Done");
        until(DEADLINE, &came, async || {
            let output = one.output() + &two.output();
            match output.matches(&came).count() {
                gone if gone == copies => Ok(()),
                gone => Err(gone.to_string()),
            }
        })
        .await;
    }
    let done = |tasks: Value| tasks["done"].as_u64().unwrap();
    assert_eq!(done(one.tasks().await) + done(two.tasks().await), 10);
    drop((one, two));
    for queue in ["tasks", "tasks.retry", "tasks.dead"] {
        rabbitmq.queue_becomes(queue, 0, 0).await;
    }
}

#[tokio::test]
async fn a_task_without_an_id_that_comes_to_another_server_meanwhile_is_done_once() {
    let rabbitmq = RabbitMq::start().await;
    let relay = Relay::to(rabbitmq.url().strip_prefix("amqp://").unwrap()).await;
    let one = Hubcast::with_tasks_at(&format!("amqp://{}", relay.authority()), &[]).await;
    let two = Hubcast::with_tasks(&rabbitmq, &[]).await;
    let mut here = RawWorker::join_to_answer(one.url(), "here").await;
    rabbitmq
        .publish("", "tasks", task("Demo", 1).as_bytes())
        .await;
    let told = here.hears_json().await;
    let mut there = RawWorker::join(two.url(), "there").await;
    rabbitmq.queue_becomes("tasks", 0, 2).await;
    // What one server had goes to the other, which asks, and is told.
    relay.cut();
    let comes = async |server: &Hubcast, known: &str| {
        let what = format!("it comes again, and is {known}");
        until(DEADLINE, what, async || match server.output() {
            output if output.contains(known) => Ok(()),
            output => Err(output),
        })
        .await;
    };
    comes(&two, "known=Running").await;
    here.say(&json!({"done": told["id"]}).to_string()).await;
    one.tasks_become(DEADLINE, &json!({"done": 1})).await;
    // The worker there is the only one now, so what was put off comes there.
    drop(here);
    comes(&two, "known=Done").await;
    two.submit(&json!({"TaskName": "Last", "TaskType": 1}))
        .await;
    assert_eq!(there.hears().await, "Last");
}

#[tokio::test]
async fn workers_of_one_type_do_not_slow_those_of_another_down() {
    let rabbitmq = RabbitMq::start().await;
    let (one, two) = tokio::join!(
        Hubcast::with_tasks(&rabbitmq, &[]),
        Hubcast::with_tasks(&rabbitmq, &[])
    );
    let mut idle = RawWorker::join(one.url(), r#"{"id":"idle","types":[1]}"#).await;
    let mut busy = RawWorker::join_to_answer(two.url(), r#"{"id":"busy","types":[2]}"#).await;
    // What nobody does stays in the way of nobody.
    let mut stuck = RawWorker::join_to_answer(one.url(), r#"{"id":"stuck","types":[3]}"#).await;
    let tasks: Vec<String> = (0..5).map(|number| task(&number.to_string(), 3)).collect();
    rabbitmq.publish_all("", "tasks", &tasks).await;
    stuck.hears().await;
    let tasks: Vec<String> = (0..60).map(|number| task(&number.to_string(), 2)).collect();
    rabbitmq.publish_all("", "tasks", &tasks).await;
    rabbitmq
        .publish("", "tasks", task("last", 1).as_bytes())
        .await;
    tokio::join!(
        async {
            for _ in 0..60 {
                let told = busy.hears_json().await;
                busy.say(&json!({"done": told["id"]}).to_string()).await;
            }
        },
        async {
            assert_eq!(idle.hears().await, "last");
        },
    );
}

#[tokio::test]
async fn of_two_workers_with_one_id_that_come_to_two_servers_at_once_one_stays() {
    let rabbitmq = RabbitMq::start().await;
    let (one, two) = tokio::join!(
        Hubcast::with_tasks(&rabbitmq, &[]),
        Hubcast::with_tasks(&rabbitmq, &[])
    );
    for round in 0..10 {
        let id = format!("w{round}");
        let (mut first, mut second) = tokio::join!(
            RawWorker::join(one.url(), &id),
            RawWorker::join(two.url(), &id)
        );
        let (code, reason) = tokio::select! {
            end = first.ends() => end,
            end = second.ends() => end,
        }
        .unwrap();
        assert_eq!(
            (code, reason.as_str()),
            (1011, "A new client with same id was connected!")
        );
        let left = async || {
            let (one, two) = (one.tasks().await, two.tasks().await);
            let here = [one, two].map(|tasks| tasks["workers"].as_array().unwrap().clone());
            here.concat()
                .iter()
                .filter(|it| it["id"] == json!(id))
                .count()
        };
        assert_eq!(left().await, 1);
        // Both servers have told each other all they had to when a task has gone through.
        let submitted = one.submit(&json!({"TaskName": id, "TaskType": 1})).await;
        let heard = tokio::select! {
            Ok(heard) = first.next() => heard,
            Ok(heard) = second.next() => heard,
        };
        assert_eq!(heard, id, "{submitted}");
        assert_eq!(left().await, 1);
    }
}

#[tokio::test]
async fn a_worker_that_moves_while_rabbitmq_is_away_is_on_one_server_afterwards() {
    let mut rabbitmq = RabbitMq::start().await;
    let (one, two) = tokio::join!(
        Hubcast::with_tasks(&rabbitmq, &[]),
        Hubcast::with_tasks(&rabbitmq, &[])
    );
    let mut before = RawWorker::join(one.url(), "a").await;
    rabbitmq.vanish();
    let mut after = RawWorker::join(two.url(), "a").await;
    two.tasks_become(DEADLINE, &json!({"waiting": null})).await;
    rabbitmq.appear().await;
    let (code, _) = before.ends().await.unwrap();
    assert_eq!(code, 1011);
    until(DEADLINE, "a task is taken", async || {
        match one.post("/tasks", &task("x", 1)).await.status {
            202 => Ok(()),
            status => Err(status.to_string()),
        }
    })
    .await;
    assert_eq!(after.hears().await, "x");
}
