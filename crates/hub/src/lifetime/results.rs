//! What clients have been asked and have not answered: which connection each question went to, and who asked.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use hubcast_protocol::{CompletionPayload, Encoding, HubMessage};
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use crate::error::{InvokeError, short_type_name};
use crate::random;

/// How many questions one client may be asked through this server and not have answered, before more are refused. Other
/// servers may have given up long ago, which nobody tells us; and whoever asks here may be kept by a stranger's silence.
const MOST_UNANSWERED: usize = 1024;

/// A name for an invocation that nobody can guess: 22 characters of standard base64, as in ASP.NET Core.
pub(crate) fn new_invocation_id() -> String {
    STANDARD_NO_PAD.encode(random::bytes::<16>())
}

/// A client's Completion, out of its framing.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) encoding: Encoding,
    pub(crate) completion: Bytes,
}

impl Answer {
    /// Gives the result its type. No result is taken as null, which ASP.NET Core does not take at all.
    pub(crate) fn decode<T: DeserializeOwned>(&self) -> Result<T, InvokeError> {
        let unfit = |detail: String| InvokeError::Decode {
            type_name: short_type_name::<T>(),
            detail,
        };
        match self.encoding.parse(&self.completion) {
            Ok(HubMessage::Completion(completion)) => match completion.payload {
                CompletionPayload::Result(value) => {
                    value.decode().map_err(|error| unfit(error.to_string()))
                }
                CompletionPayload::Void => {
                    serde_json::from_str("null").map_err(|error| unfit(error.to_string()))
                }
                CompletionPayload::Error(text) => Err(InvokeError::Client(text.into_owned())),
            },
            // It was read once already when it came.
            Ok(_) => Err(unfit("Not a Completion.".to_owned())),
            Err(invalid) => Err(unfit(invalid.to_string())),
        }
    }
}

/// Who wants an answer.
#[derive(Debug)]
pub(crate) enum Asker {
    /// This server.
    Here(oneshot::Sender<Answer>),
    /// Another, on this channel.
    Elsewhere(String),
}

/// Whether a connection may answer a question.
#[derive(Debug)]
pub(crate) enum Taken {
    /// It may, and now has.
    Asked(Asker),
    /// There is no such question, or no longer.
    Unknown,
    /// It was put to another connection.
    SomebodyElses,
}

/// Why a question of another server is not put to a client.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("Invocation ID '{0}' is already in use.")]
    InUse(String),
    #[error("The client has too many invocations to answer.")]
    TooMany,
}

/// All questions that wait for an answer.
#[derive(Debug, Default)]
pub(crate) struct Results(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    pending: HashMap<Arc<str>, Pending>,
    /// The keys of `pending`, by the connections that they were put to.
    by_connection: HashMap<Arc<str>, HashSet<Arc<str>>>,
}

#[derive(Debug)]
struct Pending {
    connection: Arc<str>,
    asker: Asker,
}

impl State {
    fn insert(&mut self, id: &Arc<str>, connection: &str, asker: Asker) {
        let connection = match self.by_connection.get_key_value(connection) {
            Some((connection, _)) => Arc::clone(connection),
            None => connection.into(),
        };
        let ids = self.by_connection.entry(Arc::clone(&connection));
        ids.or_default().insert(Arc::clone(id));
        let pending = Pending { connection, asker };
        self.pending.insert(Arc::clone(id), pending);
    }

    /// Whether a connection has as many questions to answer as it may.
    fn has_enough(&self, connection: &str) -> bool {
        let unanswered = self.by_connection.get(connection).map_or(0, HashSet::len);
        unanswered >= MOST_UNANSWERED
    }

    fn remove(&mut self, id: &str) -> Option<Asker> {
        let Pending { connection, asker } = self.pending.remove(id)?;
        if let Some(ids) = self.by_connection.get_mut(&connection) {
            ids.remove(id);
            if ids.is_empty() {
                self.by_connection.remove(&connection);
            }
        }
        Some(asker)
    }
}

impl Results {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the connection of that id, here or elsewhere, may answer a question of this server; `None` if it has
    /// too many to answer.
    pub(crate) fn expect(&self, invocation_id: &str, connection: &str) -> Option<Expected<'_>> {
        let mut state = self.state();
        if state.has_enough(connection) {
            return None;
        }
        let id: Arc<str> = invocation_id.into();
        let (here, answer) = oneshot::channel();
        state.insert(&id, connection, Asker::Here(here));
        Some(Expected {
            results: self,
            id,
            answer,
        })
    }

    /// From now on a connection of this server may answer a question of another.
    pub(crate) fn forward(
        &self,
        invocation_id: &str,
        connection: &str,
        return_channel: String,
    ) -> Result<(), Refused> {
        let mut state = self.state();
        if state.pending.contains_key(invocation_id) {
            return Err(Refused::InUse(invocation_id.to_owned()));
        }
        if state.has_enough(connection) {
            return Err(Refused::TooMany);
        }
        state.insert(
            &invocation_id.into(),
            connection,
            Asker::Elsewhere(return_channel),
        );
        Ok(())
    }

    /// A connection of this server answers: gives who asked, who is told only once.
    pub(crate) fn take(&self, invocation_id: &str, connection: &str) -> Taken {
        let mut state = self.state();
        match state.pending.get(invocation_id) {
            None => Taken::Unknown,
            Some(pending) if *pending.connection != *connection => Taken::SomebodyElses,
            Some(_) => match state.remove(invocation_id) {
                Some(asker) => Taken::Asked(asker),
                None => Taken::Unknown,
            },
        }
    }

    /// Another server answers for its connection. It cannot for questions that are not ours.
    pub(crate) fn take_ours(&self, invocation_id: &str) -> Option<oneshot::Sender<Answer>> {
        let mut state = self.state();
        let Asker::Here(_) = state.pending.get(invocation_id)?.asker else {
            return None;
        };
        match state.remove(invocation_id)? {
            Asker::Here(waiting) => Some(waiting),
            Asker::Elsewhere(_) => None,
        }
    }

    /// A connection will not answer any more: gives what it was asked, and by whom.
    pub(crate) fn take_all(&self, connection: &str) -> Vec<(Arc<str>, Asker)> {
        let mut state = self.state();
        let ids = state.by_connection.remove(connection).unwrap_or_default();
        ids.into_iter()
            .filter_map(|id| {
                let pending = state.pending.remove(&id)?;
                Some((id, pending.asker))
            })
            .collect()
    }

    /// Whether nothing waits for an answer.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        let state = self.state();
        state.pending.is_empty() && state.by_connection.is_empty()
    }
}

