//! A value that is asked for as all kinds of things.

use std::collections::HashMap;

use hubcast_protocol::{Encoding, HubMessage, Timestamp, Value};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

#[derive(Debug, Deserialize)]
#[serde(rename = "_ExtStruct")]
struct Extension(#[expect(dead_code)] (i8, IgnoredAny));

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
#[expect(dead_code)]
struct Person {
    name: String,
    age: Option<u8>,
    born: Option<Timestamp>,
    friend: Option<Box<Person>>,
    #[serde(flatten)]
    more: HashMap<String, Untagged>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
#[expect(dead_code)]
enum Untagged {
    Number(i64),
    Text(String),
    Time(Timestamp),
    List(Vec<Untagged>),
    Other(IgnoredAny),
}

#[derive(Debug, Deserialize)]
#[expect(dead_code)]
enum Tagged {
    Point,
    Circle(u8),
    Line(u8, f32),
    Box { inner: Box<Tagged> },
}

/// Any answer will do, but for a time, which must be the same after it was written and read again.
pub(crate) fn decode_as_anything(value: Value<'_>) {
    let _ = value.decode::<IgnoredAny>();
    let _ = value.decode::<Option<Option<u8>>>();
    let _ = value.decode::<()>();
    let _ = value.decode::<char>();
    let _ = value.decode::<&str>();
    let _ = value.decode::<String>();
    let _ = value.decode::<Vec<u8>>();
    let _ = value.decode::<Vec<(i8,)>>();
    let _ = value.decode::<Vec<(Timestamp, i16)>>();
    let _ = value.decode::<(i128, u128, f32)>();
    let _ = value.decode::<HashMap<String, Tagged>>();
    let _ = value.decode::<Vec<Extension>>();
    let _ = value.decode::<Extension>();
    let _ = value.decode::<Person>();
    let _ = value.decode::<Untagged>();
    let _ = value.decode::<Tagged>();
    if let Ok(read) = value.decode::<serde_json::Value>() {
        // What is a value of JSON is so as its text, too.
        let text: Box<RawValue> = value.decode().unwrap();
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(text.get()).unwrap(),
            read
        );
    }
    if let Ok(time) = value.decode::<Timestamp>() {
        for encoding in Encoding::ALL {
            assert_eq!(written_and_read(encoding, time), time);
        }
    }
}

fn written_and_read(encoding: Encoding, time: Timestamp) -> Timestamp {
    let mut message = Vec::new();
    encoding
        .write_stream_item(&mut message, "1", &time)
        .unwrap();
    // A separator behind it, or a length of one byte in front of it.
    let message = match encoding {
        Encoding::Json => message.split_last().unwrap().1,
        Encoding::MessagePack => message.split_first().unwrap().1,
    };
    match encoding.parse(message) {
        Ok(HubMessage::StreamItem(item)) => item.item.decode().unwrap(),
        other => panic!("{other:?}"),
    }
}
