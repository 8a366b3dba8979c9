//! A client's messages meet the hub: plain calls in order and a few at a time, streams beside them, everything else at once.

mod refusal;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use hubcast_protocol::{Completion, Encoding, HubMessage, Invocation};

use crate::binding::{BindError, Parameters};
use crate::call::{Call, CallState, SHUTTING_DOWN, Stop};
use crate::client_stream::{ClientStreamError, Upload};
use crate::close_reason::CloseReason;
use crate::connection::Connection;
use crate::context::CallerContext;
use crate::frame::Frame;
use crate::handler::Served;
use crate::hub::Hub;
use crate::invocation::{Callee, Running, Setting};
use crate::methods::Registered;
use crate::options::HubOptions;
use crate::uploads::{NamedUpload, Uploads};
use crate::waiting::{Postponed, Waiting};

/// How many calls of a client may be under way that are neither streams nor hold a slot, about: they wait for the answer of
/// a client, or for permission. More wait like those without a slot. Far more than anybody needs.
const MOST_ASIDE: usize = 1024;

/// Whether the client called a method as a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Stream,
}

/// What one connection has called and not been answered.
pub(crate) struct Dispatcher<'a, H: Hub> {
    served: &'a Served<H>,
    connection: Arc<Connection>,
    encoding: Encoding,
    /// Calls that have begun, by a number of their own: a client may use an id twice.
    callee: Arc<Callee<H>>,
    calls: BTreeMap<u64, Begun>,
    next_call: u64,
    /// `None` while nothing runs, which is most of the time.
    running: Option<FuturesUnordered<Numbered>>,
    uploads: Uploads,
    waiting: Waiting,
}

/// A call that has begun and not ended.
struct Begun {
    call: Arc<Call>,
    /// Whether its answer is no longer wanted, or has been given.
    is_settled: bool,
    /// Whether it answers with a stream; not if it is refused.
    is_stream: bool,
    /// The streams that it reads, by their ids, those that the client has ended included.
    streams: Vec<NamedUpload>,
}

impl Begun {
    /// The client no longer wants the call. Gives the answer if it is due now: a stream ends at once, whatever its method
    /// still does, so that its id may be used again.
    fn take_back(&mut self) -> Option<Frame> {
        self.call.state.stop(Stop::Canceled);
        if !self.is_stream || self.is_settled {
            return None;
        }
        self.is_settled = true;
        self.call.stream_ended()
    }

    /// What the client knows it by, as long as it waits for the answer.
    fn id(&self) -> Option<&str> {
        self.call
            .invocation_id
            .as_deref()
            .filter(|_| !self.is_settled)
    }
}

/// Whether calls of a method take one of the slots: streams, and calls with streams of the client, run beside them.
fn takes_slot<H>(method: &Registered<H>) -> bool {
    !method.method.is_stream() && method.method.streams() == 0
}

/// A running call and its number.
struct Numbered {
    number: u64,
    call: Arc<Call>,
    running: Running,
}

impl Future for Numbered {
    type Output = (u64, Option<Frame>);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self {
            number,
            call,
            running,
        } = &mut *self;
        poll_call(running, call, context).map(|answer| (*number, answer))
    }
}

/// Goes on with a call. That its method panics is an answer, too.
fn poll_call(running: &mut Running, call: &Call, context: &mut Context<'_>) -> Poll<Option<Frame>> {
    let polled = catch_unwind(AssertUnwindSafe(|| running.poll_unpin(context)));
    polled.unwrap_or_else(|_| Poll::Ready(call.panicked()))
}

impl<'a, H: Hub> Dispatcher<'a, H> {
    pub(crate) fn new(served: &'a Served<H>, connection: Arc<Connection>) -> Self {
        Self {
            served,
            encoding: connection.encoding(),
            connection,
            callee: Arc::new(Callee {
                hub: Arc::clone(&served.hub),
                filters: Arc::clone(&served.filters),
            }),
            calls: BTreeMap::new(),
            next_call: 0,
            running: None,
            uploads: Uploads::default(),
            waiting: Waiting::default(),
        }
    }

