//! What backplanes of SignalR commonly get wrong: a test for each row of the table in the reference, named after it. The rows that need a
//! real Redis are in the file of the same name among the end-to-end tests.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::backplane::{Stranger, Troubled};
use super::client::{Client, Server};
use crate::backplane::{Backplane, LocalBackplane};
use crate::close_reason::CloseReason;
use crate::error::{GroupError, InvokeError};
use crate::options::HubOptions;

const PING: &str = r#"{"type":6}"#;

fn start(backplane: impl Backplane) -> Server {
    Server::start(HubOptions::default(), Some(Arc::new(backplane)))
}

fn message(text: &str) -> String {
    format!(r#"{{"type":1,"target":"Message","arguments":["{text}"]}}"#)
}

async fn tell_all(server: &Server, text: &str) {
    let context = server.context();
    let told = context.clients().all().send("Message", (text,)).await;
    told.unwrap();
}

async fn leave(client: Client, crashes: bool) -> CloseReason {
    if crashes {
        client.input.end(CloseReason::ConnectionLost);
    } else {
        client.send(r#"{"type":7}"#).await;
    }
    client.ended().await
}

/// Row: stateful reconnect ignores messages that came from the backplane, so that numbers are wrong and messages are lost.
#[tokio::test(start_paused = true)]
async fn stateful_reconnect_counts_what_came_through_the_backplane() {
    let bus = LocalBackplane::new();
    let options = HubOptions {
        allow_stateful_reconnects: true,
        ..HubOptions::default()
    };
    let here = Server::start(options, Some(Arc::new(bus.join())));
    let there = start(bus.join());
    let mut client = here.connect("a");
    client.send(r#"{"protocol":"json","version":2}"#).await;
    client.expect("{}").await;
    let joined = client.answer("Join", r#"["room"]"#).await; // number 1
    assert_eq!(joined, r#""result":null"#);

    let context = there.context();
    let clients = context.clients();
    for (recipients, text) in [
        (clients.all(), "two, to all"),
        (clients.group("room"), "three, to the room"),
        (clients.client("a").into(), "four, to the connection"),
    ] {
        recipients.send("Message", (text,)).await.unwrap();
        client.expect(&message(text)).await;
    }
    client.send(r#"{"type":8,"sequenceId":2}"#).await;
    assert_eq!(client.answer("Add", "[1,2]").await, r#""result":3"#); // number 5
    client.lose_socket();
    tell_all(&there, "six, meanwhile").await;

    assert_eq!(client.come_back().await, r#"{"type":9,"sequenceId":3}"#);
    client.expect(&message("three, to the room")).await;
    client.expect(&message("four, to the connection")).await;
    let five = r#"{"type":3,"invocationId":"7","result":3}"#;
    client.expect(five).await;
    client.expect(&message("six, meanwhile")).await;
    client.expect_nothing().await;
}

/// Row: leaving groups on disconnect through the command channel waits 30 s for an acknowledgement that nobody sends.
#[tokio::test(start_paused = true)]
async fn leaving_groups_on_disconnect_waits_for_no_acknowledgement() {
    for crashes in [false, true] {
        let bus = LocalBackplane::new();
        let server = start(bus.join());
        let commands_and_group = ["TestHub:internal:groups", "TestHub:group:g"];
        let mut stranger = Stranger::join(&bus, &commands_and_group).await;
        let mut client = server.client("a").await;
        client.answer("Join", r#"["g"]"#).await;

        let began = Instant::now();
        leave(client, crashes).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert!(server.is_group_empty("g"));
        // The stranger alone gets what the group gets, and it has got no command before.
        stranger.publish("TestHub:group:g", b"marker").await;
        assert_eq!(stranger.next().await.0, "TestHub:group:g");
    }
}

/// Row: adding a vanished connection to a group is a cancelled task after 30 to 35 s.
#[tokio::test(start_paused = true)]
async fn adding_a_vanished_connection_fails_after_thirty_seconds_and_says_so() {
    let bus = LocalBackplane::new();
    let [here, there] = [start(bus.join()), start(bus.join())];
    leave(there.client("b").await, true).await;

    let began = Instant::now();
    let added = here.context().groups().add("b", "g").await;
    assert_eq!(began.elapsed(), Duration::from_secs(30));
    let Err(error @ GroupError::NoAnswer { .. }) = added else {
        panic!("{added:?}");
    };
    assert_eq!(
        error.to_string(),
        "no server has the connection 'b', or it did not answer in time"
    );
    assert!(here.is_group_empty("g") && there.is_group_empty("g"));

    // The caller of a method hears that it failed, and pings go both ways meanwhile.
    let mut caller = here.client("a").await;
    let began = Instant::now();
    caller.call(1, "JoinAnother", r#"["b","g"]"#).await;
    let mut completion = caller.next().await;
    let mut pings = 0;
    while completion == PING {
        pings += 1;
        caller.send(PING).await;
        completion = caller.next().await;
    }
    assert_eq!(
        completion,
        r#"{"type":3,"invocationId":"1","error":"An unexpected error occurred invoking 'JoinAnother' on the server."}"#
    );
    assert_eq!(began.elapsed(), Duration::from_secs(30));
    assert!(pings > 0);
}

/// Row: an unreachable Redis kills new client connections with 1011 instead of degrading.
#[tokio::test(start_paused = true)]
async fn an_unreachable_backplane_does_not_keep_new_clients_out() {
    let server = start(Troubled::away());
    let began = Instant::now();
    let mut a = server.client("a").await;
    let mut b = server.client_of("user", "b").await;
    assert_eq!(a.answer("Add", "[1,2]").await, r#""result":3"#);
    for client in [&mut a, &mut b] {
        let joined = client.answer("Join", r#"["g"]"#).await;
        assert_eq!(joined, r#""result":null"#);
    }
    for to in ["all", "others", "group:g", "user:user", "client:b"] {
        a.send(&format!(
            r#"{{"type":1,"target":"Send","arguments":["{to}","{to}"]}}"#
        ))
        .await;
        b.expect(&message(to)).await;
    }
    for to in ["all", "group:g"] {
        a.expect(&message(to)).await;
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
}

/// Row: `all` stops being delivered while other channels work, because somebody of one channel is stuck.
#[tokio::test(start_paused = true)]
async fn a_stuck_client_of_one_channel_does_not_stop_the_delivery_of_all() {
    let bus = LocalBackplane::new();
    let [here, there] = [start(bus.join()), start(bus.join())];
    let mut stuck = here.client("stuck").await;
    stuck.answer("Join", r#"["g"]"#).await;
    let mut reader = here.client("reader").await;
    let context = there.context();
    let began = Instant::now();
    let large = "x".repeat(100_000);
    // More than the server keeps for a client that reads nothing from now on.
    for number in 0..50 {
        let group = context.clients().group("g");
        group.send("Message", (&large,)).await.unwrap();
        let text = number.to_string();
        tell_all(&there, &text).await;
        reader.expect(&message(&text)).await;
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(stuck.ended().await, CloseReason::TooSlow);
    tell_all(&there, "after it").await;
    reader.expect(&message("after it")).await;
}

/// The same row: what is stuck is the backplane's answer to one subscription.
#[tokio::test(start_paused = true)]
async fn a_stuck_subscription_of_one_channel_does_not_stop_the_delivery_of_all() {
    let permits = Arc::new(Semaphore::new(0));
    let server = start(Troubled::slow("TestHub:group:g", &permits));
    let mut joining = server.client("joining").await;
    let mut reader = server.client("reader").await;
    joining.call(1, "Join", r#"["g"]"#).await;
    for text in ["one", "two"] {
        tell_all(&server, text).await;
        for client in [&mut joining, &mut reader] {
            client.expect(&message(text)).await;
        }
    }
    joining.expect_nothing().await;
    permits.add_permits(1);
    let joined = r#"{"type":3,"invocationId":"1","result":null}"#;
    joining.expect(joined).await;
}

/// Row: a disconnect before the Redis connection was ever up must not throw.
#[tokio::test(start_paused = true)]
async fn a_client_that_disconnects_before_the_backplane_was_ever_up_disturbs_nothing() {
    let server = start(Troubled::away());
    let mut stays = server.client("stays").await;
    for crashes in [false, true] {
        let mut client = server.client_of("user", "leaves").await;
        client.answer("Join", r#"["g"]"#).await;
        let began = Instant::now();
        let expected = if crashes {
            CloseReason::ConnectionLost
        } else {
            CloseReason::ClientLeft
        };
        assert_eq!(leave(client, crashes).await, expected);
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert!(server.is_group_empty("g") && server.is_user_absent("user"));
        assert_eq!(server.context().connection_count(), 1);
        assert_eq!(stays.answer("Add", "[1,2]").await, r#""result":3"#);
    }

    // Or while its own channel is being subscribed to, for the first time.
    let permits = Arc::new(Semaphore::new(0));
    let backplane = Arc::new(Troubled::slow("TestHub:connection:leaves", &permits));
    let shared: Arc<dyn Backplane> = Arc::<Troubled>::clone(&backplane);
    let server = Server::start(HubOptions::default(), Some(shared));
    let mut stays = server.client("stays").await;
    let leaves = server.client("leaves").await;
    leaves.input.end(CloseReason::ConnectionLost);
    tell_all(&server, "meanwhile").await;
    stays.expect(&message("meanwhile")).await;
    permits.add_permits(1);
    assert_eq!(leaves.ended().await, CloseReason::ConnectionLost);
    assert_eq!(server.context().connection_count(), 1);
    let told = backplane.publish("TestHub:connection:leaves", b"x".as_slice().into());
    assert_eq!(told.await, Some(0), "nobody listens for it any more");
}

/// Row: the receivers that a publication counts are those of one node in a cluster. A backplane that cannot count says 1, and then nobody is
/// said not to exist; nothing else depends on the number.
#[tokio::test(start_paused = true)]
async fn receivers_are_counted_only_where_they_can_be() {
    let bus = LocalBackplane::new();
    let counted = [start(bus.join()), start(bus.join())];
    let bus = LocalBackplane::new();
    let uncounted = [(); 2].map(|()| start(Troubled::uncounted(&bus)));
    for ([here, there], counts) in [(counted, true), (uncounted, false)] {
        let began = Instant::now();
        let context = here.context();
        let limit = Duration::from_millis(50);
        let nobody = context.clients().client("nobody").timeout(limit);
        let asked = nobody.invoke::<String>("Question", ("why?",)).await;
        if counts {
            assert!(matches!(asked, Err(InvokeError::NotFound { .. })));
            assert_eq!(began.elapsed(), Duration::ZERO);
        } else {
            assert!(matches!(asked, Err(InvokeError::Canceled)));
            assert_eq!(began.elapsed(), limit);
        }
        assert!(here.awaits_nothing());
        // Who exists is asked, and nobody who is told something need exist.
        let mut b = there.client("b").await;
        let asking = tokio::spawn(async move {
            let b = context.clients().client("b");
            b.invoke::<String>("Question", ("why?",)).await
        });
        let id = b.question().await;
        b.complete(&id, r#""result":"because""#).await;
        assert_eq!(asking.await.unwrap().unwrap(), "because");
        let mut a = here.client("a").await;
        for (method, arguments) in [
            ("Send", r#"["client:nobody","x"]"#),
            ("Send", r#"["group:nobody","x"]"#),
            ("JoinAnother", r#"["b","g"]"#),
        ] {
            let answer = a.answer(method, arguments).await;
            assert_eq!(answer, r#""result":null"#, "{method}");
        }
    }
}
