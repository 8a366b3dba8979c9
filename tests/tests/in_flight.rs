//! What is on its way through Redis at the very moment when Redis goes away: who is on the sender's server still gets it, once,
//! in one order; who is on another server gets it once or never.

use end_to_end::wait::{DEADLINE, until};
use end_to_end::{Client, Hubcast, RedisServer};
use futures_util::future::join_all;
use serde_json::{Value, json};

/// How many messages each of two senders has on its way.
const MESSAGES: usize = 400;

/// How many people it takes to have much on its way at one moment.
const CROWD: usize = 30;

/// How many messages have arrived when Redis goes away.
const BEFORE: usize = 100;

#[tokio::test]
async fn nothing_in_flight_is_lost_doubled_or_reordered_on_one_server_when_redis_is_killed() {
    let mut house = House::new().await;
    for round in 1..=8 {
        house
            .everybody_talks_while(round, RedisServer::vanish)
            .await;
        house.redis.appear().await;
        house.is_whole_again(round).await;
    }
}

#[tokio::test]
async fn nothing_in_flight_is_lost_doubled_or_reordered_on_one_server_when_redis_is_frozen() {
    let mut house = House::new().await;
    for round in 1..=2 {
        house
            .everybody_talks_while(round, |redis| redis.freeze())
            .await;
        house.redis.thaw();
        house.is_whole_again(round).await;
    }
}

#[tokio::test]
async fn a_frozen_redis_that_still_holds_much_repeats_nothing_when_it_is_thawed() {
    let redis = RedisServer::start().await;
    let [first, second]: [Hubcast; 2] = Hubcast::cluster(&redis).await;
    let mut near = Client::connect(first.url()).await;
    let mut far = Client::connect(second.url()).await;
    near.join("room").await;
    far.join("room").await;
    // Each has one call at a time on its way, so it takes many to have much on its way.
    let crowd = join_all((0..CROWD).map(|_| Client::connect(first.url()))).await;

    let padding = "x".repeat(8000);
    let talking = crowd
        .into_iter()
        .enumerate()
        .map(async |(who, mut client)| {
            let who = format!("person {who}");
            let calls = (0..20).map(|number| json!(["room", who, format!("{number} {padding}")]));
            let mut begun = Vec::new();
            for arguments in calls {
                begun.push(client.begin("SendMessage", arguments).await);
            }
            for call in begun {
                assert_eq!(client.completion(&call).await, Ok(Value::Null));
            }
        });
    tokio::join!(join_all(talking), goes_away(&mut near, || redis.freeze()));
    redis.thaw();
    redis.answers().await;
    for server in [&first, &second] {
        server.becomes("ready", DEADLINE).await;
    }
    far.say("room", "far", "end").await;

    let heard = near.chats_until("end").await;
    assert_eq!(heard.len(), CROWD * 20 + 1, "each message once");
    let heard_far_away = far.chats_until("end").await;
    for who in (0..CROWD).map(|who| format!("person {who}")) {
        assert_eq!(numbers(&heard, &who), (0..20).collect::<Vec<_>>(), "{who}");
        let far_away = numbers(&heard_far_away, &who);
        let in_order = far_away.is_sorted_by(|earlier, later| earlier < later);
        assert!(
            in_order,
            "once and in order, of {who}, on the other server: {far_away:?}"
        );
    }
}

/// The numbers with which the messages of somebody begin.
fn numbers(heard: &[(String, String)], user: &str) -> Vec<usize> {
    let of_user = heard.iter().filter(|(who, _)| who == user);
    of_user
        .filter_map(|(_, text)| text.split(' ').next()?.parse().ok())
        .collect()
}

/// Makes Redis go away when some messages have arrived.
async fn goes_away(listener: &mut Client, away: impl FnOnce()) {
    let before = listener.transcript().len();
    until(DEADLINE, "some messages arrive", async || {
        let heard = listener.transcript().len() - before;
        (heard >= BEFORE)
            .then_some(())
            .ok_or_else(|| format!("{heard} messages"))
    })
    .await;
    away();
}

