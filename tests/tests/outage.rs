//! Redis goes away and comes back: nobody is disconnected, who is on the same server keeps talking, and soon all is as before.

use std::time::Duration;

use end_to_end::wait::{DEADLINE, until};
use end_to_end::{Client, Hubcast, RedisServer};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// How soon the servers must notice that Redis is gone: silence counts as gone after two seconds.
const NOTICED: Duration = Duration::from_secs(5);

/// How soon, after Redis answers again, messages must go from server to server.
const RECOVERY: Duration = Duration::from_secs(2);

/// What "at once" means for people on one server while Redis is known to be away.
const AT_ONCE: Duration = Duration::from_secs(1);

#[tokio::test]
async fn redis_is_killed_and_restarted_twice() {
    let mut house = House::with_redis().await;
    for episode in ["first", "second"] {
        house.talks_across(&format!("before the {episode}")).await;
        house.redis.vanish();
        house.lives_without_redis(episode).await;
        house.redis.appear().await;
        house.recovers(episode).await;
    }
    house.settles_the_account().await;
}

#[tokio::test]
async fn redis_is_frozen_and_thawed() {
    let mut house = House::with_redis().await;
    house.talks_across("before").await;
    house.redis.freeze();
    house.lives_without_redis("frozen").await;
    house.redis.thaw();
    house.recovers("frozen").await;
    house.settles_the_account().await;
}

#[tokio::test]
async fn redis_is_absent_when_the_servers_start() {
    let mut house = House::without_redis().await;
    house.lives_without_redis("absent").await;
    house.redis.appear().await;
    house.recovers("absent").await;
    house.settles_the_account().await;
}

#[tokio::test]
async fn a_pause_of_redis_that_is_shorter_than_an_outage_loses_nothing() {
    let mut house = House::with_redis().await;
    house.redis.freeze();
    let call = house
        .ada
        .begin("SendMessage", json!(["room", "ada", "during the pause"]))
        .await;
    // How long it takes is what makes it a pause.
    sleep(Duration::from_millis(700)).await;
    house.redis.thaw();
    assert_eq!(house.ada.completion(&call).await, Ok(json!(null)));
    for member in [&mut house.ada, &mut house.bob, &mut house.cyd] {
        assert_eq!(member.chat().await.1, "during the pause");
    }
    for server in &house.servers {
        let readiness = server.get("/readyz").await;
        assert_eq!(
            (readiness.status, readiness.body.contains("\"ready\"")),
            (200, true),
            "{readiness:?}"
        );
    }
    house.talks_across("after").await;
    house.settles_the_account().await;
}

/// Two servers, and three people in one room: Ada and Bob on the first, Cyd on the second.
struct House {
    redis: RedisServer,
    servers: [Hubcast; 2],
    ada: Client,
    bob: Client,
    cyd: Client,
    /// What was said in the room while Redis was away, and on which server.
    said: Vec<(usize, String)>,
}

impl House {
    async fn with_redis() -> Self {
        let redis = RedisServer::start().await;
        let servers = Hubcast::cluster(&redis).await;
        Self::furnish(redis, servers).await
    }

    async fn without_redis() -> Self {
        let redis = RedisServer::absent();
        let servers = [
            Hubcast::with_redis(&redis).await,
            Hubcast::with_redis(&redis).await,
        ];
        Self::furnish(redis, servers).await
    }

    async fn furnish(redis: RedisServer, servers: [Hubcast; 2]) -> Self {
        let [first, second] = &servers;
        let mut ada = Client::connect(first.url()).await;
        let mut bob = Client::connect(first.url()).await;
        let mut cyd = Client::connect(second.url()).await;
        for person in [&mut ada, &mut bob, &mut cyd] {
            person.join("room").await;
        }
        Self {
            redis,
            servers,
            ada,
            bob,
            cyd,
            said: Vec::new(),
        }
    }

    /// Everybody says something, and everybody hears everything.
    async fn talks_across(&mut self, when: &str) {
        for (speaker, name) in [
            (&mut self.ada, "ada"),
            (&mut self.bob, "bob"),
            (&mut self.cyd, "cyd"),
        ] {
            speaker.say("room", name, &format!("{name} {when}")).await;
        }
        let last = format!("cyd {when}");
        for member in [&mut self.ada, &mut self.bob, &mut self.cyd] {
            member.chats_until(&last).await;
        }
    }