    fn options(&self) -> &'a HubOptions {
        &self.served.lifetime.options
    }

    /// Whether more messages can be taken; if not, the client is not read until some have been dealt with.
    pub(crate) fn has_room(&self) -> bool {
        !self.uploads.are_stuck()
            && self.waiting.bytes() < self.options().application_max_buffer_size
    }

    /// Whether the client reads its answers too slowly for more to be made.
    pub(crate) fn is_crowded(&self) -> bool {
        self.connection.outbox.bytes() > self.options().application_max_buffer_size
    }

    /// Whether messages wait for a call to end.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Takes one message of the client. `Err` ends the connection.
    pub(crate) fn take(&mut self, record: &Bytes) -> Result<(), CloseReason> {
        let message = self
            .encoding
            .parse(record)
            .map_err(|invalid| CloseReason::ProtocolError(invalid.to_string()))?;
        if !self.connection.admits(&message)? {
            return Ok(());
        }
        match message {
            HubMessage::Invocation(invocation) => self.take_call(record, &invocation, Kind::Plain),
            HubMessage::StreamInvocation(invocation) => {
                self.take_call(record, &invocation, Kind::Stream);
            }
            HubMessage::StreamItem(item) => {
                if self.waiting.is_about_stream(&item.invocation_id) {
                    self.waiting
                        .postpone_for_stream(record, &item.invocation_id);
                } else {
                    self.uploads.take_item(record, &item);
                }
            }
            HubMessage::Completion(completion) => {
                if self.waiting.is_about_stream(&completion.invocation_id) {
                    self.waiting
                        .postpone_for_stream(record, &completion.invocation_id);
                } else {
                    self.take_completion(record, &completion)?;
                }
            }
            HubMessage::CancelInvocation(cancel) => self.cancel(&cancel.invocation_id),
            HubMessage::Ping => self.connection.heard_ping(),
            HubMessage::Close(close) => {
                return Err(match close.error {
                    Some(error) => CloseReason::ClientFailed(error.into_owned()),
                    None => CloseReason::ClientLeft,
                });
            }
            HubMessage::Unknown { kind } => {
                tracing::debug!(kind, "a message of an unknown type was skipped");
            }
            // About stateful reconnect, on a connection without it: ignored, as in ASP.NET Core.
            HubMessage::Ack { .. } | HubMessage::Sequence { .. } => {}
        }
        Ok(())
    }

    fn take_call(&mut self, record: &Bytes, invocation: &Invocation<'_>, kind: Kind) {
        let must_wait = !self.waiting.is_empty()
            || self.is_crowded()
            || self.is_full()
            || (kind == Kind::Plain && !self.has_slot() && self.wants_slot(invocation));
        if must_wait {
            let wants_slot = kind == Kind::Plain && self.wants_slot(invocation);
            self.waiting.postpone_call(record, invocation, wants_slot);
        } else {
            self.start(invocation, kind, false);
        }
    }

    /// Whether as many calls are under way as may be.
    fn is_full(&self) -> bool {
        let options = self.options();
        let most = options
            .maximum_parallel_invocations_per_client
            .saturating_add(options.maximum_streams_per_client)
            .saturating_add(MOST_ASIDE);
        self.calls.len() >= most
    }

    fn has_slot(&self) -> bool {
        self.connection.slots.taken()
            < self
                .options()
                .maximum_parallel_invocations_per_client
                .max(1)
    }

    /// Whether a call takes one of the slots; one of a method that does not exist waits its turn, too.
    fn wants_slot(&self, invocation: &Invocation<'_>) -> bool {
        let method = self.served.methods.find(&invocation.target);
        method.is_none_or(takes_slot)
    }

    fn call_of(&self, invocation: &Invocation<'_>, method: Option<&Registered<H>>) -> Call {
        let target = match method {
            // Mostly spelled as it was registered.
            Some(method) if method.name == invocation.target => Cow::Borrowed(method.name),
            _ => Cow::Owned(invocation.target.clone().into_owned()),
        };
        Call {
            invocation_id: invocation.invocation_id.as_deref().map(str::to_owned),
            target,
            encoding: self.encoding,
            detailed_errors: self.options().enable_detailed_errors,
            state: CallState::default(),
        }
    }

    /// Runs a call as far as it goes without waiting.
    fn start(&mut self, invocation: &Invocation<'_>, kind: Kind, canceled: bool) {
        let method = self.served.methods.find(&invocation.target);
        let call = Arc::new(self.call_of(invocation, method));
        let Some(method) = method else {
            let target = &*call.target;
            tracing::debug!(target, "a client called a method that does not exist");
            return self.answer(call.failed_to_bind(" HubException: Method does not exist."));
        };
        if canceled {
            call.state.stop(Stop::Canceled);
        }
        let refusal = self.refusal(method, invocation, &call, kind);
        let is_stream = method.method.is_stream() && refusal.is_none();
        let Some((mut running, uploads)) = self.bind(method, invocation, &call, refusal) else {
            return;
        };
        if takes_slot(method) {
            call.state.take_slot(&self.connection.slots);
        }
        let context = &mut Context::from_waker(Waker::noop());
        if let Poll::Ready(answer) = poll_call(&mut running, &call, context) {
            call.state.give_slot_back(&self.connection.slots);
            return self.answer(answer);
        }
        let ids = invocation
            .stream_ids
            .iter()
            .map(|id| id.clone().into_owned());
        // None if the call is refused: the ids may be those of others.
        let streams: Vec<_> = ids.zip(uploads).collect();
        self.uploads.begin(&streams);
        let number = self.next_call;
        self.next_call += 1;
        let mut begun = Begun {
            call: Arc::clone(&call),
            is_settled: false,
            is_stream,
            streams,
        };
        if canceled {
            self.answer(begun.take_back());
        }
        self.calls.insert(number, begun);
        let running = Numbered {
            number,
            call,
            running,
        };
        self.running.get_or_insert_default().push(running);
    }

    /// Gives the arguments their types, or answers why not.
    fn bind(
        &self,
        method: &Registered<H>,
        invocation: &Invocation<'_>,
        call: &Arc<Call>,
        refusal: Option<String>,
    ) -> Option<(Running, Vec<Arc<dyn Upload>>)> {
        let refused = refusal.is_some();
        let setting = Setting {
            callee: Arc::clone(&self.callee),
            policy: method.policy.clone(),
            context: CallerContext::new(Arc::clone(&self.connection), Arc::clone(call)),
            name: method.name,
            refusal,
        };
        let capacity = self.options().stream_buffer_capacity;
        let mut parameters = Parameters::new(invocation.arguments, capacity);
        // Somebody's `Deserialize` may panic.
        let bound = catch_unwind(AssertUnwindSafe(|| {
            method.method.bind(&mut parameters, setting)
        }));
        match bound {
            Ok(Ok(running)) if refused => Some((running, Vec::new())),
            Ok(Ok(running)) => Some((running, parameters.into_uploads())),
            Ok(Err(error)) => {
                let target = &*call.target;
                tracing::debug!(target, ?error, "the arguments of a call do not fit");
                self.answer(call.failed_to_bind(&self.detail_of(&error)));
                None
            }
            Err(_) => {
                let target = &*call.target;
                tracing::error!(target, "binding the arguments of a call panicked");
                self.answer(call.failed_to_bind(""));
                None
            }
        }
    }

    fn detail_of(&self, error: &BindError) -> String {
        if self.options().enable_detailed_errors {
            format!(" InvalidDataException: {}", error.text(self.encoding))
        } else {
            String::new()
        }
    }

    fn answer(&self, answer: Option<Frame>) {
        if let Some(frame) = answer {
            self.connection.answer(frame);
        }
    }

    /// The end of a stream of the client, or else its answer to what it was asked.
    fn take_completion(
        &mut self,
        record: &Bytes,
        completion: &Completion<'_>,
    ) -> Result<(), CloseReason> {
        let id = &*completion.invocation_id;
        if self.uploads.take_end(id, &completion.payload) {
            return Ok(());
        }
        self.served.lifetime.complete(&self.connection, id, record)
    }

    fn cancel(&mut self, id: &str) {
        let mut begun = self.calls.values_mut();
        let found = begun.find(|begun| begun.id() == Some(id));
        let Some(begun) = found else {
            return self.waiting.cancel(id);
        };
        let end = begun.take_back();
        self.answer(end);
    }

    /// Goes on with what runs, or begins what waits. Never ready while there is nothing to do.
    pub(crate) async fn run(&mut self) {
        poll_fn(|context| self.poll_run(context)).await;
        tokio::task::coop::consume_budget().await;
    }

    fn poll_run(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.uploads.poll_stuck(context, self.encoding).is_ready() {
            return Poll::Ready(());
        }
        self.connection.slots.register(context.waker());
        if !self.uploads.are_stuck() && !self.is_crowded() && self.begin_waiting() {
            return Poll::Ready(());
        }
        let Some(running) = &mut self.running else {
            return Poll::Pending;
        };
        match running.poll_next_unpin(context) {
            Poll::Ready(Some((number, answer))) => {
                if self.end_call(number) {
                    self.answer(answer);
                }
                Poll::Ready(())
            }
            Poll::Ready(None) => {
                self.running = None;
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// Deals with the next of the messages that wait, if it may be; false if not.
    fn begin_waiting(&mut self) -> bool {
        let Some(next) = self.waiting.first() else {
            return false;
        };
        if next.is_call && (self.is_full() || (next.wants_slot && !self.has_slot())) {
            return false;
        }
        // It was read once already when it came. A copy, because what it is taken from changes.
        let record = next.record.clone();
        let canceled = next.canceled;
        match self.encoding.parse(&record) {
            Ok(HubMessage::Invocation(invocation)) => {
                self.waiting.remove_first(&invocation.stream_ids);
                self.start(&invocation, Kind::Plain, canceled);
            }
            Ok(HubMessage::StreamInvocation(invocation)) => {
                self.waiting.remove_first(&invocation.stream_ids);
                self.start(&invocation, Kind::Stream, canceled);
            }
            Ok(HubMessage::StreamItem(item)) => {
                self.waiting
                    .remove_first(std::slice::from_ref(&item.invocation_id));
                self.uploads.take_item(&record, &item);
            }
            Ok(HubMessage::Completion(completion)) => {
                self.waiting
                    .remove_first(std::slice::from_ref(&completion.invocation_id));
                if let Err(reason) = self.take_completion(&record, &completion) {
                    self.connection.end(reason);
                }
            }
            _ => self.waiting.remove_first(&[]),
        }
        true
    }

    /// Forgets a call; false if its answer is no longer wanted, or has been given.
    fn end_call(&mut self, number: u64) -> bool {
        let Some(begun) = self.calls.remove(&number) else {
            return false;
        };
        begun.call.state.give_slot_back(&self.connection.slots);
        self.uploads.finish(begun.streams);
        !begun.is_settled
    }

    /// The client has said goodbye: runs what still waits, which hears that nobody wants its outcome any more. Calls that
    /// wait for a client that does not read its answers are not begun.
    pub(crate) async fn finish(&mut self) {
        while !self.waiting.is_empty() && !self.is_crowded() {
            for begun in self.calls.values() {
                begun.call.state.stop(Stop::Disconnected);
                for (id, upload) in &begun.streams {
                    // Nothing more of it can come; whoever reads it may be what the others wait for.
                    if !self.waiting.is_about_stream(id) && !self.uploads.is_stuck(upload) {
                        upload.end(Err(ClientStreamError::Disconnected));
                    }
                }
            }
            self.run().await;
        }
    }

    /// The connection is over. Calls that run are let finish on their own, although nobody hears their answers: what
    /// a method does should not depend on a stranger's network. Calls that still wait are never begun.
    pub(crate) fn abandon(mut self) {
        for begun in self.calls.values() {
            begun.call.state.stop(Stop::Disconnected);
        }
        self.uploads.end_all();
        if let Some(mut running) = self.running.take() {
            tokio::spawn(async move { while running.next().await.is_some() {} });
        }
    }

    /// The server is going away: answers calls that wait with an error, ends streams, and waits for calls that run.
    pub(crate) async fn drain(&mut self) {
        for Postponed { record, .. } in self.waiting.take_all() {
            if let Ok(
                HubMessage::Invocation(invocation) | HubMessage::StreamInvocation(invocation),
            ) = self.encoding.parse(&record)
            {
                self.answer(self.call_of(&invocation, None).failed_to_run(SHUTTING_DOWN));
            }
        }
        for begun in self.calls.values() {
            begun.call.state.stop(Stop::Shutdown);
        }
        self.uploads.end_all();
        while !self.calls.is_empty() {
            self.run().await;
        }
    }

    /// Answers calls that run with an error after all: there is no more time to wait for them.
    pub(crate) fn give_up_running(&self) {
        for begun in self.calls.values().filter(|begun| !begun.is_settled) {
            self.answer(begun.call.failed_to_run(SHUTTING_DOWN));
        }
    }
}
