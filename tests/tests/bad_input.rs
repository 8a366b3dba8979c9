//! Clients that break the hub protocol: they are answered or closed as the specification says, and nobody else notices.
#![allow(
    clippy::indexing_slicing,
    reason = "a member that a JSON value lacks is null"
)]

use end_to_end::socket::{End, RECORD_SEPARATOR};
use end_to_end::{Bystander, Socket};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

/// The largest hub message that a server accepts, in bytes, with its record separator.
const LIMIT: usize = 32 * 1024;

#[tokio::test]
async fn what_is_no_hub_message_closes_the_connection_with_an_error() {
    let mut bystander = Bystander::on_a_server(&[]).await;
    let deep = format!(
        "{{\"type\":1,\"target\":\"Echo\",\"arguments\":{}{}}}",
        "[".repeat(5000),
        "]".repeat(5000)
    );
    for record in [
        "",
        " ",
        "garbage",
        "{",
        "{\"type\":6",
        "{\"type\":6,}",
        "{\"type\":6/* a comment */}",
        "\u{feff}{\"type\":6}",
        "[]",
        "6",
        "null",
        "{}",
        // A second handshake is no hub message.
        "{\"protocol\":\"json\",\"version\":1}",
        "{\"Type\":6}",
        "{\"type\":null}",
        "{\"type\":\"6\"}",
        "{\"type\":6.0}",
        "{\"type\":1,\"target\":\"Echo\"}",
        "{\"type\":1,\"arguments\":[1]}",
        "{\"type\":1,\"target\":null,\"arguments\":[1]}",
        "{\"type\":1,\"target\":\"\",\"arguments\":[1]}",
        "{\"type\":1,\"target\":7,\"arguments\":[1]}",
        "{\"type\":1,\"target\":\"Echo\",\"arguments\":null}",
        "{\"type\":1,\"target\":\"Echo\",\"arguments\":{\"0\":1}}",
        "{\"type\":1,\"invocationId\":null,\"target\":\"Echo\",\"arguments\":[1]}",
        "{\"type\":1,\"invocationId\":1,\"target\":\"Echo\",\"arguments\":[1]}",
        "{\"type\":1,\"headers\":null,\"target\":\"Echo\",\"arguments\":[1]}",
        "{\"type\":1,\"headers\":{\"a\":1},\"target\":\"Echo\",\"arguments\":[1]}",
        "{\"type\":1,\"streamIds\":null,\"target\":\"Echo\",\"arguments\":[1]}",
        "{\"type\":1,\"streamIds\":[1],\"target\":\"Echo\",\"arguments\":[1]}",
        "{\"type\":2,\"item\":1}",
        "{\"type\":2,\"invocationId\":\"1\"}",
        "{\"type\":2,\"invocationId\":\"\",\"item\":1}",
        "{\"type\":3,\"result\":1}",
        "{\"type\":3,\"invocationId\":\"1\",\"error\":null}",
        "{\"type\":3,\"invocationId\":\"1\",\"result\":1,\"error\":\"both\"}",
        "{\"type\":4,\"target\":\"Echo\",\"arguments\":[1]}",
        "{\"type\":4,\"invocationId\":\"\",\"target\":\"Echo\",\"arguments\":[1]}",
        "{\"type\":5}",
        "{\"type\":5,\"invocationId\":null}",
        &deep,
    ] {
        let mut socket = Socket::shaken(bystander.url()).await;
        socket.send(format!("{record}{RECORD_SEPARATOR}")).await;
        assert_eq!(socket.rest().await, closed_with_an_error(), "{record:.80}");
        bystander.is_undisturbed(record).await;
    }
}

#[tokio::test]
async fn messages_up_to_the_limit_are_taken_and_longer_ones_close_the_connection() {
    let mut bystander = Bystander::on_a_server(&[]).await;

    let mut socket = Socket::shaken(bystander.url()).await;
    socket.send(echo_of_length(LIMIT)).await;
    assert_completes(&mut socket).await;
    // A small message followed by more is never too long, however much comes at once.
    socket.send(echo_of_length(20_000).repeat(5)).await;
    assert_completes_times(&mut socket, 5).await;
    let longest = echo_of_length(LIMIT);
    for piece in longest.as_bytes().chunks(1000) {
        socket.send(Message::Binary(piece.to_vec().into())).await;
    }
    assert_completes(&mut socket).await;
    socket.send(echo_of_length(LIMIT + 1)).await;
    assert_eq!(
        socket.rest().await,
        closed_with_an_error(),
        "one byte over the limit"
    );

    // It does not take a whole message to know that it is too long.
    let mut endless = Socket::shaken(bystander.url()).await;
    for _ in 0..=LIMIT / 1024 {
        let _ = endless.try_send("x".repeat(1024)).await;
    }
    assert_eq!(
        endless.rest().await,
        closed_with_an_error(),
        "a message without an end"
    );

    // What was complete before it is still answered.
    let mut socket = Socket::shaken(bystander.url()).await;
    socket
        .send(format!("{}{}", echo_of_length(100), "x".repeat(LIMIT + 1)))
        .await;
    let (records, end) = socket.rest().await;
    assert_eq!(
        (records.len(), end),
        (2, closed_with_an_error().1),
        "{records:?}"
    );
    bystander.is_undisturbed("oversized messages").await;
}

