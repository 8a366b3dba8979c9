//! HTTP requests that mean nothing to the hub, come from the wrong web page, or are no HTTP: answered as the specification
//! says, and nobody else notices.

use std::future::pending;
use std::time::Duration;

use end_to_end::client::negotiate;
use end_to_end::http::{self, Response};
use end_to_end::wait::within;
use end_to_end::{Bystander, Client, Socket};
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

/// How long somebody may take over the head of a request.
const HEAD: Duration = Duration::from_secs(30);

#[tokio::test]
async fn wrong_methods_are_refused_without_a_word() {
    let mut bystander = Bystander::on_a_server(&[]).await;
    for (method, path) in [
        ("PUT", "/chatHub"),
        ("PATCH", "/chatHub"),
        ("OPTIONS", "/chatHub"),
        ("HEAD", "/chatHub"),
        ("GET", "/chatHub/negotiate"),
        ("PUT", "/chatHub/negotiate?negotiateVersion=1"),
        ("DELETE", "/chatHub/negotiate"),
        ("HEAD", "/chatHub/negotiate"),
    ] {
        let answer = request(&bystander, method, path).await;
        let seen = (
            answer.status,
            answer.header("content-type"),
            answer.body.as_str(),
        );
        assert_eq!(seen, (405, Some("text/plain"), ""), "{method} {path}");
        bystander.is_undisturbed(method).await;
    }
}

#[tokio::test]
async fn requests_without_a_connection_are_told_so() {
    let mut bystander = Bystander::on_a_server(&[]).await;
    for method in ["GET", "POST", "DELETE"] {
        for (query, status, body) in [
            ("", 400, "Connection ID required"),
            ("?id=", 400, "Connection ID required"),
            ("?other=1", 400, "Connection ID required"),
            ("?id=unknown", 404, "No Connection with that ID"),
            ("?id=%ff%00", 404, "No Connection with that ID"),
            (
                "?ID=AAAAAAAAAAAAAAAAAAAAAA",
                404,
                "No Connection with that ID",
            ),
        ] {
            let path = format!("/chatHub{query}");
            let answer = request(&bystander, method, &path).await;
            let seen = (
                answer.status,
                answer.header("content-type"),
                answer.body.as_str(),
            );
            assert_eq!(seen, (status, Some("text/plain"), body), "{method} {path}");
        }
    }
    assert_eq!(
        Socket::open(bystander.url(), Some("unknown")).await.err(),
        Some(404)
    );
    assert_eq!(
        Socket::open(bystander.url(), Some("AAAAAAAAAAAAAAAAAAAAAA"))
            .await
            .err(),
        Some(404)
    );
    // The public id of a negotiated connection is not its secret.
    let negotiated = negotiate(bystander.url()).await.expect("a negotiation");
    assert_eq!(
        Socket::open(bystander.url(), Some(&negotiated.connection_id))
            .await
            .err(),
        Some(404)
    );
    bystander.keep_secret(negotiated.connection_token);
    bystander.is_undisturbed("unknown ids").await;
}

#[tokio::test]
async fn impossible_negotiations_are_explained() {
    let mut bystander = Bystander::on_a_server(&[]).await;
    for (version, error) in [
        (
            "abc",
            "The client requested a non-integer protocol version.",
        ),
        (
            "1.5",
            "The client requested a non-integer protocol version.",
        ),
        (
            "-1",
            "The client requested version '-1', but the server does not support this version.",
        ),
    ] {
        let answer = request(
            &bystander,
            "POST",
            &format!("/chatHub/negotiate?negotiateVersion={version}"),
        )
        .await;
        let body: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
        assert_eq!(
            (answer.status, body),
            (200, serde_json::json!({"error": error})),
            "version {version}"
        );
    }
    // Whoever speaks more than the server is answered in what both speak.
    let answer = request(
        &bystander,
        "POST",
        "/CHATHUB/Negotiate?NEGOTIATEVERSION=99&other=1",
    )
    .await;
    assert!(answer.body.contains("\"negotiateVersion\":1"), "{answer:?}");
    bystander.is_undisturbed("impossible negotiations").await;
}

