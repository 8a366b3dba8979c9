//! Streams: to the client, from it, and both at once.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, Stream, StreamExt};

use super::client::Client;
use super::scene::{Props, Scene};
use crate::client_stream::ClientStream;
use crate::context::CallerContext;
use crate::error::{HubError, HubResult};
use crate::hub::Hub;
use crate::methods::Methods;
use crate::options::HubOptions;

struct StreamHub(Props);

impl Hub for StreamHub {
    fn methods() -> Methods<Self> {
        Methods::new()
            .stream("Count", Self::count)
            .stream("CountAfter", Self::count_after)
            .stream("Maybe", Self::maybe)
            .stream("Endless", Self::endless)
            .stream("Quiet", Self::quiet)
            .stream("FailMidway", Self::fail_midway)
            .stream("FailOpenly", Self::fail_openly)
            .stream("PanicMidway", Self::panic_midway)
            .stream("Echo", Self::echo)
            .method("Sum", Self::sum)
            .method("Pairs", Self::pairs)
            .method("Framed", Self::framed)
            .method("Wait", Self::wait)
            .method("Careful", Self::careful)
    }
}

#[expect(
    clippy::unused_async,
    clippy::unused_self,
    reason = "every hub method has a hub, and may be async"
)]
impl StreamHub {
    fn count(&self, _: &CallerContext, to: u32) -> impl Stream<Item = HubResult<u32>> {
        stream::iter((1..=to).map(Ok))
    }

    async fn count_after(
        &self,
        _: &CallerContext,
        to: u32,
    ) -> HubResult<impl Stream<Item = HubResult<u32>>> {
        self.0.permit().await?;
        Ok(stream::iter((1..=to).map(Ok)))
    }

    async fn maybe(
        &self,
        _: &CallerContext,
        there: bool,
    ) -> HubResult<Option<impl Stream<Item = HubResult<u32>>>> {
        Ok(there.then(|| stream::iter([Ok(1)])))
    }

    fn endless(&self, _: &CallerContext, text: String) -> impl Stream<Item = HubResult<String>> {
        let noted = self.0.noted.clone();
        stream::iter(0..).map(move |number| {
            let _ = noted.send(number.to_string());
            Ok(text.clone())
        })
    }

    /// Gives nothing, and tells how it ended.
    fn quiet(&self, ctx: &CallerContext) -> impl Stream<Item = HubResult<u32>> {
        let dropped = Noting(self.0.clone());
        stream::once(async move {
            ctx.cancelled().await;
            dropped.0.note("cancelled");
            std::future::pending().await
        })
    }

    fn fail_midway(&self, _: &CallerContext) -> impl Stream<Item = HubResult<u32>> {
        let failure: HubResult<u32> =
            Err(std::io::Error::other("the password is swordfish").into());
        stream::iter([Ok(1), failure, Ok(3)])
    }

    fn fail_openly(&self, _: &CallerContext) -> impl Stream<Item = HubResult<u32>> {
        stream::iter([Ok(1), Err(HubError::new("as you wish"))])
    }

    fn panic_midway(&self, _: &CallerContext) -> impl Stream<Item = HubResult<u32>> {
        stream::iter(1..).map(|number| {
            if number < 2 {
                Ok(number)
            } else {
                panic!("on purpose")
            }
        })
    }

    fn echo(
        &self,
        _: &CallerContext,
        items: ClientStream<String>,
    ) -> impl Stream<Item = HubResult<String>> {
        items.map(|item| Ok(format!("echo:{}", item?)))
    }

    async fn sum(&self, _: &CallerContext, mut items: ClientStream<i64>) -> HubResult<i64> {
        let mut sum = 0;
        while let Some(item) = items.next().await {
            sum += item?;
        }
        self.0.note(format!("sum {sum}"));
        Ok(sum)
    }

    async fn pairs(
        &self,
        _: &CallerContext,
        mut a: ClientStream<i64>,
        mut b: ClientStream<String>,
    ) -> HubResult<String> {
        let mut pairs = String::new();
        while let (Some(a), Some(b)) = (a.next().await, b.next().await) {
            let _ = write!(pairs, "{}{} ", a?, b?);
        }
        Ok(pairs)
    }

