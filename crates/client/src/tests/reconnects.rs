//! Losing connections, and making them anew.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::server::{Listener, Server, next, settings, within};
use crate::retry::RetryPolicy;
use crate::{
    ConnectionError, ConnectionEvent, ConnectionEvents, HubConnection, HubConnectionState,
    InvokeError, StartError,
};

async fn reconnecting() -> (HubConnection, Listener, Server, ConnectionEvents) {
    let (connection, mut listener) = Listener::new(settings(), Some(RetryPolicy::stock()));
    let events = connection.events();
    let (started, server) = tokio::join!(connection.start(), listener.shaken());
    started.unwrap();
    (connection, listener, server, events)
}

#[tokio::test(start_paused = true)]
async fn a_retry_policy_that_panics_ends_its_connection() {
    let policy = RetryPolicy::new(|context| {
        assert_eq!(context.previous_retry_count, 0, "the second time it panics");
        Some(Duration::ZERO)
    });
    let (connection, mut listener) = Listener::new(settings(), Some(policy));
    let mut events = connection.events();
    for _ in 0..2 {
        let (started, server) = tokio::join!(connection.start(), listener.shaken());
        started.unwrap();
        listener.refuse(1);
        drop(server);
        let lost = next(&mut events).await;
        assert!(matches!(lost, ConnectionEvent::Reconnecting(_)), "{lost:?}");
        let closed = next(&mut events).await;
        assert!(
            matches!(
                closed,
                ConnectionEvent::Closed(Some(ConnectionError::Panicked))
            ),
            "{closed:?}"
        );
        assert_eq!(connection.state(), HubConnectionState::Disconnected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_made_anew_at_once() {
    let (connection, mut listener, mut server, mut events) = reconnecting().await;
    let begun = Instant::now();
    let losing = async {
        server.record().await;
        drop(server);
    };
    let (failed, ()) = tokio::join!(connection.invoke::<()>("Never", ()), losing);
    assert!(
        matches!(failed, Err(InvokeError::ConnectionLost(_))),
        "{failed:?}"
    );
    assert_eq!(connection.state(), HubConnectionState::Reconnecting);
    assert_eq!(connection.connection_id(), None);
    let between = connection.send("X", ()).await;
    assert!(
        matches!(between, Err(InvokeError::NotConnected { state }) if state == HubConnectionState::Reconnecting)
    );
    let event = next(&mut events).await;
    assert!(
        matches!(event, ConnectionEvent::Reconnecting(Some(_))),
        "{event:?}"
    );
    let mut server = listener.shaken().await;
    let event = next(&mut events).await;
    assert!(
        matches!(&event, ConnectionEvent::Reconnected { connection_id: Some(id) } if &**id == "the-id"),
        "{event:?}"
    );
    assert!(begun.elapsed() < Duration::from_secs(1));
    let serving = async {
        assert_eq!(server.json().await["invocationId"], "1", "ids begin anew");
        server.complete("1", json!(2)).await;
    };
    let (sum, ()) = tokio::join!(connection.invoke::<i32>("Add", (1, 1)), serving);
    assert_eq!(sum.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn it_is_tried_after_0_2_10_and_30_seconds_and_then_given_up() {
    let (connection, listener, server, mut events) = reconnecting().await;
    listener.refuse(4);
    let begun = Instant::now();
    drop(server);
    assert!(matches!(
        next(&mut events).await,
        ConnectionEvent::Reconnecting(_)
    ));
    let event = next(&mut events).await;
    let ConnectionEvent::Closed(Some(ConnectionError::ReconnectFailed { attempts: 4, last })) =
        event
    else {
        panic!("{event:?}")
    };
    assert!(matches!(*last, StartError::UpgradeStatus { status: 503 }));
    assert_eq!(begun.elapsed().as_secs(), 42);
    assert_eq!(connection.state(), HubConnectionState::Disconnected);
}

#[tokio::test(start_paused = true)]
async fn a_later_attempt_succeeds() {
    let (_connection, mut listener, server, mut events) = reconnecting().await;
    listener.refuse(2);
    let begun = Instant::now();
    drop(server);
    let server = listener.shaken().await;
    assert_eq!(begun.elapsed().as_secs(), 12);
    assert!(matches!(
        next(&mut events).await,
        ConnectionEvent::Reconnecting(_)
    ));
    assert!(matches!(
        next(&mut events).await,
        ConnectionEvent::Reconnected { .. }
    ));
    // And all over again, from the first delay.
    let begun = Instant::now();
    drop(server);
    listener.shaken().await;
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_policy_is_told_how_things_stand_and_may_give_up() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let heard = seen.clone();
    let policy = RetryPolicy::new(move |context| {
        let reason = context.retry_reason.map(ToString::to_string);
        let count = context.previous_retry_count;
        let elapsed = context.elapsed_time.as_secs();
        heard
            .lock()
            .unwrap()
            .push((count, elapsed, reason.unwrap()));
        (count < 1).then_some(Duration::from_secs(7))
    });
    let (connection, mut listener) = Listener::new(settings(), Some(policy));
    let mut events = connection.events();
    let (started, mut server) = tokio::join!(connection.start(), listener.shaken());
    started.unwrap();
    listener.refuse(1);
    server
        .send(r#"{"type":7,"error":"rolling","allowReconnect":true}"#)
        .await;
    assert!(matches!(
        next(&mut events).await,
        ConnectionEvent::Reconnecting(_)
    ));
    assert!(matches!(
        next(&mut events).await,
        ConnectionEvent::Closed(Some(_))
    ));
    let seen = seen.lock().unwrap();
    let [(0, 0, lost), (1, 7, failed)] = seen.as_slice() else {
        panic!("{seen:?}")
    };
    assert_eq!(lost, "Server returned an error on close: rolling");
    assert!(failed.contains("503"), "{failed}");
}

#[tokio::test(start_paused = true)]
async fn a_server_decides_whether_its_client_shall_come_back() {
    for (close, comes_back) in [
        (r#"{"type":7,"allowReconnect":true}"#, true),
        (r#"{"type":7,"error":"x","allowReconnect":true}"#, true),
        (r#"{"type":7,"error":"x"}"#, false),
        (r#"{"type":7}"#, false),
    ] {
        let (_connection, _listener, mut server, mut events) = reconnecting().await;
        server.send(close).await;
        let event = next(&mut events).await;
        let error = match &event {
            ConnectionEvent::Reconnecting(error) if comes_back => error,
            ConnectionEvent::Closed(error) if !comes_back => error,
            other => panic!("{close}: {other:?}"),
        };
        assert_eq!(error.is_some(), close.contains("error"), "{close}");
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_reconnect_can_be_stopped() {
    let (connection, listener, server, mut events) = reconnecting().await;
    listener.refuse(100);
    drop(server);
    assert!(matches!(
        next(&mut events).await,
        ConnectionEvent::Reconnecting(_)
    ));
    let begun = Instant::now();
    within("stopping", connection.stop()).await;
    assert!(begun.elapsed() < Duration::from_secs(1));
    let event = next(&mut events).await;
    assert!(matches!(event, ConnectionEvent::Closed(None)), "{event:?}");
}

#[tokio::test(start_paused = true)]
async fn who_asked_on_a_lost_connection_is_not_answered_on_the_next() {
    let (connection, mut listener, mut server, _events) = reconnecting().await;
    let (asked, answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (told, wait) = (asked.clone(), answer.clone());
    connection.on_result("Slow", move || {
        let (told, wait) = (told.clone(), wait.clone());
        async move {
            told.notify_one();
            wait.notified().await;
            Ok::<_, String>("late")
        }
    });
    connection.on_result("Quick", || Ok::<_, String>("at once"));
    server
        .send(r#"{"type":1,"invocationId":"s1","target":"Slow","arguments":[]}"#)
        .await;
    within("the question", asked.notified()).await;
    drop(server);
    let mut server = listener.shaken().await;
    answer.notify_one();
    // The next answer is that of the next question, although it has the same id.
    assert_eq!(
        server.ask("Quick", json!([])).await,
        json!({"result": "at once"})
    );
}

#[tokio::test(start_paused = true)]
async fn what_the_server_said_last_is_heard_though_it_takes_nothing_more() {
    // Which of both is seen first is left to chance.
    for _ in 0..20 {
        let (connection, _listener, mut server, mut events) = reconnecting().await;
        server.send(r#"{"type":7,"error":"go away"}"#).await;
        drop(server);
        connection.send("X", ()).await.unwrap();
        let event = next(&mut events).await;
        assert!(
            matches!(&event, ConnectionEvent::Closed(Some(ConnectionError::ClosedByServer(text))) if text == "go away"),
            "{event:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn between_the_offence_of_a_server_and_the_farewell_calls_fail_with_the_offence() {
    let (connection, mut listener, mut server, _events) = reconnecting().await;
    // It takes nothing more, so the close frame waits.
    let text = "x".repeat(100_000);
    connection.send("X", (&text,)).await.unwrap();
    let mut call = Box::pin(connection.invoke::<()>("Never", ()));
    assert!((&mut call).now_or_never().is_none());
    tokio::time::sleep(Duration::from_secs(1)).await;
    server.send("nonsense").await;
    let begun = Instant::now();
    let failed = within("the call", &mut call).await;
    assert!(
        matches!(
            failed,
            Err(InvokeError::ConnectionLost(
                ConnectionError::InvalidMessage(_)
            ))
        ),
        "{failed:?}"
    );
    assert_eq!(begun.elapsed(), Duration::ZERO);
    let again = connection.send("X", ()).await;
    assert!(
        matches!(
            again,
            Err(InvokeError::ConnectionLost(
                ConnectionError::InvalidMessage(_)
            ))
        ),
        "{again:?}"
    );
    listener.shaken().await;
    assert_eq!(begun.elapsed(), Duration::from_secs(1));
}
