//! What `docker-compose.yml` starts, without Docker: nginx balancing round robin, without sticky sessions, over two servers.

use std::time::Duration;

use end_to_end::client::negotiate;
use end_to_end::wait::{DEADLINE, until};
use end_to_end::{Client, Hubcast, Nginx, RedisServer, Socket, http};
use futures_util::future::join_all;
use nix::sys::signal::Signal;
use serde_json::json;

/// How many clients come through the balancer.
const CLIENTS: usize = 20;

#[tokio::test]
async fn clients_connect_and_chat_through_a_round_robin_balancer() {
    let redis = RedisServer::start().await;
    let servers: [Hubcast; 2] = Hubcast::cluster(&redis).await;
    let nginx = Nginx::in_front_of(&[&servers[0], &servers[1]]).await;

    let mut members = connect_all(&nginx).await;
    assert_eq!(
        redis.subscribers("ChatHub:group:lobby").await,
        2,
        "there are members on both servers"
    );

    for (number, member) in members.iter_mut().enumerate() {
        member
            .say("lobby", "someone", &format!("I am number {number}"))
            .await;
    }
    let last = format!("I am number {}", CLIENTS - 1);
    let expected = members[0].chats_until(&last).await;
    assert_eq!(expected.len(), CLIENTS);
    for member in &mut members[1..] {
        assert_eq!(member.chats_until(&last).await, expected);
    }
}

#[tokio::test]
async fn clients_of_a_draining_server_reconnect_through_the_balancer() {
    let redis = RedisServer::start().await;
    let mut servers: [Hubcast; 2] = Hubcast::cluster(&redis).await;
    let nginx = Nginx::in_front_of(&[&servers[0], &servers[1]]).await;
    let mut members = connect_all(&nginx).await;

    servers[0].signal(Signal::SIGTERM);
    assert_eq!(
        servers[0].exit(Duration::from_secs(5)).await.code(),
        Some(0)
    );
    // Once only the other server's subscription is left, whoever was on this one has been told.
    redis.subscribers_become("ChatHub:group:lobby", 1).await;

    let mut moved = 0;
    for member in &mut members {
        // An answer proves that a connection is alive, whatever may still be on its way to it.
        if member.is_open()
            && member.try_invoke("Echo", json!(["there?"])).await == Some(Ok(json!("there?")))
        {
            continue;
        }
        let end = member.end().await;
        assert_eq!(end.close, Some(json!({"type": 7, "allowReconnect": true})));
        *member = reconnect(&nginx).await;
        member.join("lobby").await;
        moved += 1;
    }
    assert!(
        (1..CLIENTS).contains(&moved),
        "{moved} of {CLIENTS} clients were on the drained server"
    );

    members[0].say("lobby", "someone", "all here?").await;
    for member in &mut members {
        assert_eq!(member.chats_until("all here?").await.len(), 1);
    }
}

#[tokio::test]
async fn the_balancer_hands_on_plain_requests_of_any_kind() {
    let redis = RedisServer::start().await;
    let servers: [Hubcast; 2] = Hubcast::cluster(&redis).await;
    let nginx = Nginx::in_front_of(&[&servers[0], &servers[1]]).await;
    for _ in 0..4 {
        let health = http::request(&nginx.url(), "GET", "/healthz", &[], "")
            .await
            .expect("an answer");
        assert_eq!(health.status, 200, "{health:?}");
    }
    // The page that a server hands out comes from the balancer's own address, so its origin is no stranger to the servers.
    let origin = nginx.url();
    let headers = [("Origin", origin.as_str())];
    let own = http::request(
        &nginx.url(),
        "POST",
        "/chatHub/negotiate?negotiateVersion=1",
        &headers,
        "",
    )
    .await
    .expect("an answer");
    assert_eq!(own.status, 200, "{own:?}");
    let headers = [("Origin", "http://elsewhere.example")];
    let foreign = http::request(
        &nginx.url(),
        "POST",
        "/chatHub/negotiate?negotiateVersion=1",
        &headers,
        "",
    )
    .await
    .expect("an answer");
    assert_eq!(foreign.status, 403, "{foreign:?}");
}

#[tokio::test]
async fn the_balancer_keeps_everybody_from_the_task_centre() {
    let server = Hubcast::start(&[]).await;
    let nginx = Nginx::in_front_of(&[&server, &server]).await;
    for (method, path) in [
        ("GET", "/tasks"),
        ("POST", "/tasks/"),
        ("GET", "/tasks/dead?most=1"),
        ("POST", "/tasks/dead/retry"),
        ("GET", "/%74asks"),
        ("GET", "/x/..//tasks"),
        ("GET", "/push?ack=done"),
        ("POST", "/taskHub"),
        ("POST", "/TASKhub/negotiate?negotiateVersion=1"),
        ("GET", "/taskhub/"),
    ] {
        let answer = http::request(&nginx.url(), method, path, &[], "").await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 404, "{method} {path}");
        assert!(answer.body.contains("nginx"), "{method} {path}: {answer:?}");
    }
    for path in ["/push", "/taskHub"] {
        let refused = Socket::open_with(&nginx.url(), path, &[]).await;
        assert_eq!(refused.err(), Some(404), "{path}");
    }
    // What only begins like one of them is no concern of the balancer's.
    let other = http::request(&nginx.url(), "GET", "/pushed", &[], "").await;
    let other = other.expect("an answer");
    assert_eq!(other.status, 404);
    assert!(!other.body.contains("nginx"), "{other:?}");
    assert!(Socket::open_with(&nginx.url(), "/ws", &[]).await.is_ok());
}

/// Connects all clients at the same time. One after the other, each with its two requests, they would all end up on the same
/// one of two servers that take strict turns.
async fn connect_all(nginx: &Nginx) -> Vec<Client> {
    join_all((0..CLIENTS).map(async |_| {
        let mut member = Client::connect(&nginx.url()).await;
        member.join("lobby").await;
        member
    }))
    .await
}

/// As the stock client does when it was told to reconnect: again and again until it works.
async fn reconnect(nginx: &Nginx) -> Client {
    let (client, _) = until(DEADLINE, "reconnecting through the balancer", async || {
        let negotiated = negotiate(&nginx.url()).await?;
        Client::open(&nginx.url(), &negotiated)
            .await
            .map_err(|status| format!("opening was refused with {status}"))
    })
    .await;
    client
}