/// Two servers. Two people talk on the first, where one more listens; another one listens on the second.
struct House {
    redis: RedisServer,
    servers: [Hubcast; 2],
    talkers: [Client; 2],
    near: Client,
    far: Client,
}

impl House {
    async fn new() -> Self {
        let redis = RedisServer::start().await;
        let servers: [Hubcast; 2] = Hubcast::cluster(&redis).await;
        let [first, second] = &servers;
        let connect = async |server: &Hubcast| {
            let mut client = Client::connect(server.url()).await;
            client.join("room").await;
            client
        };
        let talkers = [connect(first).await, connect(first).await];
        let (near, far) = (connect(first).await, connect(second).await);
        Self {
            redis,
            servers,
            talkers,
            near,
            far,
        }
    }

    /// Lets both talk without a pause, makes Redis go away amid that, and checks what was heard on the same server.
    async fn everybody_talks_while(&mut self, round: u32, away: impl Fn(&mut RedisServer)) {
        let [one, two] = &mut self.talkers;
        let redis = &mut self.redis;
        tokio::join!(
            talk(one, "one", round),
            talk(two, "two", round),
            goes_away(&mut self.near, || away(redis))
        );
        one.say("room", "one", &format!("end of {round}")).await;

        let end = format!("end of {round}");
        let heard = self.near.chats_until(&end).await;
        for talker in &mut self.talkers {
            assert_eq!(
                talker.chats_until(&end).await,
                heard,
                "one order for all on one server"
            );
        }
        for user in ["one", "two"] {
            let of_user: Vec<&str> = heard
                .iter()
                .filter(|(who, text)| who == user && *text != end)
                .map(|(_, text)| text.as_str())
                .collect();
            assert_all_once_and_in_order(&of_user, |number| text(user, round, number));
        }
    }

    /// Redis is back: everybody hears everybody again, and nothing of before comes late to who has heard it already.
    async fn is_whole_again(&mut self, round: u32) {
        self.redis.answers().await;
        for server in &self.servers {
            server.becomes("ready", DEADLINE).await;
        }
        let end = format!("all here after {round}");
        self.far.say("room", "far", &end).await;
        for listener in self.talkers.iter_mut().chain([&mut self.near]) {
            assert_eq!(
                listener.chats_until(&end).await.len(),
                1,
                "nothing else came late"
            );
        }
        let heard = self.far.chats_until(&end).await;
        for user in ["one", "two"] {
            let numbers = numbers(&heard, user);
            assert!(
                numbers.is_sorted_by(|earlier, later| earlier < later),
                "once and in order, of {user}, on the other server: {numbers:?}"
            );
        }
        for server in &mut self.servers {
            server.assert_calm(&[]);
        }
    }
}

async fn talk(client: &mut Client, user: &str, round: u32) {
    let mut calls = Vec::new();
    for number in 0..MESSAGES {
        let arguments = json!(["room", user, text(user, round, number)]);
        calls.push(client.begin("SendMessage", arguments).await);
    }
    for call in calls {
        assert_eq!(client.completion(&call).await, Ok(Value::Null));
    }
}

fn text(user: &str, round: u32, number: usize) -> String {
    format!("{number} of {user} in round {round}")
}

fn assert_all_once_and_in_order(heard: &[&str], said: impl Fn(usize) -> String) {
    let differs = (0..MESSAGES).find(|&number| heard.get(number) != Some(&said(number).as_str()));
    if let Some(number) = differs {
        let around = heard.iter().skip(number.saturating_sub(2)).take(6);
        panic!(
            "{} of {MESSAGES} messages were heard, and around {:?} it was: {:?}",
            heard.len(),
            said(number),
            around.collect::<Vec<_>>()
        );
    }
    assert_eq!(
        heard.len(),
        MESSAGES,
        "after the last one, it was {:?}",
        heard.last()
    );
}
