//! Asking clients for results: on one server, and on several that share a backplane.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::backplane::{Stranger, Troubled};
use super::client::{Client, Server, soon};
use crate::backplane::{Backplane, LocalBackplane};
use crate::close_reason::CloseReason;
use crate::error::InvokeError;
use crate::options::HubOptions;

fn joined(bus: &LocalBackplane) -> Server {
    let backplane: Arc<dyn Backplane> = Arc::new(bus.join());
    Server::start(HubOptions::default(), Some(backplane))
}

/// One server, and two that are joined. Whoever asks is on the first, whoever is asked on the last.
fn worlds() -> [Vec<Server>; 2] {
    let bus = LocalBackplane::new();
    [vec![Server::alone()], vec![joined(&bus), joined(&bus)]]
}

/// The first server asks a client from outside of any call.
fn ask(servers: &[Server], id: &'static str) -> JoinHandle<Result<String, InvokeError>> {
    let context = servers[0].context();
    tokio::spawn(async move {
        let client = context.clients().client(id);
        client.invoke("Question", ("why?",)).await
    })
}

async fn outcome(asked: JoinHandle<Result<String, InvokeError>>) -> Result<String, InvokeError> {
    soon(asked).await.unwrap()
}

fn assert_nothing_is_awaited(servers: &[Server]) {
    assert!(servers.iter().all(Server::awaits_nothing));
}

