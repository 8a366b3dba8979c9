use amq_protocol::frame::parse_frame;
use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_oneof};
use proptest::proptest;
use proptest::sample::select;

use super::Frames;

/// A value of arrays (`A`) or tables (`F`) in each other.
fn nested(kind: u8, levels: usize) -> Vec<u8> {
    (0..levels).fold(vec![b'V'], |inner, _| {
        let name: &[u8] = if kind == b'F' { &[0] } else { &[] };
        let length = u32::try_from(name.len() + inner.len()).unwrap();
        [&[kind], &length.to_be_bytes()[..], name, &inner].concat()
    })
}

/// A string of so many bytes.
fn string(length: u32) -> Vec<u8> {
    [
        b"S",
        &length.to_be_bytes()[..],
        &vec![b'x'; length as usize],
    ]
    .concat()
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    [&[kind, 0, 1], &length.to_be_bytes()[..], payload, &[0xCE]].concat()
}

/// A message of one byte, and its properties with their flags.
fn message(flags: u16, properties: &[u8]) -> Vec<u8> {
    let content = [
        &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        &flags.to_be_bytes()[..],
        properties,
    ]
    .concat();
    [frame(2, &content), frame(3, b"m")].concat()
}

/// One header, `h`.
fn headers(value: &[u8]) -> Vec<u8> {
    let length = u32::try_from(2 + value.len()).unwrap();
    [&length.to_be_bytes()[..], &[1, b'h'], value].concat()
}

/// What can be read of what has come, in pieces of several lengths.
fn passed(bytes: &[u8]) -> Vec<u8> {
    passed_within(0, bytes)
}

/// The same where frames may have so many bytes.
fn passed_within(frame_max: u32, bytes: &[u8]) -> Vec<u8> {
    let mut outcomes = [1, 7, 1000, usize::MAX].map(|length| {
        let mut frames = Frames::new(frame_max);
        let mut out = Vec::new();
        for piece in bytes.chunks(length.min(bytes.len().max(1))) {
            frames.pass(piece, &mut out).unwrap();
        }
        out
    });
    let last = std::mem::take(&mut outcomes[3]);
    assert!(outcomes[..3].iter().all(|outcome| *outcome == last));
    last
}

const HEADERS: u16 = 1 << 13;
const DELIVERY_MODE: u16 = 1 << 12;
const MESSAGE_ID: u16 = 1 << 7;
const TIMESTAMP: u16 = 1 << 6;

#[test]
fn what_can_be_read_comes_as_it_was_sent() {
    let every_kind = [
        &b"t\x01b\x01B\x01s\0\x01U\0\x01u\0\x01I\0\0\0\x01i\0\0\0\x01"[..],
        b"l\0\0\0\0\0\0\0\x01L\0\0\0\0\0\0\0\x01f\0\0\0\0d\0\0\0\0\0\0\0\0D\0\0\0\0\0",
        b"T\0\0\0\0\0\0\0\x01VS\0\0\0\x02\xFF\xFEx\0\0\0\x01\xFF",
        &nested(b'A', 5),
        &nested(b'F', 5),
    ]
    .concat();
    let length = u32::try_from(every_kind.len()).unwrap();
    let array = [&b"A"[..], &length.to_be_bytes(), &every_kind].concat();
    let properties = [&headers(&array)[..], &[2], b"\x02id", &[0; 8]].concat();
    let flags = HEADERS | DELIVERY_MODE | MESSAGE_ID | TIMESTAMP;
    for bytes in [
        message(flags, &properties),
        message(0, &[]),
        message(HEADERS, &[0, 0, 0, 0]),
        message(HEADERS, &headers(&string(65_000))),
        message(HEADERS, &headers(&nested(b'A', 32))),
        // Of every other kind.
        frame(8, &[]),
        frame(3, &vec![0xCE; 131_064]),
        frame(1, &[0, 10, 0, 10, 0, 9]),
        frame(1, b""),
        b"AMQP\0\0\x09\x01 and what else there is".to_vec(),
    ] {
        assert!(passed(&bytes) == bytes);
    }
}

