//! The task centre by itself: its doors, for workers of both kinds and for those who have tasks.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use std::time::Duration;

use end_to_end::http::request;
use end_to_end::wait::{DEADLINE, until, within};
use end_to_end::{Hubcast, RawWorker, Socket};
use hubcast_client::{HubConnection, HubConnectionBuilder, HubConnectionState, InvokeError};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_tungstenite::tungstenite::Message;

/// How often a race is run that may be lost.
const ROUNDS: u64 = 20;

/// A worker that speaks SignalR, and what it was told to do. It does a task when it is told what to say of it.
struct HubWorker {
    connection: HubConnection,
    told: UnboundedReceiver<Value>,
    verdicts: UnboundedSender<Result<String, String>>,
}

impl HubWorker {
    async fn connect(server: &Hubcast) -> Self {
        let connection = HubConnectionBuilder::new(&format!("{}/taskHub", server.url()))
            .build()
            .unwrap();
        let (tell, told) = unbounded_channel();
        let (verdicts, waiting) = unbounded_channel();
        let waiting = std::sync::Arc::new(tokio::sync::Mutex::new(waiting));
        connection.on_result("ExecuteTask", move |task: Value| {
            let _ = tell.send(task);
            let waiting = waiting.clone();
            async move {
                let verdict = waiting.lock().await.recv().await;
                verdict.unwrap_or_else(|| Err("the test is over".to_owned()))
            }
        });
        let started = within(DEADLINE, "a worker connects", connection.start());
        started.await.unwrap();
        Self {
            connection,
            told,
            verdicts,
        }
    }

    async fn join(server: &Hubcast, id: &str, types: &[i64]) -> Self {
        let worker = Self::connect(server).await;
        worker.register(id, &json!(types), &json!(1)).await.unwrap();
        worker
    }

    async fn register(&self, id: &str, types: &Value, capacity: &Value) -> Result<(), String> {
        let call = self
            .connection
            .invoke::<()>("Register", (id, types, capacity));
        match within(DEADLINE, "Register", call).await {
            Ok(()) => Ok(()),
            Err(InvokeError::Server(text)) => Err(text),
            Err(error) => panic!("{error}"),
        }
    }

    async fn is_told(&mut self) -> Value {
        within(DEADLINE, "a task", self.told.recv()).await.unwrap()
    }

    fn does(&self) {
        self.verdicts.send(Ok("done".into())).unwrap();
    }

    fn refuses(&self, reason: &str) {
        self.verdicts.send(Err(reason.into())).unwrap();
    }
}

#[tokio::test]
async fn a_raw_worker_gets_tasks_as_texts_one_after_the_other() {
    let mut server = Hubcast::start(&[]).await;
    let mut worker = RawWorker::join(server.url(), "a").await;
    for (name, kind, text) in [
        ("Demo", 1, "Demo"),
        ("Demo", 2, "Special-Demo"),
        ("", 1, ""),
        ("世界\n{}", -3, "Special-世界\n{}"),
    ] {
        server
            .submit(&json!({"TaskName": name, "TaskType": kind}))
            .await;
        assert_eq!(worker.hears().await, text);
        // Need not answer, and may say anything.
        worker.say("thank you").await;
    }
    let done = json!({"done": 4, "running": [], "waiting": 0, "dead": 0});
    server.tasks_become(DEADLINE, &done).await;
    server.assert_calm(&[]);
}

