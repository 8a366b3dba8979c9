//! How the client for Rust gets to a hub: negotiation, redirects, access tokens, and servers that are none.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic is the report of a test"
)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::routing::post;
use axum::{Json, Router};
use end_to_end::wait::{DEADLINE, within};
use end_to_end::{Authority, Conformance, Hubcast, Nginx};
use hubcast::{CallerContext, Hub, HubEndpoint, HubResult, Methods};
use hubcast_client::{
    BuildError, ConnectionError, HubConnection, HubConnectionBuilder, StartError, TlsError,
    UrlError,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

struct QuietHub;

impl Hub for QuietHub {
    fn methods() -> Methods<Self> {
        Methods::new().method("GetQuery", Self::query)
    }
}

impl QuietHub {
    #[expect(clippy::unused_async, reason = "every hub method is async")]
    async fn query(&self, ctx: &CallerContext, name: String) -> HubResult<Option<String>> {
        Ok(ctx.query(&name))
    }
}

/// The paths that were asked for, with the `Authorization` and the `X-Test` of each.
type Seen = Arc<Mutex<Vec<(String, Option<String>, Option<String>)>>>;

/// A server whose negotiations lead to each other: `/first` to `/second` with a token, `/second` to the hub, `/loop` to itself.
async fn server() -> (String, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen = Seen::default();
    let notes = seen.clone();
    let note = middleware::from_fn(move |request: Request, next: Next| {
        let header = |name| {
            let value = request.headers().get(name)?.to_str().unwrap();
            Some(value.to_owned())
        };
        let path = request.uri().path().to_owned();
        let note = (path, header("authorization"), header("x-test"));
        notes.lock().unwrap().push(note);
        next.run(request)
    });
    let answer = |body: Value| post(async move || Json(body));
    let to = |path: &str| json!({"url": format!("{url}{path}")});
    let second = format!("{url}/second?kept=yes");
    let app = Router::new()
        .nest("/hub", HubEndpoint::new(QuietHub).routes())
        .route(
            "/first/negotiate",
            answer(json!({"url": second, "accessToken": "redirected"})),
        )
        .route("/second/negotiate", answer(to("/hub?room=7")))
        .route("/loop/negotiate", answer(to("/loop")))
        .route(
            "/elsewhere/negotiate",
            answer(json!({"url": "ftp://elsewhere.example/hub"})),
        )
        .route("/refused/negotiate", answer(json!({"error": "not today"})))
        .route("/forbidden/negotiate", post(async || StatusCode::FORBIDDEN))
        .route("/large/negotiate", post(async || "x".repeat(1_000_000)))
        .route("/page/negotiate", post(async || "<html></html>"))
        .layer(note);
    tokio::spawn(async { axum::serve(listener, app).await });
    (url, seen)
}

fn builder(url: &str) -> HubConnectionBuilder {
    HubConnectionBuilder::new(url)
}

async fn start(builder: HubConnectionBuilder) -> Result<HubConnection, StartError> {
    let connection = builder.build().unwrap();
    within(DEADLINE, "the start", connection.start()).await?;
    Ok(connection)
}

async fn refused(builder: HubConnectionBuilder) -> StartError {
    start(builder).await.unwrap_err()
}

#[tokio::test]
async fn a_token_is_asked_for_anew_for_every_request_and_shown_in_its_header() {
    let (url, seen) = server().await;
    let count = AtomicUsize::new(0);
    let connection = builder(&format!("{url}/hub"))
        .header("X-Test", "here")
        .access_token_provider(move || {
            let number = count.fetch_add(1, Ordering::Relaxed);
            async move { Ok::<_, String>(format!("token-{number}")) }
        });
    assert!(!format!("{connection:?}").contains("here"));
    let connection = start(connection).await.unwrap();
    within(DEADLINE, "the stop", connection.stop()).await;
    within(DEADLINE, "another start", connection.start())
        .await
        .unwrap();
    let expected: Vec<_> = ["/hub/negotiate", "/hub", "/hub/negotiate", "/hub"]
        .into_iter()
        .enumerate()
        .map(|(number, path)| {
            let token = Some(format!("Bearer token-{number}"));
            (path.to_owned(), token, Some(String::from("here")))
        })
        .collect();
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[tokio::test]
async fn redirects_are_followed_with_their_token_and_their_query() {
    let (url, seen) = server().await;
    let connection = builder(&format!("{url}/first")).access_token("own");
    let connection = start(connection).await.unwrap();
    let paths: Vec<_> = seen
        .lock()
        .unwrap()
        .iter()
        .map(|(path, token, _)| format!("{path} {}", token.as_deref().unwrap()))
        .collect();
    assert_eq!(
        paths,
        [
            "/first/negotiate Bearer own",
            "/second/negotiate Bearer redirected",
            "/hub/negotiate Bearer redirected",
            "/hub Bearer redirected",
        ]
    );
    let room = connection.invoke::<Option<String>>("GetQuery", ("room",));
    assert_eq!(
        within(DEADLINE, "an answer", room).await.unwrap().unwrap(),
        "7"
    );
}

#[tokio::test]
async fn negotiation_can_be_skipped() {
    let (url, seen) = server().await;
    let connection = start(builder(&format!("{url}/hub?room=8")).skip_negotiation());
    let connection = connection.await.unwrap();
    assert_eq!(connection.connection_id(), None);
    let room = connection.invoke::<Option<String>>("GetQuery", ("room",));
    assert_eq!(
        within(DEADLINE, "an answer", room).await.unwrap().unwrap(),
        "8"
    );
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_negotiation_that_leads_nowhere_says_why() {
    let (url, _) = server().await;
    let to = |path: &str| builder(&format!("{url}{path}")).access_token("secret");
    let status = |error: StartError| match error {
        StartError::NegotiationStatus { status } => status,
        other => panic!("{other}"),
    };
    assert_eq!(status(refused(to("/nothing")).await), 404);
    assert_eq!(status(refused(to("/forbidden")).await), 403);
    let error = refused(to("/nothing").skip_negotiation()).await;
    assert!(
        matches!(error, StartError::UpgradeStatus { status: 404 }),
        "{error}"
    );
    let error = refused(to("/loop")).await;
    assert!(matches!(error, StartError::TooManyRedirects), "{error}");
    let error = refused(to("/elsewhere")).await;
    assert!(
        matches!(error, StartError::Redirect(UrlError::Scheme { .. })),
        "{error}"
    );
    let error = refused(to("/refused")).await;
    assert!(matches!(&error, StartError::NegotiationRefused(text) if text == "not today"));
    let error = refused(to("/page")).await;
    assert!(
        matches!(error, StartError::NegotiationInvalid(_)),
        "{error}"
    );
    let error = refused(to("/large")).await;
    assert!(matches!(error, StartError::Http { .. }), "{error}");
    assert!(error.to_string().contains("65536 bytes"), "{error}");

    let error = refused(to("/hub").access_token("se\ncret")).await;
    assert!(matches!(error, StartError::InvalidAccessToken), "{error}");
    assert!(!format!("{error:?} {error}").contains("cret"));
    let failing = to("/hub").access_token_provider(|| async { Err("the safe is locked") });
    let error = refused(failing).await;
    assert!(matches!(&error, StartError::AccessToken(text) if text == "the safe is locked"));
}

#[tokio::test]
async fn a_hub_without_web_sockets_is_told_from_one_that_is_not_there() {
    let server = Conformance::start().await;
    let error = refused(builder(&format!("{}/testHubNoWebSockets", server.url()))).await;
    assert!(
        matches!(&error, StartError::WebSocketsNotOffered { offered } if offered.contains("LongPolling")),
        "{error}"
    );
}

#[test]
fn what_cannot_work_is_said_before_anything_is_tried() {
    let error = builder("ftp://localhost/hub").build().unwrap_err();
    assert!(matches!(error, BuildError::Url(UrlError::Scheme { .. })));
    assert!(error.to_string().contains("https://"), "{error}");
    for (name, value) in [("a b", "c"), ("a", "b\r\nc")] {
        let error = builder("http://localhost").header(name, value).build();
        assert!(matches!(error, Err(BuildError::Header { .. })));
    }
}

/// A server that answers every request with these bytes, and reads on.
async fn answering(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hub", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let _ = socket.read(&mut request).await;
                let _ = socket.write_all(answer).await;
                while matches!(socket.read(&mut request).await, Ok(1..)) {}
            });
        }
    });
    url
}

