//! `hubcast chat` and `hubcast connect` at a terminal, as a person sees them.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

mod bouncer;

use end_to_end::hubcast::command;
use end_to_end::wait::{DEADLINE, within};
use end_to_end::{Client, Hubcast, Terminal};
use futures_util::{SinkExt, StreamExt};
use nix::sys::signal::Signal;
use tokio::net::TcpListener;
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;

const COLUMNS: u16 = 40;
const ROWS: u16 = 12;

/// A chat of ada in the room `tea`, which waits for her words.
async fn chat(base: &str, variables: &[(&str, &str)]) -> Terminal {
    let mut command = command();
    let url = format!("{base}/chatHub");
    command.args(["chat", &url, "--room", "tea", "--user", "ada"]);
    command
        .env_remove("NO_COLOR")
        .envs(variables.iter().copied());
    let terminal = Terminal::start("chat", command, COLUMNS, ROWS);
    // The input line may be there first.
    let greeting = "· in the room tea as ada; Ctrl-D leaves";
    let is_ready = |screen: &[String]| {
        let first_and_last = (screen.first(), screen.last());
        matches!(first_and_last, (Some(first), Some(last)) if first == greeting && last == "ada:")
    };
    terminal
        .shows("a greeting and an input line", is_ready)
        .await;
    terminal
}

/// The same, and somebody else who is in the room and whose coming is seen.
async fn chat_with_mira(server: &Hubcast) -> (Terminal, Client) {
    let terminal = chat(server.url(), &[]).await;
    let mut mira = Client::connect(server.url()).await;
    mira.join("tea").await;
    let short: String = mira.id().chars().take(6).collect();
    let joined = format!("· guest {short}… joined");
    terminal
        .shows(&joined, |screen| screen.contains(&joined))
        .await;
    (terminal, mira)
}

fn count(screen: &[String], line: &str) -> usize {
    screen.iter().filter(|it| *it == line).count()
}

/// Presses keys that leave, and checks that nothing is left behind.
async fn leaves_by(mut terminal: Terminal, keys: &str, code: i32) {
    assert!(!terminal.is_as_before());
    terminal.press(keys);
    assert_eq!(terminal.exit().await.code(), Some(code));
    assert!(terminal.is_as_before());
}

#[tokio::test]
async fn the_line_being_written_stays_whole_while_messages_arrive() {
    let server = Hubcast::start(&[]).await;
    let (mut ada, mut mira) = chat_with_mira(&server).await;
    ada.press("half a");
    ada.shows_last("ada: half a").await;
    for text in ["one", "two"] {
        mira.say("tea", "mira", text).await;
        mira.chat().await;
        let line = format!("mira: {text}");
        let screen = ada.shows(&line, |screen| screen.contains(&line)).await;
        assert_eq!(screen.last().unwrap(), "ada: half a");
        assert_eq!(count(&screen, "ada: half a"), 1, "{screen:#?}");
    }
    // The cursor is where it was, too: what is written now goes on there.
    ada.press(" line\r");
    assert_eq!(
        mira.chat().await,
        ("ada".to_owned(), "half a line".to_owned())
    );
    mira.say("tea", "mira", "heard").await;
    let screen = ada
        .shows("mira's answer", |screen| {
            screen.contains(&"mira: heard".to_owned())
        })
        .await;
    // Once, where it was written, although the room says it, too.
    assert_eq!(count(&screen, "ada: half a line"), 1, "{screen:#?}");
    ada.shows_last("ada:").await;
    let screen = ada.screen();
    let place = |line: &str| screen.iter().position(|it| it == line);
    assert!(
        place("mira: two") < place("ada: half a line"),
        "{screen:#?}"
    );
    assert!(
        place("ada: half a line") < place("mira: heard"),
        "{screen:#?}"
    );
    mira.leave("tea").await;
    ada.shows("mira's leaving", |screen| {
        screen.iter().any(|line| line.ends_with("… left"))
    })
    .await;
    leaves_by(ada, "\x04", 0).await;
}

