//! A hub with a method for everything that a SignalR client can do, for test suites to be pointed at.
//!
//! ```text
//! cargo run -p hubcast --example conformance -- --listen 127.0.0.1:5000
//! ```
//!
//! `/testHub` has default options, `/testHubDetailed` sends the texts of all errors, `/testHubNoWebSockets` offers
//! Server-Sent Events and Long Polling only, `/testHubReconnect` allows stateful reconnect.

#[path = "conformance/objects.rs"]
mod objects;

use std::collections::{BTreeMap, HashSet};
use std::future::pending;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use axum::ServiceExt;
use axum::serve::ListenerExt;
use futures_util::stream::{self, Stream, StreamExt};
use hubcast::{
    AllowedOrigins, ByEncoding, ByteArray, CallerContext, ClientStream, CloseReason,
    ConnectingRequest, Hub, HubEndpoint, HubError, HubOptions, HubResult, Methods, Timestamp,
    Transports, fold_hub_path,
};
use objects::{Color, ComplexObject, CustomObject};
use serde_json::value::RawValue;
use tokio::time::sleep;
use tower::Layer;
use tower::util::MapRequestLayer;
use uuid::Uuid;

#[derive(Default)]
struct TestHub {
    /// Whoever wants to hear of connections that end.
    watchers: Mutex<HashSet<String>>,
}

impl Hub for TestHub {
    fn methods() -> Methods<Self> {
        let methods = Methods::new();
        let methods = Self::values(methods);
        let methods = Self::calls_back(methods);
        let methods = Self::fails(methods);
        let methods = Self::streams(methods);
        Self::connections(methods)
    }

    async fn on_disconnected(&self, ctx: &CallerContext, reason: &CloseReason) -> HubResult {
        let watchers: Vec<String> = {
            let mut watchers = self.watchers();
            watchers.remove(ctx.connection_id());
            watchers.iter().cloned().collect()
        };
        let watchers = watchers.iter().map(String::as_str);
        let ended = (ctx.connection_id(), reason.error());
        Ok(ctx
            .clients()
            .clients(watchers)
            .send("Disconnected", ended)
            .await?)
    }
}

