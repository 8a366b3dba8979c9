//! Raw WebSockets to the letter of RFC 6455: what is sent, and every byte that comes back.

use end_to_end::wire::{
    BINARY, CLOSE, CONTINUATION, FINAL, PING, PONG, TEXT, closed_with, frame, header, unmasked,
};
use end_to_end::{Hubcast, Wire};

/// Where texts come back unchanged.
const PATH: &str = "/echo?raw=1";

/// How much is sent byte by byte, too: longer cases would only take longer.
const SHORT: usize = 300;

/// What is sent, and what comes back before the end.
struct Case {
    what: String,
    sent: Vec<u8>,
    answers: Vec<u8>,
    /// The code with which the server ends it by itself; else the client says goodbye behind what it has sent.
    fails: Option<u16>,
}

/// Everything is right, and answered so.
fn fine(what: impl Into<String>, sent: &[Vec<u8>], answers: &[Vec<u8>]) -> Case {
    Case {
        what: what.into(),
        sent: sent.concat(),
        answers: answers.concat(),
        fails: None,
    }
}

/// The last byte of this is wrong.
fn fails(code: u16, what: impl Into<String>, sent: &[Vec<u8>], answers: &[Vec<u8>]) -> Case {
    Case {
        fails: Some(code),
        ..fine(what, sent, answers)
    }
}

/// Tries every case on a connection of its own: sent at once, and sent byte by byte.
async fn all_hold(base: &str, cases: Vec<Case>) {
    for case in cases {
        let Case {
            what,
            mut sent,
            mut answers,
            fails,
        } = case;
        answers.extend(closed_with(fails.unwrap_or(1000)));
        if fails.is_none() {
            sent.extend(frame(CLOSE, &1000_u16.to_be_bytes()));
        }
        let pieces: &[usize] = if sent.len() <= SHORT {
            &[usize::MAX, 1]
        } else {
            &[usize::MAX]
        };
        for piece in pieces {
            let wire = Wire::open(base, PATH).await;
            let pieces: Vec<_> = sent.chunks(*piece).collect();
            wire.exchange(&pieces, &answers, &what).await;
        }
    }
}

#[tokio::test]
async fn frames_of_every_length_come_back() {
    let server = Hubcast::start(&[]).await;
    let mut cases = Vec::new();
    for length in [0, 1, 2, 124, 125, 126, 127, 128, 65_535, 65_536, 65_537] {
        let text = b"*".repeat(length);
        let binary = b"\xFE".repeat(length);
        for (first, payload) in [(TEXT, text), (BINARY, binary)] {
            cases.push(fine(
                format!("{first:#x} of {length} bytes"),
                &[frame(first, &payload)],
                &[unmasked(first, &payload)],
            ));
        }
    }
    for first in [TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG] {
        cases.push(fails(
            1002,
            format!("{first:#x} without a mask"),
            &[unmasked(first, b"")],
            &[],
        ));
    }
    cases.push(fails(
        1002,
        "a length that is negative",
        &[header(BINARY, 1 << 63)],
        &[],
    ));
    all_hold(server.url(), cases).await;
}

#[tokio::test]
async fn pings_are_answered_and_pongs_are_not() {
    let server = Hubcast::start(&[]).await;
    let mut cases = Vec::new();
    let longest = [0xFE; 125];
    for said in [&b""[..], b"Hello", b"\x00\xff\xfe\xfd", &longest] {
        cases.push(fine(
            format!("a ping of {} bytes", said.len()),
            &[frame(PING, said)],
            &[unmasked(PONG, said)],
        ));
        cases.push(fine(
            format!("a pong of {} bytes that nobody asked for", said.len()),
            &[frame(PONG, said), frame(PING, b"?")],
            &[unmasked(PONG, b"?")],
        ));
    }
    let numbers: Vec<_> = (0..10_u8).map(|number| [number]).collect();
    let pings: Vec<_> = numbers.iter().map(|said| frame(PING, said)).collect();
    let answers: Vec<_> = numbers.iter().map(|said| unmasked(PONG, said)).collect();
    cases.push(fine("ten pings", &pings, &answers));
    for first in [PING, PONG, CLOSE] {
        cases.push(fails(
            1002,
            format!("{first:#x} of 126 bytes, told by its header"),
            &[header(first, 126)],
            &[],
        ));
        cases.push(fails(
            1002,
            format!("{first:#x} in fragments"),
            &[header(first & !FINAL, 0)],
            &[],
        ));
    }
    all_hold(server.url(), cases).await;
}