/// A question of this server. Forgotten when this is dropped, whether it was answered or not.
#[derive(Debug)]
pub(crate) struct Expected<'a> {
    results: &'a Results,
    id: Arc<str>,
    answer: oneshot::Receiver<Answer>,
}

impl Expected<'_> {
    /// Waits for the answer; `None` if there will be none, because the connection is gone.
    pub(crate) async fn answer(mut self) -> Option<Answer> {
        (&mut self.answer).await.ok()
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        self.results.state().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(encoding: Encoding, completion: &'static [u8]) -> Answer {
        Answer {
            encoding,
            completion: Bytes::from_static(completion),
        }
    }

    #[test]
    fn ids_have_22_characters_and_are_never_the_same() {
        let ids: HashSet<String> = (0..100).map(|_| new_invocation_id()).collect();
        assert_eq!(ids.len(), 100);
        assert!(ids.iter().all(|id| id.len() == 22));
    }

    #[test]
    fn only_the_connection_that_was_asked_can_answer_and_only_once() {
        let results = Results::default();
        let expected = results.expect("1", "a").unwrap();
        assert!(matches!(results.take("2", "a"), Taken::Unknown));
        assert!(matches!(results.take("1", "b"), Taken::SomebodyElses));
        assert!(matches!(
            results.take("1", "a"),
            Taken::Asked(Asker::Here(_))
        ));
        assert!(matches!(results.take("1", "a"), Taken::Unknown));
        drop(expected);
        assert!(results.is_empty());
    }

    #[test]
    fn other_servers_can_neither_answer_nor_replace_what_is_not_theirs() {
        let results = Results::default();
        let expected = results.expect("ours", "a").unwrap();
        assert_eq!(
            results.forward("ours", "a", "channel".to_owned()),
            Err(Refused::InUse("ours".to_owned()))
        );
        results
            .forward("theirs", "a", "channel".to_owned())
            .unwrap();
        assert!(results.take_ours("theirs").is_none());
        assert!(results.take_ours("nobody's").is_none());
        assert!(results.take_ours("ours").is_some());
        drop(expected);
        let left = results.take_all("a");
        assert!(matches!(&left[..], [(id, Asker::Elsewhere(_))] if **id == *"theirs"));
        assert!(results.is_empty());
    }

    #[test]
    fn questions_are_bounded_for_each_client() {
        let results = Results::default();
        for id in 0..MOST_UNANSWERED {
            results
                .forward(&id.to_string(), "a", String::new())
                .unwrap();
        }
        let one_more = |connection| results.forward("more", connection, String::new());
        assert_eq!(one_more("a"), Err(Refused::TooMany));
        assert!(results.expect("ours", "a").is_none());
        assert!(results.expect("ours", "b").is_some());
        assert_eq!(one_more("b"), Ok(()));
        assert!(matches!(results.take("0", "a"), Taken::Asked(_)));
        assert_eq!(results.forward("again", "a", String::new()), Ok(()));
    }

    #[test]
    fn answers_are_given_their_type_or_say_why_not() {
        let json = |completion| answer(Encoding::Json, completion);
        let value = json(br#"{"type":3,"invocationId":"1","result":[1,2]}"#);
        assert_eq!(value.decode::<Vec<u8>>().unwrap(), [1, 2]);
        let error = value.decode::<Option<String>>().unwrap_err().to_string();
        assert!(
            error.starts_with("Error trying to deserialize result to Option. invalid type"),
            "{error}"
        );
        for void in [
            json(br#"{"type":3,"invocationId":"1"}"#),
            json(br#"{"type":3,"invocationId":"1","result":null}"#),
            answer(Encoding::MessagePack, b"\x94\x03\x80\xa11\x02"),
            answer(Encoding::MessagePack, b"\x95\x03\x80\xa11\x03\xc0"),
        ] {
            void.decode::<()>().unwrap();
            assert_eq!(void.decode::<Option<String>>().unwrap(), None);
            assert!(void.decode::<String>().is_err());
        }
        for error in [
            json(br#"{"type":3,"invocationId":"1","error":"no"}"#),
            answer(Encoding::MessagePack, b"\x95\x03\x80\xa11\x01\xa2no"),
        ] {
            assert_eq!(error.decode::<()>().unwrap_err().to_string(), "no");
        }
        for offence in [json(b"nonsense"), json(br#"{"type":6}"#)] {
            assert!(matches!(
                offence.decode::<()>(),
                Err(InvokeError::Decode { .. })
            ));
        }
    }
}