#[tokio::test]
async fn a_second_worker_with_the_same_id_closes_the_first() {
    let log = ["--log", "info,hubcast_broker=debug"];
    let mut server = Hubcast::start(&log).await;
    let mut first = RawWorker::join(server.url(), "a").await;
    server
        .submit(&json!({"TaskName": "one", "TaskType": 1}))
        .await;
    assert_eq!(first.hears().await, "one");
    let mut second = RawWorker::join(server.url(), r#"{"id": " a", "types": [1]}"#).await;
    let (code, reason) = first.ends().await.unwrap();
    assert_eq!(code, 1011);
    assert_eq!(reason, "A new client with same id was connected!");
    server
        .submit(&json!({"TaskName": "two", "TaskType": 1}))
        .await;
    assert_eq!(second.hears().await, "two");
    assert_eq!(server.tasks().await["workers"].as_array().unwrap().len(), 1);

    let [told, who] = ["a worker has to go", r#"worker="a""#];
    server.logs(DEADLINE, &[told, who, "door=Push"]).await;

    // Whichever door it comes through.
    let mut third = HubWorker::join(&server, "a", &[1]).await;
    assert_eq!(second.ends().await.unwrap().0, 1011);
    server
        .submit(&json!({"TaskName": "three", "TaskType": 1}))
        .await;
    assert_eq!(third.is_told().await["name"], "three");
    let mut fourth = RawWorker::join(server.url(), "a").await;
    assert_eq!(fourth.hears().await, "three");
    // It is still at it; nobody wants to know.
    third.does();
    until(DEADLINE, "the third is closed", async || {
        match third.connection.state() {
            HubConnectionState::Disconnected => Ok(()),
            state => Err(format!("{state:?}")),
        }
    })
    .await;
    server.logs(DEADLINE, &[told, who, "door=Push"]).await;
    server.logs(DEADLINE, &[told, who, "door=TaskHub"]).await;
    drop(fourth);
    server
        .logs(DEADLINE, &["DEBUG", "has gone", who, "door=Push"])
        .await;
}

#[tokio::test]
async fn a_raw_worker_may_say_when_it_is_done() {
    let server = Hubcast::start(&["--task-retry", "1"]).await;
    let mut worker = RawWorker::join_to_answer(server.url(), r#"{"id":"a","capacity":2}"#).await;
    let first = server
        .submit(&json!({"TaskName": "first", "TaskType": 1}))
        .await;
    let second = server
        .submit(&json!({"TaskName": "second", "TaskType": 2}))
        .await;
    server
        .submit(&json!({"TaskName": "third", "TaskType": 1}))
        .await;
    assert_eq!(
        worker.hears_json().await,
        json!({"id": first, "task": "first"})
    );
    let special = json!({"id": second, "task": "Special-second"});
    assert_eq!(worker.hears_json().await, special);
    let tasks = server.tasks().await;
    assert_eq!(tasks["waiting"], 1, "it has room for two: {tasks}");

    worker
        .say(&json!({"progress": first, "text": "half of it"}).to_string())
        .await;
    let busy = server.tasks_become(DEADLINE, &json!({"waiting": 1})).await;
    assert_eq!(busy["running"].as_array().unwrap().len(), 2);
    worker.say(&json!({"done": first}).to_string()).await;
    assert_eq!(worker.hears_json().await["task"], "third");
    // Twice is once too often, and what is no answer is told so.
    worker.say(&json!({"done": first}).to_string()).await;
    let objection = worker.hears_json().await;
    assert_eq!(
        objection,
        json!({"error": "You have no task of that id.", "id": first})
    );
    for nonsense in ["done", "{}", r#"{"done": 1}"#, "[]"] {
        worker.say(nonsense).await;
        let objection = worker.hears_json().await;
        assert!(
            objection["error"].as_str().unwrap().starts_with("Say "),
            "{objection}"
        );
    }
    worker
        .say(&json!({"refuse": second, "reason": "not now"}).to_string())
        .await;
    // And comes again.
    assert_eq!(worker.hears_json().await, special);
    worker.say(&json!({"done": second}).to_string()).await;
    let done = server.tasks_become(DEADLINE, &json!({"done": 2})).await;
    assert_eq!(done["running"][0]["name"], "third");
}

#[tokio::test]
async fn who_is_no_worker_is_told_why() {
    let mut server = Hubcast::start(&[]).await;
    for (who, why) in [
        ("", "A worker needs an id."),
        ("  \t ", "A worker needs an id."),
        (r#"{"id":""}"#, "A worker needs an id."),
        ("a\u{7}b", "no control characters"),
        (
            "\u{200b}\u{2060}",
            "cannot be seen, and this one has U+200B",
        ),
        (r#"{"id":"a","types":[]}"#, "1 to 100 types"),
        (r#"{"id":"a","capacity":0}"#, "1 to 1000"),
        (r#"{"id":"a","capacity":-1}"#, "Not a worker"),
        (r#"{"types":[1]}"#, "missing field `id`"),
        ("{", "Not a worker"),
        (&"x".repeat(129), "128 bytes at most"),
    ] {
        let mut worker = RawWorker::join(server.url(), who).await;
        let (code, reason) = worker.ends().await.unwrap();
        assert_eq!(code, 1008, "{who}");
        assert!(reason.contains(why), "{who}: {reason}");
    }
    let mut worker = RawWorker::join(server.url(), "a").await;
    worker.send(Message::binary(vec![1, 2, 3])).await;
    assert_eq!(worker.ends().await.unwrap().0, 1003);
    assert_eq!(server.get("/push").await.status, 400);
    let elsewhere = [("origin", "https://elsewhere.example")];
    let refused = Socket::open_with(server.url(), "/push", &elsewhere).await;
    assert_eq!(refused.err(), Some(403));
    assert_eq!(server.tasks().await["workers"], json!([]));
    server.assert_calm(&[]);
}

#[tokio::test]
async fn the_result_of_a_signalr_worker_is_its_acknowledgement() {
    let mut server = Hubcast::start(&["--task-retry", "1", "--task-attempts", "2"]).await;
    let mut worker = HubWorker::join(&server, "a", &[1, 2]).await;
    let id = server
        .submit(&json!({"TaskName": "Demo", "TaskType": 2}))
        .await;
    let told = worker.is_told().await;
    assert_eq!(
        told,
        json!({"id": id, "name": "Demo", "type": 2, "attempt": 1})
    );
    let tasks = server.tasks().await;
    assert_eq!(tasks["running"][0]["worker"], "a");
    assert_eq!(tasks["workers"][0]["door"], "taskHub");

    let progress = worker
        .connection
        .invoke::<()>("Progress", (&id, "half of it"));
    within(DEADLINE, "Progress", progress).await.unwrap();
    assert_eq!(server.tasks().await["running"][0]["progress"], "half of it");
    worker.does();
    server
        .tasks_become(DEADLINE, &json!({"done": 1, "running": []}))
        .await;
    let progress = worker.connection.invoke::<()>("Progress", (&id, "more"));
    let refusal = within(DEADLINE, "Progress", progress).await.unwrap_err();
    assert!(
        refusal
            .to_string()
            .ends_with("You have no task of that id."),
        "{refusal}"
    );

    // Refused twice, and given up; then given another chance.
    let id = server
        .submit(&json!({"TaskName": "Hard", "TaskType": 1}))
        .await;
    for attempt in 1..=2 {
        assert_eq!(worker.is_told().await["attempt"], attempt);
        worker.refuses("too hard");
    }
    server.tasks_become(DEADLINE, &json!({"dead": 1})).await;
    let dead: Value = serde_json::from_str(&server.get("/tasks/dead").await.body).unwrap();
    let dead = &dead["dead"][0];
    assert_eq!((&dead["id"], &dead["attempts"]), (&json!(id), &json!(2)));
    assert!(
        dead["reason"].as_str().unwrap().contains("too hard"),
        "{dead}"
    );
    let path = format!("/tasks/dead/retry?id={id}");
    assert_eq!(
        server.post(&path, "").await.body,
        r#"{"retried":1,"left":0}"#
    );
    assert_eq!(worker.is_told().await["attempt"], 1);
    worker.does();
    server
        .tasks_become(DEADLINE, &json!({"done": 2, "dead": 0}))
        .await;
    worker.connection.stop().await;
    server.tasks_become(DEADLINE, &json!({"workers": []})).await;
    server.assert_calm(&[]);
}

#[tokio::test]
async fn a_signalr_worker_that_cannot_be_is_told_why() {
    let server = Hubcast::start(&[]).await;
    let worker = HubWorker::connect(&server).await;
    let progress = worker.connection.invoke::<()>("Progress", ("x", "y"));
    let refusal = within(DEADLINE, "Progress", progress).await.unwrap_err();
    assert!(
        refusal.to_string().ends_with("Call Register first."),
        "{refusal}"
    );
    for (id, types, capacity, why) in [
        ("", json!(null), json!(1), "needs an id"),
        ("\u{2800}", json!(null), json!(1), "cannot be seen"),
        ("a", json!([]), json!(1), "1 to 100 types"),
        ("a", json!([1]), json!(0), "The capacity"),
        ("a", json!([1]), json!(-5), "The capacity"),
        ("a", json!("all"), json!(1), "Failed to invoke 'Register'"),
    ] {
        let error = worker.register(id, &types, &capacity).await.unwrap_err();
        assert!(error.contains(why), "{error}");
    }
    worker
        .register("a", &json!(null), &json!(null))
        .await
        .unwrap();
    let error = worker
        .register("b", &json!(null), &json!(1))
        .await
        .unwrap_err();
    assert!(error.contains("is a worker's already"), "{error}");
    let workers = server.tasks().await["workers"].clone();
    let expected =
        json!([{"id": "a", "door": "taskHub", "types": null, "capacity": 1, "running": 0}]);
    assert_eq!(workers, expected);
}

#[tokio::test]
async fn a_worker_that_breaks_off_or_is_late_loses_its_task_to_another() {
    let server = Hubcast::start(&["--task-lease", "1"]).await;
    let mut slow = HubWorker::join(&server, "slow", &[1]).await;
    let id = server
        .submit(&json!({"TaskName": "Demo", "TaskType": 1}))
        .await;
    assert_eq!(slow.is_told().await["attempt"], 1);
    let who = r#"{"id": "quick", "types": [1]}"#;
    let mut quick = RawWorker::join_to_answer(server.url(), who).await;
    assert_eq!(
        quick.hears_json().await["id"],
        json!(id),
        "the lease is over"
    );
    // Its late answer counts for nothing.
    slow.does();
    slow.connection.stop().await;
    let workers = server.tasks_become(DEADLINE, &json!({"done": 0})).await;
    assert_eq!(workers["running"][0]["worker"], "quick");
    assert_eq!(workers["running"][0]["attempt"], 2);
    drop(quick);
    let mut last = RawWorker::join_to_answer(server.url(), who).await;
    assert_eq!(last.hears_json().await["id"], json!(id));
    last.say(&json!({"done": id}).to_string()).await;
    server.tasks_become(DEADLINE, &json!({"done": 1})).await;
}

#[tokio::test]
async fn what_is_no_task_is_refused_at_the_door() {
    let mut server = Hubcast::start(&[]).await;
    for (body, status, why) in [
        ("", 400, "EOF"),
        ("Demo", 400, "expected value"),
        (r#"{"TaskName":"Demo"}"#, 400, "TaskType"),
        (r#"[{"TaskName":"Demo","TaskType":1}]"#, 400, "array"),
        (
            &"x".repeat(65 * 1024),
            413,
            "a task has 65536 bytes at most",
        ),
    ] {
        let answer = server.post("/tasks", body).await;
        assert_eq!(answer.status, status, "{}", answer.body);
        assert!(answer.body.contains(why), "{}", answer.body);
    }
    let elsewhere = [("Origin", "https://elsewhere.example")];
    for path in ["/tasks", "/tasks/dead/retry"] {
        let task = r#"{"TaskName":"Demo","TaskType":1}"#;
        let answer = request(server.url(), "POST", path, &elsewhere, task).await;
        assert_eq!(answer.unwrap().status, 403, "{path}");
    }
    let nothing = json!({
        "workers": [], "workerCount": 0, "running": [], "runningCount": 0, "waiting": 0, "done": 0, "dead": 0
    });
    assert_eq!(server.tasks().await, nothing);
    server.assert_calm(&[]);
}

#[tokio::test]
async fn a_server_without_the_task_centre_has_none_of_its_doors() {
    let mut server = Hubcast::start(&["--no-tasks"]).await;
    for (method, path) in [
        ("GET", "/tasks"),
        ("POST", "/tasks"),
        ("GET", "/tasks/dead"),
        ("POST", "/tasks/dead/retry"),
        ("POST", "/taskHub/negotiate?negotiateVersion=1"),
        ("POST", "/TASKHUB/negotiate?negotiateVersion=1"),
    ] {
        let answer = request(server.url(), method, path, &[], "").await.unwrap();
        assert_eq!(answer.status, 404, "{method} {path}");
    }
    for path in ["/push", "/taskHub"] {
        let refused = Socket::open_with(server.url(), path, &[]).await;
        assert_eq!(refused.err(), Some(404), "{path}");
    }
    assert!(Socket::open_with(server.url(), "/ws", &[]).await.is_ok());
    server.becomes("ready", DEADLINE).await;
    server.assert_calm(&[]);
    server.signal(Signal::SIGTERM);
    assert!(server.exit(DEADLINE).await.success());
}

#[tokio::test]
async fn a_server_that_stops_lets_workers_finish() {
    let mut server = Hubcast::start(&[]).await;
    let mut worker = RawWorker::join_to_answer(server.url(), "a").await;
    let id = server
        .submit(&json!({"TaskName": "Demo", "TaskType": 1}))
        .await;
    server
        .submit(&json!({"TaskName": "Late", "TaskType": 1}))
        .await;
    worker.hears().await;
    server.signal(Signal::SIGTERM);
    server.logs(DEADLINE, &["stopping"]).await;
    worker.say(&json!({"done": id}).to_string()).await;
    assert_eq!(worker.ends().await.unwrap().0, 1001, "and nothing new");
    let ended = server.exit(Duration::from_secs(6)).await;
    assert!(ended.success());
    assert!(
        !server.output().contains("not done in time"),
        "{}",
        server.output()
    );
}

#[tokio::test]
async fn what_a_hub_worker_says_before_it_goes_counts() {
    let server = Hubcast::start(&[]).await;
    for round in 1..=ROUNDS {
        let socket = Socket::open_with(server.url(), "/taskHub", &[]).await;
        let mut socket = socket.unwrap();
        socket.shake().await;
        socket
            .send("{\"type\":1,\"target\":\"Register\",\"arguments\":[\"a\",null,null]}\u{1e}")
            .await;
        server
            .submit(&json!({"TaskName": "Demo", "TaskType": 1}))
            .await;
        let told = socket.records().await.remove(0);
        let done = json!({"type": 3, "invocationId": told["invocationId"], "result": null});
        // Both at once, and nobody waits for an answer.
        socket
            .send(format!("{done}\u{1e}{{\"type\":7}}\u{1e}"))
            .await;
        drop(socket);
        let wanted = json!({"done": round, "running": [], "waiting": 0, "workers": []});
        server.tasks_become(DEADLINE, &wanted).await;
    }
}
