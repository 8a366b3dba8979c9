//! What a server answers to a negotiation.

use std::fmt;

use hubcast_protocol::Encoding;
use serde::Deserialize;

use crate::error::StartError;

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Secret(pub(crate) String);

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[hidden]")
    }
}

/// Where a negotiation leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Negotiated {
    /// To another server, which is to be asked with this token instead of the client's own, if there is one.
    Redirect {
        url: String,
        access_token: Option<Secret>,
    },
    /// To a connection that is to be opened with this token.
    Connection {
        connection_id: String,
        token: Secret,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    error: Option<String>,
    url: Option<String>,
    access_token: Option<Secret>,
    #[serde(default)]
    negotiate_version: i64,
    connection_id: Option<String>,
    connection_token: Option<Secret>,
    #[serde(default)]
    use_stateful_reconnect: bool,
    #[serde(default)]
    available_transports: Vec<Transport>,
    /// Of the SignalR that was before ASP.NET Core.
    #[serde(rename = "ProtocolVersion")]
    classic_version: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Transport {
    transport: String,
    #[serde(default)]
    transfer_formats: Vec<String>,
}

impl Negotiated {
    /// Reads the body of an answer.
    pub(crate) fn read(body: &[u8], encoding: Encoding) -> Result<Self, StartError> {
        let invalid = |text: &str| StartError::NegotiationInvalid(text.to_owned());
        // The decoder may quote what it objects to, and that may be a token.
        let body: Body = serde_json::from_slice(body).map_err(|error| {
            invalid(&format!(
                "it is not JSON as expected, {:?}",
                error.classify()
            ))
        })?;
        // Empty texts are none, as they are to the JavaScript client.
        if let Some(error) = body.error.filter(|error| !error.is_empty()) {
            return Err(StartError::NegotiationRefused(error));
        }
        if body.classic_version.is_some() {
            return Err(invalid(
                "it comes from ASP.NET SignalR, and this is a client for ASP.NET Core SignalR",
            ));
        }
        if let Some(url) = body.url.filter(|url| !url.is_empty()) {
            let token = body.access_token;
            return Ok(Self::Redirect {
                url,
                access_token: token.filter(|Secret(token)| !token.is_empty()),
            });
        }
        if body.use_stateful_reconnect {
            return Err(invalid(
                "Client didn't negotiate Stateful Reconnect but the server did.",
            ));
        }
        let connection_id = body.connection_id.filter(|id| !id.is_empty());
        let connection_id = connection_id.ok_or_else(|| invalid("it has no connectionId"))?;
        // In version 0 the one id is the secret, too.
        let token = if body.negotiate_version > 0 {
            let token = body.connection_token;
            token.ok_or_else(|| invalid("it has no connectionToken"))?
        } else {
            Secret(connection_id.clone())
        };
        offers_web_sockets(&body.available_transports, encoding)?;
        Ok(Self::Connection {
            connection_id,
            token,
        })
    }
}

fn offers_web_sockets(transports: &[Transport], encoding: Encoding) -> Result<(), StartError> {
    let format = if encoding.is_binary() {
        "Binary"
    } else {
        "Text"
    };
    let offered = transports.iter().any(|offer| {
        offer.transport == "WebSockets" && offer.transfer_formats.iter().any(|name| name == format)
    });
    if offered {
        return Ok(());
    }
    let names: Vec<String> = transports
        .iter()
        .map(|offer| {
            format!(
                "{} ({})",
                offer.transport,
                offer.transfer_formats.join(", ")
            )
        })
        .collect();
    Err(StartError::WebSocketsNotOffered {
        offered: if names.is_empty() {
            String::from("nothing")
        } else {
            names.join(", ")
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: &str =
        r#""availableTransports":[{"transport":"WebSockets","transferFormats":["Text","Binary"]}]"#;

    fn read(body: &str) -> Result<Negotiated, String> {
        Negotiated::read(body.as_bytes(), Encoding::MessagePack).map_err(|error| error.to_string())
    }

    fn connection(connection_id: &str, token: &str) -> Negotiated {
        Negotiated::Connection {
            connection_id: connection_id.to_owned(),
            token: Secret(token.to_owned()),
        }
    }

    #[test]
    fn since_version_1_the_token_is_another_than_the_id() {
        let body = format!(
            r#"{{"negotiateVersion":1,"connectionId":"a","connectionToken":"b","new":[],{OFFER}}}"#
        );
        assert_eq!(read(&body), Ok(connection("a", "b")));
        let body = format!(r#"{{"error":"","url":"","connectionId":"a",{OFFER}}}"#);
        assert_eq!(read(&body), Ok(connection("a", "a")));
    }

    #[test]
    fn a_redirect_may_bring_a_token_which_is_not_shown() {
        let redirect = read(r#"{"url":"http://h/hub","accessToken":"secret"}"#).unwrap();
        assert!(!format!("{redirect:?}").contains("secret"));
        let expected = Negotiated::Redirect {
            url: "http://h/hub".to_owned(),
            access_token: Some(Secret("secret".to_owned())),
        };
        assert_eq!(redirect, expected);
    }

    #[test]
    fn what_leads_nowhere_is_told_as_what_it_is() {
        let text_only = r#"{"connectionId":"a","availableTransports":
            [{"transport":"WebSockets","transferFormats":["Text"]},{"transport":"LongPolling"}]}"#;
        for (body, part) in [
            ("", "not JSON"),
            ("<html>", "not JSON"),
            ("[]", "not JSON"),
            (
                r#"{"connectionToken":5,"connectionId":"secret"}"#,
                "not JSON",
            ),
            ("{}", "no connectionId"),
            (r#"{"error":"not today","connectionId":"a"}"#, "not today"),
            (r#"{"ProtocolVersion":"1.5"}"#, "ASP.NET Core SignalR"),
            (
                r#"{"negotiateVersion":1,"connectionId":"a"}"#,
                "no connectionToken",
            ),
            (
                r#"{"connectionId":"a","useStatefulReconnect":true}"#,
                "Stateful",
            ),
            (r#"{"connectionId":"a"}"#, "only: nothing"),
            (text_only, "only: WebSockets (Text), LongPolling ()"),
        ] {
            let text = read(body).unwrap_err();
            assert!(text.contains(part), "{body}: {text}");
            assert!(!text.contains("secret"), "{text}");
        }
    }
}
