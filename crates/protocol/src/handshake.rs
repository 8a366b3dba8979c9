//! The handshake: one JSON record each way, whatever protocol is agreed on.
//!
//! The client sends `{"protocol":"json","version":1}`, the server answers `{}` or `{"error":".."}`;
//! nothing may precede either of them.

use std::borrow::Cow;

use crate::InvalidMessage;
use crate::framing::RECORD_SEPARATOR;
use crate::json_fields::Fields;

/// The newest version of the hub protocols. Version 2 adds acknowledgements to version 1; a server takes
/// every version up to this one.
pub const NEWEST_VERSION: i32 = 2;

/// What the client wants to speak.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandshakeRequest<'a> {
    /// The name of the hub protocol, as the client spells it; compared ignoring ASCII case.
    pub protocol: Cow<'a, str>,
    /// Its version.
    pub version: i32,
}

impl<'a> HandshakeRequest<'a> {
    /// Reads a request from a record without its separator. Unknown properties are skipped.
    pub fn parse(record: &'a [u8]) -> Result<Self, InvalidMessage> {
        let [protocol, version] = Fields::read(record, ["protocol", "version"])?.values;
        let protocol = protocol.required("protocol")?.string("protocol")?;
        let version = version.required("version")?.integer("version")?;
        let version = i32::try_from(version)
            .map_err(|_| InvalidMessage::new("Expected 'version' to be of type Number."))?;
        Ok(Self { protocol, version })
    }

    /// The record that asks for this, with its separator.
    pub fn to_bytes(&self) -> Vec<u8> {
        let protocol = serde_json::Value::from(&*self.protocol);
        let version = self.version;
        let mut bytes = format!(r#"{{"protocol":{protocol},"version":{version}}}"#).into_bytes();
        bytes.push(RECORD_SEPARATOR);
        bytes
    }
}

/// The server's yes, with its separator: `{}`.
pub const ACCEPTED: &[u8] = b"{}\x1e";

/// The server's no, with its separator: `{"error":".."}`. The connection ends after it.
pub fn refused(error: &str) -> Vec<u8> {
    let error = serde_json::Value::from(error);
    let mut bytes = format!(r#"{{"error":{error}}}"#).into_bytes();
    bytes.push(RECORD_SEPARATOR);
    bytes
}

/// Reads the server's answer from a record without its separator: `Ok(None)` is yes, `Ok(Some(error))` is no.
pub fn parse_response(record: &[u8]) -> Result<Option<Cow<'_, str>>, InvalidMessage> {
    let [kind, error] = Fields::read(record, ["type", "error"])?.values;
    if kind.is_present() {
        return Err(InvalidMessage::new(
            "Expected a handshake response from the server.",
        ));
    }
    error.optional(|error| error.string("error"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<HandshakeRequest<'_>, String> {
        HandshakeRequest::parse(text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn any_order_and_unknown_properties_are_fine() {
        let request = parse(r#" {"x":[{"protocol":1}],"version":1,"protocol":"json"} "#).unwrap();
        assert_eq!(request.protocol, "json");
        assert_eq!(request.version, 1);
    }

    #[test]
    fn what_is_written_can_be_read() {
        let request = HandshakeRequest {
            protocol: Cow::Borrowed("a \"strange\" one"),
            version: -1,
        };
        let bytes = request.to_bytes();
        assert_eq!(bytes.last(), Some(&RECORD_SEPARATOR));
        let read = HandshakeRequest::parse(&bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(read, request);

        assert_eq!(parse_response(b"{}").unwrap(), None);
        let no = refused("not \"today\"");
        assert_eq!(
            parse_response(&no[..no.len() - 1]).unwrap().unwrap(),
            "not \"today\""
        );
    }

    #[test]
    fn what_is_not_a_request_is_refused() {
        for text in [
            "",
            " ",
            "[]",
            "nonsense",
            r#"{"protocol":"json"}"#,
            r#"{"version":1}"#,
            r#"{"protocol":null,"version":1}"#,
            r#"{"protocol":"json","version":"1"}"#,
            r#"{"protocol":"json","version":1.5}"#,
            r#"{"protocol":"json","version":99999999999}"#,
            r#"{"protocol":"json","version":1"#,
            r#"{"type":1,"target":"Echo","arguments":[]}"#,
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
