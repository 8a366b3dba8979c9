//! A connection negotiated at any server opens at any server, once, and soon; nothing else opens anything.

use std::time::Duration;

use end_to_end::client::{Negotiated, negotiate};
use end_to_end::{Client, Hubcast, RedisServer, Socket, http};
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

/// How long a token is good for, and a little more.
const LIFETIME: Duration = Duration::from_millis(16_500);

#[tokio::test]
async fn a_connection_negotiated_at_one_server_opens_at_another() {
    let redis = RedisServer::start().await;
    let [one, two]: [Hubcast; 2] = Hubcast::cluster(&redis).await;
    let mut ada = Client::connect_across(one.url(), two.url()).await;
    let mut bob = Client::connect_across(two.url(), one.url()).await;
    ada.join("room").await;
    bob.join("room").await;
    ada.say("room", "ada", "hello").await;
    assert_eq!(ada.chat().await.1, "hello");
    assert_eq!(bob.chat().await.1, "hello");
}

#[tokio::test]
async fn negotiation_without_a_version_opens_at_any_server_with_the_connection_id() {
    let redis = RedisServer::start().await;
    let [one, two]: [Hubcast; 2] = Hubcast::cluster(&redis).await;
    for server in [&one, &two] {
        let answer = http::request(one.url(), "POST", "/chatHub/negotiate", &[], "")
            .await
            .expect("an answer");
        let body: Value = serde_json::from_str(&answer.body).expect("JSON");
        assert_eq!(body.get("connectionToken"), None, "version 0 has no token");
        let id = body["connectionId"].as_str().expect("an id").to_owned();
        let negotiated = Negotiated {
            connection_id: id.clone(),
            connection_token: id,
        };
        let mut client = Client::open(server.url(), &negotiated)
            .await
            .expect("an open connection");
        client.join("room").await;
    }
}

#[tokio::test]
async fn a_token_opens_one_connection_only() {
    let redis = RedisServer::start().await;
    let [mut one, mut two]: [Hubcast; 2] = Hubcast::cluster(&redis).await;
    let mut tokens = Vec::new();
    for (first, second) in [(&one, &one), (&one, &two), (&two, &one)] {
        let negotiated = negotiate(one.url()).await.expect("a negotiation");
        let mut client = Client::open(first.url(), &negotiated)
            .await
            .expect("the first use");
        assert_refused(second, &negotiated.connection_token).await;
        client.join("room").await;
        assert!(client.is_open(), "who has the connection keeps it");

        // Nor after the connection has ended.
        let channel = format!("ChatHub:connection:{}", client.id());
        drop(client);
        redis.subscribers_become(&channel, 0).await;
        assert_refused(first, &negotiated.connection_token).await;
        assert_refused(second, &negotiated.connection_token).await;
        tokens.push(negotiated.connection_token);
    }
    let secrets: Vec<&str> = tokens.iter().map(String::as_str).collect();
    one.assert_calm(&secrets);
    two.assert_calm(&secrets);
}

#[tokio::test]
async fn one_of_many_simultaneous_uses_of_a_token_wins() {
    let redis = RedisServer::start().await;
    let [one, two]: [Hubcast; 2] = Hubcast::cluster(&redis).await;
    let negotiated = negotiate(one.url()).await.expect("a negotiation");
    let token = Some(negotiated.connection_token.as_str());
    let (a, b, c, d) = tokio::join!(
        Socket::open(one.url(), token),
        Socket::open(two.url(), token),
        Socket::open(one.url(), token),
        Socket::open(two.url(), token)
    );
    let statuses: Vec<Option<u16>> = [a, b, c, d].into_iter().map(Result::err).collect();
    assert_eq!(
        statuses.iter().filter(|status| status.is_none()).count(),
        1,
        "{statuses:?}"
    );
}

#[tokio::test]
async fn a_forged_token_is_refused() {
    let redis = RedisServer::start().await;
    let [mut one, mut two]: [Hubcast; 2] = Hubcast::cluster(&redis).await;
    let negotiated = negotiate(one.url()).await.expect("a negotiation");
    let token = &negotiated.connection_token;
    assert_ne!(token, &negotiated.connection_id);

    let mut forgeries = vec![
        negotiated.connection_id.clone(),
        String::from("AAAAAAAAAAAAAAAAAAAAAA"),
        format!("{token}A"),
        token[1..].to_owned(),
        token[..token.len() - 1].to_owned(),
        token.to_uppercase(),
        token.repeat(200),
        String::from("ü\u{0}%\u{1e}"),
    ];
    // Every character counts: with any one of them changed it is somebody else's token.
    forgeries.extend((0..token.len()).map(|position| {
        let replacement = if token[position..].starts_with('x') {
            "y"
        } else {
            "x"
        };
        format!(
            "{}{replacement}{}",
            &token[..position],
            &token[position + 1..]
        )
    }));
    for forgery in &forgeries {
        for server in [&one, &two] {
            assert_eq!(
                Socket::open(server.url(), Some(forgery)).await.err(),
                Some(404),
                "{forgery:?}"
            );
        }
    }

    // None of that has used up the real one.
    let mut client = Client::open(two.url(), &negotiated)
        .await
        .expect("the real token");
    client.join("room").await;
    one.assert_calm(&[token]);
    two.assert_calm(&[token]);
}

#[tokio::test]
async fn an_expired_token_is_refused_everywhere() {
    let redis = RedisServer::start().await;
    let [one, two]: [Hubcast; 2] = Hubcast::cluster(&redis).await;
    let here = negotiate(one.url()).await.expect("a negotiation");
    let there = negotiate(one.url()).await.expect("a negotiation");
    // The one thing to wait for is that time passes.
    sleep_until(Instant::now() + LIFETIME).await;
    assert_eq!(Client::open(one.url(), &here).await.err(), Some(404));
    assert_eq!(Client::open(two.url(), &there).await.err(), Some(404));
}

/// A used token: unknown by now (404), or known to be in use (409).
async fn assert_refused(server: &Hubcast, token: &str) {
    match Socket::open(server.url(), Some(token)).await {
        Err(404 | 409) => {}
        Err(status) => panic!("a used token was refused with {status}"),
        Ok(_) => panic!("a used token opened a second connection"),
    }
}
