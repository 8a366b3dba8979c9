//! `hubcast chat` in scripts: lines in, lines out, and how it ends.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

mod bouncer;

use std::fs::OpenOptions;
use std::io::Write;
use std::process::{ChildStdin, Stdio};

use end_to_end::hubcast::command;
use end_to_end::process::Process;
use end_to_end::wait::{DEADLINE, until, within};
use end_to_end::{Client, Hubcast, RedisServer, Relay};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Starts a chat in the room `tea`.
fn chat(base: &str, user: &str, more: &[&str]) -> (Process, ChildStdin) {
    let mut command = command();
    let url = format!("{base}/chatHub");
    command.args(["chat", &url, "--room", "tea", "--user", user]);
    command.args(more);
    Process::start_with_input(format!("chat of {user}"), command)
}

async fn prints(process: &mut Process, line: &str) {
    let found = process.stdout_line(DEADLINE, line, |it| (it == line).then_some(()));
    found
        .await
        .unwrap_or_else(|| panic!("it ended before it printed {line:?}"));
}

async fn tells(process: &mut Process, text: &str) {
    let found = process.stderr_line(DEADLINE, text, |it| it.contains(text).then_some(()));
    found
        .await
        .unwrap_or_else(|| panic!("it ended before it told {text:?}"));
}

/// Runs it to its end with this input: the exit code, and what it printed on both outputs.
async fn ended(base: &str, input: &str, more: &[&str]) -> (i32, String, String) {
    let (mut process, mut pipe) = chat(base, "ada", more);
    // It may have ended before it has read everything.
    let _ = pipe.write_all(input.as_bytes());
    drop(pipe);
    let code = process.exit(DEADLINE).await.code().unwrap();
    (code, process.stdout(), process.stderr())
}

#[tokio::test]
async fn every_line_has_arrived_when_the_chat_leaves() {
    let server = Hubcast::start(&[]).await;
    let mut mira = Client::connect(server.url()).await;
    mira.join("tea").await;
    for encoding in ["json", "messagepack"] {
        let input = "one\n\ntwo \u{1f600}\r\nthe last has no end";
        let outcome = ended(server.url(), input, &["--encoding", encoding]).await;
        let printed = "ada: one\nada: \nada: two \u{1f600}\nada: the last has no end\n";
        assert_eq!(outcome, (0, printed.to_owned(), String::new()));
        let heard = mira.chats_until("the last has no end").await;
        let texts = ["one", "", "two \u{1f600}", "the last has no end"];
        let expected = texts.map(|text| ("ada".to_owned(), text.to_owned()));
        assert_eq!(heard, expected);
    }
    let nothing = ended(server.url(), "", &[]).await;
    assert_eq!(nothing, (0, String::new(), String::new()));
}

#[tokio::test]
async fn on_several_servers_a_script_hears_itself_before_it_leaves() {
    let redis = RedisServer::start().await;
    let [one, other]: [Hubcast; 2] = Hubcast::cluster(&redis).await;
    let mut mira = Client::connect(other.url()).await;
    mira.join("tea").await;
    for _ in 0..10 {
        let outcome = ended(one.url(), "hello\n", &[]).await;
        assert_eq!(outcome, (0, "ada: hello\n".to_owned(), String::new()));
        assert_eq!(mira.chat().await.1, "hello");
    }
}

#[tokio::test]
async fn two_chats_see_each_other_and_themselves_once() {
    let server = Hubcast::start(&[]).await;
    let (mut ada, mut to_ada) = chat(server.url(), "ada", &[]);
    writeln!(to_ada, "first").unwrap();
    prints(&mut ada, "ada: first").await;
    let (mut bob, mut to_bob) = chat(server.url(), "bob", &[]);
    writeln!(to_bob, "second").unwrap();
    prints(&mut ada, "bob: second").await;
    writeln!(to_ada, "third").unwrap();
    prints(&mut bob, "ada: third").await;
    drop((to_ada, to_bob));
    for process in [&mut ada, &mut bob] {
        assert_eq!(process.exit(DEADLINE).await.code(), Some(0));
        assert_eq!(process.stderr(), "");
    }
    assert_eq!(ada.stdout(), "ada: first\nbob: second\nada: third\n");
    assert_eq!(bob.stdout(), "bob: second\nada: third\n");
}

