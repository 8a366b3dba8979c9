//! Points in time, which the two encodings write differently.

use std::fmt::{self, Display};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use jiff::SignedDuration;
use jiff::civil::{DateTime, Time};
use jiff::fmt::temporal::Pieces;
use jiff::tz::Offset;
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

/// A point in time, as parameters, results and fields have it: the counterpart of .NET's `DateTime`.
///
/// In JSON it is text as of ISO 8601, in UTC: `2023-11-14T22:13:20.123Z`. In MessagePack it is the timestamp
/// extension, which .NET writes and which becomes a `Date` in JavaScript. Text is read in MessagePack, too, and text
/// without an offset is taken for UTC, as .NET takes what comes in MessagePack.
///
/// Its range is .NET's, the years 1 to 9999; its precision is a nanosecond, where .NET has a hundred of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    seconds: i64,
    nanoseconds: u32,
}

/// By this name the MessagePack encoder knows that the text which it is given is a timestamp's.
pub(crate) const NAME: &str = "$hubcast::Timestamp";

/// The type that the MessagePack specification has reserved for this extension.
const EXTENSION: i8 = -1;

const BEGINNING_OF_1970: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

const NANOSECONDS: u32 = 1_000_000_000;

/// The 64-bit form has so many bits of seconds, below the nanoseconds.
const SECONDS_BITS: u32 = 34;

/// Not a date and time within the years 1 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a date and time of the years 1 to 9999")]
pub struct InvalidTimestamp;

impl Timestamp {
    /// The first second that .NET's `DateTime` has: the beginning of the year 1.
    const FIRST: i64 = -62_135_596_800;
    /// The last second of the year 9999.
    const LAST: i64 = 253_402_300_799;

    /// The time so many seconds after (before, if negative) the beginning of 1970 in UTC, and so many nanoseconds
    /// after that. `None` outside the years 1 to 9999, and if the nanoseconds make a second.
    pub fn new(seconds: i64, nanoseconds: u32) -> Option<Self> {
        let known = (Self::FIRST..=Self::LAST).contains(&seconds) && nanoseconds < NANOSECONDS;
        known.then_some(Self {
            seconds,
            nanoseconds,
        })
    }

    /// Whole seconds since the beginning of 1970 in UTC, rounded down.
    pub fn seconds(self) -> i64 {
        self.seconds
    }

    /// Nanoseconds since the last whole second.
    pub fn nanoseconds(self) -> u32 {
        self.nanoseconds
    }

    /// So long after (before, if negative) the beginning of 1970.
    fn since_1970(duration: SignedDuration) -> Result<Self, InvalidTimestamp> {
        // A duration's fraction has the sign of its seconds; ours always goes forward.
        let (seconds, fraction) = (duration.as_secs(), duration.subsec_nanos());
        let (seconds, nanoseconds) = match u32::try_from(fraction) {
            Ok(nanoseconds) => (Some(seconds), nanoseconds),
            Err(_) => (
                seconds.checked_sub(1),
                NANOSECONDS - fraction.unsigned_abs(),
            ),
        };
        seconds
            .and_then(|seconds| Self::new(seconds, nanoseconds))
            .ok_or(InvalidTimestamp)
    }

    /// What the extension's data say, in any of its three forms.
    fn from_extension(data: &[u8]) -> Option<Self> {
        if let Ok(seconds) = data.try_into() {
            return Self::new(u32::from_be_bytes(seconds).into(), 0);
        }
        if let Ok(both) = data.try_into() {
            let both = u64::from_be_bytes(both);
            let seconds = both & ((1 << SECONDS_BITS) - 1);
            let nanoseconds = both >> SECONDS_BITS;
            return Self::new(seconds.try_into().ok()?, nanoseconds.try_into().ok()?);
        }
        let (nanoseconds, seconds) = data.split_first_chunk()?;
        let seconds = i64::from_be_bytes(seconds.try_into().ok()?);
        Self::new(seconds, u32::from_be_bytes(*nanoseconds))
    }

