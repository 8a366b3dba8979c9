//! Points in time: text in JSON, an extension in MessagePack, the same point in both.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic is the report of a test"
)]

mod bytes;

use std::time::{Duration, SystemTime};

use bytes::bytes;
use hubcast_protocol::framing::Records;
use hubcast_protocol::{Encoding, HubMessage, Timestamp};
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The item of a stream, as it is written.
fn encode<T: Serialize>(encoding: Encoding, value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    encoding.write_stream_item(&mut out, "1", value).unwrap();
    let mut records = Records::new();
    records.switch_to(encoding);
    records.push(&*out);
    let message = records.next(None).unwrap().unwrap();
    match encoding.parse(&message).unwrap() {
        HubMessage::StreamItem(item) => item.item.as_bytes().to_vec(),
        other => panic!("{other:?}"),
    }
}

fn decode<T: DeserializeOwned>(encoding: Encoding, value: &[u8]) -> Result<T, String> {
    let (open, close) = match encoding {
        Encoding::Json => (
            br#"{"type":2,"invocationId":"1","item":"#.to_vec(),
            &b"}"[..],
        ),
        Encoding::MessagePack => (bytes("94 02 80 a131"), &b""[..]),
    };
    let message = [&open, value, close].concat();
    match encoding.parse(&message).unwrap() {
        HubMessage::StreamItem(item) => item.item.decode().map_err(|error| error.to_string()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_encoding_has_its_own_form_and_messagepack_has_three() {
    for (seconds, nanoseconds, text, extension) in [
        (0, 0, "1970-01-01T00:00:00Z", "d6ff 00000000"),
        (1_700_000_000, 0, "2023-11-14T22:13:20Z", "d6ff 6553f100"),
        (
            1_700_000_000,
            123_000_000,
            "2023-11-14T22:13:20.123Z",
            "d7ff 1d535300 6553f100",
        ),
        ((1 << 32) - 1, 0, "2106-02-07T06:28:15Z", "d6ff ffffffff"),
        (1 << 32, 0, "2106-02-07T06:28:16Z", "d7ff 00000001 00000000"),
        (
            (1 << 34) - 1,
            999_999_999,
            "2514-05-30T01:53:03.999999999Z",
            "d7ff ee6b27ff ffffffff",
        ),
        (
            1 << 34,
            1,
            "2514-05-30T01:53:04.000000001Z",
            "c70cff 00000001 0000000400000000",
        ),
        (
            -1,
            500_000_000,
            "1969-12-31T23:59:59.5Z",
            "c70cff 1dcd6500 ffffffffffffffff",
        ),
        (
            -62_135_596_800,
            0,
            "0001-01-01T00:00:00Z",
            "c70cff 00000000 fffffff1886e0900",
        ),
        (
            253_402_300_799,
            999_999_999,
            "9999-12-31T23:59:59.999999999Z",
            "c70cff 3b9ac9ff 0000003afff4417f",
        ),
    ] {
        let time = Timestamp::new(seconds, nanoseconds).unwrap();
        assert_eq!(time.to_string(), text);
        let quoted = format!("\"{text}\"");
        assert_eq!(encode(Encoding::Json, &time), quoted.as_bytes());
        assert_eq!(decode(Encoding::Json, quoted.as_bytes()), Ok(time));
        assert_eq!(encode(Encoding::MessagePack, &time), bytes(extension));
        assert_eq!(decode(Encoding::MessagePack, &bytes(extension)), Ok(time));
        let text = encode(Encoding::MessagePack, &text);
        assert_eq!(decode(Encoding::MessagePack, &text), Ok(time));
    }
}

#[test]
fn a_time_is_read_in_each_form_whether_or_not_it_is_the_shortest() {
    for longer in [
        "d7ff 00000000 6553f100",
        "c70cff 00000000 000000006553f100",
        "c80004ff 6553f100",
        "c900000008ff 00000000 6553f100",
    ] {
        let time: Timestamp = decode(Encoding::MessagePack, &bytes(longer)).unwrap();
        assert_eq!((time.seconds(), time.nanoseconds()), (1_700_000_000, 0));
    }
    for (text, seconds) in [
        ("2023-11-14T23:13:20+01:00", 1_700_000_000),
        ("2023-11-15T22:13:19-23:59:59", 1_700_172_798),
        ("0001-01-01T00:00:00+00:00", -62_135_596_800),
        ("9999-12-31T23:59:59.9999999", 253_402_300_799),
        ("2023-11-14T22:13:20", 1_700_000_000),
        ("2023-11-14T22:13", 1_699_999_980),
        ("2023-11-14", 1_699_920_000),
    ] {
        let time: Timestamp = text.parse().unwrap();
        assert_eq!(time.seconds(), seconds, "{text}");
    }
}

#[test]
fn what_is_no_time_is_refused() {
    for extension in [
        // Another type.
        "d605 6553f100",
        // Lengths that the extension does not have.
        "d4ff 01",
        "d5ff 0101",
        "c700ff",
        "c70bff 0000000000000000000000",
        "d8ff 00000000000000000000000000000000",
        // A thousand million nanoseconds.
        "d7ff ee6b2800 00000000",
        "c70cff 3b9aca00 0000000000000000",
        // A second before the year 1, a second after the year 9999, and the ends of 64 bits.
        "c70cff 00000000 fffffff1886e08ff",
        "c70cff 00000000 0000003afff44180",
        "c70cff 00000000 8000000000000000",
        "c70cff 00000000 7fffffffffffffff",
        // No extension.
        "01",
        "c0",
        "91 d6ff 6553f100",
        "c404 6553f100",
        "a0",
    ] {
        let read = decode::<Timestamp>(Encoding::MessagePack, &bytes(extension));
        assert!(read.is_err(), "{extension}: {read:?}");
    }
    for json in [
        "1700000000",
        "null",
        r#""""#,
        r#""yesterday""#,
        r#""22:13:20""#,
        r#""2023-02-29T00:00:00Z""#,
        r#""2023-11-14T25:13:20Z""#,
        r#""2023-11-14T22:13:20+99:00""#,
        r#""2023-11-14T22:13:20-05:00[America/New_York]""#,
        r#""0000-12-31T23:59:59Z""#,
        r#""10000-01-01T00:00:00Z""#,
        r#""+010000-01-01T00:00:00Z""#,
        r#""-000001-01-01T00:00:00Z""#,
        r#""9999-12-31T23:59:59-01:00""#,
    ] {
        let read = decode::<Timestamp>(Encoding::Json, json.as_bytes());
        assert!(read.is_err(), "{json}: {read:?}");
    }
    assert_eq!(Timestamp::new(0, 1_000_000_000), None);
    assert_eq!(Timestamp::new(i64::MIN, 0), None);
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Event {
    at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
    #[serde(flatten)]
    more: More,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct More {
    seen: Vec<Timestamp>,
    either: Either,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Either {
    Number(i64),
    Time(Timestamp),
}

#[test]
fn times_may_be_anywhere_within_other_types() {
    let time = |seconds| Timestamp::new(seconds, 0).unwrap();
    let event = Event {
        at: time(1),
        until: Some(time(2)),
        more: More {
            seen: vec![time(3), time(4)],
            either: Either::Time(time(5)),
        },
    };
    for encoding in Encoding::ALL {
        let value = encode(encoding, &event);
        assert_eq!(decode::<Event>(encoding, &value).as_ref(), Ok(&event));
    }
    let json = encode(Encoding::Json, &event);
    assert!(
        json.starts_with(br#"{"at":"1970-01-01T00:00:01Z","until":"1970-01-01T00:00:02Z","#),
        "{}",
        json.escape_ascii()
    );
}

#[test]
fn times_of_the_machine_are_converted_in_both_directions() {
    let before = SystemTime::UNIX_EPOCH - Duration::from_millis(250);
    let time = Timestamp::try_from(before).unwrap();
    assert_eq!((time.seconds(), time.nanoseconds()), (-1, 750_000_000));
    assert_eq!(SystemTime::try_from(time), Ok(before));
    let far = SystemTime::UNIX_EPOCH + Duration::from_hours(100_000_000);
    assert!(Timestamp::try_from(far).is_err());
}

proptest! {
    #[test]
    fn every_time_survives_both_encodings_and_the_machine(
        seconds in -62_135_596_800i64..=253_402_300_799,
        nanoseconds in prop_oneof![Just(0), 0u32..1_000_000_000],
    ) {
        let time = Timestamp::new(seconds, nanoseconds).unwrap();
        for encoding in Encoding::ALL {
            let value = encode(encoding, &time);
            prop_assert_eq!(decode(encoding, &value), Ok(time));
        }
        prop_assert_eq!(time.to_string().parse(), Ok(time));
        prop_assert_eq!(SystemTime::try_from(time).unwrap().try_into(), Ok(time));
    }

    #[test]
    fn no_bytes_and_no_text_make_it_panic(
        seconds in any::<i64>(),
        nanoseconds in any::<u32>(),
        data in prop::collection::vec(any::<u8>(), 0..20),
        text in "[0-9TZ:+. \\[\\]-]{0,40}",
    ) {
        let _ = Timestamp::new(seconds, nanoseconds);
        let _ = text.parse::<Timestamp>();
        let kind = [0xC7, u8::try_from(data.len()).unwrap(), 0xFF];
        let _ = decode::<Timestamp>(Encoding::MessagePack, &[&kind, &*data].concat());
    }
}