#[tokio::test]
async fn reserved_bits_and_opcodes_are_refused() {
    let server = Hubcast::start(&[]).await;
    let mut cases = Vec::new();
    let before = [frame(TEXT, b"before"), frame(PING, b"and")];
    let answers = [unmasked(TEXT, b"before"), unmasked(PONG, b"and")];
    let mut refused = |what: String, first: u8| {
        cases.push(fails(1002, what.clone(), &[header(first, 0)], &[]));
        let sent = [before.concat(), header(first, 5)];
        cases.push(fails(1002, format!("{what}, later"), &sent, &answers));
        let sent = [frame(TEXT & !FINAL, b"begun"), header(first, 0)];
        cases.push(fails(1002, format!("{what}, within a message"), &sent, &[]));
    };
    for bits in 1..=7 {
        for first in [TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG] {
            refused(
                format!("the reserved bits {bits:03b} on {first:#x}"),
                first | bits << 4,
            );
        }
    }
    for opcode in (3..=7).chain(11..=15) {
        refused(format!("the opcode {opcode}"), FINAL | opcode);
        refused(format!("the opcode {opcode}, in fragments"), opcode);
    }
    all_hold(server.url(), cases).await;
}

#[tokio::test]
async fn fragments_are_put_together_in_the_right_order_only() {
    let server = Hubcast::start(&[]).await;
    let (text, binary, more) = (TEXT & !FINAL, BINARY & !FINAL, CONTINUATION & !FINAL);
    let mut cases = vec![
        fine(
            "control frames between fragments",
            &[
                frame(text, b"a"),
                frame(PING, b"1"),
                frame(more, b"b"),
                frame(PONG, b"2"),
                frame(PING, b"3"),
                frame(CONTINUATION, b"c"),
                frame(TEXT, b"d"),
            ],
            &[
                unmasked(PONG, b"1"),
                unmasked(PONG, b"3"),
                unmasked(TEXT, b"abc"),
                unmasked(TEXT, b"d"),
            ],
        ),
        fine(
            "empty fragments",
            &[
                frame(text, b""),
                frame(more, b""),
                frame(CONTINUATION, b""),
                frame(binary, b""),
                frame(more, b"x"),
                frame(CONTINUATION, b""),
            ],
            &[unmasked(TEXT, b""), unmasked(BINARY, b"x")],
        ),
        fine(
            "a thousand fragments",
            &[
                frame(binary, b""),
                frame(more, b"z").repeat(1000),
                frame(CONTINUATION, b""),
            ],
            &[unmasked(BINARY, &b"z".repeat(1000))],
        ),
    ];
    // Every order of up to four frames, each with its place for a payload; what is right of it is echoed, up to the first that is wrong.
    let kinds = [text, TEXT, binary, BINARY, more, CONTINUATION];
    let mut orders: Vec<Vec<u8>> = vec![vec![]];
    for _ in 0..4 {
        let longer = orders.iter().flat_map(|order| {
            kinds
                .iter()
                .map(move |kind| [order.as_slice(), &[*kind]].concat())
        });
        let longer: Vec<_> = longer.collect();
        cases.extend(longer.iter().filter_map(|order| in_order(order)));
        orders = longer;
    }
    all_hold(server.url(), cases).await;
}

