//! Byte for byte what ASP.NET Core's own Redis backplane publishes and expects, so that its servers and ours can share a Redis.

use std::time::Duration;

use end_to_end::client::negotiate;
use end_to_end::envelope::{Action, command, invocation, question};
use end_to_end::redis_server::payload;
use end_to_end::{Client, Hubcast, RedisServer, Socket};
use futures_util::StreamExt;
use serde_json::json;

/// `{"type":1,"target":"ReceiveMessage","arguments":["u","hi"]}` and its record separator, as the specification prints it.
const JSON: &[u8] = b"{\"type\":1,\"target\":\"ReceiveMessage\",\"arguments\":[\"u\",\"hi\"]}\x1e";

/// The same in MessagePack, with its length before it.
const MESSAGE_PACK: &[u8] = b"\x1a\x96\x01\x80\xc0\xaeReceiveMessage\x92\xa1u\xa2hi\x90";

#[tokio::test]
async fn a_message_is_published_in_exactly_these_bytes() {
    let redis = RedisServer::start().await;
    let [server]: [Hubcast; 1] = Hubcast::cluster(&redis).await;
    let mut subscriber = redis.subscribe("ChatHub:group:r").await;

    let mut client = Client::connect(server.url()).await;
    client.say("r", "u", "hi").await;

    let mut expected = b"\x92\x90\x82\xa4json\xc4\x3c".to_vec();
    expected.extend(JSON);
    expected.extend(b"\xabmessagepack\xc4\x1b");
    expected.extend(MESSAGE_PACK);
    assert_eq!(payload(&mut subscriber).await, expected);
}

#[tokio::test]
async fn names_of_channels_are_the_rooms_names_untouched() {
    let redis = RedisServer::start().await;
    let [server]: [Hubcast; 1] = Hubcast::cluster(&redis).await;
    let mut client = Client::connect(server.url()).await;
    for room in ["with space", "a:b", "Grüße 🚋", "*", ""] {
        let mut subscriber = redis.subscribe(&format!("ChatHub:group:{room}")).await;
        client.say(room, "u", "hi").await;
        assert!(
            payload(&mut subscriber).await.ends_with(MESSAGE_PACK),
            "{room:?}"
        );
    }
}

#[tokio::test]
async fn messages_of_another_server_reach_clients_as_they_were_published() {
    let redis = RedisServer::start().await;
    let servers: [Hubcast; 2] = Hubcast::cluster(&redis).await;
    let mut ada = Client::connect(servers[0].url()).await;
    let mut bob = Client::connect(servers[1].url()).await;
    let mut cyd = Client::connect(servers[1].url()).await;
    ada.join("r").await;
    bob.join("r").await;

    // To everybody, in the published golden bytes, which carry both encodings.
    let mut golden = b"\x92\x90\x82\xa4json\xc4\x3c".to_vec();
    golden.extend(JSON);
    golden.extend(b"\xabmessagepack\xc4\x1b");
    golden.extend(MESSAGE_PACK);
    assert_eq!(redis.publish("ChatHub:all", &golden).await, 2);
    for client in [&mut ada, &mut bob, &mut cyd] {
        assert_eq!(client.chat().await, (String::from("u"), String::from("hi")));
    }

    // To a room: whoever is not in it gets nothing. To one connection: nobody else does.
    assert_eq!(
        redis
            .publish("ChatHub:group:r", &invocation(&[], "to the room"))
            .await,
        2
    );
    for client in [&ada, &bob, &cyd] {
        let text = format!("to {}", client.id());
        let channel = format!("ChatHub:connection:{}", client.id());
        assert_eq!(redis.publish(&channel, &invocation(&[], &text)).await, 1);
    }

    // Exclusions, in a room and of all. They are about clients of any server.
    redis
        .publish(
            "ChatHub:group:r",
            &invocation(&[ada.id()], "to the room without ada"),
        )
        .await;
    redis
        .publish(
            "ChatHub:all",
            &invocation(&[bob.id(), "unknown"], "to all without bob"),
        )
        .await;
    redis
        .publish(
            "ChatHub:all",
            &invocation(&[ada.id(), bob.id(), cyd.id()], "to nobody"),
        )
        .await;
    redis.publish("ChatHub:all", &invocation(&[], "end")).await;

    assert_received(&mut ada, &["to the room"], &["to all without bob", "end"]).await;
    assert_received(
        &mut bob,
        &["to the room", "to the room without ada"],
        &["end"],
    )
    .await;
    assert_received(&mut cyd, &[], &["to all without bob", "end"]).await;
}

#[tokio::test]
async fn wide_integers_further_items_and_further_encodings_are_accepted() {
    let redis = RedisServer::start().await;
    let [server]: [Hubcast; 1] = Hubcast::cluster(&redis).await;
    let mut client = Client::connect(server.url()).await;

    // array 32 of 3, array 16 of 0, map 16 of 2 with an unknown encoding first, str 8, bin 32; the third item is ignored.
    let mut wide = b"\xdd\x00\x00\x00\x03\xdc\x00\x00\xde\x00\x02\xa5other\xc4\x01\x2a\xd9\x04json\xc6\x00\x00\x00\x3c".to_vec();
    wide.extend(JSON);
    wide.extend(b"\xc0");
    redis.publish("ChatHub:all", &wide).await;
    assert_eq!(client.chat().await.1, "hi");
}