    async fn framed(
        &self,
        _: &CallerContext,
        before: String,
        mut items: ClientStream<String>,
        after: String,
    ) -> HubResult<String> {
        let mut text = before;
        while let Some(item) = items.next().await {
            text.push_str(&item?);
        }
        Ok(text + &after)
    }

    async fn wait(&self, _: &CallerContext) -> HubResult {
        self.0.permit().await?;
        Ok(())
    }

    /// Reads its stream one permit at a time.
    async fn careful(&self, _: &CallerContext, mut items: ClientStream<u32>) -> HubResult<u32> {
        let mut read = 0;
        loop {
            self.0.permit().await?;
            match items.next().await {
                Some(item) => {
                    self.0.note(format!("read {}", item?));
                    read += 1;
                }
                None => return Ok(read),
            }
        }
    }
}

struct Noting(Props);

impl Drop for Noting {
    fn drop(&mut self) {
        self.0.note("dropped");
    }
}

fn scene_with(options: HubOptions) -> Scene<StreamHub> {
    Scene::new(options, StreamHub, |_| Arc::default())
}

async fn scene() -> (Scene<StreamHub>, Client) {
    let scene = scene_with(HubOptions::default());
    let client = scene.client("a").await;
    (scene, client)
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_its_items_and_an_end_without_a_result() {
    let (scene, mut client) = scene().await;
    client.stream("1", "Count", "[2]").await;
    client
        .expect(r#"{"type":2,"invocationId":"1","item":1}"#)
        .await;
    client
        .expect(r#"{"type":2,"invocationId":"1","item":2}"#)
        .await;
    client.expect(r#"{"type":3,"invocationId":"1"}"#).await;
    // Nothing but the end.
    client.stream("2", "count", "[0]").await;
    client.expect(r#"{"type":3,"invocationId":"2"}"#).await;
    // One that is not made at once.
    client.stream("3", "CountAfter", "[1]").await;
    scene.permits.add_permits(1);
    client
        .expect(r#"{"type":2,"invocationId":"3","item":1}"#)
        .await;
    client.expect(r#"{"type":3,"invocationId":"3"}"#).await;
}

#[tokio::test(start_paused = true)]
async fn a_method_may_have_no_stream_to_give() {
    let (_scene, mut client) = scene().await;
    client.stream("1", "Maybe", "[true]").await;
    client
        .expect(r#"{"type":2,"invocationId":"1","item":1}"#)
        .await;
    client.expect(r#"{"type":3,"invocationId":"1"}"#).await;
    client.stream("2", "Maybe", "[false]").await;
    client.expect(r#"{"type":3,"invocationId":"2","error":"The value returned by the streaming method 'Maybe' is not a ChannelReader<> or IAsyncEnumerable<>."}"#).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_fails_says_so_behind_its_items() {
    let (_scene, mut client) = scene().await;
    for (target, error) in [
        (
            "FailMidway",
            "An error occurred on the server while streaming results.",
        ),
        (
            "FailOpenly",
            "An error occurred on the server while streaming results. HubException: as you wish",
        ),
        (
            "PanicMidway",
            "An error occurred on the server while streaming results.",
        ),
    ] {
        client.stream("1", target, "[]").await;
        client
            .expect(r#"{"type":2,"invocationId":"1","item":1}"#)
            .await;
        client
            .expect(&format!(
                r#"{{"type":3,"invocationId":"1","error":"{error}"}}"#
            ))
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_of_the_wrong_kind_is_refused() {
    let (_scene, mut client) = scene().await;
    client.call(1, "count", "[3]").await;
    client.expect(r#"{"type":3,"invocationId":"1","error":"The client attempted to invoke the streaming 'count' method with a non-streaming invocation."}"#).await;
    // Arguments come first.
    client.call(1, "Count", "[]").await;
    client.expect(r#"{"type":3,"invocationId":"1","error":"Failed to invoke 'Count' due to an error on the server."}"#).await;
    // Nobody wants the answer.
    client
        .send(r#"{"type":1,"target":"Count","arguments":[3]}"#)
        .await;
    client.stream("2", "Sum", "[]").await;
    client.expect(r#"{"type":3,"invocationId":"2","error":"The client attempted to invoke the non-streaming 'Sum' method with a streaming invocation."}"#).await;
}

#[tokio::test(start_paused = true)]
async fn streams_run_beside_a_call_that_takes_its_time() {
    let (scene, mut client) = scene().await;
    client.call(1, "Wait", "[]").await;
    client.stream("2", "Count", "[1]").await;
    client
        .expect(r#"{"type":2,"invocationId":"2","item":1}"#)
        .await;
    client.expect(r#"{"type":3,"invocationId":"2"}"#).await;
    client.call_with_streams(3, "Sum", "[]", r#"["s"]"#).await;
    client.item("s", "5").await;
    client.end("s").await;
    client
        .expect(r#"{"type":3,"invocationId":"3","result":5}"#)
        .await;
    scene.permits.add_permits(1);
    client
        .expect(r#"{"type":3,"invocationId":"1","result":null}"#)
        .await;
}

#[tokio::test(start_paused = true)]
async fn nothing_overtakes_a_call_that_waits() {
    let (mut scene, mut client) = scene().await;
    client.call(1, "Wait", "[]").await;
    client.call(2, "Wait", "[]").await;
    // Behind a call that waits: a stream, its items, its end, and a stream of the server's that is taken back.
    client.call_with_streams(3, "Sum", "[]", r#"["s"]"#).await;
    client.item("s", "5").await;
    client.item("s", "6").await;
    client.stream("4", "Quiet", "[]").await;
    client.end("s").await;
    client.cancel("4").await;
    client.send(r#"{"type":6}"#).await;
    scene.permits.add_permits(1);
    client
        .expect(r#"{"type":3,"invocationId":"1","result":null}"#)
        .await;
    scene.permits.add_permits(1);
    // Streams start in order, and end as they like.
    let mut ends = vec![
        client.next().await,
        client.next().await,
        client.next().await,
    ];
    ends.sort();
    assert_eq!(
        ends,
        [
            r#"{"type":3,"invocationId":"2","result":null}"#,
            r#"{"type":3,"invocationId":"3","result":11}"#,
            r#"{"type":3,"invocationId":"4"}"#,
        ]
    );
    let mut noted = vec![
        scene.noted().await,
        scene.noted().await,
        scene.noted().await,
    ];
    noted.sort();
    assert_eq!(noted, ["cancelled", "dropped", "sum 11"]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_taken_back_ends_without_an_error_and_may_tidy_up() {
    let (mut scene, mut client) = scene().await;
    client.stream("1", "Quiet", "[]").await;
    client.cancel("1").await;
    client.expect(r#"{"type":3,"invocationId":"1"}"#).await;
    assert_eq!(scene.noted().await, "cancelled");
    assert_eq!(scene.noted().await, "dropped");
    // Once more, and of something that never was: nothing.
    client.cancel("1").await;
    client.cancel("nobody").await;
    client.stream("1", "Count", "[0]").await;
    client.expect(r#"{"type":3,"invocationId":"1"}"#).await;
}

#[tokio::test(start_paused = true)]
async fn an_id_is_used_by_one_stream_at_a_time() {
    let (mut scene, mut client) = scene().await;
    client.stream("1", "Quiet", "[]").await;
    client.stream("1", "Count", "[1]").await;
    client
        .expect(r#"{"type":3,"invocationId":"1","error":"Invocation ID '1' is already in use."}"#)
        .await;
    // The first is not disturbed: it can still be taken back, and the id is free at once.
    client.cancel("1").await;
    client.expect(r#"{"type":3,"invocationId":"1"}"#).await;
    client.stream("1", "Count", "[0]").await;
    client.expect(r#"{"type":3,"invocationId":"1"}"#).await;
    assert_eq!(scene.noted().await, "cancelled");
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_not_asked_for_more_than_its_client_reads() {
    let (mut scene, mut client) = scene().await;
    let text = "x".repeat(1_000);
    client
        .stream("1", "Endless", &format!(r#"["{text}"]"#))
        .await;
    let item = format!(r#"{{"type":2,"invocationId":"1","item":"{text}"}}"#);
    client.expect(&item).await;
    // Until nothing moves any more.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut made = 0;
    while scene.noted.try_recv().is_ok() {
        made += 1;
    }
    assert!((64..=200).contains(&made), "{made}");
    for _ in 0..300 {
        client.expect(&item).await;
    }
    client.cancel("1").await;
    while client.next().await == item {}
}

#[tokio::test(start_paused = true)]
async fn a_client_that_vanishes_ends_its_streams() {
    let (mut scene, client) = scene().await;
    client.stream("1", "Quiet", "[]").await;
    client.call_with_streams(2, "Sum", "[]", r#"["s"]"#).await;
    client.item("s", "1").await;
    client.send(r#"{"type":7}"#).await;
    let mut noted = vec![scene.noted().await, scene.noted().await];
    noted.sort();
    // The sum never comes to its end: its stream failed.
    assert_eq!(noted, ["cancelled", "dropped"]);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_streams_with_an_error_before_the_goodbye() {
    let (scene, mut client) = scene().await;
    client.stream("1", "Quiet", "[]").await;
    client.expect_nothing().await;
    scene.served.lifetime.shut_down();
    client.expect(r#"{"type":3,"invocationId":"1","error":"An unexpected error occurred invoking 'Quiet' on the server. HubException: The server is shutting down."}"#).await;
    client.expect(r#"{"type":7,"allowReconnect":true}"#).await;
}

#[tokio::test(start_paused = true)]
async fn streams_of_a_client_are_parameters_wherever_they_stand() {
    let (_scene, mut client) = scene().await;
    client
        .call_with_streams(1, "Framed", r#"["<",">"]"#, r#"["s"]"#)
        .await;
    client.item("s", r#""a""#).await;
    client.item("s", r#""b""#).await;
    client.end("s").await;
    client
        .expect(r#"{"type":3,"invocationId":"1","result":"<ab>"}"#)
        .await;

    client
        .call_with_streams(2, "Pairs", "[]", r#"["x","y"]"#)
        .await;
    client.item("y", r#""a""#).await;
    client.item("x", "1").await;
    client.item("x", "2").await;
    client.item("y", r#""b""#).await;
    client.end("x").await;
    client.end("y").await;
    client
        .expect(r#"{"type":3,"invocationId":"2","result":"1a 2b "}"#)
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_a_client_may_be_answered_by_a_stream() {
    let (_scene, mut client) = scene().await;
    client
        .send(r#"{"type":4,"invocationId":"1","target":"Echo","arguments":[],"streamIds":["s"]}"#)
        .await;
    client.item("s", r#""a""#).await;
    client
        .expect(r#"{"type":2,"invocationId":"1","item":"echo:a"}"#)
        .await;
    client.item("s", r#""b""#).await;
    client
        .expect(r#"{"type":2,"invocationId":"1","item":"echo:b"}"#)
        .await;
    client
        .send(r#"{"type":3,"invocationId":"s","error":"I am tired"}"#)
        .await;
    client.expect(r#"{"type":3,"invocationId":"1","error":"An error occurred on the server while streaming results. HubException: I am tired"}"#).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_stream_that_ends_badly_is_an_error_of_the_method() {
    let (_scene, mut client) = scene().await;
    client.call_with_streams(1, "Sum", "[]", r#"["s"]"#).await;
    client
        .send(r#"{"type":3,"invocationId":"s","error":"out of numbers"}"#)
        .await;
    client.expect(r#"{"type":3,"invocationId":"1","error":"An unexpected error occurred invoking 'Sum' on the server. HubException: out of numbers"}"#).await;

    client.call_with_streams(2, "Sum", "[]", r#"["s"]"#).await;
    client.item("s", r#""one""#).await;
    client.expect(r#"{"type":3,"invocationId":"2","error":"An unexpected error occurred invoking 'Sum' on the server. HubException: Failed to bind Stream message."}"#).await;

    // A result at the end of a stream means nothing.
    client.call_with_streams(3, "Sum", "[]", r#"["s"]"#).await;
    client
        .send(r#"{"type":3,"invocationId":"s","result":5}"#)
        .await;
    client
        .expect(r#"{"type":3,"invocationId":"3","result":0}"#)
        .await;
}

#[tokio::test(start_paused = true)]
async fn the_number_of_streams_must_be_that_of_the_method() {
    let (_scene, mut client) = scene().await;
    for (streams, sent) in [("[]", 0), (r#"["a","b"]"#, 2)] {
        client.call_with_streams(1, "Sum", "[]", streams).await;
        client.expect(&format!(r#"{{"type":3,"invocationId":"1","error":"An unexpected error occurred invoking 'Sum' on the server. HubException: Client sent {sent} stream(s), Hub method expects 1."}}"#)).await;
    }
    // Streams are no arguments.
    client
        .call_with_streams(1, "Framed", r#"["<","s",">"]"#, r#"["s"]"#)
        .await;
    client.expect(r#"{"type":3,"invocationId":"1","error":"Failed to invoke 'Framed' due to an error on the server."}"#).await;
}

#[tokio::test(start_paused = true)]
async fn two_streams_of_a_client_may_not_share_an_id() {
    let (_scene, mut client) = scene().await;
    let refused = |id: u32, target: &str| {
        format!(
            r#"{{"type":3,"invocationId":"{id}","error":"An unexpected error occurred invoking '{target}' on the server. HubException: Stream ID 's' is already in use."}}"#
        )
    };
    client
        .call_with_streams(1, "Pairs", "[]", r#"["s","s"]"#)
        .await;
    client.expect(&refused(1, "Pairs")).await;
    client.call_with_streams(2, "Sum", "[]", r#"["s"]"#).await;
    client.call_with_streams(3, "Sum", "[]", r#"["s"]"#).await;
    client.expect(&refused(3, "Sum")).await;
    client.item("s", "1").await;
    client.end("s").await;
    client
        .expect(r#"{"type":3,"invocationId":"2","result":1}"#)
        .await;
}

#[tokio::test(start_paused = true)]
async fn items_of_streams_that_are_not_there_are_ignored() {
    let (_scene, mut client) = scene().await;
    client.item("nobody", "1").await;
    client.end("nobody").await;
    client.call_with_streams(1, "Sum", "[]", r#"["s"]"#).await;
    client.end("s").await;
    client.item("s", "1").await;
    client
        .expect(r#"{"type":3,"invocationId":"1","result":0}"#)
        .await;
    client.item("s", "1").await;
    client.stream("2", "Count", "[0]").await;
    client.expect(r#"{"type":3,"invocationId":"2"}"#).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_is_not_read_while_its_stream_is_full() {
    let mut scene = scene_with(HubOptions {
        stream_buffer_capacity: 2,
        ..HubOptions::default()
    });
    let mut client = scene.client("a").await;
    client
        .call_with_streams(1, "Careful", "[]", r#"["s"]"#)
        .await;
    for number in 1..=4 {
        client.item("s", &number.to_string()).await;
    }
    client.stream("2", "Count", "[0]").await;
    // Two items wait in the stream, the third before it, and the client is not heard.
    client.expect_nothing().await;
    scene.permits.add_permits(1);
    assert_eq!(scene.noted().await, "read 1");
    client.expect_nothing().await;
    scene.permits.add_permits(1);
    assert_eq!(scene.noted().await, "read 2");
    client.expect(r#"{"type":3,"invocationId":"2"}"#).await;
    client.end("s").await;
    scene.permits.add_permits(3);
    client
        .expect(r#"{"type":3,"invocationId":"1","result":4}"#)
        .await;
    assert_eq!(scene.noted().await, "read 3");
    assert_eq!(scene.noted().await, "read 4");
}

#[tokio::test(start_paused = true)]
async fn a_client_may_have_so_many_streams_and_no_more() {
    let scene = scene_with(HubOptions {
        maximum_streams_per_client: 3,
        ..HubOptions::default()
    });
    let mut client = scene.client("a").await;
    let refused = |id: &str, target: &str| {
        format!(
            r#"{{"type":3,"invocationId":"{id}","error":"An unexpected error occurred invoking '{target}' on the server. HubException: A client may have at most 3 streams at a time."}}"#
        )
    };
    client.stream("1", "Quiet", "[]").await;
    client.stream("2", "Quiet", "[]").await;
    client
        .call_with_streams(3, "Pairs", "[]", r#"["x","y"]"#)
        .await;
    client.expect(&refused("3", "Pairs")).await;
    client.call_with_streams(4, "Sum", "[]", r#"["s"]"#).await;
    client.stream("5", "Count", "[1]").await;
    client.expect(&refused("5", "Count")).await;
    client.end("s").await;
    client
        .expect(r#"{"type":3,"invocationId":"4","result":0}"#)
        .await;
    client.stream("6", "Count", "[0]").await;
    client.expect(r#"{"type":3,"invocationId":"6"}"#).await;
}
