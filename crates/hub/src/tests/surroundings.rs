//! What is around a method: filters, authorization, cancellation, the coming and going of clients, several calls at once.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, Stream};

use super::client::{Client, connect};
use super::scene::{Props, Scene};
use crate::authorization::MethodCall;
use crate::close_reason::CloseReason;
use crate::context::CallerContext;
use crate::error::{HubError, HubResult};
use crate::filters::{Answer, HubFilter, HubInvocation, Next};
use crate::hub::Hub;
use crate::methods::Methods;
use crate::options::HubOptions;

struct SurroundedHub(Props);

impl Hub for SurroundedHub {
    fn methods() -> Methods<Self> {
        Methods::new()
            .method("Say", Self::say)
            .method("Ban", Self::ban)
            .authorize("Ban", Self::may_ban)
            .stream("Secrets", Self::secrets)
            .authorize("secrets", Self::nobody)
            .method("Wait", Self::wait)
            .method("Patient", Self::patient)
            .stream("Words", Self::words)
            .method("Flood", Self::flood)
    }

    async fn on_connected(&self, ctx: &CallerContext) -> HubResult {
        self.0.note(format!("{} comes", ctx.connection_id()));
        match ctx.connection_id() {
            "unwelcome" => Err(HubError::new("not today")),
            "unlucky" => Err(std::io::Error::other("the password is swordfish").into()),
            "explosive" => panic!("on purpose"),
            "slow" => {
                self.0.permit().await?;
                ctx.clients().caller().send("Welcome", ()).await?;
                Ok(())
            }
            "listening" => {
                ctx.cancelled().await;
                self.0.note("heard");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn on_disconnected(&self, ctx: &CallerContext, reason: &CloseReason) -> HubResult {
        self.0.note(format!(
            "{} goes: {}, {:?}",
            ctx.connection_id(),
            reason.name(),
            reason.error()
        ));
        match ctx.connection_id() {
            "explosive later" => panic!("on purpose"),
            _ => Ok(()),
        }
    }
}

#[expect(
    clippy::unused_async,
    clippy::unused_self,
    reason = "every hub method has a hub, and may be async"
)]
impl SurroundedHub {
    async fn say(&self, _: &CallerContext, text: String) -> HubResult<String> {
        self.0.note(format!("say {text}"));
        if text == "fail" {
            return Err(HubError::new("as you wish"));
        }
        Ok(text)
    }

    async fn ban(&self, _: &CallerContext, user: String, reason: String) -> HubResult {
        self.0.note(format!("ban {user} {reason}"));
        Ok(())
    }

    async fn may_ban(&self, ctx: &CallerContext, call: MethodCall<'_>) -> bool {
        let banned = call.arguments::<(String, String)>();
        call.method() == "Ban"
            && ctx.connection_id() == "admin"
            && banned.is_some_and(|(user, _)| user != "admin")
    }

    fn secrets(&self, _: &CallerContext) -> impl Stream<Item = HubResult<u32>> {
        self.0.note("secrets");
        stream::iter([Ok(1)])
    }

    async fn nobody(&self, _: &CallerContext, _: MethodCall<'_>) -> bool {
        false
    }

    async fn wait(&self, _: &CallerContext, text: String) -> HubResult {
        self.0.note(format!("waiting {text}"));
        self.0.permit().await?;
        Ok(())
    }

    async fn patient(&self, ctx: &CallerContext) -> HubResult<&'static str> {
        assert!(!ctx.is_cancelled());
        self.0.note("patient");
        ctx.cancelled().await;
        self.0.note("cancelled");
        Ok("whatever")
    }

    async fn flood(&self, ctx: &CallerContext, count: u32, bytes: usize) -> HubResult<u32> {
        let text = "x".repeat(bytes);
        for number in 0..count {
            ctx.clients()
                .caller()
                .send("Flood", (number, &text))
                .await?;
        }
        Ok(count)
    }

    fn words(&self, _: &CallerContext) -> impl Stream<Item = HubResult<&'static str>> {
        stream::iter([Ok("a"), Ok("b")])
    }
}

