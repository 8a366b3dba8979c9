//! The client for Rust against the hub that shows everything, in both encodings.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use end_to_end::Conformance;
use end_to_end::wait::{DEADLINE, until, within};
use futures_util::{StreamExt, stream};
use hubcast_client::{
    ByteArray, ConnectionError, ConnectionEvent, Encoding, HubConnection, HubConnectionBuilder,
    HubConnectionState, InvokeError, Timestamp, Upload,
};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

const ENCODINGS: [Encoding; 2] = [Encoding::Json, Encoding::MessagePack];

async fn connect(server: &Conformance, encoding: Encoding) -> HubConnection {
    connect_to(&format!("{}/testHub", server.url()), encoding).await
}

async fn connect_to(url: &str, encoding: Encoding) -> HubConnection {
    let builder = HubConnectionBuilder::new(url).encoding(encoding);
    let connection = builder.build().unwrap();
    within(DEADLINE, "the start", connection.start())
        .await
        .unwrap();
    connection
}

/// Calls a method, which has to answer in time.
macro_rules! invoke {
    ($connection:expr, $type:ty, $method:literal, $arguments:expr) => {
        within(
            DEADLINE,
            $method,
            $connection.invoke::<$type>($method, $arguments),
        )
        .await
    };
}

/// The text of the server for a call that must fail.
fn refused<T: Debug>(result: Result<T, InvokeError>) -> String {
    match result {
        Err(InvokeError::Server(text)) => text,
        other => panic!("{other:?}"),
    }
}

/// The arguments of every call of a method that takes one text.
fn texts(connection: &HubConnection, method: &str) -> UnboundedReceiver<String> {
    let (sender, receiver) = unbounded_channel();
    connection.on(method, move |text: String| {
        let _ = sender.send(text);
    });
    receiver
}

async fn next<T>(receiver: &mut UnboundedReceiver<T>) -> T {
    within(DEADLINE, "a call of the server", receiver.recv())
        .await
        .unwrap()
}

#[tokio::test]
async fn values_come_back_as_they_went() {
    let mut server = Conformance::start().await;
    for encoding in ENCODINGS {
        let connection = connect(&server, encoding).await;
        let text = String::from("ä\u{1e}\u{0}\"😀");
        assert_eq!(invoke!(connection, String, "Echo", (&text,)).unwrap(), text);
        assert_eq!(
            invoke!(connection, Option<String>, "Echo", (None::<String>,)).unwrap(),
            None
        );
        for number in [0, -1, i64::MAX, i64::MIN] {
            assert_eq!(
                invoke!(connection, i64, "EchoLong", (number,)).unwrap(),
                number
            );
        }
        let number = 31.245_270_191_439_438_f64;
        let echo = invoke!(connection, f64, "EchoDouble", (number,)).unwrap();
        assert_eq!(echo.to_bits(), number.to_bits());
        let map = BTreeMap::from([(String::from("Key"), 1), (String::from("key"), 2)]);
        let echo = invoke!(connection, BTreeMap<String, i32>, "EchoDictionary", (&map,));
        assert_eq!(echo.unwrap(), map);
        let object = json!({"a": [1, null, {"b": "c"}], "d": true});
        let echo = invoke!(connection, Value, "EchoObject", (&object,)).unwrap();
        assert_eq!(echo, object);
        let bytes = ByteArray((0..=255).collect());
        let echo = invoke!(connection, ByteArray, "EchoBytes", (&bytes,)).unwrap();
        assert_eq!(echo.0, bytes.0);
        let date =
            Timestamp::try_from(std::time::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123));
        let date = date.unwrap();
        assert_eq!(
            invoke!(connection, Timestamp, "EchoDate", (date,)).unwrap(),
            date
        );
        let bytes = invoke!(connection, ByteArray, "GetBytes", (1000,)).unwrap();
        assert_eq!(bytes.0.len(), 1000);
        let text = invoke!(connection, String, "BigString", (3_000_000,)).unwrap();
        assert_eq!(text.len(), 3_000_000);
        assert_eq!(invoke!(connection, i32, "add", (1, 2)).unwrap(), 3);
        invoke!(connection, (), "VoidMethod", ()).unwrap();
        assert_eq!(
            invoke!(connection, Option<i32>, "NullResult", ()).unwrap(),
            None
        );
        let id = invoke!(connection, String, "GetCallerConnectionId", ()).unwrap();
        assert_eq!(connection.connection_id().as_deref(), Some(id.as_str()));
        within(DEADLINE, "the end", connection.stop()).await;
    }
    server.assert_calm();
}