/// Methods that give something back.
#[expect(clippy::unused_async, reason = "every hub method is async")]
impl TestHub {
    fn values(methods: Methods<Self>) -> Methods<Self> {
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

/// So that nobody makes this server hold what it cannot.
fn bounded(bytes: usize) -> HubResult<usize> {
    match bytes {
        0..=16_777_216 => Ok(bytes),
        _ => Err(HubError::new("at most 16 MiB")),
    }
}

/// Methods that call clients.
impl TestHub {
    fn calls_back(methods: Methods<Self>) -> Methods<Self> {
        methods
            .method("CallBackThenReturn", Self::call_back_then_return)
            .method("CallBackManyArgs", Self::call_back_many_args)
            .method("CallBackNoArgs", Self::call_back_no_args)
            .method("InvokeWithString", Self::call_caller)
            .method("SendCustomObject", Self::send_custom_object)
            .method("CallAll", Self::call_all)
            .method("CallOthers", Self::call_others)
            .method("CallCaller", Self::call_caller)
            .method("CallClient", Self::call_client)
            .method("CallClients", Self::call_clients)
            .method("CallAllExcept", Self::call_all_except)
            .method("CallGroup", Self::call_group)
            .method("CallGroups", Self::call_groups)
            .method("CallGroupExcept", Self::call_group_except)
            .method("CallOthersInGroup", Self::call_others_in_group)
            .method("JoinGroup", Self::join_group)
            .method("LeaveGroup", Self::leave_group)
            .method("FloodCaller", Self::flood_caller)
            .method("SendToUser", Self::send_to_user)
            .method("SendToUsers", Self::send_to_users)
            .method("InvokeClient", Self::invoke_client)
            .method("InvokeCaller", Self::invoke_caller)
            .method("InvokeClientTimeout", Self::invoke_client_timeout)
    }

    async fn call_back_then_return(&self, ctx: &CallerContext, text: String) -> HubResult<String> {
        ctx.clients().caller().send("Before", (&text,)).await?;
        Ok(text)
    }

    async fn call_back_many_args(&self, ctx: &CallerContext) -> HubResult {
        let object = ByEncoding {
            json: BTreeMap::from([("a", 1)]),
            messagepack: BTreeMap::from([("A", 1)]),
        };
        let args = (1, "two", 3.5, true, None::<()>, [1, 2], object);
        Ok(ctx.clients().caller().send("ManyArgs", args).await?)
    }

    async fn call_back_no_args(&self, ctx: &CallerContext) -> HubResult {
        Ok(ctx.clients().caller().send("NoArgs", ()).await?)
    }

    async fn send_custom_object(&self, ctx: &CallerContext, object: CustomObject) -> HubResult {
        Ok(ctx
            .clients()
            .caller()
            .send("CustomObject", (object,))
            .await?)
    }

    async fn call_all(&self, ctx: &CallerContext, text: String) -> HubResult {
        Ok(ctx.clients().all().send("Message", (text,)).await?)
    }

    async fn call_others(&self, ctx: &CallerContext, text: String) -> HubResult {
        Ok(ctx.clients().others().send("Message", (text,)).await?)
    }

    async fn call_caller(&self, ctx: &CallerContext, text: String) -> HubResult {
        Ok(ctx.clients().caller().send("Message", (text,)).await?)
    }

    async fn call_client(&self, ctx: &CallerContext, id: String, text: String) -> HubResult {
        Ok(ctx.clients().client(&id).send("Message", (text,)).await?)
    }

    async fn call_clients(&self, ctx: &CallerContext, ids: Vec<String>, text: String) -> HubResult {
        let ids = ids.iter().map(String::as_str);
        Ok(ctx.clients().clients(ids).send("Message", (text,)).await?)
    }

    async fn call_all_except(
        &self,
        ctx: &CallerContext,
        ids: Vec<String>,
        text: String,
    ) -> HubResult {
        let everybody = ctx.clients().all();
        Ok(everybody.except(ids).send("Message", (text,)).await?)
    }

    async fn call_group(&self, ctx: &CallerContext, group: String, text: String) -> HubResult {
        Ok(ctx.clients().group(&group).send("Message", (text,)).await?)
    }

    async fn call_groups(
        &self,
        ctx: &CallerContext,
        groups: Vec<String>,
        text: String,
    ) -> HubResult {
        let groups = groups.iter().map(String::as_str);
        Ok(ctx
            .clients()
            .groups(groups)
            .send("Message", (text,))
            .await?)
    }

    async fn call_group_except(
        &self,
        ctx: &CallerContext,
        group: String,
        ids: Vec<String>,
        text: String,
    ) -> HubResult {
        let members = ctx.clients().group(&group);
        Ok(members.except(ids).send("Message", (text,)).await?)
    }

    async fn call_others_in_group(
        &self,
        ctx: &CallerContext,
        group: String,
        text: String,
    ) -> HubResult {
        let others = ctx.clients().others_in_group(&group);
        Ok(others.send("Message", (text,)).await?)
    }

    async fn join_group(&self, ctx: &CallerContext, group: String) -> HubResult {
        Ok(ctx.groups().add(ctx.connection_id(), &group).await?)
    }

    async fn leave_group(&self, ctx: &CallerContext, group: String) -> HubResult {
        Ok(ctx.groups().remove(ctx.connection_id(), &group).await?)
    }

    async fn flood_caller(&self, ctx: &CallerContext, count: u32, bytes: usize) -> HubResult {
        let text = "x".repeat(bounded(bytes)?);
        for number in 0..count {
            ctx.clients()
                .caller()
                .send("Flood", (number, &text))
                .await?;
        }
        Ok(())
    }
}

/// Methods that reach users, and that ask clients.
impl TestHub {
    async fn send_to_user(&self, ctx: &CallerContext, user: String, text: String) -> HubResult {
        Ok(ctx.clients().user(&user).send("Message", (text,)).await?)
    }

    async fn send_to_users(
        &self,
        ctx: &CallerContext,
        users: Vec<String>,
        text: String,
    ) -> HubResult {
        let users = users.iter().map(String::as_str);
        Ok(ctx.clients().users(users).send("Message", (text,)).await?)
    }

    async fn invoke_client(
        &self,
        ctx: &CallerContext,
        id: String,
        method: String,
        value: Box<RawValue>,
    ) -> HubResult<Box<RawValue>> {
        Ok(ctx.clients().client(&id).invoke(&method, (value,)).await?)
    }

    async fn invoke_caller(
        &self,
        ctx: &CallerContext,
        method: String,
        value: Box<RawValue>,
    ) -> HubResult<Box<RawValue>> {
        Ok(ctx.clients().caller().invoke(&method, (value,)).await?)
    }

    async fn invoke_client_timeout(
        &self,
        ctx: &CallerContext,
        id: String,
        method: String,
        value: Box<RawValue>,
        ms: u64,
    ) -> HubResult<Box<RawValue>> {
        let client = ctx.clients().client(&id);
        let client = client.timeout(Duration::from_millis(ms));
        Ok(client.invoke(&method, (value,)).await?)
    }
}

/// Methods that fail.
#[expect(clippy::unused_async, reason = "every hub method is async")]
impl TestHub {
    fn fails(methods: Methods<Self>) -> Methods<Self> {
        methods
            .method("ThrowException", Self::throw_exception)
            .method("ThrowHubException", Self::throw_hub_exception)
            .method("ThrowAsync", Self::throw_async)
    }

    async fn throw_exception(&self, _: &CallerContext, text: String) -> HubResult {
        Err(InvalidOperationException(text).into())
    }

    async fn throw_hub_exception(&self, _: &CallerContext, text: String) -> HubResult {
        Err(HubError::new(text))
    }

    async fn throw_async(&self, _: &CallerContext, text: String) -> HubResult {
        tokio::task::yield_now().await;
        Err(HubError::new(text))
    }
}

/// An error that is nobody's business outside, with the name that suites know it by.
#[derive(Debug)]
struct InvalidOperationException(String);

impl std::fmt::Display for InvalidOperationException {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for InvalidOperationException {}

/// Methods that stream, in either direction.
#[expect(
    clippy::unused_async,
    clippy::unused_self,
    reason = "every hub method has a hub, and may be async"
)]
impl TestHub {
    fn streams(methods: Methods<Self>) -> Methods<Self> {
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

/// What clients have stored with their connections.
type ItemsByName = BTreeMap<String, Box<RawValue>>;

/// Methods about connections.
#[expect(clippy::unused_async, reason = "every hub method is async")]
impl TestHub {
    fn connections(methods: Methods<Self>) -> Methods<Self> {
        methods
            .method("GetCallerConnectionId", Self::get_caller_connection_id)
            .method("GetActiveTransportName", Self::get_active_transport_name)
            .method("GetQuery", Self::get_query)
            .method("GetHeader", Self::get_header)
            .method("GetUserIdentifier", Self::get_user_identifier)
            .method("GetConnectionCount", Self::get_connection_count)
            .method("SetItem", Self::set_item)
            .method("GetItem", Self::get_item)
            .method("Abort", Self::abort)
            .method("WatchDisconnects", Self::watch_disconnects)
    }

    async fn get_caller_connection_id(&self, ctx: &CallerContext) -> HubResult<String> {
        Ok(ctx.connection_id().to_owned())
    }

    async fn get_active_transport_name(&self, ctx: &CallerContext) -> HubResult<&'static str> {
        Ok(ctx.transport())
    }

    async fn get_query(&self, ctx: &CallerContext, name: String) -> HubResult<Option<String>> {
        Ok(ctx.query(&name))
    }

    async fn get_header(&self, ctx: &CallerContext, name: String) -> HubResult<Option<String>> {
        Ok(ctx.header(&name).map(str::to_owned))
    }

    async fn get_user_identifier(&self, ctx: &CallerContext) -> HubResult<Option<String>> {
        Ok(ctx.user_identifier().map(str::to_owned))
    }

    async fn get_connection_count(&self, ctx: &CallerContext) -> HubResult<usize> {
        Ok(ctx.hub().connection_count())
    }

    async fn set_item(&self, ctx: &CallerContext, key: String, value: Box<RawValue>) -> HubResult {
        ctx.items()
            .update(|items: &mut ItemsByName| items.insert(key, value));
        Ok(())
    }

    async fn get_item(&self, ctx: &CallerContext, key: String) -> HubResult<Option<Box<RawValue>>> {
        Ok(ctx
            .items()
            .update(|items: &mut ItemsByName| items.get(&key).cloned()))
    }

    async fn abort(&self, ctx: &CallerContext) -> HubResult {
        ctx.abort();
        Ok(())
    }

    async fn watch_disconnects(&self, ctx: &CallerContext) -> HubResult {
        self.watchers().insert(ctx.connection_id().to_owned());
        Ok(())
    }

    fn watchers(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1);
    let listen = match (args.next().as_deref(), args.next(), args.next()) {
        (None, ..) => "127.0.0.1:0".to_owned(),
        (Some("--listen"), Some(address), None) => address,
        _ => {
            eprintln!("usage: conformance [--listen ADDRESS:PORT]");
            std::process::exit(2);
        }
    };
    // Test pages may come from anywhere.
    let options = HubOptions {
        allowed_origins: AllowedOrigins::any(),
        ..HubOptions::default()
    };
    let detailed = HubOptions {
        enable_detailed_errors: true,
        ..options.clone()
    };
    let no_web_sockets = HubOptions {
        transports: Transports {
            web_sockets: false,
            ..Transports::default()
        },
        ..options.clone()
    };
    let reconnect = HubOptions {
        allow_stateful_reconnects: true,
        ..options.clone()
    };
    let endpoint = |options| {
        HubEndpoint::new(TestHub::default())
            .options(options)
            .user_id_provider(|request: &ConnectingRequest| request.query("user"))
            .routes()
    };
    let app = axum::Router::new()
        .nest("/testHub", endpoint(options))
        .nest("/testHubDetailed", endpoint(detailed))
        .nest("/testHubNoWebSockets", endpoint(no_web_sockets))
        .nest("/testHubReconnect", endpoint(reconnect));
    let listener = tokio::net::TcpListener::bind(&listen).await?;
    let address = listener.local_addr()?;
    // Messages are small and must leave at once.
    let listener = listener.tap_io(|socket| {
        let _ = socket.set_nodelay(true);
    });
    #[expect(clippy::print_stdout, reason = "whoever starts this reads the address")]
    {
        println!("conformance listening on http://{address}");
    }
    let fold = MapRequestLayer::new(|request| {
        let hubs = [
            "/testHub",
            "/testHubDetailed",
            "/testHubNoWebSockets",
            "/testHubReconnect",
        ];
        hubs.iter()
            .fold(request, |request, hub| fold_hub_path(hub, request))
    });
    axum::serve(listener, fold.layer(app).into_make_service()).await
}
