//! From types to MessagePack, as `MessagePack-CSharp` would write them.
//!
//! Not by `rmp-serde`'s serializer: it would write the text of a `RawValue` as a map with a name that is `serde_json`'s
//! own, and a unit struct as an empty array.

use rmp::encode;
use rmp_serde::encode::Error;
use serde::ser::{Error as _, Serializer};
use serde::{Deserialize, Serialize};

use super::compound::{Compound, Struct};
use crate::by_encoding;
use crate::timestamp::{self, Timestamp};

/// The name by which `serde_json` knows its `RawValue`, of the struct and of its only field.
pub(super) const RAW_VALUE: &str = "$serde_json::private::RawValue";

/// Appends one value.
pub(super) struct Encoder<'a> {
    pub(super) out: &'a mut Vec<u8>,
    /// Whether the value has asked to be told the encodings apart.
    tells_itself: bool,
}

type Done = Result<(), Error>;

/// Writing into a `Vec` cannot fail.
pub(super) fn infallible<T, E>(_: Result<T, E>) {}

pub(super) fn length(length: usize) -> Result<u32, Error> {
    u32::try_from(length).map_err(|_| Error::InvalidDataModel("a value of more than 4 GiB"))
}

impl<'a> Encoder<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        Self {
            out,
            tells_itself: false,
        }
    }

    /// A map of one entry, of which the caller writes the value: how a variant with data is written.
    fn variant(self, name: &str) -> Self {
        infallible(encode::write_map_len(self.out, 1));
        infallible(encode::write_str(self.out, name));
        self
    }

    fn array(self, length: Option<usize>) -> Result<Compound<'a>, Error> {
        Compound::open(self.out, length, |out, length| {
            infallible(encode::write_array_len(out, length));
        })
    }

    fn map(self, length: Option<usize>) -> Result<Compound<'a>, Error> {
        Compound::open(self.out, length, |out, length| {
            infallible(encode::write_map_len(out, length));
        })
    }
}

impl<'a> Serializer for Encoder<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Compound<'a>;
    type SerializeTuple = Compound<'a>;
    type SerializeTupleStruct = Compound<'a>;
    type SerializeTupleVariant = Compound<'a>;
    type SerializeMap = Compound<'a>;
    type SerializeStruct = Struct<'a>;
    type SerializeStructVariant = Struct<'a>;

    /// Like JSON, because in .NET, too, types such as `Guid` are the same text in both encodings; but for what asks.
    fn is_human_readable(&self) -> bool {
        !self.tells_itself
    }

    fn serialize_bool(self, value: bool) -> Done {
        infallible(encode::write_bool(self.out, value));
        Ok(())
    }

    fn serialize_i8(self, value: i8) -> Done {
        self.serialize_i64(value.into())
    }

    fn serialize_i16(self, value: i16) -> Done {
        self.serialize_i64(value.into())
    }

    fn serialize_i32(self, value: i32) -> Done {
        self.serialize_i64(value.into())
    }

    fn serialize_i64(self, value: i64) -> Done {
        infallible(encode::write_sint(self.out, value));
        Ok(())
    }

    fn serialize_u8(self, value: u8) -> Done {
        self.serialize_u64(value.into())
    }

    fn serialize_u16(self, value: u16) -> Done {
        self.serialize_u64(value.into())
    }

    fn serialize_u32(self, value: u32) -> Done {
        self.serialize_u64(value.into())
    }

    fn serialize_u64(self, value: u64) -> Done {
        infallible(encode::write_uint(self.out, value));
        Ok(())
    }

    fn serialize_f32(self, value: f32) -> Done {
        infallible(encode::write_f32(self.out, value));
        Ok(())
    }

    fn serialize_f64(self, value: f64) -> Done {
        infallible(encode::write_f64(self.out, value));
        Ok(())
    }

    fn serialize_char(self, value: char) -> Done {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Done {
        length(value.len())?;
        infallible(encode::write_str(self.out, value));
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Done {
        length(value.len())?;
        infallible(encode::write_bin(self.out, value));
        Ok(())
    }

    fn serialize_none(self) -> Done {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Done {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Done {
        infallible(encode::write_nil(self.out));
        Ok(())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Done {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Done {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Done {
        if name == rmp_serde::MSGPACK_EXT_STRUCT_NAME {
            return rmp_serde::Serializer::new(self.out).serialize_newtype_struct(name, value);
        }
        if name == timestamp::NAME {
            let timestamp = serde_json::to_value(value).and_then(Timestamp::deserialize);
            timestamp.map_err(Error::custom)?.write_extension(self.out);
            return Ok(());
        }
        if name == by_encoding::NAME {
            return value.serialize(Self {
                tells_itself: true,
                ..self
            });
        }
        value.serialize(Self::new(self.out))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Done {
        value.serialize(self.variant(variant))
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Compound<'a>, Error> {
        self.array(length)
    }

    fn serialize_tuple(self, length: usize) -> Result<Compound<'a>, Error> {
        self.array(Some(length))
    }

    fn serialize_tuple_struct(self, _: &'static str, length: usize) -> Result<Compound<'a>, Error> {
        self.array(Some(length))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Compound<'a>, Error> {
        self.variant(variant).array(Some(length))
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Compound<'a>, Error> {
        self.map(length)
    }

    fn serialize_struct(self, name: &'static str, length: usize) -> Result<Struct<'a>, Error> {
        if name == RAW_VALUE {
            return Ok(Struct::RawValue(self));
        }
        Ok(Struct::Map(self.map(Some(length))?))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Struct<'a>, Error> {
        Ok(Struct::Map(self.variant(variant).map(Some(length))?))
    }
}