#[tokio::test]
async fn errors_come_back_as_they_are_and_the_connection_goes_on() {
    let mut server = Conformance::start().await;
    for encoding in ENCODINGS {
        let connection = connect(&server, encoding).await;
        let failed = refused(invoke!(connection, (), "ThrowHubException", ("not today",)));
        assert_eq!(
            failed,
            "An unexpected error occurred invoking 'ThrowHubException' on the server. HubException: not today"
        );
        let failed = refused(invoke!(connection, (), "ThrowException", ("secret",)));
        assert!(!failed.contains("secret"), "{failed}");
        let failed = refused(invoke!(connection, (), "Nothing", ()));
        assert!(failed.ends_with("Method does not exist."), "{failed}");
        refused(invoke!(connection, i32, "Add", (1,)));
        refused(invoke!(connection, i32, "Add", (1, "two")));
        let misfit = invoke!(connection, i32, "Echo", ("text",));
        assert!(
            matches!(misfit, Err(InvokeError::Decode { .. })),
            "{misfit:?}"
        );
        // Nobody hears of a call that wants no answer.
        connection.send("Nothing", ()).await.unwrap();
        assert_eq!(invoke!(connection, i32, "Add", (1, 2)).unwrap(), 3);
    }
    server.assert_calm();
}

#[tokio::test]
async fn the_server_calls_the_client_with_what_it_has() {
    let server = Conformance::start().await;
    for encoding in ENCODINGS {
        let connection = connect(&server, encoding).await;
        let (sender, mut many) = unbounded_channel();
        connection.on(
            "ManyArgs",
            move |number: i32,
                  text: String,
                  float: f64,
                  truth: bool,
                  nothing: Option<i32>,
                  list: Vec<i32>,
                  map: BTreeMap<String, i32>| {
                let map: Vec<_> = map.into_values().collect();
                let all = json!([number, text, float, truth, nothing, list, map]);
                let _ = sender.send(all);
            },
        );
        invoke!(connection, (), "CallBackManyArgs", ()).unwrap();
        let expected = json!([1, "two", 3.5, true, null, [1, 2], [1]]);
        assert_eq!(next(&mut many).await, expected);

        // What a call sends to its caller comes before its answer.
        let mut before = texts(&connection, "Before");
        let answer = invoke!(connection, String, "CallBackThenReturn", ("x",)).unwrap();
        assert_eq!(
            (answer.as_str(), next(&mut before).await.as_str()),
            ("x", "x")
        );

        let (sender, mut flood) = unbounded_channel();
        connection.on("Flood", move |number: usize, text: String| {
            let _ = sender.send((number, text.len()));
        });
        invoke!(connection, (), "FloodCaller", (2000, 1000)).unwrap();
        for number in 0..2000 {
            assert_eq!(next(&mut flood).await, (number, 1000));
        }
    }
}

#[tokio::test]
async fn the_server_asks_the_client_for_results() {
    let server = Conformance::start().await;
    for encoding in ENCODINGS {
        let connection = connect(&server, encoding).await;
        connection.on_result("Double", |number: i32| Ok::<_, String>(number * 2));
        connection.on_result("Refuse", |reason: String| async move {
            tokio::task::yield_now().await;
            Err::<(), _>(reason)
        });
        let answer = invoke!(connection, i32, "InvokeCaller", ("double", 21));
        assert_eq!(answer.unwrap(), 42);
        let failed = refused(invoke!(
            connection,
            i32,
            "InvokeCaller",
            ("Refuse", "not today")
        ));
        assert!(failed.ends_with("HubException: not today"), "{failed}");
        let failed = refused(invoke!(connection, i32, "InvokeCaller", ("Nobody", 1)));
        assert!(
            failed.ends_with("Client didn't provide a result."),
            "{failed}"
        );
        let failed = refused(invoke!(connection, i32, "InvokeCaller", ("Double", "x")));
        assert!(
            failed.ends_with("Client failed to parse argument(s)."),
            "{failed}"
        );

        let other = connect(&server, Encoding::Json).await;
        let id = connection.connection_id().unwrap();
        let answer = invoke!(other, i32, "InvokeClient", (&*id, "Double", 4));
        assert_eq!(answer.unwrap(), 8);
    }
}

