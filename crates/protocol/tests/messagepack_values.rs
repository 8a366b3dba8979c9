//! Values in MessagePack: what types become, and what they are made from.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic is the report of a test"
)]

mod bytes;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::IpAddr;

use bytes::bytes;
use hubcast_protocol::messagepack::{parse, write_stream_item};
use hubcast_protocol::{EncodeError, HubMessage};
use serde::de::DeserializeOwned;
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use uuid::Uuid;

/// Everything of a stream item but the item, its length in front.
const ITEM: &str = "94 02 80 a131";

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, EncodeError> {
    let mut out = Vec::new();
    write_stream_item(&mut out, "1", value)?;
    Ok(out.split_off(1 + bytes(ITEM).len()))
}

fn decode<T: DeserializeOwned>(value: &[u8]) -> Result<T, String> {
    let message = [&*bytes(ITEM), value].concat();
    match parse(&message).unwrap() {
        HubMessage::StreamItem(item) => item.item.decode().map_err(|error| error.to_string()),
        other => panic!("{other:?}"),
    }
}

/// The value becomes these bytes, and these bytes become the value.
fn both<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T, hex: &str) {
    assert_eq!(encode(value).unwrap(), bytes(hex), "{value:?}");
    assert_eq!(decode::<T>(&bytes(hex)).as_ref(), Ok(value), "{hex}");
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Empty;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Metres(f64);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Pair(u8, String);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Person {
    first_name: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    age: Option<u8>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Point,
    Circle(u8),
    Line(u8, u8),
    Box { w: u8 },
}

#[test]
fn simple_values_take_their_smallest_form() {
    both(&(), "c0");
    both(&Empty, "c0");
    both(&None::<u8>, "c0");
    both(&Some(7u8), "07");
    both(&true, "c3");
    both(&-1i8, "ff");
    both(&200i64, "ccc8");
    both(&i64::MIN, "d38000000000000000");
    both(&u64::MAX, "cfffffffffffffffff");
    both(&1.5f32, "ca3fc00000");
    both(&1.5f64, "cb3ff8000000000000");
    both(&'é', "a2c3a9");
    both(&"hi".to_owned(), "a26869");
    both(&Metres(1.5), "cb3ff8000000000000");
}

#[test]
fn structs_are_maps_and_enums_are_their_names() {
    let mut person = Person {
        first_name: "Al".into(),
        age: None,
    };
    both(&person, "81 a946697273744e616d65 a2416c");
    person.age = Some(7);
    both(&person, "82 a946697273744e616d65 a2416c a3416765 07");
    both(&Pair(1, "a".into()), "92 01 a161");
    both(&Shape::Point, "a5506f696e74");
    both(&Shape::Circle(1), "81 a6436972636c65 01");
    both(&Shape::Line(1, 2), "81 a44c696e65 92 01 02");
    both(&Shape::Box { w: 1 }, "81 a3426f78 81 a177 01");
    both(&vec![(1, false)], "91 92 01 c2");
    both(&BTreeMap::from([(1, "a".to_owned())]), "81 01 a161");
    // Unknown properties are skipped, whatever they are.
    let more = bytes("82 a178 91 d6ff6553f100 a946697273744e616d65 a2416c");
    assert_eq!(decode::<Person>(&more).unwrap().first_name, "Al");
}

#[test]
fn numbers_are_read_in_any_width_that_holds_them() {
    for hex in [
        "2a",
        "cc2a",
        "cd002a",
        "d02a",
        "d2000000 2a",
        "cf000000000000002a",
    ] {
        assert_eq!(decode(&bytes(hex)), Ok(42u8), "{hex}");
        assert_eq!(decode(&bytes(hex)), Ok(42i64), "{hex}");
        assert_eq!(decode(&bytes(hex)), Ok(42.0f64), "{hex}");
    }
    assert!(decode::<u8>(&bytes("cd0100")).is_err());
    assert!(decode::<i32>(&bytes("cb3ff8000000000000")).is_err());
    assert!(decode::<i32>(&bytes("a131")).is_err());
    assert!(decode::<String>(&bytes("01")).is_err());
    assert!(decode::<String>(&bytes("a1ff")).is_err());
}

/// What `serde_bytes` does.
#[derive(Debug, PartialEq)]
struct Blob(Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl serde::de::Visitor<'_> for Bytes {
            type Value = Blob;
            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

#[test]
fn bytes_are_bin_and_lists_of_numbers_are_arrays() {
    both(&Blob(vec![1, 2]), "c402 0102");
    both(&vec![1u8, 200], "92 01 ccc8");
    both(&(1u8, 200u8), "92 01 ccc8");
    assert_eq!(decode(&bytes("c402 0102")), Ok(vec![1u8, 2]));
}

#[test]
fn what_people_can_read_in_json_they_can_read_here() {
    let id: Uuid = "00010203-0405-0607-0706-050403020100".parse().unwrap();
    let text = "d924 30303031303230332d303430352d303630372d303730362d303530343033303230313030";
    both(&id, text);
    both(&Some(vec![id]), &format!("91 {text}"));
    both(&BTreeMap::from([(id, 1)]), &format!("81 {text} 01"));
    let address = IpAddr::from([127, 0, 0, 1]);
    both(&address, "a9 3132372e302e302e31");
    both(&(1, address), "92 01 a9 3132372e302e302e31");
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename = "_ExtStruct")]
struct Extension((i8, Blob));

#[test]
fn extensions_pass_through_unchanged() {
    let timestamp = Extension((-1, Blob(bytes("6553f100"))));
    both(&timestamp, "d6ff 6553f100");
    both(&vec![timestamp], "91 d6ff 6553f100");
    both(&Extension((5, Blob(vec![1, 2, 3]))), "c70305 010203");
}

#[test]
fn a_json_value_is_anything_that_json_has() {
    both(&Value::Null, "c0");
    both(
        &json!({"a": [1, -1, 1.5, "x", true, null, {}]}),
        "81 a161 97 01 ff cb3ff8000000000000 a178 c3 c0 80",
    );
    both(&json!(u64::MAX), "cfffffffffffffffff");
    assert_eq!(decode(&bytes("cb7ff0000000000000")), Ok(Value::Null));
    for hex in ["c40101", "d6ff6553f100", "81 01 02", "a1ff"] {
        assert!(decode::<Value>(&bytes(hex)).is_err(), "{hex}");
    }
}

#[test]
fn the_text_of_a_raw_value_is_written_as_the_value_it_says() {
    let raw: Box<RawValue> = serde_json::from_str(r#"{"a":[1, 1.5]}"#).unwrap();
    let expected = "81 a161 92 01 cb3ff8000000000000";
    assert_eq!(encode(&raw).unwrap(), bytes(expected));
    let nested = encode(&vec![Some(raw)]).unwrap();
    assert_eq!(nested, bytes(&format!("91 {expected}")));
}

#[test]
fn a_raw_value_is_read_as_json() {
    let value = bytes("82 a161 92 01 cb3ff8000000000000 a162 c0");
    let raw: Box<RawValue> = decode(&value).unwrap();
    assert_eq!(raw.get(), r#"{"a":[1,1.5],"b":null}"#);
    let raw: Option<Box<RawValue>> = decode(&value).unwrap();
    assert!(raw.is_some());
    assert!(
        decode::<Option<Box<RawValue>>>(&bytes("c0"))
            .unwrap()
            .is_none()
    );
    // Within other types only JSON has it.
    assert!(decode::<Vec<Box<RawValue>>>(&bytes("91 01")).is_err());
}

/// Writes two entries, or elements, and says what it likes of their number.
struct Says(Option<usize>, bool);

impl Serialize for Says {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.1 {
            let mut map = serializer.serialize_map(self.0)?;
            map.serialize_entry(&1, &2)?;
            map.serialize_entry(&3, &4)?;
            map.end()
        } else {
            let mut list = serializer.serialize_seq(self.0)?;
            list.serialize_element(&1)?;
            list.serialize_element(&2)?;
            list.end()
        }
    }
}

#[test]
fn a_length_is_counted_where_it_is_not_known_and_must_be_true_where_it_is() {
    assert_eq!(encode(&Says(None, false)).unwrap(), bytes("92 01 02"));
    assert_eq!(encode(&Says(None, true)).unwrap(), bytes("82 01 02 03 04"));
    assert_eq!(
        encode(&Says(Some(2), true)).unwrap(),
        bytes("82 01 02 03 04")
    );
    for wrong in [Says(Some(1), false), Says(Some(3), true)] {
        assert_eq!(
            encode(&wrong).unwrap_err().to_string(),
            "cannot be written as MessagePack: serialize data model is invalid: a value has not as many elements as \
             it says"
        );
    }
}
