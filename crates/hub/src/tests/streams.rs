//! Streams to the client, and both directions at once.

use std::time::Duration;

use super::stream_hub::scene;

#[tokio::test(start_paused = true)]
async fn a_stream_is_its_items_and_an_end_without_a_result() {
    let (scene, mut client) = scene().await;
    client.stream("1", "Count", "[2]").await;
    client
        .expect(r#"{"type":2,"invocationId":"1","item":1}"#)
        .await;
    client
        .expect(r#"{"type":2,"invocationId":"1","item":2}"#)
        .await;
    client.expect(r#"{"type":3,"invocationId":"1"}"#).await;
    // Nothing but the end.
    client.stream("2", "count", "[0]").await;
    client.expect(r#"{"type":3,"invocationId":"2"}"#).await;
    // One that is not made at once.
    client.stream("3", "CountAfter", "[1]").await;
    scene.permits.add_permits(1);
    client
        .expect(r#"{"type":2,"invocationId":"3","item":1}"#)
        .await;
    client.expect(r#"{"type":3,"invocationId":"3"}"#).await;
}

#[tokio::test(start_paused = true)]
async fn a_method_may_have_no_stream_to_give() {
    let (_scene, mut client) = scene().await;
    client.stream("1", "Maybe", "[true]").await;
    client
        .expect(r#"{"type":2,"invocationId":"1","item":1}"#)
        .await;
    client.expect(r#"{"type":3,"invocationId":"1"}"#).await;
    client.stream("2", "Maybe", "[false]").await;
    client.expect(r#"{"type":3,"invocationId":"2","error":"The value returned by the streaming method 'Maybe' is not a ChannelReader<> or IAsyncEnumerable<>."}"#).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_fails_says_so_behind_its_items() {
    let (_scene, mut client) = scene().await;
    for (target, error) in [
        (
            "FailMidway",
            "An error occurred on the server while streaming results.",
        ),
        (
            "FailOpenly",
            "An error occurred on the server while streaming results. HubException: as you wish",
        ),
        (
            "PanicMidway",
            "An error occurred on the server while streaming results.",
        ),
    ] {
        client.stream("1", target, "[]").await;
        client
            .expect(r#"{"type":2,"invocationId":"1","item":1}"#)
            .await;
        client
            .expect(&format!(
                r#"{{"type":3,"invocationId":"1","error":"{error}"}}"#
            ))
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_of_the_wrong_kind_is_refused() {
    let (_scene, mut client) = scene().await;
    client.call(1, "count", "[3]").await;
    client.expect(r#"{"type":3,"invocationId":"1","error":"The client attempted to invoke the streaming 'count' method with a non-streaming invocation."}"#).await;
    // Arguments come first.
    client.call(1, "Count", "[]").await;
    client.expect(r#"{"type":3,"invocationId":"1","error":"Failed to invoke 'Count' due to an error on the server."}"#).await;
    // Nobody wants the answer.
    client
        .send(r#"{"type":1,"target":"Count","arguments":[3]}"#)
        .await;
    client.stream("2", "Sum", "[]").await;
    client.expect(r#"{"type":3,"invocationId":"2","error":"The client attempted to invoke the non-streaming 'Sum' method with a streaming invocation."}"#).await;
}

#[tokio::test(start_paused = true)]
async fn streams_run_beside_a_call_that_takes_its_time() {
    let (scene, mut client) = scene().await;
    client.call(1, "Wait", "[]").await;
    client.stream("2", "Count", "[1]").await;
    client
        .expect(r#"{"type":2,"invocationId":"2","item":1}"#)
        .await;
    client.expect(r#"{"type":3,"invocationId":"2"}"#).await;
    client.call_with_streams(3, "Sum", "[]", r#"["s"]"#).await;
    client.item("s", "5").await;
    client.end("s").await;
    client
        .expect(r#"{"type":3,"invocationId":"3","result":5}"#)
        .await;
    scene.permits.add_permits(1);
    client
        .expect(r#"{"type":3,"invocationId":"1","result":null}"#)
        .await;
}

#[tokio::test(start_paused = true)]
async fn nothing_overtakes_a_call_that_waits() {
    let (mut scene, mut client) = scene().await;
    client.call(1, "Wait", "[]").await;
    client.call(2, "Wait", "[]").await;
    // Behind a call that waits: a stream, its items, its end, and a stream of the server's that is taken back.
    client.call_with_streams(3, "Sum", "[]", r#"["s"]"#).await;
    client.item("s", "5").await;
    client.item("s", "6").await;
    client.stream("4", "Quiet", "[]").await;
    client.end("s").await;
    client.cancel("4").await;
    client.send(r#"{"type":6}"#).await;
    scene.permits.add_permits(1);
    client
        .expect(r#"{"type":3,"invocationId":"1","result":null}"#)
        .await;
    scene.permits.add_permits(1);
    // Streams start in order, and end as they like.
    let mut ends = vec![
        client.next().await,
        client.next().await,
        client.next().await,
    ];
    ends.sort();
    assert_eq!(
        ends,
        [
            r#"{"type":3,"invocationId":"2","result":null}"#,
            r#"{"type":3,"invocationId":"3","result":11}"#,
            r#"{"type":3,"invocationId":"4"}"#,
        ]
    );
    let mut noted = vec![
        scene.noted().await,
        scene.noted().await,
        scene.noted().await,
    ];
    noted.sort();
    assert_eq!(noted, ["cancelled", "dropped", "sum 11"]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_taken_back_ends_without_an_error_and_may_tidy_up() {
    let (mut scene, mut client) = scene().await;
    client.stream("1", "Quiet", "[]").await;
    client.cancel("1").await;
    client.expect(r#"{"type":3,"invocationId":"1"}"#).await;
    assert_eq!(scene.noted().await, "cancelled");
    assert_eq!(scene.noted().await, "dropped");
    // Once more, and of something that never was: nothing.
    client.cancel("1").await;
    client.cancel("nobody").await;
    client.stream("1", "Count", "[0]").await;
    client.expect(r#"{"type":3,"invocationId":"1"}"#).await;
}

#[tokio::test(start_paused = true)]
async fn an_id_is_used_by_one_stream_at_a_time() {
    let (mut scene, mut client) = scene().await;
    client.stream("1", "Quiet", "[]").await;
    client.stream("1", "Count", "[1]").await;
    client
        .expect(r#"{"type":3,"invocationId":"1","error":"Invocation ID '1' is already in use."}"#)
        .await;
    // The first is not disturbed: it can still be taken back, and the id is free at once.
    client.cancel("1").await;
    client.expect(r#"{"type":3,"invocationId":"1"}"#).await;
    client.stream("1", "Count", "[0]").await;
    client.expect(r#"{"type":3,"invocationId":"1"}"#).await;
    assert_eq!(scene.noted().await, "cancelled");
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_not_asked_for_more_than_its_client_reads() {
    let (mut scene, mut client) = scene().await;
    let text = "x".repeat(1_000);
    client
        .stream("1", "Endless", &format!(r#"["{text}"]"#))
        .await;
    let item = format!(r#"{{"type":2,"invocationId":"1","item":"{text}"}}"#);
    client.expect(&item).await;
    // Until nothing moves any more.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut made = 0;
    while scene.noted.try_recv().is_ok() {
        made += 1;
    }
    assert!((64..=200).contains(&made), "{made}");
    for _ in 0..300 {
        client.expect(&item).await;
    }
    client.cancel("1").await;
    while client.next().await == item {}
}

#[tokio::test(start_paused = true)]
async fn a_client_that_vanishes_ends_its_streams() {
    let (mut scene, client) = scene().await;
    client.stream("1", "Quiet", "[]").await;
    client.call_with_streams(2, "Sum", "[]", r#"["s"]"#).await;
    client.item("s", "1").await;
    client.send(r#"{"type":7}"#).await;
    let mut noted = vec![scene.noted().await, scene.noted().await];
    noted.sort();
    // The sum never comes to its end: its stream failed.
    assert_eq!(noted, ["cancelled", "dropped"]);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_streams_with_an_error_before_the_goodbye() {
    let (scene, mut client) = scene().await;
    client.stream("1", "Quiet", "[]").await;
    client.expect_nothing().await;
    scene.served.lifetime.shut_down();
    client.expect(r#"{"type":3,"invocationId":"1","error":"An unexpected error occurred invoking 'Quiet' on the server. HubException: The server is shutting down."}"#).await;
    client.expect(r#"{"type":7,"allowReconnect":true}"#).await;
}
