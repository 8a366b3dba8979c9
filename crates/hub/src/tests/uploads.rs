//! Streams of the client.

use super::stream_hub::{scene, scene_with};
use crate::options::HubOptions;

#[tokio::test(start_paused = true)]
async fn streams_of_a_client_are_parameters_wherever_they_stand() {
    let (_scene, mut client) = scene().await;
    client
        .call_with_streams(1, "Framed", r#"["<",">"]"#, r#"["s"]"#)
        .await;
    client.item("s", r#""a""#).await;
    client.item("s", r#""b""#).await;
    client.end("s").await;
    client
        .expect(r#"{"type":3,"invocationId":"1","result":"<ab>"}"#)
        .await;

    client
        .call_with_streams(2, "Pairs", "[]", r#"["x","y"]"#)
        .await;
    client.item("y", r#""a""#).await;
    client.item("x", "1").await;
    client.item("x", "2").await;
    client.item("y", r#""b""#).await;
    client.end("x").await;
    client.end("y").await;
    client
        .expect(r#"{"type":3,"invocationId":"2","result":"1a 2b "}"#)
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_a_client_may_be_answered_by_a_stream() {
    let (_scene, mut client) = scene().await;
    client
        .send(r#"{"type":4,"invocationId":"1","target":"Echo","arguments":[],"streamIds":["s"]}"#)
        .await;
    client.item("s", r#""a""#).await;
    client
        .expect(r#"{"type":2,"invocationId":"1","item":"echo:a"}"#)
        .await;
    client.item("s", r#""b""#).await;
    client
        .expect(r#"{"type":2,"invocationId":"1","item":"echo:b"}"#)
        .await;
    client
        .send(r#"{"type":3,"invocationId":"s","error":"I am tired"}"#)
        .await;
    client.expect(r#"{"type":3,"invocationId":"1","error":"An error occurred on the server while streaming results. HubException: I am tired"}"#).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_stream_that_ends_badly_is_an_error_of_the_method() {
    let (_scene, mut client) = scene().await;
    client.call_with_streams(1, "Sum", "[]", r#"["s"]"#).await;
    client
        .send(r#"{"type":3,"invocationId":"s","error":"out of numbers"}"#)
        .await;
    client.expect(r#"{"type":3,"invocationId":"1","error":"An unexpected error occurred invoking 'Sum' on the server. HubException: out of numbers"}"#).await;

    client.call_with_streams(2, "Sum", "[]", r#"["s"]"#).await;
    client.item("s", r#""one""#).await;
    client.expect(r#"{"type":3,"invocationId":"2","error":"An unexpected error occurred invoking 'Sum' on the server. HubException: Failed to bind Stream message."}"#).await;

    // A result at the end of a stream means nothing.
    client.call_with_streams(3, "Sum", "[]", r#"["s"]"#).await;
    client
        .send(r#"{"type":3,"invocationId":"s","result":5}"#)
        .await;
    client
        .expect(r#"{"type":3,"invocationId":"3","result":0}"#)
        .await;
}

#[tokio::test(start_paused = true)]
async fn the_number_of_streams_must_be_that_of_the_method() {
    let (_scene, mut client) = scene().await;
    for (streams, sent) in [("[]", 0), (r#"["a","b"]"#, 2)] {
        client.call_with_streams(1, "Sum", "[]", streams).await;
        client.expect(&format!(r#"{{"type":3,"invocationId":"1","error":"An unexpected error occurred invoking 'Sum' on the server. HubException: Client sent {sent} stream(s), Hub method expects 1."}}"#)).await;
    }
    // Streams are no arguments.
    client
        .call_with_streams(1, "Framed", r#"["<","s",">"]"#, r#"["s"]"#)
        .await;
    client.expect(r#"{"type":3,"invocationId":"1","error":"Failed to invoke 'Framed' due to an error on the server."}"#).await;
}

#[tokio::test(start_paused = true)]
async fn two_streams_of_a_client_may_not_share_an_id() {
    let (_scene, mut client) = scene().await;
    let refused = |id: u32, target: &str| {
        format!(
            r#"{{"type":3,"invocationId":"{id}","error":"An unexpected error occurred invoking '{target}' on the server. HubException: Stream ID 's' is already in use."}}"#
        )
    };
    client
        .call_with_streams(1, "Pairs", "[]", r#"["s","s"]"#)
        .await;
    client.expect(&refused(1, "Pairs")).await;
    client.call_with_streams(2, "Sum", "[]", r#"["s"]"#).await;
    client.call_with_streams(3, "Sum", "[]", r#"["s"]"#).await;
    client.expect(&refused(3, "Sum")).await;
    client.item("s", "1").await;
    client.end("s").await;
    client
        .expect(r#"{"type":3,"invocationId":"2","result":1}"#)
        .await;
}

#[tokio::test(start_paused = true)]
async fn items_of_streams_that_are_not_there_are_ignored() {
    let (_scene, mut client) = scene().await;
    client.item("nobody", "1").await;
    client.end("nobody").await;
    client.call_with_streams(1, "Sum", "[]", r#"["s"]"#).await;
    client.end("s").await;
    client.item("s", "1").await;
    client
        .expect(r#"{"type":3,"invocationId":"1","result":0}"#)
        .await;
    client.item("s", "1").await;
    client.stream("2", "Count", "[0]").await;
    client.expect(r#"{"type":3,"invocationId":"2"}"#).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_is_not_read_while_its_stream_is_full() {
    let mut scene = scene_with(HubOptions {
        stream_buffer_capacity: 2,
        ..HubOptions::default()
    });
    let mut client = scene.client("a").await;
    client
        .call_with_streams(1, "Careful", "[]", r#"["s"]"#)
        .await;
    for number in 1..=4 {
        client.item("s", &number.to_string()).await;
    }
    client.stream("2", "Count", "[0]").await;
    // Two items wait in the stream, the third before it, and the client is not heard.
    client.expect_nothing().await;
    scene.permits.add_permits(1);
    assert_eq!(scene.noted().await, "read 1");
    client.expect_nothing().await;
    scene.permits.add_permits(1);
    assert_eq!(scene.noted().await, "read 2");
    client.expect(r#"{"type":3,"invocationId":"2"}"#).await;
    client.end("s").await;
    scene.permits.add_permits(3);
    client
        .expect(r#"{"type":3,"invocationId":"1","result":4}"#)
        .await;
    assert_eq!(scene.noted().await, "read 3");
    assert_eq!(scene.noted().await, "read 4");
}

#[tokio::test(start_paused = true)]
async fn a_client_may_have_so_many_streams_and_no_more() {
    let scene = scene_with(HubOptions {
        maximum_streams_per_client: 3,
        ..HubOptions::default()
    });
    let mut client = scene.client("a").await;
    let refused = |id: &str, target: &str| {
        format!(
            r#"{{"type":3,"invocationId":"{id}","error":"An unexpected error occurred invoking '{target}' on the server. HubException: A client may have at most 3 streams at a time."}}"#
        )
    };
    client.stream("1", "Quiet", "[]").await;
    client.stream("2", "Quiet", "[]").await;
    client
        .call_with_streams(3, "Pairs", "[]", r#"["x","y"]"#)
        .await;
    client.expect(&refused("3", "Pairs")).await;
    client.call_with_streams(4, "Sum", "[]", r#"["s"]"#).await;
    client.stream("5", "Count", "[1]").await;
    client.expect(&refused("5", "Count")).await;
    client.end("s").await;
    client
        .expect(r#"{"type":3,"invocationId":"4","result":0}"#)
        .await;
    client.stream("6", "Count", "[0]").await;
    client.expect(r#"{"type":3,"invocationId":"6"}"#).await;
}