#[tokio::test]
async fn lines_can_be_edited_and_called_back() {
    let server = Hubcast::start(&[]).await;
    let (mut ada, mut mira) = chat_with_mira(&server).await;
    ada.press("wrd");
    // Left twice, a letter between, to the end; then a mistake at the end is taken back.
    ada.press("\x1b[D\x1b[Do\x1b[Fx\x7f!\r");
    assert_eq!(mira.chat().await.1, "word!");
    // Nothing but blanks is nothing to say.
    ada.press("  \r");
    ada.press("\x1b[A\x1b[A again\r");
    assert_eq!(mira.chat().await.1, "word! again");
    leaves_by(ada, "unsaid\x03", 0).await;
    mira.say("tea", "mira", "the last").await;
    assert_eq!(mira.chat().await.1, "the last");
}

#[tokio::test]
async fn wide_characters_and_a_window_of_another_size_keep_the_line_in_place() {
    let server = Hubcast::start(&[]).await;
    let (mut ada, mut mira) = chat_with_mira(&server).await;
    ada.press("你好");
    ada.shows_last("ada: 你好").await;
    assert_eq!(
        ada.cursor().1,
        9,
        "five columns, and two for each character"
    );
    ada.press("\x1b[Dx");
    ada.shows_last("ada: 你x好").await;
    assert_eq!(ada.cursor().1, 8);
    ada.press("\x1b[F");
    // Longer than the window is wide, and than it will be.
    let rest = "0123456789".repeat(6);
    ada.press(&rest);
    let whole = format!("ada: 你x好{rest}");
    ada.shows("two rows", |screen| screen.concat().ends_with(&whole))
        .await;
    ada.resize(30, ROWS);
    ada.shows("three rows", |screen| {
        let rows = screen
            .get(screen.len().saturating_sub(3)..)
            .unwrap_or_default();
        rows.concat() == whole
    })
    .await;
    mira.say("tea", "mira", "你好 there").await;
    ada.shows("the message above", |screen| {
        let is_above = screen.iter().any(|row| row == "mira: 你好 there");
        is_above && screen.concat().ends_with(&whole)
    })
    .await;
    mira.chat().await;
    ada.press("!\r");
    assert_eq!(mira.chat().await.1, format!("你x好{rest}!"));
}

#[tokio::test]
async fn a_restart_is_told_and_what_was_written_meanwhile_is_sent() {
    let mut server = Hubcast::start_to_return(&[]).await;
    let mut ada = chat(server.url(), &[]).await;
    ada.press("draft");
    ada.shows_last("ada: draft").await;
    server.kill();
    let screen = ada
        .shows("reconnecting", |screen| {
            screen.concat().contains("reconnecting in 2 s")
        })
        .await;
    assert_eq!(screen.last().unwrap(), "ada: draft");
    ada.press(" 2\r");
    server.come_back().await;
    let mut mira = Client::connect(server.url()).await;
    mira.join("tea").await;
    let screen = ada
        .shows("back again", |screen| {
            screen.contains(&"· back again".to_owned())
        })
        .await;
    assert_eq!(count(&screen, "ada: draft 2"), 1, "{screen:#?}");
    assert_eq!(mira.chat().await.1, "draft 2");
    mira.say("tea", "mira", "hello").await;
    let screen = ada
        .shows("the room", |screen| {
            screen.contains(&"mira: hello".to_owned())
        })
        .await;
    assert_eq!(count(&screen, "ada: draft 2"), 1, "{screen:#?}");
}

#[tokio::test]
async fn colours_are_for_those_who_want_them_and_are_never_those_of_others() {
    let server = Hubcast::start(&[]).await;
    let coloured = chat(server.url(), &[]).await;
    let plain = chat(server.url(), &[("NO_COLOR", "1")]).await;
    let mut mallory = Client::connect(server.url()).await;
    let (user, text) = ("m\x1b[5m", "\x1b[41mred\x1b]0;title\x07\u{9b}2J");
    mallory.say("tea", user, text).await;
    mallory.say("tea", "m\r\nada", "\x1b[2J").await;
    for terminal in [&coloured, &plain] {
        // The screen leaves out what stands for a character that cannot be shown.
        let first = "m␛[5m: ␛[41mred␛]0;title␇2J";
        let second = "m⏎ada: ␛[2J".to_owned();
        let screen = terminal
            .shows("both messages", |screen| screen.contains(&second))
            .await;
        assert!(screen.contains(&first.to_owned()), "{screen:#?}");
        let bytes = terminal.bytes();
        for forbidden in ["\x1b[5m", "\x1b[41m", "\x1b]0", "\u{9b}", "\x1b[2J"] {
            assert!(!bytes.contains(forbidden), "{bytes:?}");
        }
    }
    assert!(coloured.bytes().contains("\x1b[2m"), "notes are faint");
    assert!(coloured.bytes().contains("\x1b[1;3"), "names have colours");
    assert!(!plain.bytes().contains("\x1b[2m"));
    assert!(!plain.bytes().contains("\x1b[1;3"));
}