#[test]
fn what_cannot_be_read_is_left_out_and_the_rest_comes() {
    let flags = HEADERS | DELIVERY_MODE | TIMESTAMP;
    let all = |flags, headers: &[u8], id: &[u8]| {
        let properties = [headers, &[2], id, &[1, 2, 3, 4, 5, 6, 7, 8]].concat();
        message(flags, &properties)
    };
    let entries = |entries: &[&[u8]]| {
        let entries = entries.concat();
        let length = u32::try_from(entries.len()).unwrap();
        [&length.to_be_bytes()[..], &entries].concat()
    };
    let entry = |name: &[u8], value: &[u8]| {
        let length = u8::try_from(name.len()).unwrap();
        [&[length], name, value].concat()
    };
    let (first, last) = (entry(b"first", b"t\x01"), entry(b"last", b"V"));
    for (illegible, is_last_kept) in [
        (entry(b"h", &string(65_600)), true),
        (entry(b"h", &string(131_000)), true),
        (entry(b"h", &nested(b'A', 33)), true),
        (entry(b"h", &nested(b'F', 33)), true),
        (entry(b"h", &nested(b'A', 13_000)), true),
        (entry(b"h", b"A\0\0\0\x02V?"), true),
        (entry(b"h", b"F\0\0\0\x03\x01\xFFV"), true),
        (entry(b"\xFF", b"V"), true),
        // A value of no kind, and one that is longer than the table: where the next one begins is not known.
        (entry(b"h", b"?"), false),
        (entry(b"h", b"S\xFF\xFF\xFF\xFFx"), false),
    ] {
        let sent = entries(&[&first, &illegible, &last]);
        let sent = all(flags | MESSAGE_ID, &sent, b"\x02\xFF\xFE");
        let kept: &[&[u8]] = if is_last_kept {
            &[&first, &last]
        } else {
            &[&first]
        };
        let outcome = passed(&sent) == all(flags, &entries(kept), b"");
        assert!(outcome, "{:?}", illegible.get(..20).unwrap_or(&illegible));
    }
    // Each of them fits, and not both of them.
    let (a, b) = (entry(b"a", &string(40_000)), entry(b"b", &string(40_000)));
    let sent = all(flags, &entries(&[&a, &b, &last]), b"");
    assert!(passed(&sent) == all(flags, &entries(&[&a, &last]), b""));
}

#[test]
fn what_has_no_end_is_left_out_with_all_that_is_behind_it() {
    let flags = HEADERS | DELIVERY_MODE | MESSAGE_ID;
    for (properties, kept) in [
        (&b"\0\0\0\x06V\x02\x02id"[..], message(0, &[])),
        (b"\0\0\0\x05V\x02\x02id", message(HEADERS, &[0; 4])),
        (
            b"\0\0\0\0\x02\x05id",
            message(HEADERS | DELIVERY_MODE, &[0, 0, 0, 0, 2]),
        ),
        (b"", message(0, &[])),
    ] {
        assert!(passed(&message(flags, properties)) == kept);
    }
    // Bytes behind the last property, and a property that does not exist.
    let id = message(MESSAGE_ID, b"\x02id");
    assert!(passed(&message(MESSAGE_ID, b"\x02id and more")) == id);
    assert!(passed(&message(MESSAGE_ID | 1, b"\x02id")) == id);
}

#[test]
fn where_a_message_was_published_to_can_be_read_and_keeps_its_length() {
    let number = [7; 8];
    let deliver = [&[0, 60, 0, 60, 1, b'c'], &number[..], &[0]].concat();
    let got = [&[0, 60, 0, 71], &number[..], &[0]].concat();
    let returned = [&[0, 60, 0, 50, 1, 56], &b"\x04text"[..]].concat();
    for (beginning, end) in [
        (deliver, &b""[..]),
        (got, &b"\0\0\0\x01"[..]),
        (returned, &b""[..]),
    ] {
        let method =
            |exchange: &[u8], key: &[u8]| frame(1, &[&beginning[..], exchange, key, end].concat());
        let fine = method("\x03\u{20ac}".as_bytes(), b"\x02ab");
        assert!(passed(&fine) == fine);
        let mended = passed(&method(b"\x02\xFFx", b"\x03a\xC3\xC3"));
        assert!(mended == method(b"\x02?x", b"\x03a??"), "{mended:?}");
        // A length that is not true.
        let short = method(b"\x02\xFFx", b"\xFFab");
        assert_eq!(passed(&short).len(), short.len());
    }
}

