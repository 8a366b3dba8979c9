//! Ten thousand tasks through three servers and twenty workers that crash, hang, refuse, go and come back, while RabbitMQ is lost to one server, killed, stopped, and started
//! again, and a server killed: each of them is done or given up, and done twice only where nobody who is left could know better.

#![allow(
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a panic is the report of a test, and a storm that passes has something to tell, too"
)]

#[path = "storm/account.rs"]
mod account;
#[path = "storm/door.rs"]
mod door;
#[path = "storm/journal.rs"]
mod journal;
#[path = "storm/worker.rs"]
mod worker;

use std::collections::{BTreeMap, HashSet};
use std::env;
use std::sync::Arc;
use std::time::Duration;

use account::{Facts, Fate, verdict};
use door::{Kind, Who};
use end_to_end::wait::{DEADLINE, until};
use end_to_end::{Hubcast, RabbitMq, Relay};
use journal::Journal;
use lapin::BasicProperties;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use worker::{POISON, Worker};

/// How many tasks there are; that is counted without those that are malformed.
const TASKS: usize = 10_000;

/// How many of them are put in through servers, once RabbitMQ has been killed.
const THROUGH_SERVERS: usize = 300;

/// How long a worker has a task.
const LEASE: Duration = Duration::from_secs(2);

/// For how long nothing must be under way at the end: longer than servers ask each other about a task, which is nowhere to be seen meanwhile.
const CALM: Duration = Duration::from_secs(4);

/// For how long after a start of RabbitMQ they may ask about what was there before: five seconds until they connect, eight for those who have not by then, and some work.
const RETURN: Duration = Duration::from_secs(15);

/// How long the storm may take. It normally takes most of a minute.
const STORM: Duration = Duration::from_secs(90);

/// A type that no worker does.
const NOBODYS: i64 = 9;

const MALFORMED: [&[u8]; 4] = [
    b"no task",
    b"[\"storm\", 1]",
    b"{\"TaskName\":\"x\"}",
    b"\xff\x00",
];

struct Server {
    hubcast: Hubcast,
    /// What is between it and RabbitMQ.
    relay: Relay,
    /// When it was killed.
    deaths: Vec<Instant>,
}

async fn serve(rabbitmq: &RabbitMq) -> Server {
    let relay = Relay::to(rabbitmq.url().strip_prefix("amqp://").unwrap()).await;
    let amqp = format!("amqp://{}", relay.authority());
    let lease = LEASE.as_secs().to_string();
    let hubcast = Hubcast::start_to_return(&[
        "--amqp",
        &amqp,
        "--task-queue",
        "storm",
        "--task-lease",
        &lease,
        "--task-retry",
        "1",
    ])
    .await;
    hubcast.has_its_queues(DEADLINE * 2).await;
    Server {
        hubcast,
        relay,
        deaths: Vec::new(),
    }
}

/// The tasks: their names, and the message of each.
fn tasks() -> Vec<(String, Value)> {
    let task = |number: usize| {
        let (name, kind) = match number {
            // Some that all refuse, and some that nobody can do: early ones, since it takes a while until they are given up.
            1000..2000 if number.is_multiple_of(100) => (format!("{POISON}-{number}"), 2),
            1000..2000 if number % 100 == 50 => (format!("storm-{number}"), NOBODYS),
            _ => (
                format!("storm-{number}"),
                [1, 1, 1, 1, 2, 2, 3, 1, 1, 1][number % 10],
            ),
        };
        let message = json!({"TaskName": name, "TaskType": kind});
        (name, message)
    };
    (0..TASKS).map(task).collect()
}

/// Two in three have an id of their own, as tasks should; the others come as anybody publishes.
fn has_id(number: usize) -> bool {
    !number.is_multiple_of(3)
}