#[tokio::test]
async fn a_chat_comes_back_after_a_restart_and_sends_what_was_said_meanwhile() {
    let mut server = Hubcast::start_to_return(&[]).await;
    let (mut ada, mut to_ada) = chat(server.url(), "ada", &[]);
    writeln!(to_ada, "before").unwrap();
    prints(&mut ada, "ada: before").await;
    server.kill();
    tells(&mut ada, "the connection is lost").await;
    tells(&mut ada, "reconnecting in 2 s").await;
    writeln!(to_ada, "meanwhile").unwrap();
    server.come_back().await;
    let mut mira = Client::connect(server.url()).await;
    mira.join("tea").await;
    tells(&mut ada, "back again").await;
    // It hears itself, so it is in the room.
    prints(&mut ada, "ada: meanwhile").await;
    assert_eq!(mira.chat().await.1, "meanwhile");
    mira.say("tea", "mira", "welcome").await;
    prints(&mut ada, "mira: welcome").await;
    drop(to_ada);
    assert_eq!(ada.exit(DEADLINE).await.code(), Some(0));
}

#[tokio::test]
async fn a_server_that_lets_in_and_hangs_up_is_given_more_and_more_time() {
    let server = Hubcast::start(&[]).await;
    let relay = Relay::to(server.authority()).await;
    let base = format!("http://{}", relay.authority());
    let (mut ada, mut to_ada) = chat(&base, "ada", &[]);
    writeln!(to_ada, "before").unwrap();
    prints(&mut ada, "ada: before").await;
    let times = async |text: &str, times: usize| {
        until(DEADLINE, text, async || match ada.stderr() {
            told if told.matches(text).count() == times => Ok(()),
            told => Err(told),
        })
        .await;
    };
    for lost in 1..=2 {
        relay.cut();
        times("back again", lost).await;
    }
    relay.cut();
    times("the connection is lost again", 2).await;
    let told = ada.stderr();
    assert!(told.contains("; reconnecting in 2 s"), "{told}");
    assert!(told.contains("; reconnecting in 5 s"), "{told}");
}

#[tokio::test]
async fn nothing_of_what_others_say_can_command_a_terminal() {
    let server = Hubcast::start(&[]).await;
    let (mut ada, mut to_ada) = chat(server.url(), "ada", &[]);
    writeln!(to_ada, "here").unwrap();
    prints(&mut ada, "ada: here").await;
    let mut mallory = Client::connect(server.url()).await;
    for (user, text, shown) in [
        (json!("m\x1b[31m\r\nada"), json!("hi"), "m␛[31m⏎ada: hi"),
        (json!("m"), json!("\x1b]0;title\x07"), "m: ␛]0;title␇"),
        (
            json!("m"),
            json!("\u{9b}2J\x08\x7f\u{202e}"),
            "m: \u{fffd}2J␈␡\u{fffd}",
        ),
        (
            json!("m"),
            json!("a\nada: I give up"),
            "m: a⏎ada: I give up",
        ),
        (json!(null), json!(null), "(nobody): "),
        // Notices look so, but this is none.
        (
            json!("System"),
            json!("x has joined the room\ntea"),
            "System: x has joined the room⏎tea",
        ),
    ] {
        mallory
            .invoke("SendMessage", json!(["tea", user, text]))
            .await
            .unwrap();
        prints(&mut ada, shown).await;
    }
}

#[tokio::test]
async fn a_signal_leaves_properly() {
    let server = Hubcast::start(&[]).await;
    let mut mira = Client::connect(server.url()).await;
    mira.join("tea").await;
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let (mut ada, mut to_ada) = chat(server.url(), "ada", &[]);
        writeln!(to_ada, "here").unwrap();
        prints(&mut ada, "ada: here").await;
        ada.signal(signal);
        assert_eq!(ada.exit(DEADLINE).await.code(), Some(0), "{signal}");
        let left = mira.next_notice().await;
        let left = if left.contains("joined") {
            mira.next_notice().await
        } else {
            left
        };
        assert!(left.ends_with("has left the room tea"), "{left}");
    }
}

#[tokio::test]
async fn a_line_that_is_not_delivered_is_told_and_costs_the_others_nothing() {
    let server = Hubcast::start(&[]).await;
    let input = format!("one\n{}\ntwo\n", "ä".repeat(4001));
    let (code, stdout, stderr) = ended(server.url(), &input, &[]).await;
    assert_eq!((code, &*stdout), (1, "ada: one\nada: two\n"));
    assert!(stderr.contains("at most 4000 characters"), "{stderr}");
    assert!(stderr.contains("1 of the lines"), "{stderr}");
}

