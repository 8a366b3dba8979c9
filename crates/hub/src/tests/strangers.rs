//! What one client may do to the server, and to itself.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, Stream};
use hubcast_protocol::Encoding;
use tokio::time::timeout;

use super::client::Client;
use super::client::connect;
use super::scene::{MOMENT, Props, Scene};
use crate::authorization::MethodCall;
use crate::client_stream::ClientStream;
use crate::close_reason::CloseReason;
use crate::context::CallerContext;
use crate::error::HubResult;
use crate::filters::{Filters, HubFilter};
use crate::hub::Hub;
use crate::methods::Methods;
use crate::options::HubOptions;

struct Host(Props);

impl Hub for Host {
    fn methods() -> Methods<Self> {
        Methods::new()
            .method("Note", Self::note)
            .method("Patient", Self::patient)
            .method("Ask", Self::ask)
            .method("Hold", Self::hold)
            .method("Pairs", Self::pairs)
            .method("Guarded", Self::guarded)
            .authorize("Guarded", Self::decide)
            .stream("Eventually", Self::eventually)
            .stream("Burst", Self::burst)
    }

    async fn on_connected(&self, ctx: &CallerContext) -> HubResult {
        if ctx.connection_id() == "banned" {
            ctx.abort();
        }
        Ok(())
    }

    async fn on_disconnected(&self, ctx: &CallerContext, _: &CloseReason) -> HubResult {
        self.0.note(format!("{} goes", ctx.connection_id()));
        Ok(())
    }
}

#[expect(clippy::unused_async, reason = "every hub method is async")]
impl Host {
    async fn note(&self, _: &CallerContext, text: String) -> HubResult {
        self.0.note(text);
        Ok(())
    }

    async fn patient(&self, ctx: &CallerContext) -> HubResult {
        self.0.note("patient");
        ctx.cancelled().await;
        self.0.note("cancelled");
        Ok(())
    }

    async fn ask(&self, ctx: &CallerContext, id: String) -> HubResult<Option<String>> {
        let client = ctx.clients().client(&id);
        Ok(client.invoke("Question", ("why?",)).await?)
    }

    /// Reads its stream when it gets a permit.
    async fn hold(&self, _: &CallerContext, mut items: ClientStream<u32>) -> HubResult<u32> {
        self.0.note("holding");
        self.0.permit().await?;
        let mut sum = 0;
        while let Some(item) = items.next().await {
            sum += item?;
        }
        Ok(sum)
    }

    async fn pairs(
        &self,
        _: &CallerContext,
        mut a: ClientStream<u32>,
        mut b: ClientStream<u32>,
    ) -> HubResult {
        while let (Some(Ok(_)), Some(Ok(_))) = (a.next().await, b.next().await) {}
        self.0.note("no more pairs");
        Ok(())
    }

    async fn guarded(&self, _: &CallerContext, items: ClientStream<u32>) -> HubResult<u32> {
        self.0.note("guarded");
        let mut items = items;
        let mut sum = 0;
        while let Some(item) = items.next().await {
            sum += item?;
        }
        Ok(sum)
    }

    async fn decide(&self, _: &CallerContext, _: MethodCall<'_>) -> bool {
        self.0.note("deciding");
        match self.0.permits.acquire().await {
            Ok(permit) => permit.forget(),
            Err(_) => return false,
        }
        true
    }

    /// One large item when there is a permit, which the next then has.
    fn burst(&self, _: &CallerContext) -> impl Stream<Item = HubResult<String>> {
        stream::once(async {
            drop(self.0.permits.acquire().await?);
            Ok("x".repeat(60_000))
        })
    }

    async fn eventually(
        &self,
        _: &CallerContext,
    ) -> HubResult<impl Stream<Item = HubResult<u32>> + use<>> {
        self.0.note("eventually");
        self.0.permit().await?;
        self.0.note("at last");
        Ok(stream::iter([Ok(1)]))
    }
}

fn scene_with(filters: Filters) -> Scene<Host> {
    Scene::new(HubOptions::default(), Host, |_| filters)
}

fn scene() -> Scene<Host> {
    scene_with(Arc::default())
}

