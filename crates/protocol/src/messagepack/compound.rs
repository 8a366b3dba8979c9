//! Values that consist of others, on their way out.

use rmp_serde::encode::Error;
use serde::Serialize;
use serde::ser::{self, Error as _};

use super::serialize::{Encoder, length};

/// An array or a map that is being written.
pub(super) struct Compound<'a> {
    out: &'a mut Vec<u8>,
    write_head: fn(&mut Vec<u8>, u32),
    /// Where the head must be put once the length is known.
    start: usize,
    /// Elements or entries.
    declared: Option<usize>,
    written: usize,
}

impl<'a> Compound<'a> {
    pub(super) fn open(
        out: &'a mut Vec<u8>,
        declared: Option<usize>,
        write_head: fn(&mut Vec<u8>, u32),
    ) -> Result<Self, Error> {
        let start = out.len();
        if let Some(declared) = declared {
            write_head(out, length(declared)?);
        }
        Ok(Self {
            out,
            write_head,
            start,
            declared,
            written: 0,
        })
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.written += 1;
        self.value(value)
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), Error> {
        self.element(name)?;
        self.value(value)
    }

    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(Encoder::new(self.out))
    }

    fn close(self) -> Result<(), Error> {
        match self.declared {
            Some(declared) if declared == self.written => Ok(()),
            // Unlike in JSON, everything behind it would be read as something else.
            Some(_) => Err(Error::InvalidDataModel(
                "a value has not as many elements as it says",
            )),
            None => {
                let mut head = Vec::new();
                (self.write_head)(&mut head, length(self.written)?);
                self.out.splice(self.start..self.start, head);
                Ok(())
            }
        }
    }
}

impl ser::SerializeSeq for Compound<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.element(value)
    }

    fn end(self) -> Result<(), Error> {
        self.close()
    }
}

impl ser::SerializeTuple for Compound<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.element(value)
    }

    fn end(self) -> Result<(), Error> {
        self.close()
    }
}

impl ser::SerializeTupleStruct for Compound<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.element(value)
    }

    fn end(self) -> Result<(), Error> {
        self.close()
    }
}

impl ser::SerializeTupleVariant for Compound<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.element(value)
    }

    fn end(self) -> Result<(), Error> {
        self.close()
    }
}

impl ser::SerializeMap for Compound<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.element(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.value(value)
    }

    fn end(self) -> Result<(), Error> {
        self.close()
    }
}

/// A struct that is being written.
pub(super) enum Struct<'a> {
    /// As a map of its fields.
    Map(Compound<'a>),
    /// As the value that the JSON text in its only field says.
    RawValue(Encoder<'a>),
}

impl Struct<'_> {
    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), Error> {
        match self {
            Self::Map(map) => map.field(name, value),
            Self::RawValue(encoder) => {
                let text = serde_json::to_value(value).map_err(Error::custom)?;
                let text = text.as_str().unwrap_or_default();
                let value: serde_json::Value = serde_json::from_str(text).map_err(Error::custom)?;
                value.serialize(Encoder::new(encoder.out))
            }
        }
    }

    fn close(self) -> Result<(), Error> {
        match self {
            Self::Map(map) => map.close(),
            Self::RawValue(_) => Ok(()),
        }
    }
}

impl ser::SerializeStruct for Struct<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.field(name, value)
    }

    fn end(self) -> Result<(), Error> {
        self.close()
    }
}

impl ser::SerializeStructVariant for Struct<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.field(name, value)
    }

    fn end(self) -> Result<(), Error> {
        self.close()
    }
}