    /// Redis has just gone. Everything that needs only one server works.
    async fn lives_without_redis(&mut self, episode: &str) {
        // Nobody has noticed yet. Whoever calls now waits at most until somebody does.
        self.say_on_first("the servers may not know yet", episode)
            .await;
        self.say_on_second("the servers may not know yet", episode)
            .await;

        for server in &self.servers {
            let (readiness, _) = server.becomes("degraded", NOTICED).await;
            let reason = readiness.get("reason").and_then(Value::as_str);
            assert!(
                reason.is_some_and(|reason| !reason.is_empty()),
                "{readiness}"
            );
        }

        for number in 0..20 {
            let start = Instant::now();
            self.say_on_first(&format!("message {number}"), episode)
                .await;
            self.say_on_second(&format!("message {number}"), episode)
                .await;
            assert!(
                start.elapsed() < 2 * AT_ONCE,
                "message {number} took {:?}",
                start.elapsed()
            );
        }

        // Newcomers are welcome, and rooms can be joined and left.
        let start = Instant::now();
        let mut dan = Client::connect(self.servers[0].url()).await;
        dan.join("room").await;
        dan.join("table").await;
        dan.say("table", "dan", "hello").await;
        assert_eq!(dan.chat().await.1, "hello");
        let later = format!("joined while {episode}");
        self.bob.join(&later).await;
        self.cyd.join(&later).await;
        self.cyd.join("table").await;
        self.cyd.leave("table").await;
        let newcomer = Hubcast::with_redis(&self.redis).await;
        let mut eve = Client::connect(newcomer.url()).await;
        eve.join("room").await;
        assert!(
            start.elapsed() < 5 * AT_ONCE,
            "without Redis that took {:?}",
            start.elapsed()
        );
        assert!(dan.is_open() && eve.is_open());
    }

    /// Redis has just come back. Soon messages go from server to server again.
    async fn recovers(&mut self, episode: &str) {
        self.redis.answers().await;
        let later = format!("joined while {episode}");
        let mut probes = 0;
        let what = "messages go from server to server again";
        let ((), took) = until(DEADLINE, what, async || {
            probes += 1;
            for room in ["room", &later] {
                self.bob
                    .say(
                        room,
                        "bob",
                        &format!("probe {probes} of bob in {room}, {episode}"),
                    )
                    .await;
                self.cyd
                    .say(
                        room,
                        "cyd",
                        &format!("probe {probes} of cyd in {room}, {episode}"),
                    )
                    .await;
            }
            let heard = |listener: &mut Client, speaker: &str, room: &str| {
                let end = format!("of {speaker} in {room}, {episode}");
                listener
                    .transcript()
                    .iter()
                    .any(|(_, text)| text.starts_with("probe") && text.ends_with(&end))
            };
            let by_bob = ["room", &later].map(|room| heard(&mut self.bob, "cyd", room));
            let by_cyd = ["room", &later].map(|room| heard(&mut self.cyd, "bob", room));
            if by_bob == [true; 2] && by_cyd == [true; 2] {
                Ok(())
            } else {
                Err(format!(
                    "in the old room and the new one: heard by bob {by_bob:?}, by cyd {by_cyd:?}"
                ))
            }
        })
        .await;
        assert!(
            took < RECOVERY,
            "it took {took:?} until messages went from server to server again"
        );
        for server in &self.servers {
            server.becomes("ready", RECOVERY).await;
        }
        // A room that everybody left meanwhile is nobody's any more.
        self.redis
            .subscribers_become("ChatHub:group:table", 0)
            .await;
        self.talks_across(&format!("after {episode}")).await;
    }

    /// Whoever was there from the beginning still is, on the same connection, and got everything that was due to them once.
    async fn settles_the_account(&mut self) {
        self.talks_across("at the very end").await;
        for (server, member) in [(0, &mut self.ada), (0, &mut self.bob), (1, &mut self.cyd)] {
            assert!(member.is_open());
            let transcript = member.transcript();
            for (_, text) in transcript {
                let times = transcript.iter().filter(|(_, other)| other == text).count();
                assert_eq!(
                    times, 1,
                    "{text:?} came {times} times to a member on server {server}"
                );
            }
            for (_, text) in self.said.iter().filter(|(on, _)| *on == server) {
                assert!(
                    transcript.iter().any(|(_, other)| other == text),
                    "{text:?}, said on the same server, never came"
                );
            }
        }
        self.ada.leave("room").await;
        let left = format!("{} has left the room room", self.ada.id());
        self.bob.notice(&left).await;
        self.cyd.notice(&left).await;
        for server in &mut self.servers {
            server.assert_calm(&[]);
        }
    }

    /// Ada says something that Bob, who is on the same server, hears.
    async fn say_on_first(&mut self, text: &str, episode: &str) {
        let text = format!("{text} ({episode}, first server)");
        self.ada.say("room", "ada", &text).await;
        self.ada.chats_until(&text).await;
        self.bob.chats_until(&text).await;
        self.said.push((0, text));
    }

    /// Cyd, who is alone on the second server, hears what she says herself.
    async fn say_on_second(&mut self, text: &str, episode: &str) {
        let text = format!("{text} ({episode}, second server)");
        self.cyd.say("room", "cyd", &text).await;
        self.cyd.chats_until(&text).await;
        self.said.push((1, text));
    }
}
