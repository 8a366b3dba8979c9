//! Streams in both directions.

use futures_util::{FutureExt, StreamExt, stream};
use serde_json::json;
use tokio::time::Instant;

use super::server::{Server, connected, settings, within};
use crate::{HubConnection, HubStream, InvokeError, Upload};

async fn counter(connection: &HubConnection, server: &mut Server) -> HubStream<i32> {
    let stream = connection.stream::<i32>("Counter", (3,)).await.unwrap();
    let call = r#"{"type":4,"invocationId":"1","target":"Counter","arguments":[3]}"#;
    assert_eq!(server.text().await, call);
    stream
}

#[tokio::test(start_paused = true)]
async fn a_stream_gives_its_items_and_ends() {
    let (connection, mut server) = connected(settings()).await;
    let stream = counter(&connection, &mut server).await;
    server
        .send_all(&[
            r#"{"type":2,"invocationId":"1","item":0}"#,
            r#"{"type":2,"invocationId":"of nobody","item":0}"#,
            r#"{"type":2,"invocationId":"1","item":1}"#,
            r#"{"type":3,"invocationId":"1"}"#,
        ])
        .await;
    let items: Vec<_> = within("the items", stream.map(Result::unwrap).collect()).await;
    assert_eq!(items, [0, 1]);
    assert!(
        server.is_silent().await,
        "a stream that has ended is not taken back"
    );
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_server_is_the_last_item() {
    let (connection, mut server) = connected(settings()).await;
    let mut stream = counter(&connection, &mut server).await;
    server
        .send_all(&[
            r#"{"type":2,"invocationId":"1","item":0}"#,
            r#"{"type":3,"invocationId":"1","error":"no more"}"#,
        ])
        .await;
    assert_eq!(within("an item", stream.next()).await.unwrap().unwrap(), 0);
    let error = within("an item", stream.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, InvokeError::Server(text) if text == "no more"));
    assert!(within("an item", stream.next()).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn dropping_a_stream_takes_it_back() {
    let (connection, mut server) = connected(settings()).await;
    let mut stream = counter(&connection, &mut server).await;
    server
        .send(r#"{"type":2,"invocationId":"1","item":0}"#)
        .await;
    assert_eq!(within("an item", stream.next()).await.unwrap().unwrap(), 0);
    drop(stream);
    assert_eq!(server.text().await, r#"{"type":5,"invocationId":"1"}"#);
    // What was on its way is dropped.
    server
        .send(r#"{"type":2,"invocationId":"1","item":1}"#)
        .await;
    server.send(r#"{"type":3,"invocationId":"1"}"#).await;
    let invoking = connection.invoke::<i32>("X", ());
    let serving = async {
        server.text().await;
        server.complete("2", json!(5)).await;
    };
    assert_eq!(tokio::join!(invoking, serving).0.unwrap(), 5);
}

#[tokio::test(start_paused = true)]
async fn an_item_of_another_type_ends_a_stream_and_takes_it_back() {
    let (connection, mut server) = connected(settings()).await;
    let mut stream = counter(&connection, &mut server).await;
    server
        .send(r#"{"type":2,"invocationId":"1","item":"one"}"#)
        .await;
    // Also while nobody looks at it.
    assert_eq!(server.text().await, r#"{"type":5,"invocationId":"1"}"#);
    let error = within("an item", stream.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, InvokeError::Decode { .. }), "{error}");
    assert!(within("an item", stream.next()).await.is_none());
    drop(stream);
    assert!(server.is_silent().await, "it is taken back once");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_not_read_holds_the_server_up_until_it_fails() {
    let (connection, mut server) = connected(settings()).await;
    let mut stream = connection.stream::<String>("Flood", ()).await.unwrap();
    server.record().await;
    let begun = Instant::now();
    let item = json!({"type": 2, "invocationId": "1", "item": "x".repeat(50_000)}).to_string();
    let flooding = async {
        for _ in 0..8 {
            server.send(&item).await;
        }
        server
            .send(r#"{"type":1,"target":"Behind","arguments":[]}"#)
            .await;
        server
    };
    let behind = tokio::sync::Notify::new();
    let behind = std::sync::Arc::new(behind);
    let handled = behind.clone();
    connection.on("Behind", move || handled.notify_one());
    let (mut server, ()) = tokio::join!(flooding, within("the call", behind.notified()));
    assert_eq!(begun.elapsed().as_secs(), 30);
    assert_eq!(server.record().await, r#"{"type":5,"invocationId":"1"}"#);
    // Five items fit into 256 KiB.
    for _ in 0..5 {
        assert_eq!(
            within("an item", stream.next())
                .await
                .unwrap()
                .unwrap()
                .len(),
            50_000
        );
    }
    let error = within("an item", stream.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, InvokeError::NotRead { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_gets_every_item() {
    let (connection, mut server) = connected(settings()).await;
    let mut stream = connection.stream::<String>("Flood", ()).await.unwrap();
    server.record().await;
    let item = json!({"type": 2, "invocationId": "1", "item": "x".repeat(100_000)}).to_string();
    let flooding = async {
        for _ in 0..20 {
            server.send(&item).await;
        }
        server.send(r#"{"type":3,"invocationId":"1"}"#).await;
    };
    let reading = async {
        let mut items = 0;
        while let Some(item) = within("an item", stream.next()).await {
            item.unwrap();
            items += 1;
            tokio::time::sleep(std::time::Duration::from_secs(10)).await;
        }
        items
    };
    assert_eq!(tokio::join!(flooding, reading).1, 20);
}

#[tokio::test(start_paused = true)]
async fn uploads_follow_their_call_and_are_no_arguments() {
    let (connection, mut server) = connected(settings()).await;
    let (first, second) = (stream::iter(["a"]), stream::empty::<i32>());
    let invoking =
        connection.invoke::<String>("Join", (1, Upload::new(first), "x", Upload::new(second)));
    let serving = async {
        let call = r#"{"type":1,"invocationId":"1","target":"Join","arguments":[1,"x"],"streamIds":["2","3"]}"#;
        assert_eq!(server.text().await, call);
        let mut messages = [
            server.text().await,
            server.text().await,
            server.text().await,
        ];
        messages.sort_unstable();
        assert_eq!(
            messages,
            [
                r#"{"type":2,"invocationId":"2","item":"a"}"#,
                r#"{"type":3,"invocationId":"2"}"#,
                r#"{"type":3,"invocationId":"3"}"#,
            ]
        );
        server.complete("1", json!("ok")).await;
    };
    assert_eq!(tokio::join!(invoking, serving).0.unwrap(), "ok");
}

#[tokio::test(start_paused = true)]
async fn a_stream_may_go_up_and_another_come_down() {
    let (connection, mut server) = connected(settings()).await;
    let upload = Upload::new(stream::iter([1]));
    let mut down = connection.stream::<i32>("Double", (upload,)).await.unwrap();
    let call =
        r#"{"type":4,"invocationId":"1","target":"Double","arguments":[],"streamIds":["2"]}"#;
    assert_eq!(server.text().await, call);
    assert_eq!(
        server.text().await,
        r#"{"type":2,"invocationId":"2","item":1}"#
    );
    server
        .send(r#"{"type":2,"invocationId":"1","item":2}"#)
        .await;
    assert_eq!(within("an item", down.next()).await.unwrap().unwrap(), 2);
}

/// A stream that never ends, and that tells when it is dropped.
fn endless() -> (Upload, tokio::sync::oneshot::Receiver<()>) {
    let (held, dropped) = tokio::sync::oneshot::channel::<()>();
    let items = stream::pending::<i32>().inspect(move |_| assert!(!held.is_closed()));
    (Upload::new(items), dropped)
}

#[tokio::test(start_paused = true)]
async fn an_upload_ends_with_its_call() {
    let (connection, mut server) = connected(settings()).await;
    let (upload, dropped) = endless();
    let invoking = connection.invoke::<()>("Take", (upload,));
    let serving = async {
        server.text().await;
        server.complete("1", json!(null)).await;
    };
    tokio::join!(invoking, serving).0.unwrap();
    assert!(within("the end of the upload", dropped).await.is_err());
    assert!(
        server.is_silent().await,
        "the server has ended the stream itself"
    );
}

#[tokio::test(start_paused = true)]
async fn an_upload_of_a_call_that_is_taken_back_is_broken_off() {
    let (connection, mut server) = connected(settings()).await;
    let (upload, dropped) = endless();
    {
        let mut invoking = Box::pin(connection.invoke::<()>("Take", (upload,)));
        assert!((&mut invoking).now_or_never().is_none());
        server.text().await;
    }
    let both = server.message().await.unwrap().into_text().unwrap();
    let broken_off = r#"{"type":3,"invocationId":"2","error":"Stream canceled by client."}"#;
    assert_eq!(
        both.as_str(),
        format!("{broken_off}\u{1e}{{\"type\":5,\"invocationId\":\"1\"}}\u{1e}")
    );
    assert!(within("the end of the upload", dropped).await.is_err());
}
