//! Taking a message apart without believing a word of it.

use std::borrow::Cow;

use rmp::{Marker, decode};

use crate::{InvalidMessage, MAX_DEPTH};

/// What is left of a message. `None` and errors leave it somewhere within the value that was not as expected.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

/// A value that is not MessagePack, or more of it than anybody needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("it declares more than there is")]
    Truncated,
    #[error("it has the reserved byte 0xC1")]
    Reserved,
    #[error("it nests too deeply")]
    TooDeep,
}

/// Neither a string nor nil.
struct NotAString;

impl<'a> Reader<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    fn int32(&mut self) -> Option<i32> {
        decode::read_int(&mut self.rest).ok()
    }

    fn int64(&mut self) -> Option<i64> {
        decode::read_int(&mut self.rest).ok()
    }

    fn boolean(&mut self) -> Option<bool> {
        decode::read_bool(&mut self.rest).ok()
    }

    /// A string or nil. What is not UTF-8 is replaced, as by .NET.
    fn string(&mut self) -> Result<Option<Cow<'a, str>>, NotAString> {
        if let Some((first, rest)) = self.rest.split_first()
            && Marker::from_u8(*first) == Marker::Null
        {
            self.rest = rest;
            return Ok(None);
        }
        let length = decode::read_str_len(&mut self.rest).map_err(|_| NotAString)?;
        let bytes = usize::try_from(length).ok().and_then(|len| self.take(len));
        Ok(Some(String::from_utf8_lossy(bytes.ok_or(NotAString)?)))
    }

    /// How many elements follow; `None` as well if there are not as many bytes.
    pub(super) fn array_len(&mut self) -> Option<usize> {
        let count = usize::try_from(decode::read_array_len(&mut self.rest).ok()?).ok()?;
        (count <= self.rest.len()).then_some(count)
    }

    /// How many pairs follow; `None` as well if there are not as many bytes.
    fn map_len(&mut self) -> Option<usize> {
        let count = usize::try_from(decode::read_map_len(&mut self.rest).ok()?).ok()?;
        (count <= self.rest.len() / 2).then_some(count)
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    /// A big-endian number of `N` bytes.
    fn length<const N: usize>(&mut self) -> Option<usize> {
        let bytes = self.take(N)?;
        let length = bytes.iter().fold(0, |l, b| l << 8 | u64::from(*b));
        usize::try_from(length).ok()
    }

    /// Any one value, as its bytes.
    ///
    /// Goes through the whole of it, so that whoever decodes it later meets no length that is not true, no reserved
    /// byte and no deep nesting. Does not recurse, and keeps no more than one number a level.
    pub(super) fn value(&mut self) -> Result<&'a [u8], Malformed> {
        let whole = self.rest;
        // How many values are missing at each level, the innermost last.
        let mut open: Vec<usize> = Vec::new();
        loop {
            if let Some(children) = self.head()? {
                // The value is in the envelope, which is a level, too.
                if open.len() + 2 > MAX_DEPTH {
                    return Err(Malformed::TooDeep);
                }
                if children > self.rest.len() {
                    return Err(Malformed::Truncated);
                }
                open.push(children);
            } else if let Some(missing) = open.last_mut() {
                *missing -= 1;
            }
            while open.last() == Some(&0) {
                open.pop();
                if let Some(missing) = open.last_mut() {
                    *missing -= 1;
                }
            }
            if open.is_empty() {
                let length = whole.len() - self.rest.len();
                return whole.get(..length).ok_or(Malformed::Truncated);
            }
        }
    }

    /// Goes past a whole value, or past the head of an array or map: then says how many values it consists of.
    fn head(&mut self) -> Result<Option<usize>, Malformed> {
        let children = match self.marker().ok_or(Malformed::Truncated)? {
            Marker::FixArray(count) => Some(usize::from(count)),
            Marker::Array16 => self.length::<2>(),
            Marker::Array32 => self.length::<4>(),
            Marker::FixMap(count) => Some(2 * usize::from(count)),
            Marker::Map16 => self.length::<2>().and_then(|count| count.checked_mul(2)),
            Marker::Map32 => self.length::<4>().and_then(|count| count.checked_mul(2)),
            Marker::Reserved => return Err(Malformed::Reserved),
            scalar => {
                return match self.scalar(scalar) {
                    Some(_) => Ok(None),
                    None => Err(Malformed::Truncated),
                };
            }
        };
        children.map(Some).ok_or(Malformed::Truncated)
    }

    fn marker(&mut self) -> Option<Marker> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(Marker::from_u8(*first))
    }

    /// What follows the marker of a value that holds no others.
    fn scalar(&mut self, marker: Marker) -> Option<&'a [u8]> {
        /// Extensions have a type in front of their data.
        const TYPE: usize = 1;
        let length = match marker {
            Marker::U8 | Marker::I8 => 1,
            Marker::U16 | Marker::I16 => 2,
            Marker::U32 | Marker::I32 | Marker::F32 => 4,
            Marker::U64 | Marker::I64 | Marker::F64 => 8,
            Marker::FixStr(length) => usize::from(length),
            Marker::Str8 | Marker::Bin8 => self.length::<1>()?,
            Marker::Str16 | Marker::Bin16 => self.length::<2>()?,
            Marker::Str32 | Marker::Bin32 => self.length::<4>()?,
            Marker::FixExt1 => TYPE + 1,
            Marker::FixExt2 => TYPE + 2,
            Marker::FixExt4 => TYPE + 4,
            Marker::FixExt8 => TYPE + 8,
            Marker::FixExt16 => TYPE + 16,
            Marker::Ext8 => self.length::<1>()?.checked_add(TYPE)?,
            Marker::Ext16 => self.length::<2>()?.checked_add(TYPE)?,
            Marker::Ext32 => self.length::<4>()?.checked_add(TYPE)?,
            _ => 0,
        };
        self.take(length)
    }
}