#[tokio::test]
async fn streams_of_the_server_are_read_cancelled_and_may_fail() {
    let mut server = Conformance::start().await;
    for encoding in ENCODINGS {
        let connection = connect(&server, encoding).await;
        let counter = connection
            .stream::<i32>("Counter", (1000, 0))
            .await
            .unwrap();
        let numbers: Vec<i32> =
            within(DEADLINE, "the items", counter.map(Result::unwrap).collect()).await;
        assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
        let empty = connection.stream::<i32>("EmptyStream", ()).await.unwrap();
        assert_eq!(within(DEADLINE, "no items", empty.count()).await, 0);

        let failing = connection.stream::<i32>("StreamHubExceptionMidway", (2, "enough"));
        let items: Vec<_> = within(DEADLINE, "the items", failing.await.unwrap().collect()).await;
        let [Ok(0), Ok(1), Err(InvokeError::Server(text))] = items.as_slice() else {
            panic!("{items:?}")
        };
        assert!(text.ends_with("HubException: enough"), "{text}");
        let not_a_stream = connection.stream::<i32>("Add", (1, 2)).await.unwrap();
        let items: Vec<_> = within(DEADLINE, "an error", not_a_stream.collect()).await;
        assert!(
            matches!(items.as_slice(), [Err(InvokeError::Server(_))]),
            "{items:?}"
        );

        let (sender, mut canceled) = unbounded_channel();
        connection.on("StreamCanceled", move || {
            let _ = sender.send(());
        });
        let infinite = connection
            .stream::<String>("InfiniteStream", ())
            .await
            .unwrap();
        drop(infinite);
        next(&mut canceled).await;
        let mut endless = connection
            .stream::<i32>("Counter", (i32::MAX, 1))
            .await
            .unwrap();
        assert_eq!(endless.next().await.unwrap().unwrap(), 0);
        drop(endless);
        assert_eq!(invoke!(connection, i32, "Add", (1, 2)).unwrap(), 3);
    }
    server.assert_calm();
}

#[tokio::test]
async fn a_call_that_is_dropped_is_cancelled() {
    let server = Conformance::start().await;
    let connection = connect(&server, Encoding::Json).await;
    let (sender, mut cancelled) = unbounded_channel();
    connection.on("Cancelled", move || {
        let _ = sender.send(());
    });
    let call = connection.invoke::<bool>("LongRunning", (3_600_000,));
    tokio::select! {
        biased;
        result = call => panic!("{result:?}"),
        // Calls begin in their order, so when this stream is there the call before it runs.
        () = async {
            let stream = connection.stream::<i32>("Counter", (1, 0)).await.unwrap();
            assert_eq!(within(DEADLINE, "a stream", stream.count()).await, 1);
        } => {}
    }
    next(&mut cancelled).await;
}

#[tokio::test]
async fn streams_of_the_client_are_taken_to_their_end() {
    let mut server = Conformance::start().await;
    for encoding in ENCODINGS {
        let connection = connect(&server, encoding).await;
        let numbers = Upload::new(stream::iter(1..=1000));
        let sum = invoke!(connection, i32, "StreamingSum", (numbers,));
        assert_eq!(sum.unwrap(), 500_500);
        let letters = Upload::new(stream::iter(["a", "b"]));
        let joined = invoke!(connection, String, "PrefixedConcat", ("<", letters, ">"));
        assert_eq!(joined.unwrap(), "<ab>");
        let both = (
            Upload::new(stream::iter(["a", "b"])),
            Upload::new(stream::iter(["c"])),
        );
        assert_eq!(
            invoke!(connection, String, "TwoStreams", both).unwrap(),
            "ab|c"
        );
        let mut echo = connection
            .stream::<String>("StreamEcho", (Upload::new(stream::iter(["x", "y"])),))
            .await
            .unwrap();
        for expected in ["echo:x", "echo:y"] {
            let item = within(DEADLINE, "an item", echo.next()).await;
            assert_eq!(item.unwrap().unwrap(), expected);
        }
        assert!(within(DEADLINE, "the end", echo.next()).await.is_none());

        let (sender, mut done) = unbounded_channel();
        connection.on("UploadDone", move |count: i32| {
            let _ = sender.send(count);
        });
        let letters = Upload::new(stream::iter(["a", "b", "c"]));
        connection
            .send("UploadThenNotify", (letters,))
            .await
            .unwrap();
        assert_eq!(next(&mut done).await, 3);

        let failing = Upload::fallible(stream::iter([Ok("a"), Err("broken")]));
        let failed = refused(invoke!(connection, String, "StreamingConcat", (failing,)));
        assert!(failed.ends_with("HubException: broken"), "{failed}");
    }
    server.assert_calm();
}

#[tokio::test]
async fn who_is_in_a_group_hears_what_is_said_there() {
    let server = Conformance::start().await;
    let ada = connect(&server, Encoding::Json).await;
    let bob = connect(&server, Encoding::MessagePack).await;
    let (mut to_ada, mut to_bob) = (texts(&ada, "Message"), texts(&bob, "message"));
    for connection in [&ada, &bob] {
        invoke!(connection, (), "JoinGroup", ("room",)).unwrap();
    }
    invoke!(ada, (), "CallGroup", ("room", "hello")).unwrap();
    assert_eq!(next(&mut to_ada).await, "hello");
    assert_eq!(next(&mut to_bob).await, "hello");
    invoke!(bob, (), "LeaveGroup", ("room",)).unwrap();
    invoke!(ada, (), "CallGroup", ("room", "only ada")).unwrap();
    invoke!(ada, (), "CallAll", ("everybody",)).unwrap();
    assert_eq!(next(&mut to_ada).await, "only ada");
    assert_eq!(next(&mut to_ada).await, "everybody");
    assert_eq!(next(&mut to_bob).await, "everybody");
}