#[tokio::test]
async fn output_that_cannot_be_written_is_an_error() {
    let server = Hubcast::start(&[]).await;
    let mut command = command();
    let url = format!("{}/chatHub", server.url());
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let child = command
        .args(["chat", &url])
        .stdin(Stdio::piped())
        .stdout(full);
    let mut child = child.stderr(Stdio::piped()).spawn().unwrap();
    // The input stays open: nothing else ends it.
    let mut input = child.stdin.take().unwrap();
    writeln!(input, "hello").unwrap();
    let waiting = tokio::task::spawn_blocking(move || child.wait_with_output());
    let output = within(DEADLINE, "the end", waiting).await.unwrap().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("standard output cannot be written"), "{told}");
}

#[tokio::test]
async fn who_is_thrown_out_is_told_so() {
    let base = bouncer::start().await;
    let refused = format!("{}\n", bouncer::REFUSED);
    let (code, _, stderr) = ended(&base, &refused, &[]).await;
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("no ␛[31mrudeness"), "{stderr}");
    let (mut ada, mut to_ada) = chat(&base, "ada", &[]);
    writeln!(to_ada, "hello").unwrap();
    // The input stays open: it ends because there is no connection any more.
    assert_eq!(ada.exit(DEADLINE).await.code(), Some(1));
    tells(&mut ada, "the server has closed the connection").await;
}

/// A server that answers every request with these bytes, and hangs up; its address, and what it is asked.
async fn answering(answer: &'static str) -> (String, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let (sender, asked) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let length = socket.read(&mut request).await.unwrap_or(0);
            let _ =
                sender.send(String::from_utf8_lossy(request.get(..length).unwrap()).into_owned());
            let _ = socket.write_all(answer.as_bytes()).await;
        }
    });
    (base, asked)
}

#[tokio::test]
async fn without_a_connection_it_says_what_to_do() {
    let server = Hubcast::start(&[]).await;
    let elsewhere = format!("{}/elsewhere", server.url());
    let (no_http, _asked) = answering("SSH-2.0-nonsense\r\n").await;
    let (hostile, _asked) =
        answering("HTTP/1.1 200 OK\r\ncontent-length: 24\r\n\r\n{\"error\":\"no \\u001b[2J\"}")
            .await;
    for (base, text) in [
        ("http://127.0.0.1:1", "is a server running there?"),
        ("https://127.0.0.1:1", "is a server running there?"),
        ("nonsense", "such as http://"),
        (&elsewhere, "at /chatHub"),
        (&no_http, "HTTP"),
        (&hostile, "no ␛[2J"),
    ] {
        let (code, stdout, stderr) = ended(base, "hello\n", &[]).await;
        assert_eq!((code, &*stdout), (1, ""), "{base}: {stderr}");
        assert!(stderr.contains(text), "{base}: {stderr}");
        assert!(!stderr.contains("panicked"), "{base}: {stderr}");
        assert!(!stderr.contains('\x1b'), "{base}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{base}: {stderr}");
    }
}

#[tokio::test]
async fn a_token_is_shown_to_the_server_alone() {
    let (base, mut asked) =
        answering("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n").await;
    let (code, _, stderr) = ended(&base, "", &["--token", "geheim"]).await;
    assert_eq!(code, 1);
    assert!(stderr.contains("--token"), "{stderr}");
    assert!(!stderr.contains("geheim"), "{stderr}");
    let request = asked.recv().await.unwrap().to_lowercase();
    assert!(
        request.contains("authorization: bearer geheim"),
        "{request}"
    );

    let mut help = command();
    help.args(["chat", "--help"]).env("HUBCAST_TOKEN", "geheim");
    let mut help = Process::start("hubcast chat --help", help);
    assert_eq!(help.exit(DEADLINE).await.code(), Some(0));
    assert!(help.stdout().contains("HUBCAST_TOKEN"));
    assert!(!help.stdout().contains("geheim"));
}

#[tokio::test]
async fn names_and_rooms_that_cannot_be_are_refused() {
    for (flag, wrong, reason) in [
        ("--user", "system", "the server's name"),
        ("--user", " ", "visible"),
        ("--room", "", "visible"),
    ] {
        let mut command = command();
        command.args(["chat", flag, wrong]);
        let mut process = Process::start("hubcast chat", command);
        assert_eq!(process.exit(DEADLINE).await.code(), Some(2));
        assert!(process.stderr().contains(reason), "{}", process.stderr());
    }
}