#[test]
fn why_rabbitmq_closes_something_can_be_read_though_it_is_cut_in_a_character() {
    let text = |text: &[u8]| [&[u8::try_from(text.len()).unwrap()], text].concat();
    let long = "no exchange '\u{fc}\u{fc}".as_bytes();
    for (beginning, end) in [
        (&[0, 20, 0, 40, 1, 148][..], &[0, 40, 0, 10][..]),
        (&[0, 10, 0, 50, 1, 148], &[0, 0, 0, 0]),
        (&[0, 10, 0, 60], &[]),
    ] {
        let method = |why: &[u8]| frame(1, &[beginning, &text(why), end].concat());
        let fine = method(long);
        assert!(passed(&fine) == fine);
        let cut = [&long[..long.len() - 1], b"..."].concat();
        for (sent, comes) in [
            (&long[..long.len() - 1], "no exchange '\u{fc}?"),
            (&cut, "no exchange '\u{fc}?..."),
            (b"\xFFa\xE2\x82b\xC3", "?a??b?"),
        ] {
            let bytes = passed(&method(sent));
            assert!(bytes == method(comes.as_bytes()), "{bytes:?}");
            assert!(parse_frame(&bytes[..]).unwrap().0.is_empty());
        }
    }
}

/// RabbitMQ says how many bytes a frame may have.
fn tune(frame_max: u32) -> Vec<u8> {
    let frame_max = frame_max.to_be_bytes();
    let tune = [&[0, 10, 0, 30, 7, 255], &frame_max[..], &[0, 60]].concat();
    frame(1, &tune)
}

#[test]
fn headers_have_to_fit_twice_into_a_frame_however_short_those_are() {
    let large = message(HEADERS, &headers(&string(5000)));
    let nothing = message(HEADERS, &[0, 0, 0, 0]);
    for (ours, theirs, comes) in [
        (0, 0, &large),
        (0, 131_072, &large),
        (131_072, 0, &large),
        (0, 8192, &nothing),
        (8192, 0, &nothing),
        (8192, 131_072, &nothing),
        (131_072, 8192, &nothing),
    ] {
        let tune = tune(theirs);
        let passed = passed_within(ours, &[&tune[..], &large].concat());
        assert!(passed == [&tune[..], comes].concat(), "{ours}, {theirs}");
    }
}

#[test]
fn what_this_program_has_written_is_kept_whatever_others_have_written_beside_it() {
    let entry = |name: &[u8], value: &[u8]| {
        let length = u8::try_from(name.len()).unwrap();
        [&[length], name, value].concat()
    };
    let ours = [
        entry(b"x-hubcast-attempts", b"l\0\0\0\0\0\0\0\x02"),
        entry(b"x-hubcast-reason", &string(1000)),
    ]
    .concat();
    let table = |entries: &[&[u8]]| {
        let entries = entries.concat();
        let length = u32::try_from(entries.len()).unwrap();
        message(HEADERS, &[&length.to_be_bytes()[..], &entries].concat())
    };
    for (frame_max, most) in [(0, 65_536), (131_072, 65_536), (4096, 2048)] {
        // With its name and its kind.
        let theirs = entry(b"h", &string(most - 7));
        let all = table(&[&theirs, &ours]);
        assert!(passed_within(frame_max, &all) == all, "{frame_max}");
        let theirs = entry(b"h", &string(most - 6));
        let outcome = passed_within(frame_max, &table(&[&theirs, &ours]));
        assert!(outcome == table(&[&ours]), "{frame_max}");
    }
    // Others can choose such a name, too.
    let large = entry(b"x-hubcast-reason", &string(5000));
    let last = entry(b"last", b"V");
    assert!(passed(&table(&[&ours, &large, &last])) == table(&[&ours, &last]));
}

#[test]
fn a_frame_that_is_too_long_to_be_looked_into_ends_the_connection() {
    let mut frames = Frames::new(0);
    let mut out = Vec::new();
    frames.pass(&[2, 0, 1, 1, 0, 0], &mut out).unwrap();
    assert!(frames.pass(&[1], &mut out).is_err());
    assert!(out.is_empty());
}

