//! Users, and asking clients for results, on two servers that share a real Redis.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic is the report of a test"
)]

use axum::Router;
use end_to_end::wait::{DEADLINE, within};
use end_to_end::{RedisServer, Socket};
use futures_util::{SinkExt, StreamExt};
use hubcast::{CallerContext, ConnectingRequest, Hub, HubEndpoint, HubOptions, HubResult, Methods};
use hubcast_backplane::RedisBackplane;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;

struct AskingHub;

impl Hub for AskingHub {
    fn methods() -> Methods<Self> {
        Methods::new()
            .method("Who", Self::who)
            .method("Ask", Self::ask)
            .method("Tell", Self::tell)
    }
}

impl AskingHub {
    #[expect(clippy::unused_async, reason = "every hub method is async")]
    async fn who(&self, ctx: &CallerContext) -> HubResult<String> {
        Ok(ctx.connection_id().to_owned())
    }

    async fn ask(&self, ctx: &CallerContext, id: String) -> HubResult<Value> {
        let client = ctx.clients().client(&id).timeout(DEADLINE);
        Ok(client.invoke("Question", ("why?",)).await?)
    }

    async fn tell(&self, ctx: &CallerContext, user: String) -> HubResult {
        let user = ctx.clients().user(&user);
        Ok(user.send("Told", ()).await?)
    }
}

/// A server within this process. The user of a connection is what its query says.
struct Server {
    url: String,
}

impl Server {
    async fn start(redis: &RedisServer) -> Self {
        let options = HubOptions {
            enable_detailed_errors: true,
            ..HubOptions::default()
        };
        let endpoint = HubEndpoint::new(AskingHub)
            .options(options)
            .user_id_provider(|request: &ConnectingRequest| request.query("user"))
            .backplane(RedisBackplane::new(&redis.url()).unwrap());
        let app = Router::new().nest("/hub", endpoint.routes());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async { axum::serve(listener, app).await });
        within(DEADLINE, "Redis is reached", endpoint.settled()).await;
        Self { url }
    }

    async fn client(&self, user: &str) -> (Socket, String) {
        let path = format!("/hub?user={user}");
        let mut socket = Socket::open_with(&self.url, &path, &[]).await.unwrap();
        socket.shake().await;
        call(&mut socket, "Who", json!([])).await;
        let who = next(&mut socket).await;
        let id = who["result"].as_str().unwrap().to_owned();
        (socket, id)
    }
}

async fn call(socket: &mut Socket, target: &str, arguments: Value) {
    let call = json!({"type": 1, "invocationId": "1", "target": target, "arguments": arguments});
    socket.send(format!("{call}\u{1e}")).await;
}

async fn next(socket: &mut Socket) -> Value {
    let mut records = socket.records().await;
    assert_eq!(records.len(), 1, "{records:?}");
    records.remove(0)
}

