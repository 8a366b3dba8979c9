//! What both sides want of each other while one connection lasts: calls that wait for their answers, and what is to be sent.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{AbortHandle, Abortable};
use hubcast_protocol::{Encoding, Value};

use crate::arguments::{HubArguments, List};
use crate::error::{ConnectionError, InvokeError};
use crate::queue::{self, Closed, Room};
use crate::upload::Messages;

/// The most calls that wait for their answers, and the most streams that are sent, at the same time.
pub(crate) const MAX_CALLS: usize = 1024;

/// How many bytes wait to be sent; whoever sends more waits.
const OUTBOX: usize = 1024 * 1024;

/// What the server is told of a stream that is broken off. The text of the .NET client.
const STREAM_CANCELED: &str = "Stream canceled by client.";

/// What is to be sent.
pub(crate) enum Outgoing {
    /// A hub message.
    Message(Vec<u8>),
    /// A call, and the streams that may begin once it is sent.
    Call(Vec<u8>, Vec<Pump>),
    /// The Close message, and the end of the WebSocket.
    Goodbye,
}

/// How a call ended: with a value, or with nothing, which means the same as null.
pub(crate) type Outcome<'a> = Result<Option<Value<'a>>, InvokeError>;

pub(crate) type OnResult = Box<dyn FnOnce(Outcome<'_>) + Send>;

/// Where the items of a stream go.
pub(crate) trait Items: Send + Sync {
    /// Waits for room for an item of so many bytes; an error if nobody wants it any more.
    fn room(&self, bytes: usize) -> BoxFuture<'_, Result<Room, Closed>>;

    /// Takes an item. `false` if it is not of the stream's type, after which there will be no more.
    fn item(&self, value: Value<'_>, room: Room) -> bool;

    /// The last that this stream hears, if something went wrong.
    fn fail(&self, error: InvokeError);
}

/// What a call wants.
pub(crate) enum Wanted {
    Nothing,
    Result(OnResult),
    Items(Arc<dyn Items>),
}

/// One connection to the server, from its handshake to its end.
pub(crate) struct Session {
    pub(crate) encoding: Encoding,
    outbox: queue::Sender<Outgoing>,
    calls: Mutex<Calls>,
}

#[derive(Default)]
struct Calls {
    /// Calls and streams take their ids from one counter, as in the stock clients.
    last_id: u64,
    waiting: HashMap<String, Waiting>,
    uploads: usize,
    /// What calls fail with since the connection has ended.
    ended: Option<InvokeError>,
}

struct Waiting {
    wanted: Wanted,
    uploads: Vec<(String, AbortHandle)>,
}

impl Session {
    pub(crate) fn new(encoding: Encoding) -> (Arc<Self>, queue::Receiver<Outgoing>) {
        let (outbox, outgoing) = queue::queue(OUTBOX);
        let session = Self {
            encoding,
            outbox,
            calls: Mutex::default(),
        };
        (Arc::new(session), outgoing)
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls a method of the hub. The call is taken back when what this returns is dropped.
    pub(crate) async fn call<A: HubArguments>(
        self: &Arc<Self>,
        method: &str,
        arguments: A,
        wanted: Wanted,
    ) -> Result<Call, InvokeError> {
        let (mut call, pumps, message) = self.prepare(method, arguments, wanted)?;
        let length = message.len();
        let outgoing = Outgoing::Call(message, pumps);
        if self.outbox.send(outgoing, length).await.is_err() {
            return Err(self.why_ended());
        }
        call.is_sent = true;
        Ok(call)
    }

    fn prepare<A: HubArguments>(
        self: &Arc<Self>,
        method: &str,
        arguments: A,
        wanted: Wanted,
    ) -> Result<(Call, Vec<Pump>, Vec<u8>), InvokeError> {
        let is_stream = matches!(wanted, Wanted::Items(_));
        let has_id = !matches!(wanted, Wanted::Nothing);
        let (call, starts) = self.register(wanted, A::STREAMS)?;
        let stream_ids: Vec<&str> = starts.iter().map(|start| start.id.as_str()).collect();
        let (list, mut message) = (List(&arguments), Vec::new());
        let encoding = self.encoding;
        let written = if is_stream {
            encoding.write_stream_invocation(&mut message, &call.id, method, &list, &stream_ids)
        } else {
            let id = has_id.then_some(call.id.as_str());
            encoding.write_invocation(&mut message, id, method, &list, &stream_ids)
        };
        written.map_err(|error| InvokeError::encode(method, &error))?;
        let streams = arguments.into_uploads().into_iter().zip(starts);
        let pumps = streams.map(|(upload, start)| Pump {
            messages: Abortable::new(upload.messages(encoding, start.id), start.registration),
            place: start.place,
        });
        let pumps = pumps.collect();
        Ok((call, pumps, message))
    }

    fn register(
        self: &Arc<Self>,
        wanted: Wanted,
        streams: usize,
    ) -> Result<(Call, Vec<Start>), InvokeError> {
        let mut calls = self.calls();
        if let Some(error) = &calls.ended {
            return Err(error.clone());
        }
        if calls.waiting.len() >= MAX_CALLS || calls.uploads + streams > MAX_CALLS {
            return Err(InvokeError::TooMany);
        }
        let id = calls.next_id();
        let (mut uploads, mut starts) = (Vec::new(), Vec::new());
        for _ in 0..streams {
            let (handle, registration) = AbortHandle::new_pair();
            let id = calls.next_id();
            uploads.push((id.clone(), handle));
            calls.uploads += 1;
            starts.push(Start {
                id,
                registration,
                place: Place(Arc::clone(self)),
            });
        }
        if !matches!(wanted, Wanted::Nothing) {
            calls
                .waiting
                .insert(id.clone(), Waiting { wanted, uploads });
        }
        let session = Arc::clone(self);
        let call = Call {
            session,
            id,
            is_sent: false,
        };
        Ok((call, starts))
    }

    /// Sends a message that answers one of the server's.
    pub(crate) async fn reply(&self, message: Vec<u8>) {
        let length = message.len();
        // When the connection is gone, nobody waits for the reply.
        let _ = self.outbox.send(Outgoing::Message(message), length).await;
    }

    /// Says goodbye behind everything that waits to be sent.
    pub(crate) fn leave(&self) {
        let _ = self.outbox.send_free(Outgoing::Goodbye);
    }

    /// Where the items of a stream go that somebody still reads.
    pub(crate) fn items(&self, id: &str) -> Option<Arc<dyn Items>> {
        match &self.calls().waiting.get(id)?.wanted {
            Wanted::Items(items) => Some(Arc::clone(items)),
            Wanted::Nothing | Wanted::Result(_) => None,
        }
    }

    /// The server has answered. What it says of calls that nobody made is skipped.
    pub(crate) fn complete(&self, id: &str, outcome: Outcome<'_>) {
        let waiting = self.calls().waiting.remove(id);
        if let Some(waiting) = waiting {
            waiting.end(outcome);
        }
    }

    /// Nobody waits for this call any more: the server is told so, and still has to complete it.
    pub(crate) fn cancel(&self, id: &str) {
        let uploads = {
            let mut calls = self.calls();
            let Some(waiting) = calls.waiting.get_mut(id) else {
                return;
            };
            if matches!(waiting.wanted, Wanted::Nothing) {
                return;
            }
            waiting.wanted = Wanted::Nothing;
            std::mem::take(&mut waiting.uploads)
        };
        let mut message = Vec::new();
        for (id, upload) in uploads {
            upload.abort();
            self.encoding
                .write_error(&mut message, &id, STREAM_CANCELED);
        }
        self.encoding.write_cancel(&mut message, id);
        // Bounded, because the call keeps its place until it is completed.
        let _ = self.outbox.send_free(Outgoing::Message(message));
    }

    /// Ends a stream at our side.
    pub(crate) fn fail_stream(&self, id: &str, error: InvokeError) {
        if let Some(items) = self.items(id) {
            items.fail(error);
        }
        self.cancel(id);
    }

    /// The connection has ended: everything that waits fails, and so does everything that comes later.
    pub(crate) fn end(&self, reason: Option<&ConnectionError>) {
        let error = InvokeError::disconnected(reason.cloned());
        let waiting = {
            let mut calls = self.calls();
            calls.ended.get_or_insert_with(|| error.clone());
            std::mem::take(&mut calls.waiting)
        };
        for waiting in waiting.into_values() {
            waiting.end(Err(error.clone()));
        }
    }

    fn why_ended(&self) -> InvokeError {
        let ended = self.calls().ended.clone();
        ended.unwrap_or(InvokeError::Closed)
    }
}

impl Calls {
    fn next_id(&mut self) -> String {
        self.last_id += 1;
        self.last_id.to_string()
    }
}

impl Waiting {
    fn end(self, outcome: Outcome<'_>) {
        for (_, upload) in self.uploads {
            upload.abort();
        }
        match self.wanted {
            Wanted::Result(result) => result(outcome),
            Wanted::Items(items) => {
                if let Err(error) = outcome {
                    items.fail(error);
                }
            }
            Wanted::Nothing => {}
        }
    }
}

/// A call that was made. Dropping it takes it back, unless it is completed.
pub(crate) struct Call {
    session: Arc<Session>,
    id: String,
    is_sent: bool,
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.is_sent {
            self.session.cancel(&self.id);
        } else {
            self.session.calls().waiting.remove(&self.id);
        }
    }
}

/// A stream of ours that may begin.
struct Start {
    id: String,
    registration: futures_util::stream::AbortRegistration,
    place: Place,
}

/// One of the places for streams of ours, free again when this is dropped.
struct Place(Arc<Session>);

impl Drop for Place {
    fn drop(&mut self) {
        let mut calls = self.0.calls();
        calls.uploads = calls.uploads.saturating_sub(1);
    }
}

/// A stream of ours on its way to the server.
pub(crate) struct Pump {
    messages: Abortable<Messages>,
    place: Place,
}

impl Pump {
    /// Sends the stream to its end, or until its call or the connection has ended.
    pub(crate) async fn run(mut self) {
        let session = Arc::clone(&self.place.0);
        while let Some(message) = self.messages.next().await {
            let length = message.len();
            let sent = session
                .outbox
                .send(Outgoing::Message(message), length)
                .await;
            if sent.is_err() {
                return;
            }
        }
    }
}
