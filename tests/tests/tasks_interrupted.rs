//! Tasks that RabbitMQ interrupts: it closes the channel of a worker that is busy for long, or one of a server's connections, or takes nothing back.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a panic is the report of a test"
)]

use std::collections::HashSet;

use end_to_end::wait::{DEADLINE, until};
use end_to_end::worker::task;
use end_to_end::{Hubcast, RabbitMq, RawWorker};
use lapin::BasicProperties;
use nix::sys::signal::Signal;
use serde_json::json;

/// Has the servers tell when they lose their queue.
const TALKATIVE: [&str; 2] = ["--log", "info,hubcast_broker=debug"];

/// What they say then.
const LOST: &str = "the queue of tasks is lost";

/// What RabbitMQ says when it closes a channel on which nothing was acknowledged for too long.
const TIMED_OUT: &str = "timed out waiting for delivery acknowledgement";

/// So many tasks of a type, every second one with an id.
async fn publish(rabbitmq: &RabbitMq, count: usize, kind: i64) {
    let tasks = (0..count).map(|number| {
        let properties = BasicProperties::default();
        let name = number.to_string();
        let body = task(&name, kind);
        if number % 2 == 0 {
            (properties.with_message_id(name.into()), body)
        } else {
            (properties, body)
        }
    });
    rabbitmq.publish_with("", "tasks", tasks).await;
}

/// How many tasks have been done on these servers.
async fn done(servers: &[&Hubcast]) -> u64 {
    let mut done = 0;
    for server in servers {
        done += server.tasks().await["done"].as_u64().unwrap();
    }
    done
}

/// Ends the servers in good order, and looks whether anything is left.
async fn nothing_is_left(rabbitmq: &RabbitMq, servers: impl IntoIterator<Item = Hubcast>) {
    for mut server in servers {
        server.signal(Signal::SIGTERM);
        server.exit(DEADLINE).await;
    }
    for queue in ["tasks", "tasks.retry", "tasks.dead"] {
        rabbitmq.queue_becomes(queue, 0, 0).await;
    }
}

