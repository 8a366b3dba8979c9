//! The messages of the hub protocol, as they are read. They borrow from the record they came in.

use std::borrow::Cow;

use crate::{Arguments, Value};

/// One message, of either direction.
#[derive(Debug, Clone)]
pub enum HubMessage<'a> {
    /// Type 1: call a method and expect one answer, or none.
    Invocation(Invocation<'a>),
    /// Type 2: one item of a stream.
    StreamItem(StreamItem<'a>),
    /// Type 3: the end of an invocation or of a stream.
    Completion(Completion<'a>),
    /// Type 4: call a method that answers with a stream. Its `invocation_id` is never `None`.
    StreamInvocation(Invocation<'a>),
    /// Type 5: the caller no longer wants what it asked for.
    CancelInvocation(CancelInvocation<'a>),
    /// Type 6: a sign of life; never answered.
    Ping,
    /// Type 7: the sender is about to end the connection.
    Close(Close<'a>),
    /// Type 8: everything up to this number has arrived (stateful reconnect only).
    Ack {
        /// The number of the last message that arrived.
        sequence_id: i64,
    },
    /// Type 9: the number of the message that follows (stateful reconnect only).
    Sequence {
        /// The number of the next message.
        sequence_id: i64,
    },
    /// A type this crate does not know. Receivers skip it, so that newer peers can talk to older ones.
    Unknown {
        /// The value of the `type` property.
        kind: i32,
    },
}

/// A call of a method (types 1 and 4).
#[derive(Debug, Clone)]
pub struct Invocation<'a> {
    /// Chosen by the caller, unique among its running calls; `None` if it wants no answer.
    pub invocation_id: Option<Cow<'a, str>>,
    /// The method's name, as the caller spells it; never empty.
    pub target: Cow<'a, str>,
    /// What the method is given, stream parameters left out.
    pub arguments: Arguments<'a>,
    /// One id for each stream that the caller will send, in the order of the parameters.
    pub stream_ids: Vec<Cow<'a, str>>,
}

/// One item of a stream (type 2).
#[derive(Debug, Clone)]
pub struct StreamItem<'a> {
    /// Which stream: the id of the stream invocation, or one of the `stream_ids`.
    pub invocation_id: Cow<'a, str>,
    /// The item itself.
    pub item: Value<'a>,
}

/// The end of an invocation or of a stream (type 3).
#[derive(Debug, Clone)]
pub struct Completion<'a> {
    /// Which invocation or stream.
    pub invocation_id: Cow<'a, str>,
    /// How it ended.
    pub payload: CompletionPayload<'a>,
}

/// How an invocation or a stream ended.
#[derive(Debug, Clone)]
pub enum CompletionPayload<'a> {
    /// Well, with a value.
    Result(Value<'a>),
    /// Well, without a value: a stream, or a peer that has no values for such methods.
    Void,
    /// Badly; the text is meant for whoever called.
    Error(Cow<'a, str>),
}

/// The wish to end a call early (type 5).
#[derive(Debug, Clone)]
pub struct CancelInvocation<'a> {
    /// Which call.
    pub invocation_id: Cow<'a, str>,
}

/// The announced end of the connection (type 7).
#[derive(Debug, Clone)]
pub struct Close<'a> {
    /// Why, if something went wrong.
    pub error: Option<Cow<'a, str>>,
    /// Whether a client with automatic reconnect should come back.
    pub allow_reconnect: bool,
}