fn workers(
    seed: u64,
    servers: &[Server],
    journal: &Arc<Journal>,
    is_over: &watch::Receiver<bool>,
) -> JoinSet<()> {
    let mut workers = JoinSet::new();
    for number in 0..20 {
        let kind = match number {
            0..3 => Kind::Plain,
            3..10 => Kind::Answering,
            _ => Kind::Hub,
        };
        let types = match number % 4 {
            0 => json!([1, 2, 3, 4]),
            1 => json!([1]),
            2 => json!([1, 2]),
            _ => json!([1, 2, 3]),
        };
        // What all refuse must not come to a worker that takes everything for done.
        let types = if kind == Kind::Plain {
            json!([1, 3])
        } else {
            types
        };
        let worker = Worker {
            number,
            who: Who {
                kind,
                id: format!("worker-{number}"),
                types,
                capacity: 1 + number % 3,
            },
            random: fastrand::Rng::with_seed(seed.wrapping_add(number as u64)),
            servers: servers
                .iter()
                .map(|it| it.hubcast.url().to_owned())
                .collect(),
            lease: LEASE,
            journal: Arc::clone(journal),
            is_over: is_over.clone(),
        };
        workers.spawn(worker.work());
    }
    workers
}

/// Waits until that many tasks are finished, and fails if a worker does.
async fn finished(journal: &Journal, workers: &mut JoinSet<()>, number: usize) {
    let what = format!("{number} tasks are finished");
    until(STORM, what, async || {
        if let Some(ended) = workers.try_join_next() {
            panic!("a worker has ended: {ended:?}");
        }
        match journal.finished() {
            finished if finished >= number => Ok(()),
            finished => Err(finished.to_string()),
        }
    })
    .await;
}

/// Puts tasks in through servers, and gives those that may have been put in twice: a server that lost RabbitMQ meanwhile cannot know whether it has the task, which
/// then is put in once more, under another id.
async fn put_in_through(servers: &[Server], tasks: &[(String, Value)]) -> HashSet<String> {
    let mut doubtful = HashSet::new();
    for (number, (name, message)) in tasks.iter().enumerate() {
        let server = &servers[number % 3].hubcast;
        until(DEADLINE, "a server takes a task", async || {
            let answer = server.post("/tasks", &message.to_string()).await;
            match answer.status {
                202 => Ok(()),
                503 => {
                    doubtful.insert(name.clone());
                    Err(answer.body)
                }
                status => panic!("{status}: {}", answer.body),
            }
        })
        .await;
    }
    doubtful
}

/// Waits until nothing is under way any more, when RabbitMQ has been there since `start`.
async fn is_calm(servers: &[Server], expected_dead: u64, start: Instant) {
    let mut since = None;
    until(STORM, "nothing is under way", async || {
        let mut seen = String::new();
        for server in servers {
            let tasks = server.hubcast.tasks().await;
            let running = tasks["running"].as_array().unwrap();
            let dead = tasks["dead"].as_u64().unwrap_or_default();
            if !running.is_empty() || tasks["waiting"] != 0 || dead < expected_dead {
                seen = tasks.to_string();
            }
        }
        if seen.is_empty() {
            let since = *since.get_or_insert_with(Instant::now);
            seen.push_str("for a moment");
            if since.elapsed() >= CALM && start.elapsed() >= RETURN {
                return Ok(());
            }
        } else {
            since = None;
        }
        Err(seen)
    })
    .await;
}

