//! Methods that stream, in either direction.

use std::future::pending;
use std::time::Duration;

use futures_util::stream::{self, Stream, StreamExt};
use hubcast::{CallerContext, ClientStream, HubError, HubResult, Methods};
use tokio::time::sleep;

use super::failures::InvalidOperationException;
use super::{TestHub, bounded};

#[expect(
    clippy::unused_async,
    clippy::unused_self,
    reason = "every hub method has a hub, and may be async"
)]
impl TestHub {
    pub(super) fn streams(methods: Methods<Self>) -> Methods<Self> {
        methods
            .stream("Stream", Self::stream)
            .stream("EmptyStream", Self::empty_stream)
            .stream("Counter", Self::counter)
            .stream("InfiniteStream", Self::infinite_stream)
            .stream("StreamThrowException", Self::stream_throw_exception)
            .stream("StreamThrowHubException", Self::stream_throw_hub_exception)
            .stream("StreamThrowMidway", Self::stream_throw_midway)
            .stream(
                "StreamHubExceptionMidway",
                Self::stream_hub_exception_midway,
            )
            .stream("NullStream", Self::null_stream)
            .stream("StreamEcho", Self::stream_echo)
            .method("StreamingConcat", Self::streaming_concat)
            .method("StreamingSum", Self::streaming_sum)
            .method("PrefixedConcat", Self::prefixed_concat)
            .method("TwoStreams", Self::two_streams)
            .method("UploadThenNotify", Self::upload_then_notify)
    }

    fn stream(&self, _: &CallerContext) -> impl Stream<Item = HubResult<&'static str>> {
        stream::iter(["a", "b", "c"]).map(Ok)
    }

    fn empty_stream(&self, _: &CallerContext) -> impl Stream<Item = HubResult<i32>> {
        stream::empty()
    }

    fn counter(
        &self,
        _: &CallerContext,
        count: i32,
        ms: u64,
    ) -> impl Stream<Item = HubResult<i32>> {
        stream::iter(0..count).then(move |number| async move {
            if ms > 0 {
                sleep(Duration::from_millis(ms)).await;
            }
            Ok(number)
        })
    }

    fn infinite_stream(&self, ctx: &CallerContext) -> impl Stream<Item = HubResult<String>> {
        stream::once(async {
            ctx.cancelled().await;
            // Sent before the stream is dropped, which happens at its next item.
            let _ = ctx.clients().caller().send("StreamCanceled", ()).await;
            pending().await
        })
    }

    async fn stream_throw_exception(
        &self,
        _: &CallerContext,
        text: String,
    ) -> HubResult<stream::Empty<HubResult<String>>> {
        Err(InvalidOperationException(text).into())
    }

    async fn stream_throw_hub_exception(
        &self,
        _: &CallerContext,
        text: String,
    ) -> HubResult<stream::Empty<HubResult<String>>> {
        Err(HubError::new(text))
    }

    fn stream_throw_midway(
        &self,
        _: &CallerContext,
        count: i32,
        text: String,
    ) -> impl Stream<Item = HubResult<i32>> {
        let failure = async { Err(InvalidOperationException(text).into()) };
        stream::iter(0..count).map(Ok).chain(stream::once(failure))
    }

    fn stream_hub_exception_midway(
        &self,
        _: &CallerContext,
        count: i32,
        text: String,
    ) -> impl Stream<Item = HubResult<i32>> {
        let failure = async { Err(HubError::new(text)) };
        stream::iter(0..count).map(Ok).chain(stream::once(failure))
    }

    async fn null_stream(
        &self,
        _: &CallerContext,
    ) -> HubResult<Option<stream::Empty<HubResult<String>>>> {
        Ok(None)
    }

    fn stream_echo(
        &self,
        _: &CallerContext,
        items: ClientStream<String>,
    ) -> impl Stream<Item = HubResult<String>> {
        items.map(|item| Ok(format!("echo:{}", item?)))
    }

    async fn streaming_concat(
        &self,
        _: &CallerContext,
        items: ClientStream<String>,
    ) -> HubResult<String> {
        concat(items).await
    }

    async fn streaming_sum(
        &self,
        _: &CallerContext,
        mut items: ClientStream<i32>,
    ) -> HubResult<i32> {
        let mut sum = 0_i32;
        while let Some(item) = items.next().await {
            sum = sum.wrapping_add(item?);
        }
        Ok(sum)
    }

    async fn prefixed_concat(
        &self,
        _: &CallerContext,
        prefix: String,
        items: ClientStream<String>,
        suffix: String,
    ) -> HubResult<String> {
        Ok(prefix + &concat(items).await? + &suffix)
    }

    async fn two_streams(
        &self,
        _: &CallerContext,
        first: ClientStream<String>,
        second: ClientStream<String>,
    ) -> HubResult<String> {
        let first = concat(first).await?;
        Ok(first + "|" + &concat(second).await?)
    }

    async fn upload_then_notify(
        &self,
        ctx: &CallerContext,
        mut items: ClientStream<String>,
    ) -> HubResult {
        let mut count = 0;
        while let Some(item) = items.next().await {
            item?;
            count += 1;
        }
        Ok(ctx.clients().caller().send("UploadDone", (count,)).await?)
    }
}

async fn concat(mut items: ClientStream<String>) -> HubResult<String> {
    let mut joined = String::new();
    while let Some(item) = items.next().await {
        joined.push_str(&item?);
        bounded(joined.len())?;
    }
    Ok(joined)
}
