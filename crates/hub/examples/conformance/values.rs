//! Methods that give something back.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use hubcast::{ByteArray, CallerContext, HubResult, Methods, Timestamp};
use serde_json::value::RawValue;
use tokio::time::sleep;
use uuid::Uuid;

use super::objects::{Color, ComplexObject};
use super::{TestHub, bounded};

#[expect(clippy::unused_async, reason = "every hub method is async")]
impl TestHub {
    pub(super) fn values(methods: Methods<Self>) -> Methods<Self> {
        methods
            .method("Echo", Self::echo::<Option<String>>)
            .method("EchoLong", Self::echo::<i64>)
            .method("EchoDouble", Self::echo::<f64>)
            .method("EchoBool", Self::echo::<bool>)
            .method("EchoNullableInt", Self::echo::<Option<i32>>)
            .method("EchoObject", Self::echo::<Box<RawValue>>)
            .method("EchoEnum", Self::echo::<Color>)
            .method("EchoList", Self::echo::<Option<Vec<Option<String>>>>)
            .method(
                "EchoDictionary",
                Self::echo::<Option<BTreeMap<String, i32>>>,
            )
            .method("EchoBytes", Self::echo::<Option<ByteArray>>)
            .method("EchoBinary", Self::echo::<Option<ByteArray>>)
            .method("GetBytes", Self::get_bytes)
            .method("EchoDate", Self::echo::<Timestamp>)
            .method("EchoGuid", Self::echo::<Uuid>)
            .method("EchoComplexObject", Self::echo::<Option<ComplexObject>>)
            .method("SendComplexObject", Self::send_complex_object)
            .method("VoidMethod", Self::nothing)
            .method("TaskMethod", Self::nothing)
            .method("ValueTaskMethod", Self::nothing)
            .method("ValueTaskInt", Self::echo::<i32>)
            .method("Add", Self::add)
            .method("NullResult", Self::null)
            .method("BigString", Self::big_string)
            .method("OptionalArg", Self::optional_arg)
            .method("renamed", Self::renamed)
            .method("DelayedEcho", Self::delayed_echo)
            .method("LongRunning", Self::long_running)
    }

    async fn echo<T: Send>(&self, _: &CallerContext, value: T) -> HubResult<T> {
        Ok(value)
    }

    async fn get_bytes(&self, _: &CallerContext, length: usize) -> HubResult<ByteArray> {
        let bytes = (0..=u8::MAX).cycle().take(bounded(length)?);
        Ok(ByteArray(bytes.collect()))
    }

    async fn send_complex_object(&self, _: &CallerContext) -> HubResult<ComplexObject> {
        Ok(ComplexObject {
            string: Some("hello world".to_owned()),
            int_array: Some(vec![1, 2, 3]),
            byte_array: Some(ByteArray(vec![1, 2, 3])),
            guid: Uuid::from_u128(0x00010203_0405_0607_0706_050403020100),
            date_time: Some(Timestamp::try_from(
                UNIX_EPOCH + Duration::from_hours(262_968),
            )?),
        })
    }

    async fn nothing(&self, _: &CallerContext) -> HubResult {
        Ok(())
    }

    async fn add(&self, _: &CallerContext, a: i32, b: i32) -> HubResult<i32> {
        Ok(a.wrapping_add(b))
    }

    async fn null(&self, _: &CallerContext) -> HubResult<Option<String>> {
        Ok(None)
    }

    async fn big_string(&self, _: &CallerContext, length: usize) -> HubResult<String> {
        Ok("x".repeat(bounded(length)?))
    }

    async fn optional_arg(&self, _: &CallerContext, a: String, b: String) -> HubResult<String> {
        Ok(a + &b)
    }

    async fn renamed(&self, _: &CallerContext) -> HubResult<&'static str> {
        Ok("renamed-result")
    }

    async fn delayed_echo(&self, _: &CallerContext, text: String, ms: u64) -> HubResult<String> {
        sleep(Duration::from_millis(ms)).await;
        Ok(text)
    }

    async fn long_running(&self, ctx: &CallerContext, ms: u64) -> HubResult<bool> {
        tokio::select! {
            () = sleep(Duration::from_millis(ms)) => Ok(true),
            () = ctx.cancelled() => {
                ctx.clients().caller().send("Cancelled", ()).await?;
                Ok(false)
            }
        }
    }
}