/// What has to come of frames in this order; nothing if they are wrong before the last already, which a shorter order shows.
fn in_order(firsts: &[u8]) -> Option<Case> {
    let (mut sent, mut answers) = (Vec::new(), Vec::new());
    let mut open: Option<(u8, Vec<u8>)> = None;
    for (place, first) in (0..).zip(firsts) {
        let is_last = place + 1 == firsts.len();
        sent.push(frame(*first, &[b'a' + u8::try_from(place).ok()?]));
        let is_continuation = first & !FINAL == 0;
        if is_continuation != open.is_some() {
            // The header alone is enough.
            sent.pop();
            sent.push(header(*first, 1));
            return is_last.then(|| fails(1002, format!("{firsts:02x?}"), &sent, &answers));
        }
        let (kind, payload) = open.get_or_insert((first & 0x0F, Vec::new()));
        payload.push(b'a' + u8::try_from(place).ok()?);
        if first & FINAL != 0 {
            answers.push(unmasked(FINAL | *kind, payload));
            open = None;
        }
    }
    Some(fine(format!("{firsts:02x?}"), &sent, &answers))
}

#[tokio::test]
async fn valid_texts_come_back_wherever_they_are_split() {
    let server = Hubcast::start(&[]).await;
    let mut cases = Vec::new();
    let edges =
        "\u{0}\u{7f}\u{80}\u{7ff}\u{800}\u{d7ff}\u{e000}\u{fffd}\u{ffff}\u{10000}\u{10ffff}";
    for text in ["Hello-µ@ßöäüàá-UTF-8!!", "κόσμε", "世界, 🦀", edges] {
        let text = text.as_bytes();
        for split in 0..=text.len() {
            cases.push(fine(
                format!("split at {split}"),
                &[
                    frame(TEXT & !FINAL, &text[..split]),
                    frame(CONTINUATION, &text[split..]),
                ],
                &[unmasked(TEXT, text)],
            ));
        }
        let first = [frame(TEXT & !FINAL, b"")];
        let bytes = text
            .chunks(1)
            .map(|byte| frame(CONTINUATION & !FINAL, byte));
        let last = [frame(CONTINUATION, b"")];
        let sent: Vec<_> = first.into_iter().chain(bytes).chain(last).collect();
        cases.push(fine("a byte a frame", &sent, &[unmasked(TEXT, text)]));
    }
    all_hold(server.url(), cases).await;
}

#[tokio::test]
async fn invalid_texts_are_refused_at_their_first_wrong_byte() {
    let server = Hubcast::start(&[]).await;
    let mut cases = Vec::new();
    // Each ends with the byte that makes it wrong.
    for text in [
        &b"\x80"[..],
        b"\xbf",
        b"\xc0",
        b"\xc1",
        b"\xc3\x28",
        b"\xc3\xc3",
        b"\xe0\x80",
        b"\xe0\x9f",
        b"\xe1\x80\xc0",
        b"\xed\xa0",
        b"\xed\xbf",
        b"\xf0\x80",
        b"\xf0\x8f",
        b"\xf1\x80\x80A",
        b"\xf4\x90",
        b"\xf5",
        b"\xf8",
        b"\xfc",
        b"\xfe",
        b"\xff",
    ] {
        let text = ["κόσμε-".as_bytes(), text].concat();
        let (right, wrong) = text.split_at(text.len() - 1);
        let what = format!("{text:02x?}");
        // The rest of the frame never comes.
        let mut begun = frame(TEXT, &[&text[..], &[b'x'; 40]].concat());
        begun.truncate(begun.len() - 40);
        cases.push(fails(1007, format!("{what} in a frame"), &[begun], &[]));
        cases.push(fails(
            1007,
            format!("{what} in two"),
            &[
                frame(TEXT & !FINAL, right),
                frame(PING, b"so far so good"),
                frame(CONTINUATION & !FINAL, wrong),
            ],
            &[unmasked(PONG, b"so far so good")],
        ));
    }
    for whole in ["ü", "世", "🦀"] {
        for end in 1..whole.len() {
            let part = &whole.as_bytes()[..end];
            cases.push(fails(
                1007,
                format!("{end} bytes of {whole}"),
                &[frame(TEXT, part)],
                &[],
            ));
            cases.push(fails(
                1007,
                format!("{end} bytes of {whole}, and the end"),
                &[
                    frame(TEXT & !FINAL, part),
                    frame(PING, b""),
                    frame(CONTINUATION, b""),
                ],
                &[unmasked(PONG, b"")],
            ));
        }
    }
    cases.push(fine(
        "binary messages may be anything",
        &[frame(BINARY, b"\xff\xfe\xed\xa0\x80\xc3")],
        &[unmasked(BINARY, b"\xff\xfe\xed\xa0\x80\xc3")],
    ));
    all_hold(server.url(), cases).await;
}

