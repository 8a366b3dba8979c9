//! Calls of the client.

use futures_util::FutureExt;
use hubcast_protocol::{ByteArray, Encoding};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use super::server::{Listener, connected, settings, within};
use crate::wire::Settings;
use crate::{HubConnectionState, InvokeError, Upload};

#[tokio::test(start_paused = true)]
async fn a_call_and_its_answer_are_these_bytes() {
    let (connection, mut server) = connected(settings()).await;
    let invoking = connection.invoke::<i32>("Add", (1, 2));
    let serving = async {
        let call = r#"{"type":1,"invocationId":"1","target":"Add","arguments":[1,2]}"#;
        assert_eq!(server.text().await, call);
        server
            .send(r#"{"type":3,"invocationId":"1","result":3}"#)
            .await;
    };
    assert_eq!(tokio::join!(invoking, serving).0.unwrap(), 3);

    connection.send("Notify", ("ä",)).await.unwrap();
    let call = r#"{"type":1,"target":"Notify","arguments":["ä"]}"#;
    assert_eq!(server.text().await, call);
}

#[tokio::test(start_paused = true)]
async fn messagepack_is_these_bytes_in_binary_frames() {
    let encoding = Encoding::MessagePack;
    let (connection, mut listener) = Listener::new(
        Settings {
            encoding,
            ..settings()
        },
        None,
    );
    let serving = async {
        let mut server = listener.accept().await;
        let request = &b"{\"protocol\":\"messagepack\",\"version\":1}\x1e"[..];
        assert_eq!(server.message().await, Some(Message::binary(request)));
        server.send_message(Message::binary(&b"{}\x1e"[..])).await;
        let ping = &[0x02, 0x91, 0x06][..];
        assert_eq!(server.message().await, Some(Message::binary(ping)));
        server
    };
    let (started, mut server) = tokio::join!(connection.start(), serving);
    started.unwrap();
    let invoking = connection.invoke::<ByteArray>("Echo", (ByteArray(vec![7]),));
    let serving = async {
        // `[1, {}, "1", "Echo", [bin], []]`, and `[3, {}, "1", 3, bin]`.
        let call = &b"\x0f\x96\x01\x80\xa11\xa4Echo\x91\xc4\x01\x07\x90"[..];
        assert_eq!(server.message().await, Some(Message::binary(call)));
        let answer = &b"\x09\x95\x03\x80\xa11\x03\xc4\x01\x07"[..];
        server.send_message(Message::binary(answer)).await;
    };
    assert_eq!(tokio::join!(invoking, serving).0.unwrap().0, [7]);
}

#[tokio::test(start_paused = true)]
async fn answers_find_their_calls_in_any_order_and_however_they_are_cut() {
    let (connection, mut server) = connected(settings()).await;
    let first = connection.invoke::<String>("A", ());
    let second = connection.invoke::<String>("B", ());
    let serving = async {
        assert_eq!(server.json().await["invocationId"], "1");
        assert_eq!(server.json().await["invocationId"], "2");
        server
            .send_message(Message::text("{\"type\":3,\"invo"))
            .await;
        server.send_message(Message::text("")).await;
        let rest = "cationId\":\"2\",\"result\":\"b\"}\u{1e}{\"type\":6}\u{1e}{\"type\":3,";
        server.send_message(Message::text(rest)).await;
        server.send(r#""invocationId":"1","result":"a"}"#).await;
    };
    let (first, second, ()) = tokio::join!(first, second, serving);
    assert_eq!((first.unwrap(), second.unwrap()), ("a".into(), "b".into()));
}

#[tokio::test(start_paused = true)]
async fn a_call_fails_with_the_servers_text_or_with_what_does_not_fit() {
    let (connection, mut server) = connected(settings()).await;
    let mut answer = async |completion: &str| {
        let invoking = connection.invoke::<i32>("X", ());
        let serving = async {
            let id = server.json().await["invocationId"].clone();
            let completion = completion.replace("ID", id.as_str().unwrap());
            server.send(&completion).await;
        };
        tokio::join!(invoking, serving).0
    };
    let refused = answer(r#"{"type":3,"invocationId":"ID","error":"not today"}"#).await;
    assert!(matches!(&refused, Err(InvokeError::Server(text)) if text == "not today"));
    for completion in [
        r#"{"type":3,"invocationId":"ID","result":"text"}"#,
        r#"{"type":3,"invocationId":"ID"}"#,
    ] {
        let misfit = answer(completion).await;
        assert!(
            matches!(
                misfit,
                Err(InvokeError::Decode {
                    type_name: "i32",
                    ..
                })
            ),
            "{misfit:?}"
        );
    }
    assert_eq!(
        answer(r#"{"type":3,"invocationId":"ID","result":5}"#)
            .await
            .unwrap(),
        5
    );
}

#[tokio::test(start_paused = true)]
async fn no_result_at_all_is_null() {
    let (connection, mut server) = connected(settings()).await;
    let invoking = connection.invoke::<()>("X", ());
    let serving = async {
        server.text().await;
        server.send(r#"{"type":3,"invocationId":"1"}"#).await;
    };
    tokio::join!(invoking, serving).0.unwrap();
    let invoking = connection.invoke::<Option<i32>>("X", ());
    let serving = async {
        server.text().await;
        server.send(r#"{"type":3,"invocationId":"2"}"#).await;
    };
    assert_eq!(tokio::join!(invoking, serving).0.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_written_fails_at_once_and_leaves_nothing_behind() {
    let (connection, mut server) = connected(settings()).await;
    let unwritable = std::collections::HashMap::from([(vec![1], 1)]);
    let endless = || Upload::new(futures_util::stream::pending::<()>());
    // More often than there are places for calls, and for streams.
    for _ in 0..1100 {
        let arguments = (&unwritable, endless());
        let failed = connection.invoke::<()>("X", arguments).await;
        assert!(
            matches!(failed, Err(InvokeError::Encode { .. })),
            "{failed:?}"
        );
    }
    assert!(server.is_silent().await);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_is_taken_back() {
    let (connection, mut server) = connected(settings()).await;
    {
        let call = connection.invoke::<()>("Long", ());
        let mut call = Box::pin(call);
        assert!((&mut call).now_or_never().is_none());
        assert_eq!(server.json().await["target"], "Long");
    }
    assert_eq!(server.text().await, r#"{"type":5,"invocationId":"1"}"#);
    // Its late answer is nobody's.
    server.complete("1", json!(null)).await;
    let invoking = connection.invoke::<i32>("X", ());
    let serving = async {
        assert_eq!(server.json().await["invocationId"], "2");
        server.complete("2", json!(1)).await;
    };
    assert_eq!(tokio::join!(invoking, serving).0.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn calls_without_an_answer_are_bounded_and_their_answers_make_room() {
    let (connection, mut server) = connected(settings()).await;
    let mut calls: Vec<_> = (0..1024)
        .map(|_| Box::pin(connection.invoke::<()>("X", ())))
        .collect();
    for call in &mut calls {
        assert!(call.now_or_never().is_none());
        // A task that does not yield is made to wait for what is there.
        tokio::task::yield_now().await;
    }
    let refused = connection.invoke::<()>("X", ()).await;
    assert!(matches!(refused, Err(InvokeError::TooMany)), "{refused:?}");
    // Taking calls back makes no room: the server still works on them.
    drop(calls);
    let refused = connection.invoke::<()>("X", ()).await;
    assert!(matches!(refused, Err(InvokeError::TooMany)), "{refused:?}");
    for _ in 0..2048 {
        server.record().await;
    }
    server.complete("1000", json!(null)).await;
    server.complete("1024", json!(null)).await;
    let serving = async {
        loop {
            let call = server.json().await;
            if call["type"] == 1 {
                let id = call["invocationId"].as_str().unwrap().to_owned();
                return server.complete(&id, json!(null)).await;
            }
        }
    };
    let calling = async {
        while let Err(error) = connection.invoke::<()>("X", ()).await {
            assert!(matches!(error, InvokeError::TooMany), "{error}");
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(serving, calling);
}

#[tokio::test(start_paused = true)]
async fn streams_of_ours_are_bounded_and_their_ends_make_room() {
    let (connection, mut server) = connected(settings()).await;
    for _ in 0..1100 {
        let upload = Upload::new(futures_util::stream::empty::<()>());
        connection.send("Take", (upload,)).await.unwrap();
        assert_eq!(server.json().await["type"], 1);
        assert_eq!(server.json().await["type"], 3);
    }
    let endless = || Upload::new(futures_util::stream::pending::<()>());
    for _ in 0..1024 {
        connection.send("Take", (endless(),)).await.unwrap();
    }
    let refused = connection.send("Take", (endless(),)).await;
    assert!(matches!(refused, Err(InvokeError::TooMany)), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn who_sends_more_than_the_server_takes_waits() {
    let (connection, mut server) = connected(settings()).await;
    let text = "x".repeat(100_000);
    let mut sent = 0;
    while connection.send("X", (&text,)).now_or_never().is_some() {
        sent += 1;
        tokio::task::yield_now().await;
        assert!(sent < 20, "nothing is read, and everything is taken");
    }
    assert!(
        sent >= 10,
        "there is room for a megabyte, not only for {sent}"
    );
    let sending = connection.send("Last", ());
    let serving = async {
        for _ in 0..sent {
            assert_eq!(server.json().await["target"], "X");
        }
        assert_eq!(server.json().await["target"], "Last");
    };
    tokio::join!(sending, serving).0.unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_a_connection_calls_fail_at_once_and_say_how_things_stand() {
    let (connection, mut listener) = Listener::new(settings(), None);
    let state = |error| match error {
        InvokeError::NotConnected { state } => state,
        other => panic!("{other}"),
    };
    let failed = connection.send("X", ()).await.unwrap_err();
    assert_eq!(state(failed), HubConnectionState::Disconnected);
    let mut starting = Box::pin(connection.start());
    assert!((&mut starting).now_or_never().is_none());
    let failed = connection.stream::<()>("X", ()).await.unwrap_err();
    assert_eq!(state(failed), HubConnectionState::Connecting);
    let (started, _server) = tokio::join!(starting, listener.shaken());
    started.unwrap();
    within("stopping", connection.stop()).await;
    let failed = connection.invoke::<()>("X", ()).await.unwrap_err();
    assert_eq!(state(failed), HubConnectionState::Disconnected);
}
