//! Objects, as .NET has them: camelCase in JSON, as declared in MessagePack, and read in either case.

use hubcast::{ByEncoding, ByteArray, Timestamp};
use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

/// What an object without a date and time has for one: .NET's `default(DateTime)`, in JSON.
const NO_TIME: &str = "0001-01-01T00:00:00";

/// The same, in seconds since 1970.
const NO_TIME_SECONDS: i64 = -62_135_596_800;

#[derive(Debug, Deserialize)]
pub(crate) struct CustomObject {
    #[serde(rename = "name", alias = "Name", default)]
    name: Option<String>,
    #[serde(rename = "value", alias = "Value", default)]
    value: i32,
}

impl Serialize for CustomObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Json<'a> {
            name: &'a Option<String>,
            value: i32,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct MessagePack<'a> {
            name: &'a Option<String>,
            value: i32,
        }
        let Self { name, value } = self;
        let value = *value;
        let both = ByEncoding {
            json: Json { name, value },
            messagepack: MessagePack { name, value },
        };
        both.serialize(serializer)
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct ComplexObject {
    #[serde(rename = "string", alias = "String", default)]
    pub(crate) string: Option<String>,
    #[serde(rename = "intArray", alias = "IntArray", default)]
    pub(crate) int_array: Option<Vec<i32>>,
    #[serde(rename = "byteArray", alias = "ByteArray", default)]
    pub(crate) byte_array: Option<ByteArray>,
    #[serde(rename = "guid", alias = "Guid", default)]
    pub(crate) guid: Uuid,
    #[serde(rename = "dateTime", alias = "DateTime", default)]
    pub(crate) date_time: Option<Timestamp>,
}

impl Serialize for ComplexObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Json<'a, T> {
            string: &'a Option<String>,
            int_array: &'a Option<Vec<i32>>,
            byte_array: &'a Option<ByteArray>,
            guid: Uuid,
            date_time: T,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct MessagePack<'a, T> {
            string: &'a Option<String>,
            int_array: &'a Option<Vec<i32>>,
            byte_array: &'a Option<ByteArray>,
            guid: Uuid,
            date_time: T,
        }
        let Self {
            string,
            int_array,
            byte_array,
            guid,
            date_time,
        } = self;
        let guid = *guid;
        let date_time = date_time.filter(|time| time.seconds() != NO_TIME_SECONDS);
        let json = Json {
            string,
            int_array,
            byte_array,
            guid,
            date_time: Time(date_time),
        };
        let messagepack = MessagePack {
            string,
            int_array,
            byte_array,
            guid,
            date_time: date_time.or(Timestamp::new(NO_TIME_SECONDS, 0)),
        };
        ByEncoding { json, messagepack }.serialize(serializer)
    }
}

struct Time(Option<Timestamp>);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(time) => time.serialize(serializer),
            None => serializer.serialize_str(NO_TIME),
        }
    }
}

/// An enum: its number in JSON, its name in MessagePack.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Color(i32);

const COLORS: [&str; 3] = ["Red", "Green", "Blue"];

impl Serialize for Color {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let name = usize::try_from(self.0)
            .ok()
            .and_then(|number| COLORS.get(number));
        match name {
            Some(messagepack) => {
                let json = self.0;
                ByEncoding { json, messagepack }.serialize(serializer)
            }
            None => serializer.serialize_i32(self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Color {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ColorVisitor)
    }
}

struct ColorVisitor;

impl Visitor<'_> for ColorVisitor {
    type Value = Color;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a colour's number or name")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Color, E> {
        i32::try_from(number).map(Color).map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Color, E> {
        i32::try_from(number).map(Color).map_err(E::custom)
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Color, E> {
        let number = COLORS.iter().position(|color| *color == name);
        let number = number.and_then(|number| i32::try_from(number).ok());
        number.map(Color).ok_or_else(|| E::custom("no such colour"))
    }
}
