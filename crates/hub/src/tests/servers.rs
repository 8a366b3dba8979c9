//! Whom messages reach: on one server, and on several that share a backplane.

use std::sync::Arc;

use tokio::time::Instant;

use super::client::{Client, Server};
use crate::backplane::{Backplane, LocalBackplane};
use crate::error::GroupError;
use crate::lifetime::ACK_TIMEOUT;
use crate::options::HubOptions;

/// Three clients; on one server, or each on its own.
async fn three(servers: &[Server; 3]) -> [Client; 3] {
    let [a, b, c] = servers;
    [
        a.client("a").await,
        b.client("b").await,
        c.client("c").await,
    ]
}

fn joined() -> [Server; 3] {
    let bus = LocalBackplane::new();
    [(); 3].map(|()| {
        let backplane: Arc<dyn Backplane> = Arc::new(bus.join());
        Server::start(HubOptions::default(), Some(backplane))
    })
}

/// Has the first client send to somebody, and checks that exactly those get it. What each gets up to a marker that
/// everybody gets is all there is.
async fn check_selectors(clients: &mut [Client; 3]) {
    let [a, b, c] = clients;
    a.answer("Join", r#"["g"]"#).await;
    b.answer("Join", r#"["g"]"#).await;
    b.answer("Join", r#"["h"]"#).await;
    for (to, receivers) in [
        ("all", "abc"),
        ("all-except:b", "ac"),
        ("caller", "a"),
        ("others", "bc"),
        ("client:b", "b"),
        ("client:nobody", ""),
        ("clients:a,c,nobody", "ac"),
        ("group:g", "ab"),
        ("group:G", ""),
        ("groups:g,h", "abb"),
        ("others-in-group:g", "b"),
    ] {
        for to in [to, "all"] {
            a.send(&format!(
                r#"{{"type":1,"target":"Send","arguments":["{to}","{to}"]}}"#
            ))
            .await;
        }
        let mut got = String::new();
        for (client, name) in [(&mut *a, 'a'), (&mut *b, 'b'), (&mut *c, 'c')] {
            let message =
                |text| format!(r#"{{"type":1,"target":"Message","arguments":["{text}"]}}"#);
            loop {
                let next = client.next().await;
                if next == message(to) && to != "all" {
                    got.push(name);
                } else if next == message("all") {
                    if to == "all" {
                        assert_eq!(client.next().await, next);
                        got.push(name);
                    }
                    break;
                } else {
                    panic!("{next} to {name} while sending to {to}");
                }
            }
        }
        assert_eq!(got, receivers, "{to}");
    }
}

#[tokio::test(start_paused = true)]
async fn on_one_server_messages_reach_whom_they_are_for() {
    let server = Server::alone();
    let mut clients = [
        server.client("a").await,
        server.client("b").await,
        server.client("c").await,
    ];
    check_selectors(&mut clients).await;
}

#[tokio::test(start_paused = true)]
async fn across_servers_messages_reach_whom_they_are_for() {
    let servers = joined();
    let mut clients = three(&servers).await;
    check_selectors(&mut clients).await;
}

#[tokio::test(start_paused = true)]
async fn who_has_left_gets_nothing_more() {
    for servers in [
        joined(),
        [Server::alone(), Server::alone(), Server::alone()],
    ] {
        let mut client = servers[0].client("a").await;
        client.answer("Join", r#"["g"]"#).await;
        client.answer("Join", r#"["g"]"#).await;
        client.answer("Leave", r#"["g"]"#).await;
        client.answer("Leave", r#"["never joined"]"#).await;
        let context = servers[0].context();
        context
            .clients()
            .group("g")
            .send("Message", ("no",))
            .await
            .unwrap();
        context
            .clients()
            .all()
            .send("Message", ("yes",))
            .await
            .unwrap();
        assert_eq!(
            client.next().await,
            r#"{"type":1,"target":"Message","arguments":["yes"]}"#
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_of_another_server_can_be_put_into_a_group() {
    let servers = joined();
    let [mut a, mut b, _] = three(&servers).await;
    assert_eq!(
        a.answer("JoinAnother", r#"["b","g"]"#).await,
        r#""result":null"#
    );
    a.answer("Send", r#"["group:g","hi"]"#).await;
    assert_eq!(
        b.next().await,
        r#"{"type":1,"target":"Message","arguments":["hi"]}"#
    );

    servers[2]
        .context()
        .groups()
        .remove("b", "g")
        .await
        .unwrap();
    a.answer("Send", r#"["group:g","again"]"#).await;
    a.answer("Send", r#"["client:b","only this"]"#).await;
    assert_eq!(
        b.next().await,
        r#"{"type":1,"target":"Message","arguments":["only this"]}"#
    );
}

#[tokio::test(start_paused = true)]
async fn nobody_answers_for_a_connection_that_does_not_exist() {
    let servers = joined();
    let began = Instant::now();
    let outcome = servers[0].context().groups().add("nobody", "g").await;
    assert!(
        matches!(outcome, Err(GroupError::NoAnswer { connection_id }) if connection_id == "nobody")
    );
    assert_eq!(began.elapsed(), ACK_TIMEOUT);
    // Alone it is simply nothing.
    Server::alone()
        .context()
        .groups()
        .add("nobody", "g")
        .await
        .unwrap();
}

#[tokio::test]
async fn everybody_in_a_room_sees_one_order() {
    for servers in [
        joined(),
        [Server::alone(), Server::alone(), Server::alone()],
    ] {
        let mut members = Vec::new();
        for number in 0..8 {
            let mut member = servers[0].client(&format!("m{number}")).await;
            member.answer("Join", r#"["g"]"#).await;
            members.push(member);
        }
        let senders = (0..4).map(|sender| {
            let context = servers[0].context();
            tokio::spawn(async move {
                for number in 0..50 {
                    let text = format!("{sender}-{number}");
                    context
                        .clients()
                        .group("g")
                        .send("Message", (text,))
                        .await
                        .unwrap();
                    tokio::task::yield_now().await;
                }
            })
        });
        for sender in senders.collect::<Vec<_>>() {
            sender.await.unwrap();
        }
        let mut first = None;
        for member in &mut members {
            let mut seen = Vec::new();
            for _ in 0..200 {
                seen.push(member.next().await);
            }
            assert_eq!(*first.get_or_insert_with(|| seen.clone()), seen);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn joining_and_vanishing_at_once_leaves_no_ghost() {
    let server = Server::alone();
    for round in 0..200 {
        let client = server.client("a").await;
        client.call(1, "Join", r#"["g"]"#).await;
        let context = server.context();
        let add = tokio::spawn(async move { context.groups().add("a", "g").await });
        if round % 2 == 0 {
            tokio::task::yield_now().await;
        }
        client.send(r#"{"type":7}"#).await;
        client.ended().await;
        add.await.unwrap().unwrap();
        assert!(server.is_group_empty("g"), "round {round}");
    }
}