#[tokio::test]
async fn a_terminal_is_left_as_it_was_found_however_the_chat_ends() {
    let server = Hubcast::start(&[]).await;
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut ada = chat(server.url(), &[]).await;
        ada.press("draft");
        ada.shows_last("ada: draft").await;
        ada.signal(signal);
        assert_eq!(ada.exit().await.code(), Some(0), "{signal}");
        assert!(ada.is_as_before(), "{signal}");
    }
}

#[tokio::test]
async fn who_is_thrown_out_is_told_so_below_the_last_line() {
    let base = bouncer::start().await;
    let mut ada = chat(&base, &[]).await;
    ada.press("hello\r");
    assert_eq!(ada.exit().await.code(), Some(1));
    assert!(ada.is_as_before());
    ada.shows("the reason", |screen| {
        let reason = "hubcast: the server has closed the connection";
        let text = screen.concat();
        text.contains("ada: hello") && text.contains(reason)
    })
    .await;
}

#[tokio::test]
async fn a_websocket_is_spoken_to_by_hand() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut command = command();
    command.args(["connect", &format!("ws://{address}/")]);
    let mut terminal = Terminal::start("connect", command, 60, ROWS);
    let accepting = async { accept_async(listener.accept().await.unwrap().0).await };
    let mut socket = within(DEADLINE, "a WebSocket", accepting).await.unwrap();
    terminal.shows_last(">").await;
    terminal.press("hel");
    terminal.shows_last("> hel").await;
    socket.send(Message::text("\x1b[2Ja\nb\x07")).await.unwrap();
    socket.send(Message::binary(&b"\x1b["[..])).await.unwrap();
    let screen = terminal
        .shows("both messages", |screen| {
            screen.contains(&"<binary, 2 bytes>".to_owned())
        })
        .await;
    for line in ["␛[2Ja", "b␇"] {
        assert_eq!(count(&screen, line), 1, "{screen:#?}");
    }
    terminal.shows_last("> hel").await;
    terminal.press("lo\rexit\r");
    let next = within(DEADLINE, "a message", socket.next()).await;
    assert_eq!(next.unwrap().unwrap(), Message::text("hello"));
    let next = within(DEADLINE, "a close", socket.next()).await;
    assert!(matches!(next, Some(Ok(Message::Close(Some(frame)))) if u16::from(frame.code) == 1000));
    assert!(within(DEADLINE, "the end", socket.next()).await.is_none());
    drop(socket);
    assert_eq!(terminal.exit().await.code(), Some(0));
    assert!(terminal.is_as_before());
    let closed = "· closed with 1000".to_owned();
    terminal
        .shows("the end", |screen| screen.contains(&closed))
        .await;
}

#[tokio::test]
async fn the_last_words_of_a_server_are_shown_before_the_program_ends() {
    for _ in 0..20 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut command = command();
        command.args(["connect", &format!("ws://{address}/")]);
        let mut terminal = Terminal::start("connect", command, 60, ROWS);
        let accepting = async { accept_async(listener.accept().await.unwrap().0).await };
        let mut socket = within(DEADLINE, "a WebSocket", accepting).await.unwrap();
        terminal.shows_last(">").await;
        for word in ["one", "two", "three"] {
            socket.feed(Message::text(word)).await.unwrap();
        }
        socket.close(None).await.unwrap();
        let answer = within(DEADLINE, "the answer to a close", socket.next()).await;
        assert!(matches!(answer, Some(Ok(Message::Close(_)))));
        drop(socket);
        // Without a code it is not known whether all is well.
        assert_eq!(terminal.exit().await.code(), Some(1));
        let screen = terminal
            .shows("the reason", |screen| {
                screen.concat().contains("without a code")
            })
            .await;
        let words = screen
            .iter()
            .filter(|it| ["one", "two", "three"].contains(&&***it));
        assert_eq!(words.count(), 3, "{screen:#?}");
    }
}