#[tokio::test]
async fn malformed_payloads_are_ignored_and_the_subscription_lives_on() {
    let redis = RedisServer::start().await;
    let [mut server]: [Hubcast; 1] = Hubcast::cluster(&redis).await;
    let mut client = Client::connect(server.url()).await;
    client.join("r").await;
    let own = format!("ChatHub:connection:{}", client.id());
    let acks = redis.channels("ChatHub:internal:ack:*").await;

    let valid = invocation(&[], "valid");
    let mut cut_off: Vec<&[u8]> = (0..valid.len()).map(|length| &valid[..length]).collect();
    cut_off.extend([
        b"hello".as_slice(),
        b"\xc1",
        b"\x90",
        b"\x91\x90",
        b"\xc0",
        b"\x92\xc0\xc0",
        // Lengths that promise more than any memory holds.
        b"\x92\xdd\xff\xff\xff\xff",
        b"\x92\x90\xdf\xff\xff\xff\xff",
        b"\x92\x90\x81\xdb\xff\xff\xff\xff",
        b"\x92\x90\x81\xa4json\xc6\xff\xff\xff\xff",
        // Types that belong elsewhere.
        b"\x92\x90\x81\xa4json\xa2hi",
        b"\x92\x91\x01\x80",
        b"\x92\x90\x81\x01\xc4\x01\x2a",
        // No encoding that this client speaks.
        b"\x92\x90\x80",
        b"\x92\x90\x81\xabmessagepack\xc4\x03\x02\x91\x06",
    ]);
    let deep = b"\x91".repeat(100_000);
    cut_off.push(&deep);
    for channel in [
        "ChatHub:all",
        "ChatHub:group:r",
        "ChatHub:internal:groups",
        &own,
        &acks[0],
    ] {
        for payload in &cut_off {
            assert_eq!(redis.publish(channel, payload).await, 1, "{channel}");
        }
    }

    for channel in ["ChatHub:all", "ChatHub:group:r", &own] {
        redis.publish(channel, &valid).await;
        assert_eq!(
            client.chat().await.1,
            "valid",
            "{channel} is still listened to, and nothing else came"
        );
    }
    let mut acks = redis.subscribe("ChatHub:internal:ack:S").await;
    redis
        .publish(
            "ChatHub:internal:groups",
            &command(b"\x01", "S", Action::ADD, "r", client.id()),
        )
        .await;
    assert_eq!(payload(&mut acks).await, b"\x91\x01");
    client.say("r", "u", "still connected").await;
    assert_eq!(client.chat().await.1, "still connected");
    server.assert_calm(&[]);
}

#[tokio::test]
async fn another_servers_question_is_put_to_the_client_and_its_answer_returned_untouched() {
    let redis = RedisServer::start().await;
    let [server]: [Hubcast; 1] = Hubcast::cluster(&redis).await;
    let negotiated = negotiate(server.url()).await.unwrap();
    let opened = Socket::open(server.url(), Some(&negotiated.connection_token)).await;
    let mut client = opened.unwrap();
    client.shake().await;
    let own = format!("ChatHub:connection:{}", negotiated.connection_id);
    let returned = "ChatHub:internal:return:S";
    let mut results = redis.subscribe(returned).await;

    assert_eq!(redis.publish(&own, &question("abc", returned)).await, 1);
    let asked = client.records().await;
    assert_eq!(
        asked,
        [json!({"type": 1, "invocationId": "abc", "target": "Ask", "arguments": [1]})]
    );
    client
        .send("{\"type\":3,\"invocationId\":\"abc\",\"result\":42}\u{1e}")
        .await;
    let mut golden = b"\x92\xa4json\xc4\x2c".to_vec();
    golden.extend(b"{\"type\":3,\"invocationId\":\"abc\",\"result\":42}\x1e");
    assert_eq!(payload(&mut results).await, golden);

    // Nothing is published anywhere else; what comes back next is about the next question.
    redis
        .publish(&own, &question("elsewhere", "ChatHub:all"))
        .await;
    redis.publish(&own, &question("next", returned)).await;
    assert_eq!(client.records().await[0]["invocationId"], "next");
    drop(client);
    let gone = payload(&mut results).await;
    assert!(
        gone.ends_with(
            b"{\"type\":3,\"invocationId\":\"next\",\"error\":\"Connection disconnected.\"}\x1e"
        ),
        "{}",
        String::from_utf8_lossy(&gone)
    );
    redis.subscribers_become(&own, 0).await;
}

