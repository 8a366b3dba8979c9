//! Three servers and one Redis are one hub: everybody in a room sees everything once, in one order, wherever they are connected.

use end_to_end::{Client, Hubcast, RedisServer};
use serde_json::json;

/// How many messages each of several concurrent senders sends.
const MESSAGES: usize = 200;

#[tokio::test]
async fn members_on_three_servers_see_every_message_once_and_in_one_order() {
    let redis = RedisServer::start().await;
    let servers: [Hubcast; 3] = Hubcast::cluster(&redis).await;
    let mut members = Vec::new();
    for server in servers.iter().chain(&servers) {
        let mut member = Client::connect(server.url()).await;
        member.join("everyone").await;
        members.push(member);
    }
    let [mut ada, mut bob, mut cyd] = connect_to_each(&servers).await;
    for sender in [&mut ada, &mut bob, &mut cyd] {
        sender.join("everyone").await;
    }

    tokio::join!(
        talk(&mut ada, "ada"),
        talk(&mut bob, "bob"),
        talk(&mut cyd, "cyd")
    );
    ada.say("everyone", "ada", "the end").await;

    let expected = ada.chats_until("the end").await;
    assert_eq!(expected.len(), 3 * MESSAGES + 1);
    for sender in ["ada", "bob", "cyd"] {
        let texts: Vec<&str> = expected
            .iter()
            .filter(|(user, _)| user == sender)
            .map(|(_, text)| text.as_str())
            .collect();
        let sent: Vec<String> = (0..MESSAGES)
            .map(|number| format!("{sender} says {number}"))
            .collect();
        assert_eq!(
            texts[..MESSAGES],
            sent,
            "every message of {sender} once, in the order of sending"
        );
    }
    members.extend([bob, cyd]);
    for member in &mut members {
        assert_eq!(
            member.chats_until("the end").await,
            expected,
            "one order for all"
        );
    }
}

#[tokio::test]
async fn only_members_of_a_room_get_its_messages() {
    let redis = RedisServer::start().await;
    let servers: [Hubcast; 3] = Hubcast::cluster(&redis).await;
    let [mut red, mut blue, mut both] = connect_to_each(&servers).await;
    red.join("red").await;
    blue.join("blue").await;
    both.join("red").await;
    both.join("blue").await;

    // Nobody has to be in a room to speak in it; and rooms are told apart by case.
    blue.say("red", "blue", "to red").await;
    red.say("blue", "red", "to blue").await;
    both.say("RED", "both", "to nobody").await;
    // Whoever had got something else would have it before these.
    both.say("red", "both", "last to red").await;
    both.say("blue", "both", "last to blue").await;

    assert_eq!(
        texts(&red.chats_until("last to red").await),
        ["to red", "last to red"]
    );
    assert_eq!(
        texts(&blue.chats_until("last to blue").await),
        ["to blue", "last to blue"]
    );
    let mut of_both: Vec<String> = Vec::new();
    while of_both.len() < 4 {
        of_both.push(both.chat().await.1);
    }
    of_both.sort_unstable();
    assert_eq!(
        of_both,
        ["last to blue", "last to red", "to blue", "to red"]
    );
}

#[tokio::test]
async fn someone_who_left_a_room_gets_nothing_more_and_can_come_back() {
    let redis = RedisServer::start().await;
    let [one, two]: [Hubcast; 2] = Hubcast::cluster(&redis).await;
    let mut ada = Client::connect(one.url()).await;
    let mut bob = Client::connect(two.url()).await;
    ada.join("room").await;
    bob.join("room").await;
    bob.join("another").await;

    bob.leave("room").await;
    ada.notice(&format!("{} has left the room room", bob.id()))
        .await;
    ada.say("room", "ada", "unheard").await;
    ada.say("another", "ada", "elsewhere").await;
    assert_eq!(bob.chat().await.1, "elsewhere");

    bob.join("room").await;
    ada.say("room", "ada", "heard").await;
    assert_eq!(bob.chat().await.1, "heard");
}

#[tokio::test]
async fn a_room_is_subscribed_exactly_while_a_server_has_a_member() {
    let redis = RedisServer::start().await;
    let servers: [Hubcast; 2] = Hubcast::cluster(&redis).await;
    assert_eq!(
        redis.subscribers("ChatHub:all").await,
        2,
        "every server, from the start"
    );
    assert_eq!(
        redis.subscribers("ChatHub:internal:groups").await,
        2,
        "every server, from the start"
    );
    assert_eq!(
        redis.channels("ChatHub:internal:ack:*").await.len(),
        2,
        "one for each server"
    );
    assert!(redis.channels("ChatHub:group:*").await.is_empty());

    let mut ada = Client::connect(servers[0].url()).await;
    let mut bob = Client::connect(servers[0].url()).await;
    let mut cyd = Client::connect(servers[1].url()).await;
    ada.join("room").await;
    assert_eq!(
        redis.subscribers("ChatHub:group:room").await,
        1,
        "confirmed before the call completes"
    );
    bob.join("room").await;
    assert_eq!(
        redis.subscribers("ChatHub:group:room").await,
        1,
        "once for a server, not for a member"
    );
    cyd.join("room").await;
    assert_eq!(redis.subscribers("ChatHub:group:room").await, 2);
    assert_eq!(
        redis.channels("ChatHub:group:*").await,
        ["ChatHub:group:room"]
    );
    let mut own = [&ada, &bob, &cyd].map(|client| format!("ChatHub:connection:{}", client.id()));
    own.sort_unstable();
    assert_eq!(redis.channels("ChatHub:connection:*").await, own);
    // Names are taken literally, never as patterns.
    bob.join("ro*m").await;
    assert_eq!(redis.subscribers("ChatHub:group:ro*m").await, 1);

    ada.leave("room").await;
    bob.say("room", "bob", "still here").await;
    assert_eq!(bob.chat().await.1, "still here");
    assert_eq!(
        redis.subscribers("ChatHub:group:room").await,
        2,
        "another member is left"
    );
    bob.leave("room").await;
    redis.subscribers_become("ChatHub:group:room", 1).await;

    // Members who break off without a goodbye leave as well.
    let gone = format!("ChatHub:connection:{}", cyd.id());
    drop(cyd);
    redis.subscribers_become("ChatHub:group:room", 0).await;
    redis.subscribers_become(&gone, 0).await;
    drop(bob);
    redis.subscribers_become("ChatHub:group:ro*m", 0).await;
    assert!(ada.is_open());
}