#[tokio::test(start_paused = true)]
async fn a_method_asks_a_client_and_gives_what_it_answers() {
    for servers in worlds() {
        let mut caller = servers[0].client("a").await;
        let mut asked = servers.last().unwrap().client("b").await;
        for (answer, completion) in [
            (r#""result":"because""#, r#""result":"because""#),
            (r#""result":null"#, r#""result":null"#),
            ("", r#""result":null"#),
            (
                r#""error":"not today""#,
                r#""error":"An unexpected error occurred invoking 'Ask' on the server. HubException: not today""#,
            ),
            (
                r#""result":[1]"#,
                r#""error":"An unexpected error occurred invoking 'Ask' on the server.""#,
            ),
        ] {
            caller.call(1, "Ask", r#"["b"]"#).await;
            let id = asked.question().await;
            assert_eq!(id.len(), 22);
            asked.complete(&id, answer).await;
            assert_eq!(
                caller.next().await,
                format!(r#"{{"type":3,"invocationId":"1",{completion}}}"#)
            );
        }
        assert_nothing_is_awaited(&servers);
    }
}

#[tokio::test(start_paused = true)]
async fn a_method_may_ask_its_own_caller() {
    let server = Server::alone();
    let mut client = server.client("a").await;
    client.call(1, "Ask", r#"["caller"]"#).await;
    let id = client.question().await;
    // What is answered elsewhere changes nothing, nor does what nobody asked.
    client.complete("nothing", r#""result":1"#).await;
    client.complete(&id, r#""result":"me""#).await;
    client.complete(&id, r#""result":"me again""#).await;
    assert_eq!(
        client.next().await,
        r#"{"type":3,"invocationId":"1","result":"me"}"#
    );
    assert_eq!(client.answer("Add", "[1,2]").await, r#""result":3"#);
}

#[tokio::test(start_paused = true)]
async fn answers_that_do_not_fit_say_so_to_whoever_asked() {
    for servers in worlds() {
        let mut asked = servers.last().unwrap().client("b").await;
        let asking = ask(&servers, "b");
        let id = asked.question().await;
        asked.complete(&id, r#""result":{"x":1}"#).await;
        let error = outcome(asking).await.unwrap_err().to_string();
        assert!(
            error.starts_with("Error trying to deserialize result to String. invalid type: map"),
            "{error}"
        );
        assert_eq!(asked.answer("Add", "[1,2]").await, r#""result":3"#);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_nobody_has_does_not_exist_at_once() {
    for servers in worlds() {
        let began = Instant::now();
        let error = outcome(ask(&servers, "nobody")).await.unwrap_err();
        assert_eq!(error.to_string(), "Connection 'nobody' does not exist.");
        assert!(
            matches!(error, InvokeError::NotFound { connection_id } if connection_id == "nobody")
        );
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_nothing_is_awaited(&servers);
    }
}

#[tokio::test(start_paused = true)]
async fn who_leaves_without_an_answer_has_disconnected() {
    for servers in worlds() {
        for crashes in [false, true] {
            let mut asked = servers.last().unwrap().client("b").await;
            let asking = [ask(&servers, "b"), ask(&servers, "b")];
            asked.question().await;
            asked.question().await;
            if crashes {
                asked.input.end(CloseReason::ConnectionLost);
            } else {
                asked.send(r#"{"type":7}"#).await;
            }
            asked.ended().await;
            for asked in asking {
                let error = outcome(asked).await.unwrap_err();
                assert_eq!(error.to_string(), "Connection 'b' disconnected.");
                assert!(matches!(error, InvokeError::Disconnected { .. }));
            }
            assert_nothing_is_awaited(&servers);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_ask_a_caller_who_has_left_do_not_keep_its_connection() {
    let server = Server::alone();
    let mut client = server.client("a").await;
    client.call(1, "Ask", r#"["caller"]"#).await;
    client.question().await;
    // Wait for the first, and ask when it is their turn, behind the goodbye.
    for id in 2..5 {
        client.call(id, "Ask", r#"["caller"]"#).await;
    }
    client.send(r#"{"type":7}"#).await;
    assert_eq!(client.ended().await, CloseReason::ClientLeft);
    assert_nothing_is_awaited(&[server]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_answer_in_time_is_waited_for_no_longer() {
    for servers in worlds() {
        let mut caller = servers[0].client("a").await;
        let mut asked = servers.last().unwrap().client("b").await;
        let began = Instant::now();
        caller.call(1, "AskFor", r#"["b",50]"#).await;
        let late = asked.question().await;
        assert_eq!(
            caller.next().await,
            r#"{"type":3,"invocationId":"1","error":"An unexpected error occurred invoking 'AskFor' on the server. HubException: Invocation canceled by the server."}"#
        );
        assert_eq!(began.elapsed(), Duration::from_millis(50));
        assert!(servers[0].awaits_nothing());
        // An answer after that is no offence, and is not taken for that to the next question.
        caller.call(2, "AskFor", r#"["b",50]"#).await;
        let next = asked.question().await;
        asked.complete(&late, r#""result":"late""#).await;
        asked.complete(&next, r#""result":"in time""#).await;
        assert_eq!(
            caller.next().await,
            r#"{"type":3,"invocationId":"2","result":"in time"}"#
        );
        assert_nothing_is_awaited(&servers);
    }
}

#[tokio::test(start_paused = true)]
async fn a_question_is_forgotten_with_the_future_that_asked_it() {
    let server = Server::alone();
    let mut asked = server.client("b").await;
    let context = server.context();
    let asking = context
        .clients()
        .client("b")
        .invoke::<()>("Question", ("why?",));
    assert!(futures_util::FutureExt::now_or_never(asking).is_none());
    asked.question().await;
    assert!(server.awaits_nothing());
}

#[tokio::test(start_paused = true)]
async fn whoever_answers_what_another_was_asked_is_closed() {
    for servers in worlds() {
        let mut asked = servers.last().unwrap().client("b").await;
        let asking = ask(&servers, "b");
        let id = asked.question().await;
        for server in &servers {
            let mut intruder = server.client("intruder").await;
            intruder.complete(&id, r#""result":"forged""#).await;
            assert_eq!(
                intruder.next().await,
                r#"{"type":7,"error":"Connection closed with an error.","allowReconnect":true}"#
            );
            assert!(matches!(
                intruder.ended().await,
                CloseReason::ProtocolError(_)
            ));
        }
        asked.complete(&id, r#""result":"genuine""#).await;
        assert_eq!(outcome(asking).await.unwrap(), "genuine");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_while_the_hub_is_told_of_a_connection() {
    let options = HubOptions {
        enable_detailed_errors: true,
        ..HubOptions::default()
    };
    let server = Server::start(options, None);
    let mut client = server.client("asked too early").await;
    assert_eq!(
        client.next().await,
        r#"{"type":7,"error":"Connection closed with an error. InvokeError: Client results inside OnConnectedAsync Hub methods are not allowed."}"#
    );
    assert_eq!(client.next().await, "(the end)");
}

#[tokio::test(start_paused = true)]
async fn arguments_that_cannot_be_encoded_reach_nobody() {
    let server = Server::alone();
    let mut asked = server.client("b").await;
    let context = server.context();
    let unencodable = std::collections::HashMap::from([((1, 2), 3)]);
    let client = context.clients().client("b");
    let outcome = client.invoke::<()>("Question", (unencodable,)).await;
    assert!(matches!(outcome, Err(InvokeError::Encode { method, .. }) if method == "Question"));
    assert!(server.awaits_nothing());
    assert_eq!(asked.answer("Add", "[1,2]").await, r#""result":3"#);
}

#[tokio::test(start_paused = true)]
async fn while_the_others_are_away_only_clients_of_this_server_exist() {
    let away: Arc<dyn Backplane> = Arc::new(Troubled::away());
    let servers = [Server::start(HubOptions::default(), Some(away))];
    let mut asked = servers[0].client("b").await;
    let elsewhere = outcome(ask(&servers, "elsewhere")).await;
    assert!(matches!(elsewhere, Err(InvokeError::NotFound { .. })));
    let asking = ask(&servers, "b");
    let id = asked.question().await;
    asked.complete(&id, r#""result":"here""#).await;
    assert_eq!(outcome(asking).await.unwrap(), "here");
    assert_nothing_is_awaited(&servers);
}

/// `["json", framed completion]`
fn result(completion: &str) -> Vec<u8> {
    let mut payload = b"\x92\xa4json\xc4".to_vec();
    payload.push(u8::try_from(completion.len() + 1).unwrap());
    payload.extend(completion.as_bytes());
    payload.push(0x1e);
    payload
}

#[tokio::test(start_paused = true)]
async fn another_server_gets_the_clients_answer_untouched() {
    let bus = LocalBackplane::new();
    let server = joined(&bus);
    let returned = "TestHub:internal:return:S";
    let mut stranger = Stranger::join(&bus, &[returned]).await;
    let mut asked = server.client("b").await;
    let refused = |id: &str, text: &str| {
        result(&format!(
            r#"{{"type":3,"invocationId":"{id}","error":"{text}"}}"#
        ))
    };

    stranger.ask("b", "json", "1", returned).await;
    assert_eq!(asked.question().await, "1");
    // The same name again would make one answer serve two.
    stranger.ask("b", "json", "1", returned).await;
    let in_use = refused("1", "Invocation ID '1' is already in use.");
    assert_eq!(stranger.next().await, (returned.to_owned(), in_use.into()));
    let answer = r#"{"result": {"any":[1,null]},"x":1,"invocationId":"1","type":3 }"#;
    asked.send(answer).await;
    assert_eq!(stranger.next().await.1, result(answer));

    // Only to where results belong, and only what the client can read.
    for elsewhere in ["TestHub:all", "Other:internal:return:S", ""] {
        stranger.ask("b", "json", "2", elsewhere).await;
    }
    stranger.ask("b", "messagepack", "3", returned).await;
    let unreadable = refused(
        "3",
        "The invocation did not come in the protocol of the client.",
    );
    assert_eq!(stranger.next().await.1, unreadable);

    // A client that goes first is answered for, in ASP.NET Core's words.
    stranger.ask("b", "json", "4", returned).await;
    assert_eq!(asked.question().await, "4");
    asked.send(r#"{"type":7}"#).await;
    asked.ended().await;
    let gone = refused("4", "Connection disconnected.");
    assert_eq!(stranger.next().await.1, gone);
    assert!(server.awaits_nothing());
}

#[tokio::test(start_paused = true)]
async fn a_server_believes_of_others_only_what_answers_its_own_question() {
    let bus = LocalBackplane::new();
    let server = joined(&bus);
    let mut stranger = Stranger::join(&bus, &["TestHub:connection:far"]).await;
    let mut near = server.client("near").await;
    let servers = [server];
    let asking = ask(&servers, "far");

    // `[[], {..}, id, return channel]`
    let (_, question) = stranger.next().await;
    let text = String::from_utf8_lossy(&question).into_owned();
    let (before, channel) = text.split_once("TestHub:internal:return:").unwrap();
    let channel = format!("TestHub:internal:return:{channel}");
    assert_eq!(question[..2], *b"\x94\x90");
    let (_, id) = before.split_once(r#""invocationId":""#).unwrap();
    let id = &id[..22];
    let length = u8::try_from(channel.len()).unwrap();
    let mut tail = [b"\xb6", id.as_bytes(), b"\xd9", &[length]].concat();
    tail.extend(channel.as_bytes());
    assert!(question.ends_with(&tail), "{text}");

    let completion = |id: &str, how: &str| format!(r#"{{"type":3,"invocationId":"{id}",{how}}}"#);
    for offence in [
        b"".to_vec(),
        b"\x90".to_vec(),
        result("nonsense"),
        result(r#"{"type":6}"#),
        result(&completion("another", r#""result":"forged""#)),
        [b"\x92\xa3xml".as_slice(), &result("")[6..]].concat(),
    ] {
        stranger.publish(&channel, &offence).await;
    }
    // Nor can it answer for a client of this server: that was asked by somebody else.
    stranger
        .ask("near", "json", "theirs", "TestHub:internal:return:S")
        .await;
    assert_eq!(near.question().await, "theirs");
    stranger
        .publish(&channel, &result(&completion("theirs", r#""result":1"#)))
        .await;
    assert!(!servers[0].awaits_nothing());

    let genuine = result(&completion(id, r#""result":"genuine""#));
    stranger.publish(&channel, &genuine).await;
    stranger.publish(&channel, &genuine).await;
    assert_eq!(outcome(asking).await.unwrap(), "genuine");
    assert_eq!(near.answer("Add", "[1,2]").await, r#""result":3"#);
}

/// A question to a client that arrives between the look for it and the publication comes back to the server itself.
#[tokio::test(start_paused = true)]
async fn a_servers_own_question_that_comes_back_is_put_to_the_client() {
    let bus = LocalBackplane::new();
    let server = joined(&bus);
    let mut listener = Stranger::join(&bus, &["TestHub:connection:b"]).await;
    let servers = [server];
    let asking = ask(&servers, "b");
    let (channel, question) = listener.next().await;
    let mut asked: Client = servers[0].client("b").await;
    bus.publish(&channel, question).await;
    let id = asked.question().await;
    asked.complete(&id, r#""result":"here now""#).await;
    assert_eq!(outcome(asking).await.unwrap(), "here now");
    assert_nothing_is_awaited(&servers);
}

/// Calls wait for each other, but not for a call that waits for its client.
#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_a_client_lets_others_begin() {
    let server = Server::alone();
    let mut client = server.client("a").await;
    client.call(1, "Ask", r#"["a"]"#).await;
    let first = client.question().await;
    client.call(2, "Ask", r#"["a"]"#).await;
    let second = client.question().await;
    client.call(3, "Wait", r#"["x"]"#).await;
    client.call(4, "Add", "[1,2]").await;
    // A slot is given back once, and not again when the call ends: `Add` waits for `Wait`.
    for (call, id) in [(1, first), (2, second)] {
        client.complete(&id, r#""result":"so""#).await;
        assert_eq!(
            client.next().await,
            format!(r#"{{"type":3,"invocationId":"{call}","result":"so"}}"#)
        );
    }
    client.expect_nothing().await;
    server.permits.add_permits(1);
    for (call, result) in [(3, r#""x""#), (4, "3")] {
        assert_eq!(
            client.next().await,
            format!(r#"{{"type":3,"invocationId":"{call}","result":{result}}}"#)
        );
    }
}