#[tokio::test]
async fn goodbyes_are_answered_with_their_code() {
    let server = Hubcast::start(&[]).await;
    let mut cases = Vec::new();
    let edges = [
        0,
        1,
        999,
        1999,
        2000,
        2999,
        3000,
        3999,
        4000,
        4999,
        5000,
        u16::MAX,
    ];
    for code in (1000..=1020).chain(edges) {
        let allowed = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
        let answer = if allowed { code } else { 1002 };
        for reason in ["", "because"] {
            let said = [&code.to_be_bytes(), reason.as_bytes()].concat();
            cases.push(fails(
                answer,
                format!("{code} {reason}"),
                &[frame(CLOSE, &said)],
                &[],
            ));
        }
    }
    let longest = [&b"\x03\xe9"[..], &[b'*'; 123]].concat();
    cases.push(fails(
        1001,
        "the longest reason",
        &[frame(CLOSE, &longest)],
        &[],
    ));
    cases.push(fails(1002, "half a code", &[frame(CLOSE, b"\x03")], &[]));
    cases.push(fails(
        1007,
        "a reason that is no text",
        &[frame(CLOSE, b"\x03\xe8\xce\xba\xed\xa0\x80")],
        &[],
    ));
    cases.push(fails(
        1000,
        "what follows a goodbye is not looked at",
        &[
            frame(TEXT, b"before"),
            frame(CLOSE, b"\x03\xe8"),
            frame(PING, b"?"),
            frame(TEXT, b"after"),
            frame(CLOSE, b"\x03\xe9"),
            b"\xff\xff\xff\xff".to_vec(),
        ],
        &[unmasked(TEXT, b"before")],
    ));
    cases.push(fails(
        1000,
        "a goodbye within a message",
        &[frame(TEXT & !FINAL, b"begun"), frame(CLOSE, b"\x03\xe8")],
        &[],
    ));
    all_hold(server.url(), cases).await;

    let mut wire = Wire::open(server.url(), PATH).await;
    wire.send(&frame(CLOSE, b"")).await;
    let what = "a goodbye without a code has an answer without one";
    wire.ends_with(&unmasked(CLOSE, b""), what).await;
}

#[tokio::test]
async fn messages_are_as_long_as_they_may_be() {
    let small = Hubcast::start(&["--websocket-max-message", "1000"]).await;
    let usual = Hubcast::start(&[]).await;
    for (server, limit) in [(&small, 1000), (&usual, 1024 * 1024)] {
        let longest = b"x".repeat(limit);
        let (one, two) = longest.split_at(limit / 3);
        let cases = vec![
            fine(
                "the longest message",
                &[frame(TEXT, &longest)],
                &[unmasked(TEXT, &longest)],
            ),
            fine(
                "the longest message in fragments, twice",
                &[
                    frame(BINARY & !FINAL, one),
                    frame(CONTINUATION, two),
                    frame(BINARY & !FINAL, two),
                    frame(CONTINUATION, one),
                ],
                &[unmasked(BINARY, &longest), unmasked(BINARY, &longest)],
            ),
            fails(
                1009,
                "one byte more, told by its header",
                &[header(BINARY, limit as u64 + 1)],
                &[],
            ),
            fails(
                1009,
                "exabytes, told by their header",
                &[header(TEXT, u64::MAX >> 1)],
                &[],
            ),
            fails(
                1009,
                "one byte more in fragments",
                &[
                    frame(TEXT & !FINAL, one),
                    frame(CONTINUATION & !FINAL, two),
                    frame(PING, b"full"),
                    header(CONTINUATION, 1),
                ],
                &[unmasked(PONG, b"full")],
            ),
        ];
        all_hold(server.url(), cases).await;
    }
}
