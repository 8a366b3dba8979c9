//! Clients behind a proxy that speaks TLS, with an authority of the test's own; and servers that are not who they should be.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use std::collections::HashSet;
use std::io::Write;
use std::path::Path;
use std::process::ChildStdin;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::routing::post;
use end_to_end::hubcast::command;
use end_to_end::process::Process;
use end_to_end::wait::{DEADLINE, until};
use end_to_end::{Authority, Client, Hubcast, Nginx, RabbitMq, RawWorker};
use serde_json::json;
use tokio::net::TcpListener;

/// A RabbitMQ that comes back is found after five seconds at most.
const RECOVERY: Duration = Duration::from_mins(1);

/// The names of a server that is where tests look for it.
const HERE: [&str; 2] = ["localhost", "127.0.0.1"];

/// A program that trusts the authorities in a file, and no others.
fn trusting(file: &Path, arguments: &[&str]) -> (Process, ChildStdin) {
    let mut command = command();
    command.args(arguments).env("SSL_CERT_FILE", file);
    command.env_remove("SSL_CERT_DIR");
    Process::start_with_input(arguments.join(" "), command)
}

/// Runs it to its end with this input: the exit code, and what it printed on both outputs.
async fn ended(file: &Path, arguments: &[&str], input: &str) -> (i32, String, String) {
    let (mut process, mut pipe) = trusting(file, arguments);
    // It may have ended before it has read everything.
    let _ = pipe.write_all(input.as_bytes());
    drop(pipe);
    let code = process.exit(DEADLINE).await.code().unwrap();
    (code, process.stdout(), process.stderr())
}

async fn tells(process: &mut Process, text: &str) {
    let found = process.stderr_line(DEADLINE, text, |it| it.contains(text).then_some(()));
    found
        .await
        .unwrap_or_else(|| panic!("it ended before it told {text:?}"));
}

async fn prints(process: &mut Process, line: &str) {
    let found = process.stdout_line(DEADLINE, line, |it| (it == line).then_some(()));
    found
        .await
        .unwrap_or_else(|| panic!("it ended before it printed {line:?}"));
}

#[tokio::test]
async fn a_chat_and_a_web_socket_go_through_tls_by_name_and_by_address() {
    let authority = Authority::named("ours");
    let server = Hubcast::start(&[]).await;
    let nginx = Nginx::with_tls(&server, &authority.issue(&HERE)).await;
    let mut mira = Client::connect(server.url()).await;
    mira.join("tea").await;
    let room = ["--room", "tea", "--user", "ada"];
    for (scheme, host) in [("https", HERE[0]), ("wss", HERE[1])] {
        let url = format!("{scheme}://{host}:{}/chatHub", nginx.port());
        let arguments = [&["chat", &url], &room[..]].concat();
        let outcome = ended(&authority.file(), &arguments, "hello\n").await;
        assert_eq!(outcome, (0, "ada: hello\n".to_owned(), String::new()));
        assert_eq!(mira.chat().await.1, "hello");
    }

    // More than fits into one record of TLS, or into the buffers of sockets.
    let url = format!("wss://{}:{}/echo", HERE[0], nginx.port());
    let lines = ["x".repeat(1_000_000), "y".to_owned(), "z".repeat(1_000_000)];
    let input = format!("{}\n", lines.join("\n"));
    let (code, stdout, stderr) = ended(&authority.file(), &["connect", &url], &input).await;
    assert_eq!((code, &*stderr), (0, "hubcast: closed with 1000\n"));
    let heard = lines.map(|line| format!("Server Response: {line}\n"));
    assert!(stdout == heard.concat(), "{} bytes", stdout.len());

    let url = format!("https://{}:{}", HERE[0], nginx.port());
    let dead = ["tasks", "dead", "--server", &url];
    let outcome = ended(&authority.file(), &dead, "").await;
    assert_eq!(
        outcome,
        (0, "no task was given up\n".to_owned(), String::new())
    );
}

#[tokio::test]
async fn a_chat_over_tls_comes_back_when_its_server_does() {
    let authority = Authority::named("ours");
    let mut server = Hubcast::start_to_return(&[]).await;
    let nginx = Nginx::with_tls(&server, &authority.issue(&HERE)).await;
    let url = format!("https://localhost:{}/chatHub", nginx.port());
    let (mut ada, mut to_ada) = trusting(&authority.file(), &["chat", &url, "--user", "ada"]);
    writeln!(to_ada, "before").unwrap();
    prints(&mut ada, "ada: before").await;
    server.kill();
    tells(&mut ada, "the connection is lost").await;
    server.come_back().await;
    tells(&mut ada, "back again").await;
    writeln!(to_ada, "after").unwrap();
    prints(&mut ada, "ada: after").await;
    drop(to_ada);
    assert_eq!(ada.exit(DEADLINE).await.code(), Some(0));
}

