//! `hubcast connect`: a WebSocket as it is, in pipes.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use std::fs::OpenOptions;
use std::io::Write;
use std::process::{ChildStdin, Stdio};

use end_to_end::Hubcast;
use end_to_end::hubcast::command;
use end_to_end::process::Process;
use end_to_end::wait::{DEADLINE, within};
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{WebSocketStream, accept_async};

fn connect(url: &str) -> (Process, ChildStdin) {
    let mut command = command();
    command.args(["connect", url]);
    Process::start_with_input("hubcast connect", command)
}

/// A program that connects, its input, and the server's end of its connection.
async fn connected() -> (Process, ChildStdin, WebSocketStream<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (process, input) = connect(&format!("Ws://{address}/path?query"));
    let accepting = async { accept_async(listener.accept().await.unwrap().0).await };
    let socket = within(DEADLINE, "a WebSocket", accepting).await.unwrap();
    (process, input, socket)
}

async fn next(socket: &mut WebSocketStream<TcpStream>) -> Option<Message> {
    let message = within(DEADLINE, "a message", socket.next()).await;
    message.map(Result::unwrap)
}

fn close(code: u16, reason: &str) -> Message {
    Message::Close(Some(CloseFrame {
        code: code.into(),
        reason: reason.into(),
    }))
}

async fn prints(process: &mut Process, line: &str) {
    let found = process.stdout_line(DEADLINE, line, |it| (it == line).then_some(()));
    found
        .await
        .unwrap_or_else(|| panic!("it ended before it printed {line:?}"));
}

#[tokio::test]
async fn lines_go_out_as_messages_and_messages_come_in_as_they_are() {
    let (mut process, mut input, mut socket) = connected().await;
    input.write_all("one\n\nexit not\n".as_bytes()).unwrap();
    for line in ["one", "", "exit not"] {
        assert_eq!(next(&mut socket).await, Some(Message::text(line)));
    }
    for message in [
        Message::text("answer \x1b[1m"),
        Message::binary(&b"1234"[..]),
        Message::Ping("p".into()),
        Message::text("ä"),
    ] {
        socket.send(message).await.unwrap();
    }
    for line in ["answer \x1b[1m", "<binary, 4 bytes>", "ä"] {
        prints(&mut process, line).await;
    }
    assert_eq!(next(&mut socket).await, Some(Message::Pong("p".into())));
}

#[tokio::test]
async fn exit_alone_and_the_end_of_the_input_close_and_wait_for_the_server() {
    for is_exit in [true, false] {
        let (mut process, mut input, mut socket) = connected().await;
        writeln!(input, "hello").unwrap();
        // With an `exit` the input need not end.
        let _input = if is_exit {
            writeln!(input, "exit\nnot sent").unwrap();
            Some(input)
        } else {
            drop(input);
            None
        };
        assert_eq!(next(&mut socket).await, Some(Message::text("hello")));
        // Reading the close has it answered, but what is said before that arrives.
        socket.feed(Message::text("late")).await.unwrap();
        assert_eq!(next(&mut socket).await, Some(close(1000, "")));
        assert!(within(DEADLINE, "the end", socket.next()).await.is_none());
        drop(socket);
        assert_eq!(process.exit(DEADLINE).await.code(), Some(0));
        assert_eq!(process.stdout(), "late\n");
        assert_eq!(process.stderr(), "hubcast: closed with 1000\n");
    }
}

#[tokio::test]
async fn how_the_server_closes_is_shown() {
    for (code, reason, exit, told) in [
        (1000, "", 0, "hubcast: closed with 1000\n"),
        (
            1000,
            "bye \x1b[2J",
            0,
            "hubcast: closed with 1000: bye ␛[2J\n",
        ),
        (
            4001,
            "no\r\nway",
            1,
            "closed the connection with 4001: no⏎way\n",
        ),
    ] {
        let (mut process, _input, mut socket) = connected().await;
        socket.send(Message::text("last words")).await.unwrap();
        socket.send(close(code, reason)).await.unwrap();
        assert!(matches!(next(&mut socket).await, Some(Message::Close(_))));
        drop(socket);
        assert_eq!(process.exit(DEADLINE).await.code(), Some(exit));
        assert_eq!(process.stdout(), "last words\n");
        assert!(process.stderr().ends_with(told), "{}", process.stderr());
    }
}

