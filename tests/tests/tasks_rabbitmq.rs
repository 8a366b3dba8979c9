//! Tasks in RabbitMQ: what it keeps, what several servers make of it, and what is left when it goes away in the middle.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a panic is the report of a test"
)]

use std::process::Command;
use std::time::{Duration, Instant};

use end_to_end::wait::{DEADLINE, until};
use end_to_end::{Hubcast, RabbitMq, RawWorker, Relay};
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions, ExchangeDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, ExchangeKind};
use serde_json::{Value, json};

/// A server on a queue of this RabbitMQ, with pauses of a second.
async fn serve(rabbitmq: &RabbitMq, further: &[&str]) -> Hubcast {
    serve_at(&rabbitmq.url(), further).await
}

/// The same with RabbitMQ at another address.
async fn serve_at(url: &str, further: &[&str]) -> Hubcast {
    let arguments = [&["--amqp", url, "--task-retry", "1"], further].concat();
    let server = Hubcast::start(&arguments).await;
    until(DEADLINE, "the queues are there", async || {
        match server.tasks().await {
            tasks if tasks["waiting"].is_number() => Ok(()),
            tasks => Err(tasks.to_string()),
        }
    })
    .await;
    server
}

fn task(name: &str, kind: i64) -> String {
    json!({"TaskName": name, "TaskType": kind}).to_string()
}

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
    let mut server = serve(&rabbitmq, &[]).await;
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
    let server = serve(&rabbitmq, &[]).await;
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
async fn servers_take_no_more_than_their_workers_can_have() {
    let rabbitmq = RabbitMq::start().await;
    // Declared by somebody else, as a classic queue.
    rabbitmq.declare_queue("jobs").await;
    let queue = ["--task-queue", "jobs"];
    let (one, two) = tokio::join!(serve(&rabbitmq, &queue), serve(&rabbitmq, &queue));
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
async fn what_is_given_up_can_be_looked_at_and_tried_again() {
    let rabbitmq = RabbitMq::start().await;
    let server = serve(&rabbitmq, &["--task-attempts", "2"]).await;
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
    let (one, two) = tokio::join!(serve(&rabbitmq, &attempts), serve(&rabbitmq, &attempts));
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
async fn a_worker_has_its_id_on_one_server_only() {
    let rabbitmq = RabbitMq::start().await;
    let (one, two) = tokio::join!(serve(&rabbitmq, &[]), serve(&rabbitmq, &[]));
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
    let (one, two) = tokio::join!(serve(&rabbitmq, &[]), serve(&rabbitmq, &[]));
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
    let (one, two) = tokio::join!(serve(&rabbitmq, &[]), serve(&rabbitmq, &[]));
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
    let one = serve_at(&format!("amqp://{}", relay.authority()), &[]).await;
    let two = serve(&rabbitmq, &[]).await;
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
    let server = serve(&rabbitmq, &[]).await;
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
    let server = serve(&rabbitmq, &[]).await;
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
async fn workers_of_one_type_do_not_slow_those_of_another_down() {
    let rabbitmq = RabbitMq::start().await;
    let (one, two) = tokio::join!(serve(&rabbitmq, &[]), serve(&rabbitmq, &[]));
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
async fn what_is_done_is_taken_out_of_a_rabbitmq_that_is_short_of_memory() {
    let rabbitmq = RabbitMq::start().await;
    let server = serve(&rabbitmq, &[]).await;
    let mut worker = RawWorker::join_to_answer(server.url(), "a").await;
    let tasks: Vec<String> = (0..20).map(|number| task(&number.to_string(), 1)).collect();
    rabbitmq.publish_all("", "tasks", &tasks).await;
    let first = worker.hears_json().await;
    rabbitmq.limit_memory("1MB").await;
    // To be published again, which is not possible now; a worker that comes is told to others, neither.
    let mut other = RawWorker::join_to_answer(server.url(), "b").await;
    let refusal = json!({"refuse": first["id"], "reason": "not now"}).to_string();
    worker.say(&refusal).await;
    for _ in 0..19 {
        let (who, told) = tokio::select! {
            told = worker.hears_json() => (&mut worker, told),
            told = other.hears_json() => (&mut other, told),
        };
        who.say(&json!({"done": told["id"]}).to_string()).await;
    }
    let body = server.get("/readyz").await.body;
    assert!(body.contains("RabbitMQ takes no messages"), "{body}");
    rabbitmq.limit_memory("4GB").await;
    let told = tokio::select! {
        told = worker.hears_json() => told,
        told = other.hears_json() => told,
    };
    assert_eq!(told["task"], first["task"]);
}

#[tokio::test]
async fn of_two_workers_with_one_id_that_come_to_two_servers_at_once_one_stays() {
    let rabbitmq = RabbitMq::start().await;
    let (one, two) = tokio::join!(serve(&rabbitmq, &[]), serve(&rabbitmq, &[]));
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
    let (one, two) = tokio::join!(serve(&rabbitmq, &[]), serve(&rabbitmq, &[]));
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
    until(DEADLINE, "the server says why", async || {
        let body = server.get("/readyz").await.body;
        if body.contains("tasks.servers") {
            Ok(())
        } else {
            Err(body)
        }
    })
    .await;
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
    let server = serve(&rabbitmq, &[]).await;
    let mut worker = RawWorker::join(server.url(), "a").await;
    until(DEADLINE, "the server says why", async || {
        let body = server.get("/readyz").await.body;
        if body.contains("queue 'tasks'") {
            Ok(())
        } else {
            Err(body)
        }
    })
    .await;
    drop(consumer);
    channel.close(200, "OK".into()).await.unwrap();
    rabbitmq.publish("", "tasks", task("x", 1).as_bytes()).await;
    assert_eq!(worker.hears().await, "x");
    assert_eq!(server.get("/readyz").await.body, r#"{"status":"ready"}"#);
}
