//! The chat for clients that speak no SignalR: in the same rooms as the hub's clients.
//!
//! Each is a client of the hub within this process, so all that holds for those holds for it, on all servers. What it says goes to all others of the
//! room as a call like any other, with a header that only its like look at: they get the text as it was sent, where others' is told with their names.
//! Nobody is told of their coming and going, nor are they told of others'.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::Uri;
use axum::routing::any;
use hubcast::{CloseReason, HubContext, HubEndpoint, LocalConnection, LocalInvocation};

use super::RawWebSockets;
use super::conversation::{Conversation, Goodbye, Message};
use crate::chat::ChatHub;
use crate::limits;
use crate::notices::{Said, said};

/// What hub clients are told with, and how a raw client's message is known. No client can send headers of its own to others.
const RECEIVE: &str = "ReceiveMessage";
const VIA: (&str, &str) = ("via", "raw");

/// Codes of goodbyes (RFC 6455, section 7.4.1).
const GOING_AWAY: u16 = 1001;
const UNACCEPTABLE: u16 = 1003;
const POLICY: u16 = 1008;
const TOO_BIG: u16 = 1009;
const UNEXPECTED: u16 = 1011;

impl RawWebSockets {
    /// `/api/chat?nickname=N[&room=R]`.
    pub(crate) fn chat_routes(&self, hub: &Arc<HubEndpoint<ChatHub>>) -> Router {
        let (sockets, hub) = (self.clone(), Arc::clone(hub));
        let chat = async move |request: Request| match Seat::asked_for(request.uri()) {
            Ok(seat) => sockets.answer(request, seat.take(hub)),
            Err(problem) => sockets.refuse(&request, problem),
        };
        Router::new().route("/api/chat", any(chat))
    }
}

/// Who somebody is to be, and where.
#[derive(Debug, PartialEq, Eq)]
struct Seat {
    nickname: String,
    room: String,
}

impl Seat {
    /// What the query says; of a parameter that is repeated the first counts.
    fn asked_for(uri: &Uri) -> Result<Self, String> {
        let value = |name: &str| {
            let query = uri.query().unwrap_or_default().as_bytes();
            let mut parameters = form_urlencoded::parse(query);
            let (_, value) = parameters.find(|(known, _)| known == name)?;
            Some(value.into_owned())
        };
        let checked = |name: &str, value: &str, check: fn(&str) -> Result<String, String>| {
            let checked = if value.contains(char::is_control) {
                Err("there are no control characters in it".to_owned())
            } else if value.contains(char::REPLACEMENT_CHARACTER) {
                // What is no UTF-8 has become this character when it was taken apart.
                Err("there are bytes in it that are no UTF-8, or U+FFFD".to_owned())
            } else {
                check(value)
            };
            checked.map_err(|problem| format!("The parameter '{name}' does not fit: {problem}."))
        };
        let nickname = value("nickname").ok_or(
            "The parameter 'nickname' is missing: /api/chat?nickname=Mira, and &room=tea for another room than General.",
        )?;
        let room = value("room").unwrap_or_else(|| limits::GENERAL.to_owned());
        Ok(Self {
            nickname: checked("nickname", &nickname, limits::name)?,
            room: checked("room", &room, limits::room)?,
        })
    }

    /// Connects to the hub and goes into the room, without a word.
    async fn take(self, hub: Arc<HubEndpoint<ChatHub>>) -> Result<Chat, Goodbye> {
        let client = hub.connect_local().await.map_err(|end| goodbye(&end))?;
        let hub = hub.context();
        let groups = hub.groups();
        groups
            .add(client.connection_id(), &self.room)
            .await
            .map_err(|error| unexpected(&error))?;
        Ok(Chat {
            hub,
            client,
            seat: self,
        })
    }
}

/// Somebody in a room. Dropped, it has left.
struct Chat {
    hub: HubContext,
    client: LocalConnection,
    seat: Seat,
}

impl Conversation for Chat {
    /// Tells all others in the room.
    async fn hear(&mut self, message: Message) -> Result<Option<Message>, Goodbye> {
        let Message::Text(text) = message else {
            return Err(Goodbye::new(UNACCEPTABLE, "only texts can be said here"));
        };
        limits::message(&text).map_err(|problem| Goodbye::new(TOO_BIG, problem))?;
        let Seat { nickname, room } = &self.seat;
        let (via, raw) = VIA;
        let clients = self.hub.clients();
        let others = clients.group(room).except([self.client.connection_id()]);
        let said = others.header(via, raw).send(RECEIVE, (nickname, text));
        said.await.map_err(|error| unexpected(&error))?;
        Ok(None)
    }