#[tokio::test]
async fn a_connection_that_is_cut_is_an_error() {
    let (mut process, _input, socket) = connected().await;
    drop(socket);
    assert_eq!(process.exit(DEADLINE).await.code(), Some(1));
    let told = process.stderr();
    assert!(told.contains("the connection is lost"), "{told}");
}

#[tokio::test]
async fn a_hub_can_be_spoken_to_by_hand() {
    let server = Hubcast::start(&[]).await;
    let (mut process, mut input) = connect(&format!("ws://{}/chatHub", server.authority()));
    writeln!(input, "{{\"protocol\":\"json\",\"version\":1}}\x1e").unwrap();
    prints(&mut process, "{}\x1e").await;
    writeln!(input, "exit").unwrap();
    assert_eq!(process.exit(DEADLINE).await.code(), Some(0));
}

#[tokio::test]
async fn an_echo_is_heard_to_the_last_before_the_end_of_the_input_closes() {
    let server = Hubcast::start(&[]).await;
    let (mut process, mut input) = connect(&format!("ws://{}/echo", server.authority()));
    let numbers: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
    writeln!(input, "{}", numbers.join("\n")).unwrap();
    drop(input);
    assert_eq!(process.exit(DEADLINE).await.code(), Some(0));
    let stdout = process.stdout();
    let echoes = stdout
        .lines()
        .map(|line| line.strip_prefix("Server Response: "));
    assert!(echoes.eq(numbers.iter().map(|number| Some(number.as_str()))));
}

#[tokio::test]
async fn a_line_that_cannot_be_sent_is_told_and_costs_the_others_nothing() {
    let server = Hubcast::start(&[]).await;
    let (mut process, mut input) = connect(&format!("ws://{}/echo", server.authority()));
    let mut lines = vec![b'x'; 1024 * 1024 + 1];
    lines.extend(b"\na\0b\xff\n");
    input.write_all(&lines).unwrap();
    drop(input);
    assert_eq!(process.exit(DEADLINE).await.code(), Some(1));
    let echo = "Server Response: a\0b\u{fffd}\n";
    assert_eq!(process.stdout(), echo);
    let told = process.stderr();
    assert!(told.contains("more than 1048576 bytes"), "{told}");
    assert!(told.contains("1 of the lines were not sent"), "{told}");
}

#[tokio::test]
async fn output_that_cannot_be_written_is_an_error_though_everything_else_went_well() {
    let server = Hubcast::start(&[]).await;
    let mut command = command();
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let child = command
        .args(["connect", &format!("ws://{}/echo", server.authority())])
        .stdin(Stdio::piped())
        .stdout(full);
    let mut child = child.stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    writeln!(input, "hello").unwrap();
    drop(input);
    let waiting = tokio::task::spawn_blocking(move || child.wait_with_output());
    let output = within(DEADLINE, "the end", waiting).await.unwrap().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("standard output cannot be written"), "{told}");
}

#[tokio::test]
async fn what_cannot_be_connected_to_is_refused_with_the_reason() {
    let server = Hubcast::start(&[]).await;
    let elsewhere = format!("ws://{}/", server.authority());
    let nameless = format!("{elsewhere}api/chat");
    for (url, reason) in [
        ("ws://127.0.0.1:1/", "is a server running there?"),
        ("WSS://127.0.0.1:1/", "is a server running there?"),
        ("http://127.0.0.1:1/", "begins with ws://"),
        ("nonsense", "begins with ws://"),
        ("ws://", "ws://127.0.0.1:8080/path"),
        ("ws://127.0.0.1:99999/", "1 to 65535"),
        ("ws://user:geheim@127.0.0.1/", "a host and a port"),
        (&elsewhere, "status 200; check the path"),
        (&nameless, "status 400 (The parameter 'nickname' is missing"),
    ] {
        let (mut process, _input) = connect(url);
        let code = process.exit(DEADLINE).await.code();
        let told = process.stderr();
        assert_eq!(code, Some(1), "{url}: {told}");
        assert!(told.contains(reason), "{url}: {told}");
        assert!(!told.contains("geheim"), "{url}: {told}");
        assert_eq!(told.lines().count(), 1, "{url}: {told}");
        if url == nameless {
            assert!(!told.contains("check the path"), "{told}");
        }
    }
}
