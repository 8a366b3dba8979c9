//! Calls: each is answered exactly once, in order, whatever becomes of it.

use super::client::Server;
use crate::close_reason::CloseReason;
use crate::options::HubOptions;

#[tokio::test(start_paused = true)]
async fn a_call_is_answered_with_its_result() {
    let server = Server::alone();
    let mut client = server.client("a").await;
    assert_eq!(client.answer("Add", "[1,2]").await, r#""result":3"#);
    assert_eq!(client.answer("aDD", "[1,2]").await, r#""result":3"#);
    assert_eq!(client.answer("Note", r#"["x"]"#).await, r#""result":null"#);
}

#[tokio::test(start_paused = true)]
async fn every_failure_is_answered_in_the_words_of_aspnet_core() {
    let server = Server::alone();
    let mut client = server.client("a").await;
    let cases = [
        (
            "Nothing",
            "[]",
            "Failed to invoke 'Nothing' due to an error on the server. HubException: Method does not exist.",
        ),
        (
            "Add",
            "[1]",
            "Failed to invoke 'Add' due to an error on the server.",
        ),
        (
            "Add",
            "[1,2,3]",
            "Failed to invoke 'Add' due to an error on the server.",
        ),
        (
            "add",
            r#"[1,"2"]"#,
            "Failed to invoke 'add' due to an error on the server.",
        ),
        (
            "FailOpenly",
            "[]",
            "An unexpected error occurred invoking 'FailOpenly' on the server. HubException: as you wish",
        ),
        (
            "FailSecretly",
            "[]",
            "An unexpected error occurred invoking 'FailSecretly' on the server.",
        ),
        (
            "Panic",
            "[]",
            "An unexpected error occurred invoking 'Panic' on the server.",
        ),
        (
            "PanicLate",
            "[]",
            "An unexpected error occurred invoking 'PanicLate' on the server.",
        ),
        (
            "Unencodable",
            "[]",
            "An unexpected error occurred invoking 'Unencodable' on the server.",
        ),
    ];
    for (target, arguments, error) in cases {
        assert_eq!(
            client.answer(target, arguments).await,
            format!(r#""error":"{error}""#)
        );
    }
    assert_eq!(client.answer("Add", "[1,2]").await, r#""result":3"#);
}

#[tokio::test(start_paused = true)]
async fn detailed_errors_name_everything() {
    let options = HubOptions {
        enable_detailed_errors: true,
        ..HubOptions::default()
    };
    let server = Server::start(options, None);
    let mut client = server.client("a").await;
    let cases = [
        (
            "FailSecretly",
            "[]",
            "An unexpected error occurred invoking 'FailSecretly' on the server. Error: the password is swordfish",
        ),
        (
            "Add",
            "[1]",
            "Failed to invoke 'Add' due to an error on the server. InvalidDataException: Invocation provides 1 argument(s) but target expects 2.",
        ),
        (
            "Add",
            "[1,null]",
            "Failed to invoke 'Add' due to an error on the server. InvalidDataException: Error binding arguments. Make sure that the types of the provided values match the types of the hub method being invoked.",
        ),
    ];
    for (target, arguments, error) in cases {
        assert_eq!(
            client.answer(target, arguments).await,
            format!(r#""error":"{error}""#)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn who_wants_no_answer_gets_none_even_when_it_fails() {
    let server = Server::alone();
    let mut client = server.client("a").await;
    for target in ["Nothing", "Panic", "FailOpenly", "Add"] {
        client
            .send(&format!(
                r#"{{"type":1,"target":"{target}","arguments":[]}}"#
            ))
            .await;
        client
            .send(&format!(
                r#"{{"type":1,"invocationId":"","target":"{target}","arguments":[]}}"#
            ))
            .await;
    }
    assert_eq!(client.answer("Add", "[1,2]").await, r#""result":3"#);
}

#[tokio::test(start_paused = true)]
async fn streams_that_no_method_has_are_refused() {
    let server = Server::alone();
    let mut client = server.client("a").await;
    for (record, error) in [
        (
            r#"{"type":4,"invocationId":"1","target":"add","arguments":[1,2]}"#,
            "The client attempted to invoke the non-streaming 'add' method with a streaming invocation.",
        ),
        (
            r#"{"type":4,"invocationId":"1","target":"Add","arguments":[]}"#,
            "Failed to invoke 'Add' due to an error on the server.",
        ),
        (
            r#"{"type":4,"invocationId":"1","target":"Nothing","arguments":[]}"#,
            "Failed to invoke 'Nothing' due to an error on the server. HubException: Method does not exist.",
        ),
        (
            r#"{"type":1,"invocationId":"1","target":"Add","arguments":[1,2],"streamIds":["9"]}"#,
            "An unexpected error occurred invoking 'Add' on the server. HubException: Client sent 1 stream(s), Hub method expects 0.",
        ),
    ] {
        client.send(record).await;
        assert_eq!(
            client.next().await,
            format!(r#"{{"type":3,"invocationId":"1","error":"{error}"}}"#)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn calls_of_one_client_run_one_after_another_in_order() {
    let mut server = Server::alone();
    let mut client = server.client("a").await;
    client.call(1, "Wait", r#"["one"]"#).await;
    client.call(2, "Wait", r#"["two"]"#).await;
    client.call(3, "Note", r#"["three"]"#).await;
    assert_eq!(server.noted().await, "waiting one");
    // Another client does not wait for this one.
    let mut other = server.client("b").await;
    assert_eq!(
        other.answer("Note", r#"["other"]"#).await,
        r#""result":null"#
    );
    assert_eq!(server.noted().await, "other");
    server.permits.add_permits(2);
    for noted in ["waited one", "waiting two", "waited two", "three"] {
        assert_eq!(server.noted().await, noted);
    }
    for id in 1..=3 {
        let completion = client.next().await;
        assert!(
            completion.starts_with(&format!(r#"{{"type":3,"invocationId":"{id}""#)),
            "{completion}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_completion_follows_what_the_call_sent_to_its_caller() {
    let server = Server::alone();
    let mut client = server.client("a").await;
    client.answer("Join", r#"["g"]"#).await;
    for to in ["all", "caller", "group:g", "client:a"] {
        client.call(1, "Send", &format!(r#"["{to}","hi"]"#)).await;
        assert_eq!(
            client.next().await,
            r#"{"type":1,"target":"Message","arguments":["hi"]}"#
        );
        assert_eq!(
            client.next().await,
            r#"{"type":3,"invocationId":"1","result":null}"#
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_about_calls_that_do_not_exist_is_ignored() {
    let server = Server::alone();
    let mut client = server.client("a").await;
    for record in [
        r#"{"type":2,"invocationId":"9","item":1}"#,
        r#"{"type":3,"invocationId":"9","result":1}"#,
        r#"{"type":5,"invocationId":"9"}"#,
        r#"{"type":8,"sequenceId":3}"#,
        r#"{"type":9,"sequenceId":3}"#,
        r#"{"type":0}"#,
        r#"{"type":99,"what":[]}"#,
        r#"{"type":-1}"#,
    ] {
        client.send(record).await;
    }
    assert_eq!(client.answer("Add", "[1,2]").await, r#""result":3"#);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_answers_every_call_and_says_goodbye() {
    let mut server = Server::alone();
    let mut client = server.client("a").await;
    client.call(1, "Wait", r#"["one"]"#).await;
    client.call(2, "Note", r#"["two"]"#).await;
    assert_eq!(server.noted().await, "waiting one");
    server.shut_down();
    let error = "An unexpected error occurred invoking 'Note' on the server. HubException: The server is shutting down.";
    assert_eq!(
        client.next().await,
        format!(r#"{{"type":3,"invocationId":"2","error":"{error}"}}"#)
    );
    server.permits.add_permits(1);
    assert_eq!(
        client.next().await,
        r#"{"type":3,"invocationId":"1","result":"one"}"#
    );
    assert_eq!(client.next().await, r#"{"type":7,"allowReconnect":true}"#);
    assert_eq!(client.next().await, "(the end)");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_does_not_wait_for_ever_for_a_call() {
    let mut server = Server::alone();
    let mut client = server.client("a").await;
    client.call(1, "Wait", r#"["one"]"#).await;
    assert_eq!(server.noted().await, "waiting one");
    server.shut_down();
    let error = "An unexpected error occurred invoking 'Wait' on the server. HubException: The server is shutting down.";
    assert_eq!(
        client.next().await,
        format!(r#"{{"type":3,"invocationId":"1","error":"{error}"}}"#)
    );
    assert_eq!(client.next().await, r#"{"type":7,"allowReconnect":true}"#);
}

#[tokio::test(start_paused = true)]
async fn a_call_finishes_although_its_caller_has_gone() {
    let mut server = Server::alone();
    let client = server.client("a").await;
    client.call(1, "Wait", r#"["one"]"#).await;
    assert_eq!(server.noted().await, "waiting one");
    client.send(r#"{"type":7}"#).await;
    client.ended().await;
    server.permits.add_permits(1);
    assert_eq!(server.noted().await, "waited one");
}

#[tokio::test(start_paused = true)]
async fn calls_that_came_before_a_goodbye_are_made_before_it() {
    let mut server = Server::alone();
    for goodbye in ["a message", "the end of the input", "a DELETE"] {
        let client = server.client(goodbye).await;
        client.call(1, "Wait", r#"["one"]"#).await;
        client.call(2, "Wait", r#"["two"]"#).await;
        client.call(3, "Note", r#"["three"]"#).await;
        let reason = match goodbye {
            "a DELETE" => CloseReason::PollingEnded,
            _ => CloseReason::ClientLeft,
        };
        if goodbye == "a message" {
            client.send(r#"{"type":7}"#).await;
        } else {
            client.input.end(reason.clone());
        }
        assert_eq!(server.noted().await, "waiting one");
        server.permits.add_permits(2);
        for noted in ["waited one", "waiting two", "waited two", "three"] {
            assert_eq!(server.noted().await, noted);
        }
        assert_eq!(client.ended().await, reason);
    }
}

#[tokio::test(start_paused = true)]
async fn answers_of_calls_that_waited_do_not_make_their_own_client_too_slow() {
    let mut server = Server::alone();
    let mut client = server.client("a").await;
    client.call(0, "Wait", r#"["first"]"#).await;
    assert_eq!(server.noted().await, "waiting first");
    for id in 1..=100 {
        client.call(id, "Large", "[60000]").await;
    }
    server.permits.add_permits(1);
    for id in 0..=100 {
        let completion = client.next().await;
        let expected = format!(r#"{{"type":3,"invocationId":"{id}","result":""#);
        assert!(completion.starts_with(&expected), "{id}: {completion:.80}");
    }
}