/// Bytes that often mean something: small lengths, kinds of values, and what is no UTF-8.
fn meaningful() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        4 => proptest::strategy::Just(0_u8),
        4 => select(b"tbBsUuIilLfdDSATFxV".to_vec()),
        3 => 1..8_u8,
        1 => any::<u8>(),
    ];
    vec(byte, 0..120)
}

proptest! {
    #[test]
    fn whatever_stands_beside_a_message_lapin_can_read_it(
        flags in any::<u16>(),
        properties in meaningful(),
        value in meaningful(),
        kind in select(b"SxAF".to_vec()),
        levels in 0..3000_usize,
        frame_max in select(vec![0, 4096, 131_072]),
    ) {
        let length = u32::try_from(value.len()).unwrap();
        let value = [&[kind], &length.to_be_bytes()[..], &value].concat();
        for sent in [
            message(flags, &properties),
            message(HEADERS, &headers(&value)),
            message(HEADERS, &headers(&nested(kind, levels))),
        ] {
            let bytes = passed_within(frame_max, &sent);
            let mut rest = &bytes[..];
            for _ in 0..2 {
                (rest, _) = parse_frame(rest).unwrap();
            }
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn whatever_stands_beside_a_message_it_fits_into_a_frame(
        texts in vec(0..=255_u8, 10),
        entries in vec((select(vec!["h", "x-hubcast-reason"]), 0..3000_u32), 0..8),
        (ours, theirs) in (4096..9000_u32, 4096..9000_u32),
    ) {
        let mut texts = texts
            .into_iter()
            .map(|length| [&[length], &vec![b'x'; length.into()][..]].concat());
        let table: Vec<u8> = entries
            .into_iter()
            .flat_map(|(name, length)| {
                [&[u8::try_from(name.len()).unwrap()], name.as_bytes(), &string(length)].concat()
            })
            .collect();
        let length = u32::try_from(table.len()).unwrap();
        let mut properties: Vec<u8> = texts.by_ref().take(2).flatten().collect();
        properties.extend(length.to_be_bytes());
        properties.extend(table);
        properties.extend([2, 0]);
        properties.extend(texts.by_ref().take(4).flatten());
        properties.extend([0; 8]);
        properties.extend(texts.flatten());
        let tune = tune(theirs);
        let sent = [&tune[..], &message(0xFFFC, &properties)].concat();
        let bytes = passed_within(ours, &sent);
        let (rest, _) = parse_frame(&bytes[tune.len()..]).unwrap();
        let length = bytes.len() - tune.len() - rest.len();
        assert!(length <= ours.min(theirs) as usize, "{length} of {ours} and {theirs}");
        // The message itself.
        assert!(parse_frame(rest).unwrap().0.is_empty());
    }

    #[test]
    fn why_ever_rabbitmq_closes_something_lapin_can_read_it(why in vec(any::<u8>(), 0..255)) {
        let text = [&[u8::try_from(why.len()).unwrap()], &why[..]].concat();
        for (beginning, end) in [
            (&[0, 20, 0, 40, 1, 148][..], &[0; 4][..]),
            (&[0, 10, 0, 50, 1, 148], &[0; 4]),
            (&[0, 10, 0, 60], &[]),
        ] {
            let bytes = passed(&frame(1, &[beginning, &text, end].concat()));
            let (rest, _) = parse_frame(&bytes[..]).unwrap();
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn wherever_a_message_was_published_to_lapin_can_read_it(
        exchange in vec(any::<u8>(), 0..255),
        key in vec(any::<u8>(), 0..255),
    ) {
        let text = |bytes: &[u8]| [&[u8::try_from(bytes.len()).unwrap()], bytes].concat();
        let number = [7; 8];
        let delivery = [&[0, 60, 0, 60][..], &text(b"c"), &number, &[0], &text(&exchange), &text(&key)];
        let bytes = passed(&frame(1, &delivery.concat()));
        let (rest, _) = parse_frame(&bytes[..]).unwrap();
        assert!(rest.is_empty());
    }
}
