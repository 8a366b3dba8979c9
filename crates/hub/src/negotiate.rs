//! `POST {hub}/negotiate`: tells a client how to connect, and gives it a token to do so.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::options::HubOptions;
use crate::tokens::Tokens;
use crate::transport::Transport;

/// The newest version of negotiation that is spoken; higher ones are answered with it.
const NEWEST_VERSION: i32 = 1;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Negotiation {
    negotiate_version: i32,
    connection_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection_token: Option<String>,
    /// There only if it is true: clients that did not ask for it refuse an answer that has it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    use_stateful_reconnect: bool,
    available_transports: Vec<Offer>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Offer {
    transport: &'static str,
    transfer_formats: &'static [&'static str],
}

#[derive(Serialize)]
struct Failure {
    error: String,
}

/// In the order in which clients shall try them.
fn offers(options: &HubOptions) -> Vec<Offer> {
    [
        Transport::WebSockets,
        Transport::ServerSentEvents,
        Transport::LongPolling,
    ]
    .into_iter()
    .filter(|transport| transport.is_offered(options))
    .map(|transport| Offer {
        transport: transport.name(),
        transfer_formats: transport.formats(),
    })
    .collect()
}

/// Answers a negotiation. `version` and `stateful_reconnect` are the values of the query parameters, if there are any.
///
/// Refusals have status 200, too: clients look into the body.
pub(crate) fn negotiate(
    version: Option<&str>,
    stateful_reconnect: Option<&str>,
    options: &HubOptions,
    tokens: &Tokens,
) -> Response {
    let requested = match version.map(|version| version.trim().parse::<i32>()) {
        None => 0,
        Some(Ok(version)) => version,
        Some(Err(_)) => {
            return fail("The client requested a non-integer protocol version.".to_owned());
        }
    };
    if requested < options.minimum_protocol_version {
        return fail(format!(
            "The client requested version '{requested}', but the server does not support this version."
        ));
    }
    let negotiate_version = requested.min(NEWEST_VERSION);
    let wants_stateful_reconnect =
        stateful_reconnect.is_some_and(|word| word.trim().eq_ignore_ascii_case("true"));
    let use_stateful_reconnect = wants_stateful_reconnect && options.allow_stateful_reconnects;
    let issued = tokens.issue(negotiate_version, use_stateful_reconnect);
    Json(Negotiation {
        negotiate_version,
        connection_id: issued.connection_id,
        connection_token: (negotiate_version > 0).then_some(issued.token),
        use_stateful_reconnect,
        available_transports: offers(options),
    })
    .into_response()
}

fn fail(error: String) -> Response {
    Json(Failure { error }).into_response()
}