/// Tells of everything that passes.
struct Telling(&'static str, Props);

impl Telling {
    fn tell(&self, text: &str) {
        self.1.note(format!("{} {text}", self.0));
    }
}

impl HubFilter for Telling {
    fn invoke_method<'a>(
        &'a self,
        mut invocation: HubInvocation<'a>,
        next: Next<'a>,
    ) -> BoxFuture<'a, HubResult<Answer<'a>>> {
        Box::pin(async move {
            self.tell(&format!(
                "{} of {}",
                invocation.method(),
                invocation.context().connection_id()
            ));
            if let Some((text,)) = invocation.arguments_mut::<(String,)>() {
                match text.as_str() {
                    "swallow" => return invocation.answer(&"swallowed"),
                    "refuse" => return Err(HubError::new("refused")),
                    _ => text.push_str(self.0),
                }
            }
            assert!(invocation.arguments::<(u8, u8)>().is_none());
            if invocation.context().connection_id() == "valued" {
                return invocation.answer(&1);
            }
            let answer = next.run(invocation).await;
            self.tell(if answer.is_ok() { "done" } else { "failed" });
            answer
        })
    }

    fn on_connected<'a>(
        &'a self,
        context: &'a CallerContext,
        next: BoxFuture<'a, HubResult>,
    ) -> BoxFuture<'a, HubResult> {
        Box::pin(async move {
            self.tell("before");
            if context.connection_id() == "filtered" {
                return Err(HubError::new("filtered out"));
            }
            next.await?;
            self.tell("after");
            Ok(())
        })
    }

    fn on_disconnected<'a>(
        &'a self,
        _: &'a CallerContext,
        reason: &'a CloseReason,
        next: BoxFuture<'a, HubResult>,
    ) -> BoxFuture<'a, HubResult> {
        Box::pin(async move {
            self.tell(reason.name());
            next.await
        })
    }
}