#[tokio::test]
async fn a_proxy_that_dies_in_the_middle_is_told_as_a_lost_connection() {
    let authority = Authority::named("ours");
    let server = Hubcast::start(&[]).await;
    let nginx = Nginx::with_tls(&server, &authority.issue(&HERE)).await;
    let base = format!("localhost:{}", nginx.port());
    let (chat_url, echo_url) = (
        format!("https://{base}/chatHub"),
        format!("wss://{base}/echo"),
    );
    let (mut chat, mut to_chat) =
        trusting(&authority.file(), &["chat", &chat_url, "--user", "ada"]);
    let (mut echo, mut to_echo) = trusting(&authority.file(), &["connect", &echo_url]);
    writeln!(to_chat, "here").unwrap();
    prints(&mut chat, "ada: here").await;
    writeln!(to_echo, "here").unwrap();
    prints(&mut echo, "Server Response: here").await;
    drop(nginx);
    tells(&mut chat, "the connection ended without a Close message").await;
    assert_eq!(echo.exit(DEADLINE).await.code(), Some(1));
    let told = echo.stderr();
    assert!(told.contains("ended without a close frame"), "{told}");
}

#[tokio::test]
async fn a_negotiation_may_lead_from_a_server_without_tls_to_one_with_it() {
    let authority = Authority::named("ours");
    let server = Hubcast::start(&[]).await;
    let nginx = Nginx::with_tls(&server, &authority.issue(&HERE)).await;
    let there = json!({"url": format!("https://localhost:{}/chatHub", nginx.port())});
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hub", listener.local_addr().unwrap());
    let app = Router::new().route("/hub/negotiate", post(async move || Json(there)));
    tokio::spawn(async { axum::serve(listener, app).await });
    let chat = ["chat", &url, "--user", "ada"];
    let outcome = ended(&authority.file(), &chat, "hello\n").await;
    assert_eq!(outcome, (0, "ada: hello\n".to_owned(), String::new()));

    let stranger = Authority::named("another");
    let (code, _, stderr) = ended(&stranger.file(), &chat, "hello\n").await;
    assert_eq!(code, 1);
    assert!(stderr.contains("trusted here"), "{stderr}");
}