#[tokio::test(start_paused = true)]
async fn calls_whose_streams_have_ended_count_until_they_end_themselves() {
    let mut scene = scene();
    let client = scene.client("a").await;
    for id in 0..150 {
        client.call_with_streams(id, "Hold", "[]", r#"["s"]"#).await;
        client.end("s").await;
    }
    assert_eq!(scene.settled().await.len(), 100);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_ends_leaves_a_newer_stream_of_the_same_id_alone() {
    let mut scene = scene();
    let mut client = scene.client("a").await;
    client.call_with_streams(1, "Hold", "[]", r#"["s"]"#).await;
    client.item("s", 1).await;
    client.end("s").await;
    client.call_with_streams(2, "Hold", "[]", r#"["s"]"#).await;
    client.item("s", 2).await;
    scene.expect(&["holding", "holding"]).await;
    scene.permits.add_permits(1);
    client
        .expect(r#"{"type":3,"invocationId":"1","result":1}"#)
        .await;
    client.item("s", 3).await;
    client.end("s").await;
    scene.permits.add_permits(1);
    client
        .expect(r#"{"type":3,"invocationId":"2","result":5}"#)
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_leaves_the_stream_whose_id_it_wanted_alone() {
    let mut scene = scene();
    let mut client = scene.client("a").await;
    client
        .call_with_streams(1, "Guarded", "[]", r#"["s"]"#)
        .await;
    scene.permits.add_permits(1);
    scene.expect(&["deciding", "guarded"]).await;
    client.item("s", 1).await;
    client
        .call_with_streams(2, "Guarded", "[]", r#"["s"]"#)
        .await;
    scene.expect(&["deciding"]).await;
    scene.permits.add_permits(1);
    client
        .expect(r#"{"type":3,"invocationId":"2","error":"An unexpected error occurred invoking 'Guarded' on the server. HubException: Stream ID 's' is already in use."}"#)
        .await;
    client.item("s", 2).await;
    client.end("s").await;
    client
        .expect(r#"{"type":3,"invocationId":"1","result":3}"#)
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_taken_back_before_it_is_there_ends_at_once_and_once() {
    let mut scene = scene();
    let mut client = scene.client("a").await;
    client.stream("1", "Eventually", "[]").await;
    scene.expect(&["eventually"]).await;
    client.send(r#"{"type":5,"invocationId":"1"}"#).await;
    client.expect(r#"{"type":3,"invocationId":"1"}"#).await;
    // The id is free again, and what the first call still does is not told under it.
    client.stream("1", "Eventually", "[]").await;
    scene.expect(&["eventually"]).await;
    scene.permits.add_permits(1);
    scene.expect(&["at last"]).await;
    client.expect_nothing().await;
    scene.permits.add_permits(1);
    client
        .expect(r#"{"type":2,"invocationId":"1","item":1}"#)
        .await;
    client.expect(r#"{"type":3,"invocationId":"1"}"#).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_its_clients_end_does_not_put_off_a_goodbye() {
    let mut scene = scene();
    let client = scene.client("a").await;
    client.call(1, "Patient", "[]").await;
    client.call(2, "Note", r#"["behind"]"#).await;
    client.call(3, "Patient", "[]").await;
    client.call(4, "Note", r#"["last"]"#).await;
    client.send(r#"{"type":7}"#).await;
    let notes = [
        "patient",
        "cancelled",
        "behind",
        "patient",
        "cancelled",
        "last",
        "a goes",
    ];
    scene.expect(&notes).await;
    assert_eq!(client.ended().await, CloseReason::ClientLeft);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_can_go_on_with_does_not_put_off_a_goodbye() {
    let mut scene = scene();
    let client = scene.client("a").await;
    client.call(1, "Patient", "[]").await;
    client.call(2, "Note", r#"["behind"]"#).await;
    client
        .call_with_streams(3, "Pairs", "[]", r#"["a","b"]"#)
        .await;
    for value in 0..20 {
        client.item("a", value).await;
    }
    client.send(r#"{"type":7}"#).await;
    let notes = ["patient", "cancelled", "behind", "no more pairs", "a goes"];
    scene.expect(&notes).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_that_a_client_says_is_heard_once_the_hub_has_thrown_it_out() {
    let mut scene = scene();
    let client = connect(&scene.served, "banned");
    client
        .send(concat!(
            r#"{"protocol":"json","version":1}"#,
            "\x1e",
            r#"{"type":1,"target":"Note","arguments":["evil"]}"#
        ))
        .await;
    scene.expect(&["banned goes"]).await;
    assert_eq!(client.ended().await, CloseReason::Aborted);
}

/// Sends calls until the server takes no more of them, or all are sent; gives what comes back.
async fn flood(client: &mut Client, kind: u8, target: &str, arguments: &str) -> Vec<String> {
    let mut records = Vec::new();
    for id in 0..5_000 {
        let call = format!(
            r#"{{"type":{kind},"invocationId":"{id}","target":"{target}","arguments":{arguments}}}"#
        );
        if timeout(MOMENT, client.send(&call)).await.is_err() {
            break;
        }
        while let Ok(record) = timeout(MOMENT, client.next()).await {
            records.push(record);
        }
    }
    records
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_for_answers_are_bounded_for_each_client_that_is_asked() {
    let scene = scene();
    let mut silent = connect(&scene.served, "silent");
    silent.shake_hands().await;
    // Whoever asks may come back under another name, while its calls still wait.
    for _ in 0..2 {
        let mut client = scene.client("a").await;
        let asked = flood(&mut client, 1, "Ask", r#"["silent"]"#).await;
        let refused = asked.iter().filter(|record| record.contains("error"));
        assert!(refused.count() >= 5_000 - 1_024);
        client.input.end(CloseReason::ConnectionLost);
        client.ended().await;
    }
    let mut questions = 0;
    while let Ok(record) = timeout(MOMENT, silent.next()).await {
        questions += usize::from(record.contains("Question"));
    }
    assert_eq!(questions, 1_024);
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_for_permission_are_bounded() {
    let mut scene = scene();
    let mut client = scene.client("a").await;
    // As a stream, which it is not: it takes no slot, and is told so only if it may call the method at all.
    flood(&mut client, 4, "Guarded", "[]").await;
    assert_eq!(scene.settled().await.len(), 1 + 100 + 1024);
}

#[tokio::test(start_paused = true)]
async fn messages_are_written_in_an_encoding_only_while_somebody_reads_it() {
    let scene = scene();
    let writes = || scene.served.lifetime.writes(Encoding::MessagePack);
    assert!(!writes());
    let mut client = connect(&scene.served, "a");
    client
        .send(r#"{"protocol":"messagepack","version":1}"#)
        .await;
    client.expect("{}").await;
    assert!(writes());
    client.input.end(CloseReason::ConnectionLost);
    client.ended().await;
    assert!(!writes());
}

#[tokio::test(start_paused = true)]
async fn streams_that_all_have_an_item_at_once_do_not_make_their_client_too_slow() {
    let scene = scene();
    let mut client = scene.client("a").await;
    for id in 0..100 {
        client.stream(&id.to_string(), "Burst", "[]").await;
    }
    client.expect_nothing().await;
    scene.permits.add_permits(1);
    let mut items = 0;
    while items < 100 {
        let record = client.next().await;
        assert!(
            record.starts_with(r#"{"type":2,"#) || record.starts_with(r#"{"type":3,"#),
            "{record}"
        );
        items += usize::from(record.starts_with(r#"{"type":2,"#));
    }
}

struct Explosive;

impl HubFilter for Explosive {
    fn on_connected<'a>(
        &'a self,
        context: &'a CallerContext,
        next: BoxFuture<'a, HubResult>,
    ) -> BoxFuture<'a, HubResult> {
        assert_ne!(context.connection_id(), "explosive", "on purpose");
        next
    }

    fn on_disconnected<'a>(
        &'a self,
        context: &'a CallerContext,
        _: &'a CloseReason,
        next: BoxFuture<'a, HubResult>,
    ) -> BoxFuture<'a, HubResult> {
        assert_ne!(context.connection_id(), "explosive later", "on purpose");
        next
    }
}

#[tokio::test(start_paused = true)]
async fn a_filter_that_panics_before_its_future_is_there_is_like_one_that_fails() {
    let scene = scene_with([Arc::new(Explosive) as Arc<dyn HubFilter>].into());
    let mut client = connect(&scene.served, "explosive");
    client.shake_hands().await;
    client
        .expect(r#"{"type":7,"error":"Connection closed with an error."}"#)
        .await;
    assert_eq!(client.ended().await.name(), "rejected");
    let mut client = connect(&scene.served, "explosive later");
    client.shake_hands().await;
    client.send(r#"{"type":7}"#).await;
    assert_eq!(client.ended().await, CloseReason::ClientLeft);
}