#[tokio::test]
async fn what_is_no_http_is_refused_or_closed() {
    let mut bystander = Bystander::on_a_server(&[]).await;
    let authority = bystander.server.authority().to_owned();
    let endless = format!("GET /{} HTTP/1.1\r\n", "x".repeat(2 * 1024 * 1024));
    let headers = format!(
        "GET /healthz HTTP/1.1\r\nHost: x\r\n{}\r\n",
        "X-Filler: x\r\n".repeat(100_000)
    );
    for (bytes, what) in [
        (b"\x00\x01\x02\x03\xff\xfe\r\n\r\n".as_slice(), "noise"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03hello", "TLS"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/2"),
        (b"GET / HTTP/9.9\r\n\r\n", "a version that does not exist"),
        (b"{\"protocol\":\"json\",\"version\":1}\x1e\r\n\r\n", "a handshake without a WebSocket"),
        (b"POST /chatHub/negotiate HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n", "an impossible length"),
        (b"POST /chatHub/negotiate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n", "an impossible chunk"),
        (endless.as_bytes(), "an endless request line"),
        (headers.as_bytes(), "endless headers"),
    ] {
        // What is not refused as a whole may be answered up to the mistake; all that counts is that it ends.
        let mut stream = TcpStream::connect(&authority).await.expect("the server accepts");
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = within(HEAD, what, stream.read_to_end(&mut answer)).await;
        if let Ok(answer) = Response::parse(&answer) {
            assert!(answer.status >= 400 || what == "an impossible chunk", "{what}: {answer:?}");
        }
        bystander.is_undisturbed(what).await;
    }
}

#[tokio::test]
async fn upgrades_that_are_none_are_refused() {
    let mut bystander = Bystander::on_a_server(&[]).await;
    let key = ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    let (upgrade, version) = (("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"));
    for headers in [
        vec![upgrade, version],
        vec![upgrade, key],
        vec![upgrade, key, ("Sec-WebSocket-Version", "8")],
        vec![("Upgrade", "h2c"), key, version],
    ] {
        let mut head =
            String::from("GET /chatHub HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\n");
        for (name, value) in &headers {
            head.extend([*name, ": ", *value, "\r\n"]);
        }
        let answer = http::exchange(
            bystander.server.authority(),
            format!("{head}\r\n").as_bytes(),
        )
        .await
        .expect("an answer");
        let answer = Response::parse(&answer).expect("HTTP");
        assert!(
            (400..500).contains(&answer.status),
            "{headers:?}: {answer:?}"
        );
    }
    bystander.is_undisturbed("upgrades").await;
}

#[tokio::test]
async fn slow_senders_are_given_up_and_keep_nobody_waiting() {
    let mut bystander = Bystander::on_a_server(&[]).await;
    let mut slow = Vec::new();
    for head in [
        "",
        "G",
        "GET /chatHub HTTP/1.1\r\n",
        "POST /chatHub/negotiate HTTP/1.1\r\nHost: x\r\nX-Slow: ",
    ]
    .repeat(10)
    {
        let mut stream = TcpStream::connect(bystander.server.authority())
            .await
            .expect("the server accepts");
        stream
            .write_all(head.as_bytes())
            .await
            .expect("the server reads");
        slow.push((head, stream));
    }
    bystander.is_undisturbed("forty slow senders").await;
    Client::connect(bystander.url()).await.join("room").await;

    tokio::select! {
        _ = join_all(slow.into_iter().map(|(head, stream)| is_given_up(head, stream))) => {}
        () = stays_undisturbed(&mut bystander) => {}
    }
    bystander.is_undisturbed("those who were given up").await;
}

/// Goes on sending one byte a second, which must not buy more time.
async fn is_given_up(head: &str, mut stream: TcpStream) {
    let (mut reader, mut writer) = stream.split();
    let trickle = async {
        // Who has sent nothing goes on sending nothing.
        while !head.is_empty() && writer.write_all(b"x").await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
        pending::<()>().await;
    };
    let mut answer = Vec::new();
    let end = async {
        tokio::select! {
            // A reset is an end as well.
            _ = reader.read_to_end(&mut answer) => {}
            () = trickle => {}
        }
    };
    within(
        HEAD,
        format_args!("the end of a request that began with {head:?}"),
        end,
    )
    .await;
    if let Ok(answer) = Response::parse(&answer) {
        assert!(answer.status >= 400, "{answer:?}");
    }
}

async fn stays_undisturbed(bystander: &mut Bystander) {
    loop {
        bystander.is_undisturbed("slow senders").await;
        sleep(Duration::from_secs(1)).await;
    }
}

async fn request(bystander: &Bystander, method: &str, path: &str) -> Response {
    let answer = http::request(bystander.url(), method, path, &[], "").await;
    answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
}