#[tokio::test]
async fn killing_one_server_does_not_disturb_the_others() {
    let redis = RedisServer::start().await;
    let mut servers: [Hubcast; 3] = Hubcast::cluster(&redis).await;
    let [mut ada, mut bob, mut cyd] = connect_to_each(&servers).await;
    for member in [&mut ada, &mut bob, &mut cyd] {
        member.join("room").await;
    }
    ada.say("room", "ada", "before").await;
    for member in [&mut ada, &mut bob, &mut cyd] {
        assert_eq!(member.chat().await.1, "before");
    }

    // In the middle of a conversation, some of which is his.
    let talking = async {
        talk_in(&mut ada, "room", "ada").await;
        ada.say("room", "ada", "after").await;
    };
    let killing = async {
        bob.begin("SendMessage", json!(["room", "bob", "my last words"]))
            .await;
        servers[1].kill();
    };
    tokio::join!(talking, killing);
    assert_eq!(bob.end().await.code, None, "a killed server says nothing");

    let heard_by_ada = ada.chats_until("after").await;
    assert_eq!(
        cyd.chats_until("after").await,
        heard_by_ada,
        "the others go on in one order"
    );
    let of_ada: Vec<&str> = heard_by_ada
        .iter()
        .filter(|(user, _)| user == "ada")
        .map(|(_, text)| text.as_str())
        .collect();
    assert_eq!(
        of_ada.len(),
        MESSAGES + 1,
        "nothing of the others is lost or doubled"
    );
    assert!(ada.is_open() && cyd.is_open());

    // What the killed server held is released, and its client finds a place elsewhere.
    redis.subscribers_become("ChatHub:group:room", 2).await;
    let mut bob = Client::connect(servers[2].url()).await;
    bob.join("room").await;
    bob.say("room", "bob", "back again").await;
    for member in [&mut ada, &mut bob, &mut cyd] {
        assert_eq!(member.chat().await.1, "back again");
    }
    for server in [0, 2] {
        servers[server].assert_calm(&[]);
    }
}

#[tokio::test]
async fn two_hub_names_on_one_redis_do_not_mix() {
    let redis = RedisServer::start().await;
    let first = Hubcast::start(&["--redis", &redis.url(), "--hub-name", "First"]).await;
    let second = Hubcast::start(&["--redis", &redis.url(), "--hub-name", "My.App+Second"]).await;
    let mut ada = Client::connect(first.url()).await;
    let mut bob = Client::connect(second.url()).await;
    ada.join("room").await;
    bob.join("room").await;
    assert_eq!(
        redis.channels("*:group:*").await,
        ["First:group:room", "My.App+Second:group:room"]
    );
    assert!(redis.channels("ChatHub:*").await.is_empty());

    ada.say("room", "ada", "to the first").await;
    bob.say("room", "bob", "to the second").await;
    ada.say("room", "ada", "end").await;
    bob.say("room", "bob", "end").await;
    assert_eq!(
        texts(&ada.chats_until("end").await),
        ["to the first", "end"]
    );
    assert_eq!(
        texts(&bob.chats_until("end").await),
        ["to the second", "end"]
    );
}

async fn connect_to_each(servers: &[Hubcast; 3]) -> [Client; 3] {
    let [one, two, three] = servers;
    [
        Client::connect(one.url()).await,
        Client::connect(two.url()).await,
        Client::connect(three.url()).await,
    ]
}

async fn talk(sender: &mut Client, user: &str) {
    talk_in(sender, "everyone", user).await;
}

/// Sends all messages without waiting in between, then waits for all completions.
async fn talk_in(sender: &mut Client, room: &str, user: &str) {
    let mut calls = Vec::new();
    for number in 0..MESSAGES {
        calls.push(
            sender
                .begin(
                    "SendMessage",
                    json!([room, user, format!("{user} says {number}")]),
                )
                .await,
        );
        // Lets the others have their turn, so that messages of all senders mingle.
        tokio::task::yield_now().await;
    }
    for call in calls {
        assert_eq!(sender.completion(&call).await, Ok(json!(null)));
    }
}

fn texts(chats: &[(String, String)]) -> Vec<&str> {
    chats.iter().map(|(_, text)| text.as_str()).collect()
}
