//! A hub that streams, in either direction.

use std::fmt::Write as _;
use std::sync::Arc;

use futures_util::stream::{self, Stream, StreamExt};

use super::client::Client;
use super::scene::{Props, Scene};
use crate::client_stream::ClientStream;
use crate::context::CallerContext;
use crate::error::{HubError, HubResult};
use crate::hub::Hub;
use crate::methods::Methods;
use crate::options::HubOptions;

pub(super) struct StreamHub(Props);

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

pub(super) fn scene_with(options: HubOptions) -> Scene<StreamHub> {
    Scene::new(options, StreamHub, |_| Arc::default())
}

pub(super) async fn scene() -> (Scene<StreamHub>, Client) {
    let scene = scene_with(HubOptions::default());
    let client = scene.client("a").await;
    (scene, client)
}
