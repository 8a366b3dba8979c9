//! Which web pages may talk to the hub: CORS does not cover WebSockets, so the server itself has to look where they come from.

use end_to_end::http::{self, Response};
use end_to_end::{Bystander, Client, Socket};

#[tokio::test]
async fn pages_of_other_origins_are_refused_unless_they_are_allowed() {
    let allowed = "https://chat.example:8443";
    let mut bystander = Bystander::on_a_server(&[
        "--allow-origin",
        allowed,
        "--allow-origin",
        "http://second.example",
    ])
    .await;
    let base = bystander.url().to_owned();

    for origin in [
        "https://evil.example",
        "https://chat.example",
        "http://chat.example:8443",
        "null",
        "https://chat.example:8443.evil.example",
    ] {
        assert_eq!(negotiate_from(&base, origin).await.status, 403, "{origin}");
        assert_eq!(
            Socket::open_with(&base, "/chatHub", &[("origin", origin)])
                .await
                .err(),
            Some(403),
            "{origin}"
        );
        let preflight = preflight(&base, origin).await;
        assert_eq!(
            preflight.header("access-control-allow-origin"),
            None,
            "{origin}: {preflight:?}"
        );
        bystander.is_undisturbed(origin).await;
    }

    for origin in [allowed, "http://second.example"] {
        let answer = negotiate_from(&base, origin).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_allows(&answer, origin);
        let preflight = preflight(&base, origin).await;
        assert!((200..300).contains(&preflight.status), "{preflight:?}");
        assert_allows(&preflight, origin);
        let list = |name| {
            preflight
                .header(name)
                .unwrap_or_default()
                .to_ascii_lowercase()
        };
        assert!(
            list("access-control-allow-methods").contains("post"),
            "{preflight:?}"
        );
        for header in [
            "x-requested-with",
            "x-signalr-user-agent",
            "content-type",
            "authorization",
        ] {
            assert!(
                list("access-control-allow-headers").contains(header),
                "{header}: {preflight:?}"
            );
        }
        let mut socket = Socket::open_with(&base, "/chatHub", &[("origin", origin)])
            .await
            .expect("an allowed origin");
        socket.shake().await;
    }

    // Pages of this very server, and programs that are no browsers, come in without being listed.
    let own = negotiate_from(&base, &base).await;
    assert_eq!(own.status, 200, "{own:?}");
    Client::connect(&base).await.join("room").await;
    bystander.is_undisturbed("origins").await;
}

#[tokio::test]
async fn foreign_pages_are_refused_where_no_origin_is_allowed() {
    let mut bystander = Bystander::on_a_server(&[]).await;
    let base = bystander.url().to_owned();
    let answer = negotiate_from(&base, "https://evil.example").await;
    assert_eq!(
        (answer.status, answer.header("access-control-allow-origin")),
        (403, None)
    );
    assert_eq!(
        Socket::open_with(&base, "/chatHub", &[("origin", "https://evil.example")])
            .await
            .err(),
        Some(403)
    );
    bystander.is_undisturbed("a foreign page").await;
}

async fn negotiate_from(base: &str, origin: &str) -> Response {
    let answer = http::request(
        base,
        "POST",
        "/chatHub/negotiate?negotiateVersion=1",
        &[("Origin", origin)],
        "",
    )
    .await;
    answer.unwrap_or_else(|error| panic!("negotiating from {origin}: {error}"))
}

/// What a browser asks before it lets a page of another origin negotiate.
async fn preflight(base: &str, origin: &str) -> Response {
    let headers = [
        ("Origin", origin),
        ("Access-Control-Request-Method", "POST"),
        (
            "Access-Control-Request-Headers",
            "authorization,content-type,x-requested-with,x-signalr-user-agent",
        ),
    ];
    let answer = http::request(
        base,
        "OPTIONS",
        "/chatHub/negotiate?negotiateVersion=1",
        &headers,
        "",
    )
    .await;
    answer.unwrap_or_else(|error| panic!("a preflight from {origin}: {error}"))
}

fn assert_allows(answer: &Response, origin: &str) {
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some(origin),
        "{answer:?}"
    );
    assert_eq!(
        answer.header("access-control-allow-credentials"),
        Some("true"),
        "{answer:?}"
    );
    assert!(
        answer
            .header("vary")
            .is_some_and(|names| names.to_ascii_lowercase().contains("origin")),
        "{answer:?}"
    );
}
