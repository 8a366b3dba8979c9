//! Bytes, which the two encodings write differently.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::ByEncoding;

/// Bytes, as parameters, results and fields have them: the counterpart of .NET's `byte[]`.
///
/// In JSON they are text in base64 (RFC 4648, section 4, with padding), in MessagePack they are `bin`, which becomes a
/// `Uint8Array` in JavaScript. A `Vec<u8>` is a list of numbers in both.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ByteArray(pub Vec<u8>);

impl From<Vec<u8>> for ByteArray {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<ByteArray> for Vec<u8> {
    fn from(bytes: ByteArray) -> Self {
        bytes.0
    }
}

impl Serialize for ByteArray {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let both = ByEncoding {
            json: Base64(&self.0),
            messagepack: Bin(&self.0),
        };
        both.serialize(serializer)
    }
}

struct Base64<'a>(&'a [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(self.0))
    }
}

struct Bin<'a>(&'a [u8]);

impl Serialize for Bin<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de> Deserialize<'de> for ByteArray {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BytesVisitor)
    }
}

struct BytesVisitor;

impl<'de> Visitor<'de> for BytesVisitor {
    type Value = ByteArray;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("bytes, or text in base64")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<ByteArray, E> {
        let bytes = STANDARD.decode(text).map_err(E::custom)?;
        Ok(ByteArray(bytes))
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<ByteArray, E> {
        Ok(ByteArray(bytes.to_vec()))
    }

    /// A list of numbers, as clients write that have no bytes.
    fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<ByteArray, A::Error> {
        // Nothing is allocated from a length that a peer declares.
        let mut bytes = Vec::new();
        while let Some(number) = numbers.next_element()? {
            bytes.push(number);
        }
        Ok(ByteArray(bytes))
    }
}
