//! Calls of the server.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, sleep};

use super::server::{connected, next, settings, within};
use crate::{ConnectionError, ConnectionEvent, HubConnection};

/// Collects what handlers tell.
fn log() -> (
    impl Fn(String) + Clone + Send + Sync,
    UnboundedReceiver<String>,
) {
    let (sender, receiver) = unbounded_channel();
    let tell = move |text: String| sender.send(text).unwrap();
    (tell, receiver)
}

async fn told(log: &mut UnboundedReceiver<String>) -> String {
    within("a handler's word", log.recv()).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn handlers_run_one_at_a_time_and_in_the_order_of_the_calls() {
    let (connection, mut server) = connected(settings()).await;
    let (tell, mut log) = log();
    let slow = tell.clone();
    connection.on("Slow", move |name: String| {
        let tell = slow.clone();
        async move {
            tell(format!("{name} begins"));
            sleep(Duration::from_secs(1)).await;
            tell(format!("{name} ends"));
        }
    });
    connection.on("Quick", move |a: i32, b: Option<String>| {
        tell(format!("{a} {b:?}"));
    });
    server
        .send_all(&[
            r#"{"type":1,"target":"slow","arguments":["a"]}"#,
            r#"{"type":1,"target":"QUICK","arguments":[1,null]}"#,
            r#"{"type":1,"target":"Slow","arguments":["b"]}"#,
        ])
        .await;
    for expected in ["a begins", "a ends", "1 None", "b begins", "b ends"] {
        assert_eq!(told(&mut log).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_method_may_have_several_handlers_which_can_be_removed() {
    let (connection, mut server) = connected(settings()).await;
    let (tell, mut log) = log();
    let add = |name: &'static str| {
        let tell = tell.clone();
        connection.on("X", move || tell(name.to_owned()))
    };
    let (first, _second) = (add("first"), add("second"));
    server.call("X", json!([])).await;
    assert_eq!(told(&mut log).await, "first");
    assert_eq!(told(&mut log).await, "second");

    first.unsubscribe();
    server.call("X", json!([])).await;
    assert_eq!(told(&mut log).await, "second");

    connection.off("X");
    server.call("X", json!([])).await;
    // Once this is answered, the call before it has been handled.
    server.ask("X", json!([])).await;
    assert!(log.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_a_handler_is_skipped_and_the_next_call_is_handled() {
    let (connection, mut server) = connected(settings()).await;
    let (tell, mut log) = log();
    connection.on("Number", move |number: u8| tell(number.to_string()));
    for arguments in [
        json!([]),
        json!(["1"]),
        json!([256]),
        json!([1, 2]),
        json!([null]),
    ] {
        server.call("Number", arguments).await;
    }
    server.call("Nobody", json!([{"a": []}])).await;
    server.call("Number", json!([7])).await;
    assert_eq!(told(&mut log).await, "7");
    assert!(log.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn results_are_answered() {
    let (connection, mut server) = connected(settings()).await;
    connection.on_result("Double", |number: i32| match number {
        0 => Err("not zero"),
        number => Ok(number * 2),
    });
    connection.on_result("Later", |text: String| async move {
        sleep(Duration::from_secs(1)).await;
        if text.is_empty() {
            Err(String::new())
        } else {
            Ok(Some(text))
        }
    });
    connection.on("Plain", |_: i32| ());
    connection.on_result("Broken", || -> Result<(), String> { panic!("on purpose") });
    let error = |text: &str| json!({ "error": text });
    for (target, arguments, answer) in [
        ("double", json!([4]), json!({"result": 8})),
        ("Double", json!([0]), error("not zero")),
        (
            "Double",
            json!([]),
            error("Client failed to parse argument(s)."),
        ),
        ("Later", json!(["a"]), json!({"result": "a"})),
        ("Later", json!([""]), error("unknown error")),
        ("Plain", json!([]), error("Client didn't provide a result.")),
        (
            "Nobody",
            json!([]),
            error("Client didn't provide a result."),
        ),
        (
            "Broken",
            json!([]),
            error("The handler of the client panicked."),
        ),
        ("Double", json!([1]), json!({"result": 2})),
    ] {
        assert_eq!(server.ask(target, arguments).await, answer, "{target}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_later_handler_with_a_result_answers_and_those_without_run_beside_it() {
    let (connection, mut server) = connected(settings()).await;
    let (tell, mut log) = log();
    let old = tell.clone();
    connection.on_result("X", move || {
        old("old".to_owned());
        Ok::<_, String>("old")
    });
    connection.on("X", move || tell("called".to_owned()));
    connection.on_result("X", || Ok::<_, String>("new"));
    assert_eq!(server.ask("X", json!([])).await, json!({"result": "new"}));
    assert_eq!(told(&mut log).await, "called");
    // A method that is not asked for a result answers nothing.
    server.call("X", json!([])).await;
    assert_eq!(told(&mut log).await, "called");
    assert!(server.is_silent().await);
}

#[tokio::test(start_paused = true)]
async fn a_handler_may_call_the_server_and_wait_for_it() {
    let (connection, mut server) = connected(settings()).await;
    let (tell, mut log) = log();
    let weak = connection.downgrade();
    connection.on("Ask", move || {
        let (weak, tell) = (weak.clone(), tell.clone());
        async move {
            let connection = weak.upgrade().unwrap();
            tell(connection.invoke::<String>("Name", ()).await.unwrap());
        }
    });
    server.call("Ask", json!([])).await;
    assert_eq!(server.json().await["target"], "Name");
    server.complete("1", json!("ada")).await;
    assert_eq!(told(&mut log).await, "ada");
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_panics_harms_nobody_else() {
    let (connection, mut server) = connected(settings()).await;
    let (tell, mut log) = log();
    connection.on("Panic", || -> () { panic!("on purpose") });
    connection.on("Panic", || async { panic!("on purpose, too") });
    connection.on("X", move || tell("fine".to_owned()));
    server.call("Panic", json!([])).await;
    server.call("X", json!([])).await;
    assert_eq!(told(&mut log).await, "fine");
}

#[tokio::test(start_paused = true)]
async fn what_the_server_said_before_its_goodbye_is_heard_before_the_end_is_told() {
    let (connection, mut server) = connected(settings()).await;
    let (tell, mut log) = log();
    let mut events = connection.events();
    let at_the_end = tell.clone();
    connection.on("Last", move |text: String| {
        let tell = tell.clone();
        async move {
            sleep(Duration::from_secs(10)).await;
            tell(text);
        }
    });
    server
        .send_all(&[
            r#"{"type":1,"target":"Last","arguments":["one"]}"#,
            r#"{"type":1,"target":"Last","arguments":["two"]}"#,
            r#"{"type":7,"error":"enough"}"#,
        ])
        .await;
    let event = next(&mut events).await;
    assert!(
        matches!(&event, ConnectionEvent::Closed(Some(ConnectionError::ClosedByServer(text))) if text == "enough"),
        "{event:?}"
    );
    at_the_end("end".to_owned());
    for expected in ["one", "two", "end"] {
        assert_eq!(told(&mut log).await, expected);
    }
}

/// Sends calls, and pings behind them.
async fn flood(mut server: super::server::Server) {
    let call = json!({"type": 1, "target": "Slow", "arguments": ["x".repeat(100_000)]});
    let call = Value::to_string(&call);
    for _ in 0..30 {
        server.send(&call).await;
    }
    loop {
        sleep(Duration::from_secs(10)).await;
        server.send(r#"{"type":6}"#).await;
    }
}

fn slow(connection: &HubConnection, pause: Duration) -> UnboundedReceiver<String> {
    let (tell, log) = log();
    connection.on("Slow", move |_: String| {
        let tell = tell.clone();
        async move {
            sleep(pause).await;
            tell("done".to_owned());
        }
    });
    log
}

#[tokio::test(start_paused = true)]
async fn while_too_many_calls_wait_for_a_handler_nothing_is_read() {
    let (connection, server) = connected(settings()).await;
    let mut log = slow(&connection, Duration::from_secs(20));
    tokio::spawn(flood(server));
    // Twenty seconds each, all of them: longer than the server time-out, and nothing is lost.
    for _ in 0..30 {
        assert_eq!(told(&mut log).await, "done");
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_holds_everything_up_for_too_long_ends_the_connection() {
    let (connection, server) = connected(settings()).await;
    let mut events = connection.events();
    let _log = slow(&connection, Duration::from_hours(1));
    let begun = Instant::now();
    tokio::spawn(flood(server));
    let event = next(&mut events).await;
    assert!(
        matches!(
            event,
            ConnectionEvent::Closed(Some(ConnectionError::HandlersTooSlow { .. }))
        ),
        "{event:?}"
    );
    // Thirty seconds without room, thirty more for the handlers to come to an end, and a close frame that nobody reads.
    assert!(
        begun.elapsed() < Duration::from_secs(65),
        "{:?}",
        begun.elapsed()
    );
}