/// The items of a message's array, by the names that ASP.NET Core has for them in its errors.
pub(super) struct Items<'a> {
    left: usize,
    reader: Reader<'a>,
}

impl<'a> Items<'a> {
    pub(super) fn open(message: &'a [u8]) -> Result<Self, InvalidMessage> {
        let mut reader = Reader::new(message);
        let left = reader
            .array_len()
            .ok_or_else(|| InvalidMessage::new("Reading array length for 'message' failed."))?;
        Ok(Self { left, reader })
    }

    /// Whether the array has another item, whatever it is.
    pub(super) fn has_more(&self) -> bool {
        self.left > 0
    }

    fn item(&mut self) -> Option<&mut Reader<'a>> {
        self.left = self.left.checked_sub(1)?;
        Some(&mut self.reader)
    }

    pub(super) fn int32(&mut self, field: &str) -> Result<i32, InvalidMessage> {
        let item = self.item().and_then(Reader::int32);
        item.ok_or_else(|| not_read(field, "Int32"))
    }

    pub(super) fn int64(&mut self, field: &str) -> Result<i64, InvalidMessage> {
        let item = self.item().and_then(Reader::int64);
        item.ok_or_else(|| not_read(field, "Int64"))
    }

    pub(super) fn boolean(&mut self, field: &str) -> Result<bool, InvalidMessage> {
        let item = self.item().and_then(Reader::boolean);
        item.ok_or_else(|| not_read(field, "Boolean"))
    }

    pub(super) fn string(&mut self, field: &str) -> Result<Option<Cow<'a, str>>, InvalidMessage> {
        let item = self.item().ok_or(NotAString);
        item.and_then(Reader::string)
            .map_err(|NotAString| not_read(field, "String"))
    }

    /// A string that is neither nil nor empty. `what` names it in the error if it is.
    pub(super) fn required_string(
        &mut self,
        field: &str,
        what: &str,
    ) -> Result<Cow<'a, str>, InvalidMessage> {
        not_empty(self.string(field)?, what)
    }

    pub(super) fn strings(
        &mut self,
        field: &str,
        what: &str,
    ) -> Result<Vec<Cow<'a, str>>, InvalidMessage> {
        let (reader, count) = self
            .item()
            .and_then(|item| item.array_len().map(|count| (item, count)))
            .ok_or_else(|| {
                InvalidMessage::new(format!("Reading array length for '{field}' failed."))
            })?;
        let mut strings = Vec::new();
        for _ in 0..count {
            let string = reader.string();
            let string = string.map_err(|NotAString| not_read(field, "String"))?;
            strings.push(not_empty(string, what)?);
        }
        Ok(strings)
    }

    /// Checks that an item is a map of strings and forgets it: nobody here uses headers.
    pub(super) fn headers(&mut self) -> Result<(), InvalidMessage> {
        let (reader, count) = self
            .item()
            .and_then(|item| item.map_len().map(|count| (item, count)))
            .ok_or_else(|| InvalidMessage::new("Reading map length for 'headers' failed."))?;
        for at in 0..count {
            let mut check = |part: &str, what| {
                let string = reader
                    .string()
                    .map_err(|NotAString| not_read(&format!("headers[{at}].{part}"), "String"))?;
                not_empty(string, what)
            };
            check("Key", "key in header")?;
            check("Value", "value in header")?;
        }
        Ok(())
    }

    /// An item of any kind, as its bytes.
    pub(super) fn value(&mut self, field: &str) -> Result<&'a [u8], InvalidMessage> {
        let item = self.item().ok_or(Malformed::Truncated);
        item.and_then(Reader::value)
            .map_err(|error| InvalidMessage::new(format!("Reading '{field}' failed: {error}.")))
    }
}

fn not_read(field: &str, kind: &str) -> InvalidMessage {
    InvalidMessage::new(format!("Reading '{field}' as {kind} failed."))
}

fn not_empty<'a>(string: Option<Cow<'a, str>>, what: &str) -> Result<Cow<'a, str>, InvalidMessage> {
    string
        .filter(|string| !string.is_empty())
        .ok_or_else(|| InvalidMessage::new(format!("Null or empty {what}.")))
}