#[tokio::test]
async fn group_commands_of_another_server_are_acknowledged_once_they_are_effective() {
    let redis = RedisServer::start().await;
    let servers: [Hubcast; 2] = Hubcast::cluster(&redis).await;
    let mut client = Client::connect(servers[0].url()).await;
    let mut acks = redis.subscribe("ChatHub:internal:ack:S").await;
    let commands = "ChatHub:internal:groups";

    // Ids in every width, acknowledged in the shortest one.
    for (written, acknowledged, group) in [
        (b"\x00".as_slice(), b"\x91\x00".as_slice(), "a"),
        (b"\x2a", b"\x91\x2a", "b"),
        (b"\xcc\xb4", b"\x91\xcc\xb4", "c"),
        (b"\xd2\x00\x00\x01\x80", b"\x91\xcd\x01\x80", "d"),
        (b"\xce\x00\x01\x11\x70", b"\x91\xce\x00\x01\x11\x70", "e"),
    ] {
        redis
            .publish(
                commands,
                &command(written, "S", Action::ADD, group, client.id()),
            )
            .await;
        assert_eq!(payload(&mut acks).await, acknowledged);
        let channel = format!("ChatHub:group:{group}");
        assert_eq!(
            redis.publish(&channel, &invocation(&[], group)).await,
            1,
            "{group} is subscribed by now"
        );
        assert_eq!(client.chat().await.1, group);
    }

    // Adding again changes nothing, and is acknowledged; so is what is not an action at all.
    for (id, action) in [(b"\x07", Action::ADD), (b"\x08", Action(3))] {
        redis
            .publish(commands, &command(id, "S", action, "a", client.id()))
            .await;
        assert_eq!(payload(&mut acks).await, [0x91, id[0]]);
    }
    redis
        .publish("ChatHub:group:a", &invocation(&[], "once"))
        .await;
    assert_eq!(client.chat().await.1, "once");

    for id in [b"\x09", b"\x0a"] {
        redis
            .publish(
                commands,
                &command(id, "S", Action::REMOVE, "a", client.id()),
            )
            .await;
        assert_eq!(payload(&mut acks).await, [0x91, id[0]]);
        redis.subscribers_become("ChatHub:group:a", 0).await;
    }
    redis.publish("ChatHub:all", &invocation(&[], "end")).await;
    assert_eq!(
        client.chat().await.1,
        "end",
        "and nothing was doubled before"
    );
}

#[tokio::test]
async fn group_commands_are_obeyed_in_the_order_of_their_coming() {
    let redis = RedisServer::start().await;
    let [server]: [Hubcast; 1] = Hubcast::cluster(&redis).await;
    let client = Client::connect(server.url()).await;
    let mut acks = redis.subscribe("ChatHub:internal:ack:S").await;
    for (last, subscribers) in [(Action::REMOVE, 0), (Action::ADD, 1)].repeat(10) {
        let commands: Vec<Vec<u8>> = (1..=20)
            .map(|id: u8| {
                let action = if id.is_multiple_of(2) {
                    last
                } else {
                    Action(3 - last.0)
                };
                command(&[id], "S", action, "room", client.id())
            })
            .collect();
        redis
            .publish_all("ChatHub:internal:groups", &commands)
            .await;
        for _ in &commands {
            payload(&mut acks).await;
        }
        // What came last holds.
        redis
            .subscribers_become("ChatHub:group:room", subscribers)
            .await;
    }
}

#[tokio::test]
async fn group_commands_for_unknown_connections_meet_silence() {
    let redis = RedisServer::start().await;
    let servers: [Hubcast; 2] = Hubcast::cluster(&redis).await;
    let client = Client::connect(servers[1].url()).await;
    let mut acks = redis.subscribe("ChatHub:internal:ack:S").await;
    for (id, connection) in [(b"\x01", "nobody"), (b"\x02", ""), (b"\x03", client.id())] {
        redis
            .publish(
                "ChatHub:internal:groups",
                &command(id, "S", Action::ADD, "room", connection),
            )
            .await;
    }
    assert_eq!(
        payload(&mut acks).await,
        b"\x91\x03",
        "the first acknowledgement is that of the known connection"
    );
    // An acknowledgement of the others would come from the same place, so this is long enough to trust the silence.
    let more = tokio::time::timeout(Duration::from_millis(300), acks.on_message().next()).await;
    assert!(
        more.is_err(),
        "an acknowledgement for an unknown connection"
    );
}

/// Fails unless the client got what it was told alone, what was said in the room, and what was said to all, each in its order.
/// Channels are independent of each other, so nothing is said about the order between them.
async fn assert_received(client: &mut Client, in_room: &[&str], to_all: &[&str]) {
    let mut texts = Vec::new();
    for _ in 0..=in_room.len() + to_all.len() {
        texts.push(client.chat().await.1);
    }
    let of = |expected: &[&str]| {
        texts
            .iter()
            .filter(|text| expected.contains(&text.as_str()))
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(of(in_room), in_room, "of {texts:?}");
    assert_eq!(of(to_all), to_all, "of {texts:?}");
    let own = format!("to {}", client.id());
    assert!(texts.contains(&own), "no {own:?} in {texts:?}");
}