fn scene_with(options: HubOptions, filters: &[&'static str]) -> Scene<SurroundedHub> {
    Scene::new(options, SurroundedHub, |props| {
        let filter =
            |name: &&'static str| Arc::new(Telling(name, props.clone())) as Arc<dyn HubFilter>;
        filters.iter().map(filter).collect()
    })
}

fn plain() -> Scene<SurroundedHub> {
    scene_with(HubOptions::default(), &[])
}

/// A client that the hub has seen.
async fn welcome(scene: &mut Scene<SurroundedHub>, id: &str) -> Client {
    let client = scene.client(id).await;
    scene.expect(&[&format!("{id} comes")]).await;
    client
}

#[tokio::test(start_paused = true)]
async fn a_hub_sees_every_client_come_and_go_once() {
    let mut scene = plain();
    let client = welcome(&mut scene, "a").await;
    client.send(r#"{"type":7}"#).await;
    scene.expect(&["a goes: client_left, None"]).await;
    let client = welcome(&mut scene, "b").await;
    client.send(r#"{"type":7,"error":"my own fault"}"#).await;
    scene
        .expect(&[r#"b goes: client_failed, Some("my own fault")"#])
        .await;
    let client = welcome(&mut scene, "c").await;
    client.send("{nonsense").await;
    scene
        .expect(&[r#"c goes: protocol_error, Some("Error reading JSON.")"#])
        .await;
    let mut client = welcome(&mut scene, "d").await;
    client.send(r#"{"type":6}"#).await;
    while client.next().await != "(the end)" {}
    scene.expect(&[r#"d goes: client_timeout, Some("Client hasn't sent a message/ping within the configured ClientTimeoutInterval.")"#]).await;
    let client = welcome(&mut scene, "e").await;
    client.input.end(CloseReason::ConnectionLost);
    scene.expect(&["e goes: connection_lost, None"]).await;
    let client = welcome(&mut scene, "explosive later").await;
    client.input.end(CloseReason::ConnectionLost);
    scene
        .expect(&["explosive later goes: connection_lost, None"])
        .await;
    assert_eq!(client.ended().await, CloseReason::ConnectionLost);
    // Who has not shaken hands has never been there.
    let client = connect(&scene.served, "f");
    client.send("nonsense").await;
    client.ended().await;
    let client = welcome(&mut scene, "g").await;
    scene.served.lifetime.shut_down();
    scene.expect(&["g goes: server_shutdown, None"]).await;
    client.ended().await;
    assert!(scene.noted.is_empty());
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_client_is_read_before_the_hub_has_seen_it() {
    let mut scene = plain();
    let mut client = welcome(&mut scene, "slow").await;
    client.call(1, "Say", r#"["hello"]"#).await;
    client.expect_nothing().await;
    scene.permits.add_permits(1);
    client
        .expect(r#"{"type":1,"target":"Welcome","arguments":[]}"#)
        .await;
    client
        .expect(r#"{"type":3,"invocationId":"1","result":"hello"}"#)
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_not_let_in_is_told_not_to_come_back() {
    let mut scene = plain();
    for (id, error) in [
        (
            "unwelcome",
            "Connection closed with an error. HubException: not today",
        ),
        ("unlucky", "Connection closed with an error."),
        ("explosive", "Connection closed with an error."),
    ] {
        let mut client = welcome(&mut scene, id).await;
        client
            .expect(&format!(r#"{{"type":7,"error":"{error}"}}"#))
            .await;
        client.expect("(the end)").await;
        assert_eq!(client.ended().await.name(), "rejected");
    }
    // And nobody hears of its going.
    assert!(scene.noted.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_hub_sees_a_client_that_vanishes_while_it_is_let_in() {
    let mut scene = plain();
    let client = welcome(&mut scene, "slow").await;
    client.input.end(CloseReason::ConnectionLost);
    scene.permits.add_permits(1);
    scene.expect(&["slow goes: connection_lost, None"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_hub_hears_of_a_client_that_vanishes_while_it_is_let_in() {
    let mut scene = plain();
    let client = welcome(&mut scene, "listening").await;
    client.input.end(CloseReason::ConnectionLost);
    scene
        .expect(&["heard", "listening goes: connection_lost, None"])
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_policy_decides_by_caller_and_arguments() {
    let mut scene = plain();
    let mut admin = welcome(&mut scene, "admin").await;
    let mut other = welcome(&mut scene, "other").await;
    let ban = r#"["mira","too loud"]"#;
    assert_eq!(admin.answer("Ban", ban).await, r#""result":null"#);
    scene.expect(&["ban mira too loud"]).await;
    let unauthorized = r#""error":"Failed to invoke 'ban' because user is unauthorized""#;
    assert_eq!(other.answer("ban", ban).await, unauthorized);
    assert_eq!(
        admin.answer("ban", r#"["admin","why"]"#).await,
        unauthorized
    );
    // What does not fit is refused before anybody is asked.
    assert_eq!(
        other.answer("Ban", "[]").await,
        r#""error":"Failed to invoke 'Ban' due to an error on the server.""#
    );
    // And who may not call a method does not learn how it is called.
    other.call(1, "Secrets", "[]").await;
    other.expect(r#"{"type":3,"invocationId":"1","error":"Failed to invoke 'Secrets' because user is unauthorized"}"#).await;
    other.stream("2", "Secrets", "[]").await;
    other.expect(r#"{"type":3,"invocationId":"2","error":"Failed to invoke 'Secrets' because user is unauthorized"}"#).await;
    // Without an id: silence.
    other
        .send(&format!(r#"{{"type":1,"target":"Ban","arguments":{ban}}}"#))
        .await;
    assert_eq!(other.answer("Say", r#"["x"]"#).await, r#""result":"x""#);
    scene.expect(&["say x"]).await;
}

#[tokio::test(start_paused = true)]
async fn filters_are_around_methods_in_the_order_they_were_given() {
    let mut scene = scene_with(HubOptions::default(), &["outer", "inner"]);
    let mut client = scene.client("a").await;
    scene
        .expect(&[
            "outer before",
            "inner before",
            "a comes",
            "inner after",
            "outer after",
        ])
        .await;

    assert_eq!(
        client.answer("say", r#"["x"]"#).await,
        r#""result":"xouterinner""#
    );
    scene
        .expect(&[
            "outer Say of a",
            "inner Say of a",
            "say xouterinner",
            "inner done",
            "outer done",
        ])
        .await;
    assert_eq!(
        client.answer("Say", r#"["swallow"]"#).await,
        r#""result":"swallowed""#
    );
    scene.expect(&["outer Say of a"]).await;
    let refused = r#""error":"An unexpected error occurred invoking 'Say' on the server. HubException: refused""#;
    assert_eq!(client.answer("Say", r#"["refuse"]"#).await, refused);
    scene.expect(&["outer Say of a"]).await;

    client.stream("1", "Words", "[]").await;
    client
        .expect(r#"{"type":2,"invocationId":"1","item":"a"}"#)
        .await;
    client
        .expect(r#"{"type":2,"invocationId":"1","item":"b"}"#)
        .await;
    client.expect(r#"{"type":3,"invocationId":"1"}"#).await;
    scene
        .expect(&[
            "outer Words of a",
            "inner Words of a",
            "inner done",
            "outer done",
        ])
        .await;

    // Calls that never reach a method pass no filter.
    client.answer("Nothing", "[]").await;
    client.answer("Say", "[]").await;
    client.answer("Words", "[]").await;
    client.answer("Ban", r#"["a","b"]"#).await;

    client.send(r#"{"type":7}"#).await;
    scene
        .expect(&[
            "outer client_left",
            "inner client_left",
            "a goes: client_left, None",
        ])
        .await;

    let mut client = scene.client("filtered").await;
    client
        .expect(
            r#"{"type":7,"error":"Connection closed with an error. HubException: filtered out"}"#,
        )
        .await;
    scene.expect(&["outer before"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_filter_cannot_answer_a_stream_with_a_value() {
    let scene = scene_with(HubOptions::default(), &["filter"]);
    let mut client = scene.client("valued").await;
    client.stream("1", "Words", "[]").await;
    client.expect(r#"{"type":3,"invocationId":"1","error":"An unexpected error occurred invoking 'Words' on the server."}"#).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_taken_back_hears_of_it_and_answers_once() {
    let mut scene = plain();
    let mut client = welcome(&mut scene, "a").await;
    client.call(1, "Patient", "[]").await;
    scene.expect(&["patient"]).await;
    client.send(r#"{"type":5,"invocationId":"2"}"#).await;
    client.expect_nothing().await;
    client.send(r#"{"type":5,"invocationId":"1"}"#).await;
    client.send(r#"{"type":5,"invocationId":"1"}"#).await;
    scene.expect(&["cancelled"]).await;
    client
        .expect(r#"{"type":3,"invocationId":"1","result":"whatever"}"#)
        .await;
    client.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn a_call_hears_that_its_client_has_gone() {
    let mut scene = plain();
    let client = welcome(&mut scene, "a").await;
    client.call(1, "Patient", "[]").await;
    scene.expect(&["patient"]).await;
    client.input.end(CloseReason::ConnectionLost);
    let mut noted = vec![scene.noted().await, scene.noted().await];
    noted.sort();
    assert_eq!(noted, ["a goes: connection_lost, None", "cancelled"]);
}

#[tokio::test(start_paused = true)]
async fn as_many_calls_of_a_client_run_at_once_as_it_is_allowed() {
    let mut scene = scene_with(
        HubOptions {
            maximum_parallel_invocations_per_client: 2,
            ..HubOptions::default()
        },
        &[],
    );
    let mut client = welcome(&mut scene, "a").await;
    for (id, name) in [(1, "one"), (2, "two"), (3, "three")] {
        client.call(id, "Wait", &format!(r#"["{name}"]"#)).await;
    }
    scene.expect(&["waiting one", "waiting two"]).await;
    client.expect_nothing().await;
    assert!(scene.noted.is_empty());
    scene.permits.add_permits(1);
    client
        .expect(r#"{"type":3,"invocationId":"1","result":null}"#)
        .await;
    scene.expect(&["waiting three"]).await;
    scene.permits.add_permits(2);
    client
        .expect(r#"{"type":3,"invocationId":"2","result":null}"#)
        .await;
    client
        .expect(r#"{"type":3,"invocationId":"3","result":null}"#)
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_call_sends_to_its_caller_as_fast_as_that_reads() {
    let mut scene = plain();
    let mut client = welcome(&mut scene, "a").await;
    // More than waits for anybody.
    client.call(1, "Flood", "[100,100000]").await;
    let text = "x".repeat(100_000);
    for number in 0..100 {
        client
            .expect(&format!(
                r#"{{"type":1,"target":"Flood","arguments":[{number},"{text}"]}}"#
            ))
            .await;
    }
    client
        .expect(r#"{"type":3,"invocationId":"1","result":100}"#)
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_call_does_not_wait_for_a_caller_that_has_stopped_reading() {
    let mut scene = plain();
    let client = welcome(&mut scene, "a").await;
    client.call(1, "Flood", "[100,100000]").await;
    scene
        .expect(&[r#"a goes: too_slow, Some("Client has not read its messages in time.")"#])
        .await;
}