#[tokio::test]
async fn calls_that_cannot_be_made_are_answered_and_the_connection_stays() {
    let mut bystander = Bystander::on_a_server(&[]).await;
    let mut socket = Socket::shaken(bystander.url()).await;
    let hubs = "due to an error on the server.";
    for (target, arguments, error) in [
        (
            "Nonsense",
            json!([]),
            format!("Failed to invoke 'Nonsense' {hubs} HubException: Method does not exist."),
        ),
        (
            "nönsense'\"",
            json!([1]),
            format!("Failed to invoke 'nönsense'\"' {hubs} HubException: Method does not exist."),
        ),
        (
            "JoinRoom",
            json!([]),
            format!("Failed to invoke 'JoinRoom' {hubs}"),
        ),
        (
            "joinroom",
            json!(["a", "b"]),
            format!("Failed to invoke 'joinroom' {hubs}"),
        ),
        (
            "JoinRoom",
            json!([7]),
            format!("Failed to invoke 'JoinRoom' {hubs}"),
        ),
        (
            "SendMessage",
            json!(["room", {"user": 1}, []]),
            format!("Failed to invoke 'SendMessage' {hubs}"),
        ),
    ] {
        let call =
            json!({"type": 1, "invocationId": "x", "target": target, "arguments": arguments});
        socket.send(format!("{call}{RECORD_SEPARATOR}")).await;
        assert_eq!(
            socket.records().await,
            [json!({"type": 3, "invocationId": "x", "error": error})]
        );
        // Without an id there is no answer of any kind.
        for id in [None, Some("")] {
            let mut call = json!({"type": 1, "target": target, "arguments": arguments});
            if let Some(id) = id {
                call["invocationId"] = json!(id);
            }
            socket.send(format!("{call}{RECORD_SEPARATOR}")).await;
        }
    }
    let streaming = json!({"type": 4, "invocationId": "s", "target": "Echo", "arguments": ["one"]});
    socket.send(format!("{streaming}{RECORD_SEPARATOR}")).await;
    let error = "The client attempted to invoke the non-streaming 'Echo' method with a streaming invocation.";
    assert_eq!(
        socket.records().await,
        [json!({"type": 3, "invocationId": "s", "error": error})]
    );
    socket.send(echo_of_length(100)).await;
    assert_completes(&mut socket).await;
    bystander.is_undisturbed("wrong calls").await;
}

#[tokio::test]
async fn what_nobody_asked_for_is_ignored() {
    let mut bystander = Bystander::on_a_server(&[]).await;
    let mut socket = Socket::shaken(bystander.url()).await;
    for record in [
        "{\"type\":2,\"invocationId\":\"unknown\",\"item\":{\"a\":[1]}}",
        "{\"type\":3,\"invocationId\":\"unknown\",\"result\":1}",
        "{\"type\":3,\"invocationId\":\"unknown\",\"error\":\"text\"}",
        "{\"type\":3,\"invocationId\":\"unknown\"}",
        "{\"type\":5,\"invocationId\":\"unknown\"}",
        "{\"type\":6}",
        "{\"type\":6,\"headers\":{\"a\":\"b\"},\"more\":null}",
        "{\"type\":8,\"sequenceId\":5}",
        "{\"type\":9,\"sequenceId\":1}",
        "{\"type\":10}",
        "{\"type\":-1,\"arguments\":[1]}",
        "{\"type\":99,\"payload\":{\"type\":7}}",
    ] {
        socket.send(format!("{record}{RECORD_SEPARATOR}")).await;
        // The next thing that comes is the answer to this, so there was none to the record.
        socket.send(echo_of_length(60)).await;
        assert_completes(&mut socket).await;
    }
    // Empty WebSocket messages and the WebSocket's own pings are none of the hub's business.
    socket.send("").await;
    socket.send(Message::Binary(Vec::new().into())).await;
    socket.send(Message::Ping("x".repeat(125).into())).await;
    let unusual = "\r\n{ \"arguments\" : [\"unusual\"], \"zz\":{\"type\":7}, \"target\":\"x\", \"target\":\"eCHO\", \"invocationId\":\"9\", \"headers\":{\"a\":\"b\"}, \"type\":1 }\t";
    socket
        .send(Message::Binary(
            format!("{unusual}{RECORD_SEPARATOR}").into_bytes().into(),
        ))
        .await;
    let mut records = Vec::new();
    while records.is_empty() {
        records = socket.records().await;
    }
    assert_eq!(
        records,
        [json!({"type": 3, "invocationId": "9", "result": "unusual"})]
    );
    bystander.is_undisturbed("curiosities").await;
}

fn closed_with_an_error() -> (Vec<Value>, End) {
    let close =
        json!({"type": 7, "error": "Connection closed with an error.", "allowReconnect": true});
    (
        vec![close.clone()],
        End {
            close: Some(close),
            code: Some(1000),
        },
    )
}

/// An invocation of Echo that is exactly this many bytes long, with its record separator.
fn echo_of_length(length: usize) -> String {
    let (head, tail) = (
        "{\"type\":1,\"invocationId\":\"1\",\"target\":\"Echo\",\"arguments\":[\"",
        "\"]}\u{1e}",
    );
    format!(
        "{head}{}{tail}",
        "x".repeat(length.saturating_sub(head.len() + tail.len()))
    )
}

async fn assert_completes(socket: &mut Socket) {
    assert_completes_times(socket, 1).await;
}

async fn assert_completes_times(socket: &mut Socket, times: usize) {
    let mut records = Vec::new();
    while records.len() < times {
        records.extend(socket.records().await);
    }
    let completed = |record: &Value| {
        record["type"] == 3 && record["invocationId"] == "1" && record["result"].is_string()
    };
    assert!(
        records.len() == times && records.iter().all(completed),
        "{records:?}"
    );
}