#[tokio::test]
async fn both_requests_say_what_every_server_wants_to_hear() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let authority = listener.local_addr().unwrap().to_string();
    let url = format!("ws://{authority}/hub?a=b");
    let head = async || {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut head = String::new();
        while !head.contains("\r\n\r\n") {
            let mut bytes = [0; 4096];
            let length = socket.read(&mut bytes).await.unwrap();
            head += std::str::from_utf8(&bytes[..length]).unwrap();
        }
        let no = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
        socket.write_all(no).await.unwrap();
        head.to_ascii_lowercase()
    };
    let (error, negotiation) = tokio::join!(refused(builder(&url)), head());
    assert!(matches!(
        error,
        StartError::NegotiationStatus { status: 404 }
    ));
    let first = "post /hub/negotiate?a=b&negotiateversion=1 http/1.1\r\n";
    assert!(negotiation.starts_with(first), "{negotiation}");
    // Kestrel answers 411 without a length.
    for header in ["content-length: 0", &format!("host: {authority}")] {
        assert!(
            negotiation.contains(&format!("\r\n{header}\r\n")),
            "{negotiation}"
        );
    }
    let (error, upgrade) = tokio::join!(refused(builder(&url).skip_negotiation()), head());
    assert!(matches!(error, StartError::UpgradeStatus { status: 404 }));
    assert!(
        upgrade.starts_with("get /hub?a=b http/1.1\r\n"),
        "{upgrade}"
    );
    for header in [
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-version: 13",
        &format!("host: {authority}"),
    ] {
        assert!(upgrade.contains(&format!("\r\n{header}\r\n")), "{upgrade}");
    }
    assert!(upgrade.contains("\r\nsec-websocket-key: "), "{upgrade}");
    assert!(!upgrade.contains("authorization"), "{upgrade}");
}