/// RabbitMQ closes the channel on which something was not acknowledged for `consumer_timeout`: half an hour, unless it is told otherwise.
#[tokio::test]
async fn a_task_that_takes_longer_than_rabbitmq_waits_is_done_once() {
    let rabbitmq = RabbitMq::start().await;
    let impatient = "application:set_env(rabbit, consumer_timeout, 1500), application:set_env(rabbit, channel_tick_interval, 500).";
    rabbitmq.control(&["eval", impatient]).await;
    let lease = ["--task-lease", "3"];
    let (one, two) = tokio::join!(
        Hubcast::with_tasks(&rabbitmq, &lease),
        Hubcast::with_tasks(&rabbitmq, &lease)
    );
    let mut busy = RawWorker::join_to_answer(one.url(), "busy").await;
    one.submit(&json!({"TaskName": "long", "TaskType": 1}))
        .await;
    let told = busy.hears_json().await;
    assert_eq!(told["task"], "long");
    let mut idle = RawWorker::join_to_answer(two.url(), "idle").await;
    // Its time is over three times, on whichever server it is then.
    let times = until(DEADLINE * 2, "RabbitMQ closes channels", async || {
        let progress = json!({"progress": told["id"], "text": "still at it"});
        busy.say(&progress.to_string()).await;
        match rabbitmq.output().matches(TIMED_OUT).count() {
            few if few < 3 => Err(few.to_string()),
            _ => Ok(()),
        }
    });
    times.await;
    busy.say(&json!({"done": told["id"]}).to_string()).await;
    until(DEADLINE, "it is done", async || {
        match done(&[&one, &two]).await {
            1 => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
    // What the other hears next, and first, is something else.
    drop(busy);
    let last = two
        .submit(&json!({"TaskName": "last", "TaskType": 1}))
        .await;
    let told = idle.hears_json().await;
    assert_eq!(told, json!({"id": last, "task": "last"}));
    idle.say(&json!({"done": last}).to_string()).await;
    let calm = json!({"waiting": 0, "dead": 0, "running": []});
    two.tasks_become(DEADLINE, &calm).await;
    nothing_is_left(&rabbitmq, [one, two]).await;
}

/// The connections of servers that publish with confirmations.
async fn publishing_connections(rabbitmq: &RabbitMq) -> Vec<String> {
    let connections = rabbitmq.control(&["list_connections", "pid", "client_properties"]);
    let connections = connections.await;
    let channels = rabbitmq
        .control(&["list_channels", "connection", "confirm"])
        .await;
    let ours = connections.lines().filter(|line| line.contains("hubcast"));
    let ours = ours.filter_map(|line| line.split_whitespace().next());
    let confirmed: HashSet<&str> = channels
        .lines()
        .filter_map(|line| line.strip_suffix("true"))
        .map(str::trim)
        .collect();
    ours.filter(|pid| confirmed.contains(pid))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn a_server_that_loses_only_the_connection_on_which_it_publishes_goes_on() {
    const TASKS: usize = 20;
    let rabbitmq = RabbitMq::start().await;
    let server = Hubcast::with_tasks(&rabbitmq, &TALKATIVE).await;
    // It publishes from the first task on that is put in.
    server
        .submit(&json!({"TaskName": "first", "TaskType": 1}))
        .await;
    publish(&rabbitmq, TASKS, 1).await;
    let who = json!({"id": "a", "capacity": 5}).to_string();
    let mut worker = RawWorker::join_to_answer(server.url(), &who).await;
    let mut told = Vec::new();
    while told.len() < 5 {
        told.push(worker.hears_json().await);
    }
    let publishing = publishing_connections(&rabbitmq).await;
    assert_eq!(publishing.len(), 1, "{publishing:?}");
    rabbitmq
        .control(&["close_connection", &publishing[0], "a test"])
        .await;
    until(DEADLINE, "it is closed", async || {
        let connections = rabbitmq.control(&["list_connections", "pid"]).await;
        if connections.contains(&publishing[0]) {
            Err(connections)
        } else {
            Ok(())
        }
    })
    .await;
    let mut names = HashSet::new();
    for number in 0..=TASKS {
        let told = match told.get(number) {
            Some(told) => told.clone(),
            None => worker.hears_json().await,
        };
        let name = told["task"].as_str().unwrap().to_owned();
        assert!(names.insert(name), "{told} a second time");
        worker.say(&json!({"done": told["id"]}).to_string()).await;
    }
    let all = json!({"done": TASKS + 1, "waiting": 0, "dead": 0, "running": []});
    server.tasks_become(DEADLINE, &all).await;
    let last = json!({"TaskName": "last", "TaskType": 1});
    let last = server.submit(&last).await;
    assert_eq!(worker.hears_json().await["id"], json!(last));
    worker.say(&json!({"done": last}).to_string()).await;
    server
        .tasks_become(DEADLINE, &json!({"done": TASKS + 2, "running": []}))
        .await;
    let output = server.output();
    assert!(!output.contains(LOST), "{output}");
    nothing_is_left(&rabbitmq, [server]).await;
}

#[tokio::test]
async fn a_server_that_loses_its_connection_while_rabbitmq_takes_no_messages_goes_on() {
    let rabbitmq = RabbitMq::start().await;
    let server = Hubcast::with_tasks(&rabbitmq, &TALKATIVE).await;
    publish(&rabbitmq, 4, 1).await;
    let mut worker = RawWorker::join_to_answer(server.url(), "a").await;
    let mut told = worker.hears_json().await;
    rabbitmq.limit_memory("1MB").await;
    // Told to the other servers, which RabbitMQ does not listen to.
    let _other = RawWorker::join(server.url(), r#"{"id":"b","types":[2]}"#).await;
    // The one that only reads; the other one is `blocked`.
    until(DEADLINE, "RabbitMQ closes the connection", async || {
        let connections = rabbitmq
            .control(&["list_connections", "pid", "state"])
            .await;
        let is_blocked = connections.contains("blocked");
        let reading = connections.lines().find(|line| line.ends_with("blocking"));
        let pid = reading.and_then(|line| line.split_whitespace().next());
        match pid.filter(|_| is_blocked) {
            Some(pid) => {
                rabbitmq.control(&["close_connection", pid, "a test"]).await;
                Ok(())
            }
            None => Err(connections),
        }
    })
    .await;
    until(DEADLINE, "the server notices", async || {
        let output = server.output();
        if output.contains(LOST) {
            Ok(())
        } else {
            Err(output)
        }
    })
    .await;
    // What was not delivered before is not asked about, and so it comes.
    let mut names = HashSet::new();
    for number in 0..4 {
        let name = told["task"].as_str().unwrap().to_owned();
        assert!(names.insert(name), "{told} a second time");
        worker.say(&json!({"done": told["id"]}).to_string()).await;
        if number < 3 {
            told = worker.hears_json().await;
        }
    }
    let all = json!({"done": 4, "waiting": 0, "running": []});
    server.tasks_become(DEADLINE, &all).await;
    let ready = server.get("/readyz").await.body;
    assert!(ready.contains("RabbitMQ takes no messages"), "{ready}");
    rabbitmq.limit_memory("4GB").await;
    nothing_is_left(&rabbitmq, [server]).await;
}

#[tokio::test]
async fn what_a_full_queue_does_not_take_back_is_done_when_there_is_room() {
    const TASKS: usize = 8;
    let rabbitmq = RabbitMq::start().await;
    // RabbitMQ waits for three minutes until it tries a full queue again, to which it moves something.
    let patience =
        "application:set_env(rabbit, dead_letter_worker_publisher_confirm_timeout, 1000).";
    rabbitmq.control(&["eval", patience]).await;
    let arguments = [&TALKATIVE[..], &["--task-attempts", "1"]].concat();
    let (one, two, silent) = tokio::join!(
        Hubcast::with_tasks(&rabbitmq, &arguments),
        Hubcast::with_tasks(&rabbitmq, &arguments),
        Hubcast::with_tasks(&rabbitmq, &arguments)
    );
    rabbitmq
        .publish("", "tasks", task("nobody's", 9).as_bytes())
        .await;
    publish(&rabbitmq, TASKS, 2).await;
    rabbitmq.close_queue("tasks").await;
    // While the others wait for its answer to who could do the first of the tasks, a worker has room, and RabbitMQ does not give it another one.
    silent.signal(Signal::SIGSTOP);
    let mut able = RawWorker::join_to_answer(one.url(), r#"{"id":"able","types":[2]}"#).await;
    let first = u32::try_from(TASKS).unwrap();
    rabbitmq.queue_becomes("tasks", first, 1).await;
    // So what this one is given goes back for that one, into a queue that is full.
    let mut unable = RawWorker::join(two.url(), r#"{"id":"unable","types":[1]}"#).await;
    let mut names = HashSet::new();
    let working = async {
        while names.len() < TASKS {
            let told = able.hears_json().await;
            let name = told["task"].as_str().unwrap().to_owned();
            assert!(names.insert(name), "{told} a second time");
            able.say(&json!({"done": told["id"]}).to_string()).await;
        }
    };
    tokio::join!(working, async {
        until(DEADLINE, "nothing waits any more", async || match rabbitmq
            .queue("tasks")
            .await
            .unwrap()
            .messages
        {
            0 => Ok(()),
            many => Err(many.to_string()),
        })
        .await;
        rabbitmq.open_queue().await;
    });
    let all = json!({"done": TASKS, "waiting": 0, "dead": 1, "running": []});
    one.tasks_become(DEADLINE, &all).await;
    for server in [&one, &two] {
        assert!(!server.output().contains(LOST), "{}", server.output());
    }
    one.submit(&json!({"TaskName": "last", "TaskType": 1}))
        .await;
    assert_eq!(unable.hears().await, "last");
    rabbitmq.purge("tasks.dead").await;
    silent.signal(Signal::SIGCONT);
    nothing_is_left(&rabbitmq, [one, two, silent]).await;
}
