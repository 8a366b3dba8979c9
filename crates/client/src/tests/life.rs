//! Start, signs of life, and end.

use std::convert::Infallible;
use std::future::ready;
use std::time::Duration;

use futures_util::{FutureExt, stream};
use serde_json::json;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use super::server::{Listener, Server, connected, next, settings, within};
use crate::{
    ConnectionError, ConnectionEvent, HubConnectionBuilder, HubConnectionState, InvokeError,
    StartError, Upload,
};

const PING: &str = r#"{"type":6}"#;
const CLOSE: &str = r#"{"type":7}"#;

/// Reads the goodbye of a client, and hangs up.
async fn goodbye(server: &mut Server) {
    assert_eq!(server.record().await, CLOSE);
    let frame = server.message().await;
    assert!(matches!(frame, Some(Message::Close(_))), "{frame:?}");
    // Tungstenite answers close frames by itself, while it reads.
    assert!(server.message().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_started_stopped_and_started_again() {
    let (connection, mut listener) = Listener::new(settings(), None);
    let mut events = connection.events();
    for _ in 0..2 {
        assert_eq!(connection.state(), HubConnectionState::Disconnected);
        assert_eq!(connection.connection_id(), None);
        let (started, mut server) = tokio::join!(connection.start(), listener.shaken());
        started.unwrap();
        assert_eq!(connection.state(), HubConnectionState::Connected);
        assert_eq!(connection.connection_id().as_deref(), Some("the-id"));
        let again = connection.start().await;
        assert!(
            matches!(again, Err(StartError::NotDisconnected { state }) if state == HubConnectionState::Connected)
        );
        let stopping = within("stopping", connection.stop());
        tokio::join!(stopping, goodbye(&mut server));
        assert!(matches!(
            next(&mut events).await,
            ConnectionEvent::Closed(None)
        ));
    }
    within("stopping what is stopped", connection.stop()).await;
}

#[tokio::test]
async fn a_start_says_that_the_provider_of_access_tokens_panicked() {
    let builder = || HubConnectionBuilder::new("http://127.0.0.1:1/chatHub");
    let asked = |it: bool| assert!(!it, "there is no token today");
    let at_once = builder().access_token_provider(move || {
        asked(true);
        ready(Ok::<_, Infallible>(String::new()))
    });
    let later = builder().access_token_provider(move || async move {
        asked(true);
        Ok::<_, Infallible>(String::new())
    });
    for builder in [at_once, later] {
        let connection = builder.build().unwrap();
        for _ in 0..2 {
            let failed = connection.start().await;
            assert!(
                matches!(&failed, Err(StartError::AccessToken(text)) if text == "its provider panicked"),
                "{failed:?}"
            );
            assert_eq!(connection.state(), HubConnectionState::Disconnected);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_panics_ends_its_connection_and_fails_its_call() {
    let (connection, mut server) = connected(settings()).await;
    let mut events = connection.events();
    let items =
        stream::once(async { assert!(HubConnectionState::Connected.to_string().is_empty()) });
    let call = connection.invoke::<()>("Upload", (Upload::new(items),));
    let (failed, call) = tokio::join!(call, server.json());
    assert_eq!(call["target"], "Upload");
    assert!(
        matches!(
            failed,
            Err(InvokeError::ConnectionLost(ConnectionError::Panicked))
        ),
        "{failed:?}"
    );
    let closed = next(&mut events).await;
    assert!(
        matches!(
            closed,
            ConnectionEvent::Closed(Some(ConnectionError::Panicked))
        ),
        "{closed:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stop_sends_what_waits_and_fails_what_is_not_answered() {
    let (connection, mut server) = connected(settings()).await;
    let mut call = Box::pin(connection.invoke::<()>("Never", ()));
    assert!((&mut call).now_or_never().is_none());
    let text = "x".repeat(500_000);
    connection.send("Last", (&text,)).await.unwrap();
    let serving = async {
        assert_eq!(server.json().await["target"], "Never");
        assert_eq!(server.json().await["arguments"], json!([text]));
        goodbye(&mut server).await;
    };
    let (failed, (), ()) = tokio::join!(call, connection.stop(), serving);
    assert!(matches!(failed, Err(InvokeError::Closed)), "{failed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_five_seconds_for_a_server_that_does_not_hang_up() {
    let (connection, _server) = connected(settings()).await;
    let begun = Instant::now();
    within("stopping", connection.stop()).await;
    assert_eq!(begun.elapsed(), Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_closes_the_connection_and_leaves_nothing_behind() {
    let (connection, mut server) = connected(settings()).await;
    let mut events = connection.events();
    let clone = connection.clone();
    connection.send("Last", ()).await.unwrap();
    drop(connection);
    assert_eq!(server.json().await["target"], "Last");
    assert_eq!(clone.state(), HubConnectionState::Connected);
    let weak = clone.downgrade();
    drop(clone);
    assert!(weak.upgrade().is_none());
    goodbye(&mut server).await;
    assert!(matches!(
        next(&mut events).await,
        ConnectionEvent::Closed(None)
    ));
    assert!(within("the end of events", events.next()).await.is_none());
    while Handle::current().metrics().num_alive_tasks() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_a_connection_that_is_being_started_ends_it() {
    let (connection, mut listener) = Listener::new(settings(), None);
    let mut starting = Box::pin(connection.start());
    assert!((&mut starting).now_or_never().is_none());
    let mut server = listener.accept().await;
    let begun = Instant::now();
    drop(starting);
    server.record().await;
    assert!(server.message().await.is_none());
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(connection.state(), HubConnectionState::Disconnected);
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_start_can_be_stopped() {
    let (connection, mut listener) = Listener::new(settings(), None);
    let stopping = async {
        let _server = listener.accept().await;
        connection.stop().await;
    };
    let (started, ()) = tokio::join!(connection.start(), stopping);
    assert!(matches!(started, Err(StartError::Stopped)), "{started:?}");
    assert_eq!(connection.state(), HubConnectionState::Disconnected);
}

#[tokio::test(start_paused = true)]
async fn a_handler_may_stop_its_connection() {
    let (connection, mut server) = connected(settings()).await;
    let mut events = connection.events();
    let weak = connection.downgrade();
    connection.on("Go", move || {
        let weak = weak.clone();
        async move {
            let connection = weak.upgrade().unwrap();
            connection.stop().await;
        }
    });
    server.call("Go", json!([])).await;
    goodbye(&mut server).await;
    assert!(matches!(
        next(&mut events).await,
        ConnectionEvent::Closed(None)
    ));
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_pings_every_fifteen_seconds() {
    let (connection, mut server) = connected(settings()).await;
    let begun = Instant::now();
    assert_eq!(server.text().await, PING);
    assert_eq!(begun.elapsed(), Duration::from_secs(15));
    tokio::time::sleep(Duration::from_secs(10)).await;
    server.send(PING).await;
    connection.send("X", ()).await.unwrap();
    server.text().await;
    // Counted from what was sent last.
    assert_eq!(server.text().await, PING);
    assert_eq!(begun.elapsed(), Duration::from_secs(40));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_silent_for_thirty_seconds_is_given_up() {
    let (connection, mut server) = connected(settings()).await;
    let mut events = connection.events();
    tokio::time::sleep(Duration::from_secs(20)).await;
    server.send(PING).await;
    let begun = Instant::now();
    // Signs of life of the WebSocket alone are none.
    tokio::time::sleep(Duration::from_secs(10)).await;
    server.send_message(Message::Ping(vec![1].into())).await;
    let failed = within("the call", connection.invoke::<()>("X", ())).await;
    assert!(
        matches!(
            failed,
            Err(InvokeError::ConnectionLost(
                ConnectionError::ServerTimeout { .. }
            ))
        ),
        "{failed:?}"
    );
    assert_eq!(begun.elapsed(), Duration::from_secs(30));
    let event = next(&mut events).await;
    assert!(
        matches!(&event, ConnectionEvent::Closed(Some(ConnectionError::ServerTimeout { limit })) if limit.as_secs() == 30),
        "{event:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn messages_may_come_with_the_answer_to_the_handshake() {
    let (connection, mut listener) = Listener::new(settings(), None);
    let (sender, mut heard) = tokio::sync::mpsc::unbounded_channel();
    connection.on("Hello", move |name: String| sender.send(name).unwrap());
    let serving = async {
        let mut server = listener.accept().await;
        server.text().await;
        server.send_message(Message::text("{")).await;
        server
            .send_all(&["}", r#"{"type":1,"target":"Hello","arguments":["ada"]}"#])
            .await;
        server
    };
    let (started, _server) = tokio::join!(connection.start(), serving);
    started.unwrap();
    assert_eq!(within("the call", heard.recv()).await.unwrap(), "ada");
}
