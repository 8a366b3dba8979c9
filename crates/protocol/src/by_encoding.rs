//! Values that are not the same in both encodings.

use serde::ser::{Serialize, Serializer};

/// A value that is written as one thing in JSON and as another in MessagePack.
///
/// For clients that expect the two to differ, as those of ASP.NET Core do: there the members of an object are
/// `camelCase` in JSON, and in MessagePack as they are declared, which is `PascalCase`.
///
/// ```
/// use hubcast_protocol::ByEncoding;
/// use serde::{Serialize, Serializer};
///
/// #[derive(Serialize)]
/// struct Point {
///     x: i32,
/// }
///
/// /// As .NET has it.
/// #[derive(Serialize)]
/// #[serde(rename_all = "PascalCase")]
/// struct DotNetPoint {
///     x: i32,
/// }
///
/// let both = ByEncoding { json: Point { x: 1 }, messagepack: DotNetPoint { x: 1 } };
/// ```
///
/// Only the writers of this crate know the difference: any other serializer gets what is for JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByEncoding<J, M> {
    /// What is written in JSON.
    pub json: J,
    /// What is written in MessagePack.
    pub messagepack: M,
}

/// By this name the MessagePack encoder knows that what it is given wants to be told the encodings apart.
pub(crate) const NAME: &str = "$hubcast::ByEncoding";

impl<J: Serialize, M: Serialize> Serialize for ByEncoding<J, M> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(NAME, &Either(self))
    }
}

struct Either<'a, J, M>(&'a ByEncoding<J, M>);

impl<J: Serialize, M: Serialize> Serialize for Either<'_, J, M> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            self.0.json.serialize(serializer)
        } else {
            // Which is not told the difference any more, unless it asks itself.
            serializer.serialize_newtype_struct("", &self.0.messagepack)
        }
    }
}
