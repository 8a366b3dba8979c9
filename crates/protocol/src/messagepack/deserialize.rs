//! From MessagePack to types: `rmp-serde`, and the one type of `serde_json` that it does not know.

use std::iter::once;

use rmp::Marker;
use rmp_serde::decode::Error;
use serde::de::value::MapDeserializer;
use serde::de::{Deserialize, Deserializer, Visitor};

use super::serialize::RAW_VALUE;
use crate::{DecodeError, MAX_DEPTH};

/// Gives a value its type. The structure must have been checked.
pub(crate) fn decode<'de, T: Deserialize<'de>>(value: &'de [u8]) -> Result<T, DecodeError> {
    T::deserialize(Decoder(value)).map_err(DecodeError::new)
}

/// One whole value.
struct Decoder<'de>(&'de [u8]);

macro_rules! by_rmp_serde {
    ($($method:ident($($argument:ident: $type:ty),*);)*) => {$(
        fn $method<V: Visitor<'de>>(self, $($argument: $type,)* visitor: V) -> Result<V::Value, Error> {
            let mut deserializer =
                rmp_serde::Deserializer::from_read_ref(self.0).with_human_readable();
            // The structure is known to be less deep; but a type may take an extension's data for values.
            deserializer.set_max_depth(MAX_DEPTH + 1);
            deserializer.$method($($argument,)* visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Decoder<'de> {
    type Error = Error;

    fn is_human_readable(&self) -> bool {
        true
    }

    /// As `rmp-serde` does, but what is in the option may be a `RawValue`.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0 == [Marker::Null.to_u8()] {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        if name == RAW_VALUE {
            let value = serde_json::Value::deserialize(self)?;
            // This is how serde_json hands the text of a raw value to its visitor.
            let text = MapDeserializer::new(once((RAW_VALUE, value.to_string())));
            return visitor.visit_map(text);
        }
        if name == rmp_serde::MSGPACK_EXT_STRUCT_NAME {
            return rmp_serde::Deserializer::from_read_ref(self.0)
                .deserialize_newtype_struct(name, visitor);
        }
        visitor.visit_newtype_struct(self)
    }

    by_rmp_serde! {
        deserialize_any();
        deserialize_bool();
        deserialize_i8();
        deserialize_i16();
        deserialize_i32();
        deserialize_i64();
        deserialize_i128();
        deserialize_u8();
        deserialize_u16();
        deserialize_u32();
        deserialize_u64();
        deserialize_u128();
        deserialize_f32();
        deserialize_f64();
        deserialize_char();
        deserialize_str();
        deserialize_string();
        deserialize_bytes();
        deserialize_byte_buf();
        deserialize_unit();
        deserialize_unit_struct(name: &'static str);
        deserialize_seq();
        deserialize_tuple(length: usize);
        deserialize_tuple_struct(name: &'static str, length: usize);
        deserialize_map();
        deserialize_struct(name: &'static str, fields: &'static [&'static str]);
        deserialize_enum(name: &'static str, variants: &'static [&'static str]);
        deserialize_identifier();
        deserialize_ignored_any();
    }
}