    /// Appends the extension in the shortest of its forms.
    pub(crate) fn write_extension(self, out: &mut Vec<u8>) {
        let nanoseconds = u64::from(self.nanoseconds);
        let [kind] = EXTENSION.to_be_bytes();
        match u64::try_from(self.seconds) {
            Ok(seconds) if seconds >> SECONDS_BITS == 0 => {
                let both = nanoseconds << SECONDS_BITS | seconds;
                if let Ok(seconds) = u32::try_from(both) {
                    out.extend([0xD6, kind]);
                    out.extend(seconds.to_be_bytes());
                } else {
                    out.extend([0xD7, kind]);
                    out.extend(both.to_be_bytes());
                }
            }
            _ => {
                out.extend([0xC7, 12, kind]);
                out.extend(self.nanoseconds.to_be_bytes());
                out.extend(self.seconds.to_be_bytes());
            }
        }
    }
}

impl TryFrom<SystemTime> for Timestamp {
    type Error = InvalidTimestamp;

    fn try_from(time: SystemTime) -> Result<Self, InvalidTimestamp> {
        let duration = SignedDuration::system_until(SystemTime::UNIX_EPOCH, time);
        Self::since_1970(duration.map_err(|_| InvalidTimestamp)?)
    }
}

impl TryFrom<Timestamp> for SystemTime {
    type Error = InvalidTimestamp;

    /// An error if the machine has no such time: some begin in 1601, some in 1970.
    fn try_from(time: Timestamp) -> Result<Self, InvalidTimestamp> {
        let seconds = Duration::from_secs(time.seconds.unsigned_abs());
        let whole = if time.seconds < 0 {
            SystemTime::UNIX_EPOCH.checked_sub(seconds)
        } else {
            SystemTime::UNIX_EPOCH.checked_add(seconds)
        };
        let fraction = Duration::from_nanos(time.nanoseconds.into());
        whole
            .and_then(|whole| whole.checked_add(fraction))
            .ok_or(InvalidTimestamp)
    }
}

impl Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since_1970 = SignedDuration::new(self.seconds, self.nanoseconds.cast_signed());
        let time = BEGINNING_OF_1970.checked_add(since_1970);
        write!(formatter, "{}Z", time.map_err(|_| fmt::Error)?)
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        let pieces = Pieces::parse(text).map_err(|_| InvalidTimestamp)?;
        if pieces.time_zone_annotation().is_some() {
            return Err(InvalidTimestamp);
        }
        let time = pieces.time().unwrap_or_else(Time::midnight);
        let local = DateTime::from_parts(pieces.date(), time);
        let offset = pieces.to_numeric_offset().unwrap_or(Offset::UTC);
        let offset = SignedDuration::from_secs(offset.seconds().into());
        Self::since_1970(local.duration_since(BEGINNING_OF_1970) - offset)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(NAME, &format_args!("{self}"))
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TimestampVisitor)
    }
}

struct TimestampVisitor;

impl<'de> Visitor<'de> for TimestampVisitor {
    type Value = Timestamp;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a date and time")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Timestamp, E> {
        text.parse().map_err(E::custom)
    }

    /// This is how an extension arrives: as its type and its data.
    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        extension: D,
    ) -> Result<Timestamp, D::Error> {
        match <(i8, Data)>::deserialize(extension)? {
            (EXTENSION, Data(Some(timestamp))) => Ok(timestamp),
            _ => Err(D::Error::custom(InvalidTimestamp)),
        }
    }
}

/// The data of an extension, which may be any bytes.
struct Data(Option<Timestamp>);

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DataVisitor;
        impl Visitor<'_> for DataVisitor {
            type Value = Data;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("bytes")
            }
            fn visit_bytes<E>(self, data: &[u8]) -> Result<Data, E> {
                Ok(Data(Timestamp::from_extension(data)))
            }
        }
        deserializer.deserialize_bytes(DataVisitor)
    }
}