#[tokio::test]
async fn the_hub_hears_of_a_stop_and_of_a_drop_as_of_a_proper_end() {
    let server = Conformance::start().await;
    let watcher = connect(&server, Encoding::Json).await;
    let (sender, mut ended) = unbounded_channel();
    watcher.on("Disconnected", move |id: String, error: Option<String>| {
        let _ = sender.send((id, error));
    });
    invoke!(watcher, (), "WatchDisconnects", ()).unwrap();
    for stops in [true, false] {
        let connection = connect(&server, Encoding::MessagePack).await;
        let id = connection.connection_id().unwrap();
        if stops {
            within(DEADLINE, "the stop", connection.stop()).await;
        }
        drop(connection);
        assert_eq!(next(&mut ended).await, (id.to_string(), None));
    }
}

#[tokio::test]
async fn a_connection_comes_back_with_its_server() {
    let mut server = Conformance::start_to_return().await;
    let connection = HubConnectionBuilder::new(&format!("{}/testHub", server.url()))
        .automatic_reconnect_with(|_| Some(Duration::from_millis(20)))
        .build()
        .unwrap();
    let mut events = connection.events();
    let mut messages = texts(&connection, "Message");
    within(DEADLINE, "the start", connection.start())
        .await
        .unwrap();
    let first = connection.connection_id().unwrap();
    let waiting = connection.invoke::<bool>("LongRunning", (3_600_000,));
    let dying = async {
        // Calls begin in their order, so when this stream is there the call before it runs.
        let stream = connection.stream::<i32>("Counter", (1, 0)).await.unwrap();
        stream.count().await;
        server.vanish();
    };
    let (lost, ()) = within(DEADLINE, "the end", async { tokio::join!(waiting, dying) }).await;
    assert!(
        matches!(lost, Err(InvokeError::ConnectionLost(_))),
        "{lost:?}"
    );
    let event = within(DEADLINE, "an event", events.next()).await;
    assert!(
        matches!(event, Some(ConnectionEvent::Reconnecting(Some(_)))),
        "{event:?}"
    );
    assert_eq!(connection.state(), HubConnectionState::Reconnecting);

    server.come_back().await;
    let event = within(DEADLINE, "an event", events.next()).await;
    let Some(ConnectionEvent::Reconnected {
        connection_id: Some(second),
    }) = event
    else {
        panic!("{event:?}")
    };
    assert_ne!(first, second);
    invoke!(connection, (), "CallAll", ("back",)).unwrap();
    assert_eq!(next(&mut messages).await, "back");
    within(DEADLINE, "the stop", connection.stop()).await;
}

#[tokio::test]
async fn a_connection_that_the_server_cuts_has_ended() {
    let server = Conformance::start().await;
    let connection = connect(&server, Encoding::Json).await;
    let mut events = connection.events();
    connection.send("Abort", ()).await.unwrap();
    let event = within(DEADLINE, "an event", events.next()).await;
    assert!(
        matches!(event, Some(ConnectionEvent::Closed(_))),
        "{event:?}"
    );
    let failed = connection.invoke::<()>("VoidMethod", ()).await;
    assert!(
        matches!(failed, Err(InvokeError::NotConnected { .. })),
        "{failed:?}"
    );
    within(DEADLINE, "another start", connection.start())
        .await
        .unwrap();
    invoke!(connection, (), "VoidMethod", ()).unwrap();
}

#[tokio::test]
async fn more_than_the_server_takes_ends_the_connection_with_its_reason() {
    let server = Conformance::start().await;
    let connection = connect_to(&format!("{}/testHubDetailed", server.url()), Encoding::Json).await;
    let text = "x".repeat(40_000);
    let failed = invoke!(connection, String, "Echo", (text,));
    let Err(InvokeError::ConnectionLost(ConnectionError::ClosedByServer(text))) = failed else {
        panic!("{failed:?}")
    };
    assert!(text.contains("maximum message size of 32768B"), "{text}");
}

#[tokio::test]
async fn connections_that_are_dropped_leave_nothing_on_the_server() {
    let server = Conformance::start().await;
    let watcher = connect(&server, Encoding::Json).await;
    let mut connections = Vec::new();
    for _ in 0..200 {
        connections.push(connect(&server, Encoding::MessagePack).await);
    }
    assert_eq!(
        invoke!(watcher, usize, "GetConnectionCount", ()).unwrap(),
        201
    );
    drop(connections);
    until(DEADLINE, "they are gone", async || {
        match invoke!(watcher, usize, "GetConnectionCount", ()).unwrap() {
            1 => Ok(()),
            count => Err(format!("{count} connections")),
        }
    })
    .await;
}