    async fn next(&mut self) -> Result<Message, Goodbye> {
        loop {
            let call = self.client.next().await.map_err(|end| goodbye(&end))?;
            if let Some(text) = told(&call, &self.seat.room) {
                return Ok(Message::Text(text));
            }
        }
    }
}

/// What a raw client is told of a call: nothing, if nobody says anything in it.
fn told(call: &LocalInvocation, room: &str) -> Option<String> {
    if !call.is(RECEIVE) {
        return None;
    }
    let arguments = call.arguments::<(Option<String>, Option<String>)>();
    let (name, text) = arguments.ok()?;
    let (name, text) = (name.unwrap_or_default(), text.unwrap_or_default());
    let (via, raw) = VIA;
    if call.header(via) == Some(raw) {
        return Some(text);
    }
    match said(&name, &text, room) {
        Said::Message(name, text) => Some(format!("{name}: {text}")),
        Said::Joined(_) | Said::Left(_) => None,
    }
}

/// What a raw client is told at the end of its connection to the hub.
fn goodbye(end: &CloseReason) -> Goodbye {
    match end {
        CloseReason::ServerShutdown => GOING_AWAY.into(),
        CloseReason::TooSlow => Goodbye::new(POLICY, "what was said has not been read in time"),
        other => unexpected(other),
    }
}

fn unexpected(problem: &impl std::fmt::Display) -> Goodbye {
    tracing::warn!(%problem, "a raw client's place in the chat was lost");
    UNEXPECTED.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seat(query: &str) -> Result<(String, String), String> {
        let uri = format!("/api/chat{query}").parse().unwrap();
        let Seat { nickname, room } = Seat::asked_for(&uri)?;
        Ok((nickname, room))
    }

    #[test]
    fn a_seat_is_what_the_query_says() {
        for (query, nickname, room) in [
            ("?nickname=Mira", "Mira", "General"),
            ("?room=tea&nickname=Mira&x=y", "Mira", "tea"),
            ("?nickname=Mira&nickname=Ada&room=a&room=b", "Mira", "a"),
            ("?nickname=%C3%84da+%20L%2e%26&room=%2B+1", "Äda L.&", "+ 1"),
            ("?nickname=++Mira++&room=%20tea%20", "Mira", "tea"),
        ] {
            let expected = (nickname.to_owned(), room.to_owned());
            assert_eq!(seat(query), Ok(expected), "{query}");
        }
        let most = "%F0%9F%A6%80".repeat(40);
        assert!(seat(&format!("?nickname={most}")).is_ok());
    }

    #[test]
    fn what_is_no_seat_is_told_why() {
        let long_name = format!("?nickname={}", "x".repeat(41));
        let long_room = format!("?nickname=x&room={}", "x".repeat(61));
        for (query, why) in [
            ("", "'nickname' is missing"),
            ("?room=tea", "'nickname' is missing"),
            ("?Nickname=Mira", "'nickname' is missing"),
            (
                "?nickname",
                "'nickname' does not fit: a name has at least one",
            ),
            (
                "?nickname=+%20",
                "'nickname' does not fit: a name has at least one",
            ),
            (
                "?nickname=Mi%0Ara",
                "'nickname' does not fit: there are no control",
            ),
            (
                "?nickname=Mi%7Fra",
                "'nickname' does not fit: there are no control",
            ),
            (
                "?nickname=Mi%C2%85ra",
                "'nickname' does not fit: there are no control",
            ),
            (
                "?nickname=%E2%80%AEariM",
                "'nickname' does not fit: a name has no characters that cannot be seen, and this one has U+202E",
            ),
            (
                "?nickname=x&room=tea%E2%80%8B",
                "'room' does not fit: a room has no characters that cannot be seen",
            ),
            (
                "?nickname=sYSTEM+",
                "'nickname' does not fit: System is the server's",
            ),
            (&long_name, "'nickname' does not fit: a name has at most 40"),
            (
                "?nickname=x&room=",
                "'room' does not fit: a room has at least one",
            ),
            (
                "?nickname=x&room=%00",
                "'room' does not fit: there are no control",
            ),
            (&long_room, "'room' does not fit: a room has at most 60"),
            (
                "?nickname=Mi%FFra",
                "'nickname' does not fit: there are bytes in it that are no UTF-8",
            ),
            (
                "?nickname=x&room=%C3",
                "'room' does not fit: there are bytes in it that are no UTF-8",
            ),
        ] {
            let problem = seat(query).unwrap_err();
            assert!(problem.contains(why), "{query}: {problem}");
        }
    }
}