#[tokio::test]
async fn what_is_no_http_server_is_told_as_that() {
    for answer in [
        &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
        b"\0\xff\0\xff\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"HTTP/1.1 99999 OK\r\n\r\n",
    ] {
        let url = answering(answer).await;
        let error = refused(builder(&url)).await;
        assert!(
            matches!(error, StartError::Http { .. }),
            "{answer:?}: {error}"
        );
        let error = refused(builder(&url).skip_negotiation()).await;
        assert!(
            matches!(
                error,
                StartError::Http { .. } | StartError::UpgradeStatus { .. }
            ),
            "{answer:?}: {error}"
        );
    }
}

#[tokio::test]
async fn where_tls_is_asked_for_nobody_is_spoken_to_without_it() {
    let (url, seen) = server().await;
    for scheme in ["https", "wss"] {
        let secure = url.replace("http", scheme);
        for builder in [
            builder(&format!("{secure}/hub")),
            builder(&format!("{secure}/hub")).skip_negotiation(),
        ] {
            let error = refused(builder.access_token("secret")).await;
            let StartError::Tls { address, source } = &error else {
                panic!("{error}");
            };
            assert!(url.ends_with(address), "{address}");
            assert!(
                matches!(source, TlsError::NoTls | TlsError::Lost(_)),
                "{error}"
            );
        }
    }
    assert_eq!(*seen.lock().unwrap(), [], "it has heard no request");
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_refused() {
    let authority = Authority::named("unknown");
    let hubcast = Hubcast::start(&[]).await;
    let nginx = Nginx::with_tls(&hubcast, &authority.issue(&["127.0.0.1"])).await;
    let url = format!("https://127.0.0.1:{}/chatHub", nginx.port());
    let error = refused(builder(&url)).await;
    assert!(
        matches!(
            error,
            StartError::Tls {
                source: TlsError::UnknownIssuer,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn who_does_not_switch_to_web_sockets_properly_is_not_spoken_to() {
    for answer in [
        &b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"[..],
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    ] {
        let url = answering(answer).await;
        let error = refused(builder(&url).skip_negotiation()).await;
        assert!(matches!(error, StartError::UpgradeInvalid(_)), "{error}");
    }
}

#[tokio::test]
async fn nobody_and_silence_are_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hub", listener.local_addr().unwrap());
    drop(listener);
    let error = refused(builder(&url)).await;
    assert!(matches!(error, StartError::Unreachable { .. }), "{error}");

    let url = answering(b"").await;
    let hurried = |url| builder(url).handshake_timeout(Duration::from_millis(100));
    let secure = url.replace("http", "https");
    for url in [&url, &secure] {
        let error = refused(hurried(url)).await;
        assert!(
            matches!(
                error,
                StartError::TimedOut {
                    step: "negotiation",
                    ..
                }
            ),
            "{error}"
        );
    }
    let error = refused(hurried(&url).skip_negotiation()).await;
    assert!(
        matches!(
            error,
            StartError::TimedOut {
                step: "WebSocket upgrade",
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn an_answer_that_is_too_large_ends_the_connection() {
    let server = Conformance::start().await;
    let connection = builder(&format!("{}/testHub", server.url())).max_message_size(1000);
    let connection = start(connection).await.unwrap();
    let failed = connection.invoke::<String>("BigString", (2000,));
    let failed = within(DEADLINE, "the end", failed).await.unwrap_err();
    assert!(
        matches!(
            failed,
            hubcast_client::InvokeError::ConnectionLost(ConnectionError::TooLarge { limit: 1000 })
        ),
        "{failed}"
    );
}