/// The tasks that were given up, by their names, and why, each time; of those that are none the number.
async fn dead(server: &Hubcast) -> (BTreeMap<String, Vec<String>>, usize) {
    let answer: Value = serde_json::from_str(&server.get("/tasks/dead").await.body).unwrap();
    let mut dead = BTreeMap::<_, Vec<_>>::new();
    let mut malformed = 0;
    for task in answer["dead"].as_array().unwrap() {
        let reason = task["reason"].as_str().unwrap();
        if reason.starts_with("a task is JSON") {
            malformed += 1;
            continue;
        }
        assert_eq!(task["attempts"], 5, "{task}");
        let message: Value = serde_json::from_str(task["task"].as_str().unwrap()).unwrap();
        let name = message["TaskName"].as_str().unwrap().to_owned();
        dead.entry(name).or_default().push(reason.to_owned());
    }
    (dead, malformed)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_task_is_lost_in_a_storm_and_none_is_done_twice_without_a_reason() {
    let given = env::var("HUBCAST_STORM_SEED").ok();
    let seed = given.map_or_else(|| fastrand::u64(..), |seed| seed.parse().unwrap());
    // Shown only if the test fails, as is everything that a test prints.
    println!("HUBCAST_STORM_SEED={seed}");
    let began = Instant::now();
    let mut rabbitmq = RabbitMq::start().await;
    let (one, two, three) = tokio::join!(serve(&rabbitmq), serve(&rabbitmq), serve(&rabbitmq));
    let mut servers = [one, two, three];

    let all = tasks();
    let published: HashSet<String> = all.iter().map(|(name, _)| name.clone()).collect();
    // All workers do type 1.
    let special = all.iter().filter(|(_, message)| message["TaskType"] != 1);
    let special = special.map(|(name, _)| name.clone()).collect();
    let mut nameless = HashSet::new();
    let (through_servers, straight) = all.split_at(THROUGH_SERVERS);
    let mut messages: Vec<_> = MALFORMED
        .iter()
        .map(|message| (BasicProperties::default(), message.to_vec()))
        .collect();
    for (number, (name, message)) in straight.iter().enumerate() {
        let properties = if has_id(number) {
            BasicProperties::default().with_message_id(name.as_str().into())
        } else {
            nameless.insert(name.clone());
            BasicProperties::default()
        };
        messages.push((properties, message.to_string().into_bytes()));
    }
    let late = messages.split_off(TASKS * 7 / 10);

    let journal = Arc::new(Journal::default());
    let (end, is_over) = watch::channel(false);
    let mut workers = workers(seed, &servers, &journal, &is_over);
    rabbitmq.publish_with("", "storm", messages).await;

    finished(&journal, &mut workers, TASKS / 5).await;
    servers[0].relay.cut();

    finished(&journal, &mut workers, TASKS * 2 / 5).await;
    rabbitmq.vanish();
    rabbitmq.appear().await;
    rabbitmq.publish_with("", "storm", late).await;
    for server in &servers {
        server.hubcast.has_its_queues(DEADLINE * 2).await;
    }
    let doubtful = put_in_through(&servers, through_servers).await;
    let hopeless = published
        .iter()
        .filter(|name| name.starts_with(POISON))
        .count()
        + all
            .iter()
            .filter(|(_, message)| message["TaskType"] == NOBODYS)
            .count();
    finished(&journal, &mut workers, TASKS * 3 / 5).await;
    servers[1].hubcast.kill();
    servers[1].deaths.push(Instant::now());
    // Its workers are elsewhere by then.
    finished(&journal, &mut workers, TASKS * 3 / 5 + TASKS / 50).await;
    servers[1].hubcast.come_back().await;

    finished(&journal, &mut workers, TASKS * 4 / 5).await;
    rabbitmq.stop().await;
    rabbitmq.appear().await;
    let start = Instant::now();

    finished(&journal, &mut workers, TASKS - hopeless - 50).await;
    is_calm(&servers, (hopeless + MALFORMED.len()) as u64, start).await;

    let (dead, malformed) = dead(&servers[0].hubcast).await;
    assert_eq!(malformed, MALFORMED.len());
    end.send_replace(true);
    while let Some(ended) = workers.join_next().await {
        ended.unwrap();
    }
    let fates = servers.iter().map(|server| Fate {
        losses: server.relay.ends(),
        deaths: server.deaths.clone(),
    });
    let facts = Facts {
        began,
        published,
        doubtful,
        nameless,
        special,
        dead,
        fates: fates.collect(),
    };
    for server in &mut servers {
        server.hubcast.assert_calm(&[]);
        server.hubcast.signal(Signal::SIGTERM);
        server.hubcast.exit(DEADLINE).await;
    }
    for queue in ["storm", "storm.retry"] {
        rabbitmq.queue_becomes(queue, 0, 0).await;
    }
    match verdict(&journal, &facts) {
        Ok(line) => println!("{line}, {:.0} s", began.elapsed().as_secs_f64()),
        Err(wrong) => panic!("{wrong}"),
    }
}