/// Takes the question, and answers it with a property.
async fn answer(socket: &mut Socket, property: &str, value: Value) {
    let question = next(socket).await;
    assert_eq!(question["target"], "Question");
    assert_eq!(question["arguments"], json!(["why?"]));
    let answer = json!({"type": 3, "invocationId": question["invocationId"], property: value});
    socket.send(format!("{answer}\u{1e}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_on_another_server_is_asked_and_its_answer_comes_back() {
    let mut redis = RedisServer::start().await;
    let (one, other) = (Server::start(&redis).await, Server::start(&redis).await);
    let (mut caller, _) = one.client("ada").await;
    let (mut asked, id) = other.client("bob").await;
    let failed = |text: &str| {
        let text = format!("An unexpected error occurred invoking 'Ask' on the server. {text}");
        json!({"type": 3, "invocationId": "1", "error": text})
    };

    call(&mut caller, "Ask", json!([id])).await;
    answer(&mut asked, "result", json!({"a": [1, null]})).await;
    assert_eq!(next(&mut caller).await["result"], json!({"a": [1, null]}));

    call(&mut caller, "Ask", json!([id])).await;
    answer(&mut asked, "error", json!("not today")).await;
    assert_eq!(next(&mut caller).await, failed("HubException: not today"));

    call(&mut caller, "Ask", json!(["nobody"])).await;
    let missing = failed("InvokeError: Connection 'nobody' does not exist.");
    assert_eq!(next(&mut caller).await, missing);

    call(&mut caller, "Ask", json!([id])).await;
    assert_eq!(next(&mut asked).await["target"], "Question");
    drop(asked);
    let gone = failed(&format!("InvokeError: Connection '{id}' disconnected."));
    assert_eq!(next(&mut caller).await, gone);

    // Without Redis there is nobody elsewhere.
    let (_asked, id) = other.client("bob").await;
    redis.vanish();
    call(&mut caller, "Ask", json!([id])).await;
    let missing = failed(&format!("InvokeError: Connection '{id}' does not exist."));
    assert_eq!(next(&mut caller).await, missing);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_answer_in_messagepack_what_another_asks_in_json() {
    let redis = RedisServer::start().await;
    let (one, other) = (Server::start(&redis).await, Server::start(&redis).await);
    let (mut caller, _) = one.client("ada").await;
    let socket = Socket::open_with(&other.url, "/hub?user=bob", &[]).await;
    let mut asked = socket.unwrap().into_inner();
    let mut exchange = async |bytes: Vec<u8>| {
        asked.send(Message::binary(bytes)).await.unwrap();
        let answer = within(DEADLINE, "an answer", asked.next()).await;
        answer.unwrap().unwrap().into_data().to_vec()
    };
    let shaken = exchange(b"{\"protocol\":\"messagepack\",\"version\":1}\x1e".to_vec()).await;
    assert_eq!(shaken, b"{}\x1e");
    // `[1, {}, "1", "Who", [], []]`, and what comes back: `[3, {}, "1", 3, id]`.
    let who = exchange(b"\x0b\x96\x01\x80\xa11\xa3Who\x90\x90".to_vec()).await;
    let (head, id) = who.split_at(who.len() - 22);
    assert_eq!(head[1..], *b"\x95\x03\x80\xa11\x03\xb6");
    let id = String::from_utf8(id.to_vec()).unwrap();

    call(&mut caller, "Ask", json!([id])).await;
    let question = within(DEADLINE, "the question", asked.next()).await;
    let question = question.unwrap().unwrap().into_data();
    assert_eq!(question[1..5], *b"\x96\x01\x80\xb6");
    let mut answer = b"\x22\x95\x03\x80\xb6".to_vec();
    answer.extend(&question[5..27]);
    answer.extend(b"\x03\x93\x01\xc0\xa4text");
    answer[0] = u8::try_from(answer.len() - 1).unwrap();
    asked.send(Message::binary(answer)).await.unwrap();
    assert_eq!(next(&mut caller).await["result"], json!([1, null, "text"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_reached_on_every_server() {
    let redis = RedisServer::start().await;
    let (one, other) = (Server::start(&redis).await, Server::start(&redis).await);
    let (mut teller, _) = one.client("").await;
    let (mut here, _) = one.client("ada").await;
    let (mut there, _) = other.client("ada").await;
    let (mut stranger, _) = other.client("Ada").await;
    call(&mut teller, "Tell", json!(["ada"])).await;
    assert_eq!(next(&mut teller).await["result"], Value::Null);
    let told = json!({"type": 1, "target": "Told", "arguments": []});
    for socket in [&mut here, &mut there] {
        assert_eq!(next(socket).await, told);
    }
    call(&mut teller, "Tell", json!(["Ada"])).await;
    assert_eq!(next(&mut stranger).await, told);

    // The last connection of a user takes its channel along.
    redis.subscribers_become("AskingHub:user:ada", 2).await;
    drop(here);
    redis.subscribers_become("AskingHub:user:ada", 1).await;
    drop(there);
    redis.subscribers_become("AskingHub:user:ada", 0).await;
    assert_eq!(
        redis.channels("AskingHub:user:*").await,
        ["AskingHub:user:Ada"]
    );
}