#[tokio::test]
async fn who_is_not_trusted_hears_nothing_and_the_reason_is_told() {
    let authority = Authority::named("ours");
    let stranger = Authority::named("another");
    let server = Hubcast::start(&[]).await;
    let ours = authority.file();
    let nowhere = ours.with_extension("nowhere");
    let none = ours.with_extension("none");
    std::fs::write(&none, "no certificate\n").unwrap();
    for (file, identity, text) in [
        (&stranger.file(), authority.issue(&HERE), "trusted here"),
        (&ours, authority.issue(&["hub.example"]), "for another host"),
        (
            &ours,
            authority.issue_between((2000, 2001), &HERE),
            "has expired",
        ),
        (
            &ours,
            authority.issue_between((2900, 3000), &HERE),
            "not valid yet",
        ),
        (&nowhere, authority.issue(&HERE), "SSL_CERT_FILE"),
        (&none, authority.issue(&HERE), "SSL_CERT_FILE"),
    ] {
        let nginx = Nginx::with_tls(&server, &identity).await;
        let base = format!("localhost:{}", nginx.port());
        let (hub, socket) = (
            format!("https://{base}/chatHub"),
            format!("wss://{base}/echo"),
        );
        let tasks = format!("https://{base}");
        for arguments in [
            &["chat", &hub, "--token", "geheim"][..],
            &["connect", &socket],
            &["tasks", "dead", "--server", &tasks],
        ] {
            let (code, stdout, stderr) = ended(file, arguments, "hello\n").await;
            assert_eq!((code, &*stdout), (1, ""), "{arguments:?}: {stderr}");
            assert!(stderr.contains(text), "{arguments:?}: {stderr}");
            assert!(stderr.contains(&base), "{arguments:?}: {stderr}");
            assert!(!stderr.contains("running there"), "{stderr}");
            assert!(!stderr.contains("geheim"), "{arguments:?}: {stderr}");
            assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
        }
    }
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_told_from_one_that_is_not_there() {
    let authority = Authority::named("ours");
    let server = Hubcast::start(&[]).await;
    let base = server.authority();
    let (hub, socket) = (
        format!("https://{base}/chatHub"),
        format!("wss://{base}/echo"),
    );
    let tasks = format!("https://{base}");
    for arguments in [
        &["chat", &hub][..],
        &["connect", &socket],
        &["tasks", "dead", "--server", &tasks],
    ] {
        let (code, _, stderr) = ended(&authority.file(), arguments, "hello\n").await;
        assert_eq!(code, 1, "{arguments:?}: {stderr}");
        assert!(stderr.contains("speak TLS"), "{arguments:?}: {stderr}");
    }
}

#[tokio::test]
async fn a_feed_goes_through_tls_and_survives_a_rabbitmq_that_dies_in_the_middle() {
    let authority = Authority::named("ours");
    let mut rabbitmq = RabbitMq::start_with_tls(&authority.issue(&HERE)).await;
    let amqp = ["--amqp", &rabbitmq.secure_url()];
    let subscribe = [&["subscribe", "--queue", "kept"][..], &amqp].concat();
    let publish = [&["publish"][..], &amqp].concat();
    let (mut reader, _input) = trusting(&authority.file(), &subscribe);
    rabbitmq.queue_becomes("kept", 0, 1).await;
    let (mut writer, mut to_writer) = trusting(&authority.file(), &publish);
    let long = "x".repeat(1_000_000);
    let mut sent: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
    sent.insert(500, long);
    let last = "after";
    to_writer
        .write_all(format!("{}\n", sent.join("\n")).as_bytes())
        .unwrap();
    prints(&mut writer, " [x] Sent: 999").await;
    prints(&mut reader, " [x] Received: 999").await;

    rabbitmq.vanish();
    tells(&mut writer, "RabbitMQ is away").await;
    writeln!(to_writer, "{last}").unwrap();
    drop(to_writer);
    rabbitmq.appear().await;
    assert_eq!(writer.exit(RECOVERY).await.code(), Some(0));
    let line = format!(" [x] Received: {last}");
    let found = reader.stdout_line(RECOVERY, last, |it| (it == line).then_some(()));
    assert_eq!(found.await, Some(()));
    sent.push(last.to_owned());
    let received = reader.stdout();
    // What it had not written down as acknowledged comes twice.
    let mut seen = HashSet::new();
    let received: Vec<&str> = received
        .lines()
        .filter_map(|line| line.strip_prefix(" [x] Received: "))
        .filter(|line| seen.insert(*line))
        .collect();
    assert!(received == sent, "{} lines", received.len());
}

#[tokio::test]
async fn tasks_go_through_tls() {
    let authority = Authority::named("ours");
    let rabbitmq = RabbitMq::start_with_tls(&authority.issue(&HERE)).await;
    let amqp = rabbitmq.secure_url();
    let mut serving = command();
    serving.args(["serve", "--listen", "127.0.0.1:0", "--amqp", &amqp]);
    serving.env("SSL_CERT_FILE", authority.file());
    let server = Hubcast::from_command(serving).await;
    server.has_its_queues(DEADLINE).await;
    let mut worker = RawWorker::join(server.url(), "a").await;
    let task = json!({"TaskName": "Demo", "TaskType": 1});
    server.submit(&task).await;
    assert_eq!(worker.hears().await, "Demo");

    let dead = ["tasks", "dead", "--amqp", &amqp];
    let outcome = ended(&authority.file(), &dead, "").await;
    assert_eq!(
        outcome,
        (0, "no task was given up\n".to_owned(), String::new())
    );
    let stranger = Authority::named("another");
    let (code, _, stderr) = ended(&stranger.file(), &dead, "").await;
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("trusted here"), "{stderr}");
}

#[tokio::test]
async fn a_rabbitmq_that_is_not_trusted_is_away_for_the_reason_that_is_told() {
    let authority = Authority::named("ours");
    for (identity, text) in [
        (authority.issue(&["rabbit.example"]), "for another host"),
        (authority.issue_between((2000, 2001), &HERE), "has expired"),
    ] {
        let rabbitmq = RabbitMq::start_with_tls(&identity).await;
        let amqp = rabbitmq.secure_url().replace("//", "//guest:geheim@");
        let (mut reader, _input) = trusting(&authority.file(), &["subscribe", "--amqp", &amqp]);
        tells(&mut reader, text).await;
        assert!(!reader.output().contains("geheim"), "{}", reader.output());

        let mut serving = command();
        serving.args(["serve", "--listen", "127.0.0.1:0", "--amqp", &amqp]);
        serving.env("SSL_CERT_FILE", authority.file());
        let server = Hubcast::from_command(serving).await;
        let (ready, _) = server.becomes("degraded", DEADLINE).await;
        until(DEADLINE, "the log says why", async || {
            let output = server.output();
            if output.contains(text) {
                Ok(())
            } else {
                Err(format!("{ready} {output}"))
            }
        })
        .await;
        assert!(!server.output().contains("geheim"), "{}", server.output());
    }
}
