//! The top level of a JSON record: an object of which a few properties are wanted, in any order.
//!
//! Values are kept as slices of the record, because what they must be is known only once the others
//! have been seen (`arguments` may come before `type`).

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::{InvalidMessage, MAX_DEPTH};

/// The wanted properties of one object; the last one wins where a name is repeated.
pub(crate) struct Fields<'a, const N: usize> {
    pub(crate) values: [Field<'a>; N],
}

impl<'a, const N: usize> Fields<'a, N> {
    /// Reads a record without its separator. Names are compared exactly; others are skipped.
    pub(crate) fn read(record: &'a [u8], names: [&'static str; N]) -> Result<Self, InvalidMessage> {
        check_depth(record)?;
        let mut deserializer = serde_json::Deserializer::from_slice(record);
        // What follows the object is not looked at; ASP.NET Core does not, either.
        let values = deserializer
            .deserialize_any(FieldsVisitor { names })
            .map_err(|error| wording(record, &error))?;
        Ok(Self { values })
    }
}

/// A property that must be there is not.
pub(crate) fn missing(name: &'static str) -> InvalidMessage {
    InvalidMessage::new(format!("Missing required property '{name}'."))
}

fn wording(record: &[u8], error: &serde_json::Error) -> InvalidMessage {
    let kind = match record.iter().find(|byte| !byte.is_ascii_whitespace()) {
        _ if error.is_eof() => return InvalidMessage::new("Unexpected end when reading JSON."),
        Some(b'[') => "Array",
        Some(b'"') => "String",
        Some(b't' | b'f') => "Boolean",
        Some(b'n') => "Null",
        Some(b'-' | b'0'..=b'9') => "Number",
        _ => return InvalidMessage::new("Error reading JSON."),
    };
    InvalidMessage::new(format!(
        "Unexpected JSON Token Type '{kind}'. Expected a JSON Object."
    ))
}

/// Refuses what nests too deeply, in one pass that keeps nothing but a counter.
fn check_depth(record: &[u8]) -> Result<(), InvalidMessage> {
    // Most have too few brackets for it, which are counted many bytes at a time.
    let opening = record.iter().filter(|byte| matches!(byte, b'[' | b'{'));
    if opening.count() <= MAX_DEPTH {
        return Ok(());
    }
    let mut depth = 0usize;
    let mut bytes = record.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => {
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'"' => break,
                        b'\\' => {
                            bytes.next();
                        }
                        _ => {}
                    }
                }
            }
            b'[' | b'{' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(InvalidMessage::new("Error reading JSON."));
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

struct FieldsVisitor<const N: usize> {
    names: [&'static str; N],
}

impl<'de, const N: usize> Visitor<'de> for FieldsVisitor<N> {
    type Value = [Field<'de>; N];

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = [Field(None); N];
        while let Some(Text(name)) = map.next_key()? {
            let wanted = self.names.iter().position(|wanted| *wanted == name);
            match wanted.and_then(|at| values.get_mut(at)) {
                Some(value) => *value = Field(Some(map.next_value()?)),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(values)
    }
}

/// A string that borrows from its record where it has no escapes.
pub(crate) struct Text<'a>(pub(crate) Cow<'a, str>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// A property that may be absent. `null` is present: the protocol has no such thing as "null means absent".
#[derive(Clone, Copy)]
pub(crate) struct Field<'a>(Option<&'a RawValue>);

impl<'a> Field<'a> {
    pub(crate) fn is_present(self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn required(self, name: &'static str) -> Result<Present<'a>, InvalidMessage> {
        self.0.map(Present).ok_or_else(|| missing(name))
    }

    pub(crate) fn optional<T>(
        self,
        read: impl FnOnce(Present<'a>) -> Result<T, InvalidMessage>,
    ) -> Result<Option<T>, InvalidMessage> {
        self.0.map(Present).map(read).transpose()
    }
}

/// A property that is there.
#[derive(Clone, Copy)]
pub(crate) struct Present<'a>(&'a RawValue);

impl<'a> Present<'a> {
    pub(crate) fn raw(self) -> &'a RawValue {
        self.0
    }

    pub(crate) fn string(self, name: &'static str) -> Result<Cow<'a, str>, InvalidMessage> {
        let text = self.0.get();
        let quoted = text
            .strip_prefix('"')
            .and_then(|text| text.strip_suffix('"'));
        if let Some(text) = quoted.filter(|text| !text.contains('\\')) {
            return Ok(Cow::Borrowed(text));
        }
        serde_json::from_str(text)
            .map(|Text(text)| text)
            .map_err(|_| InvalidMessage::new(format!("Expected '{name}' to be of type String.")))
    }

    /// An integer literal: `6.0` and `"6"` are none.
    pub(crate) fn integer(self, name: &'static str) -> Result<i64, InvalidMessage> {
        let text = self.0.get();
        text.parse()
            .map_err(|_| InvalidMessage::new(format!("Expected '{name}' to be of type Number.")))
    }

    pub(crate) fn boolean(self, name: &'static str) -> Result<bool, InvalidMessage> {
        match self.0.get() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(InvalidMessage::new(format!(
                "Expected '{name}' to be true or false."
            ))),
        }
    }

    pub(crate) fn strings(self, name: &'static str) -> Result<Vec<Cow<'a, str>>, InvalidMessage> {
        serde_json::from_str::<Vec<Text<'a>>>(self.0.get())
            .map(|texts| texts.into_iter().map(|Text(text)| text).collect())
            .map_err(|_| InvalidMessage::new(format!("Expected '{name}' to be of type Array.")))
    }

    /// Checks that a property is an object of strings and forgets it: nobody here uses headers.
    pub(crate) fn check_headers(self) -> Result<(), InvalidMessage> {
        struct HeadersVisitor;
        impl<'de> Visitor<'de> for HeadersVisitor {
            type Value = Result<(), InvalidMessage>;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut outcome = Ok(());
                while let Some((Text(name), value)) = map.next_entry::<Text<'de>, &RawValue>()? {
                    if !value.get().starts_with('"') && outcome.is_ok() {
                        outcome = Err(InvalidMessage::new(format!(
                            "Expected header '{name}' to be of type String."
                        )));
                    }
                }
                Ok(outcome)
            }
        }
        let mut deserializer = serde_json::Deserializer::from_str(self.0.get());
        match deserializer.deserialize_map(HeadersVisitor) {
            Ok(outcome) => outcome,
            Err(_) => Err(InvalidMessage::new(
                "Expected 'headers' to be of type StartObject.",
            )),
        }
    }
}
