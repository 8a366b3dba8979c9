//! A client's message meets the hub: one plain call at a time, in order, everything else at once.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use hubcast_protocol::{Encoding, HubMessage, Invocation};

use crate::close_reason::CloseReason;
use crate::connection::Connection;
use crate::context::CallerContext;
use crate::frame::Frame;
use crate::hub::Hub;
use crate::methods::{Call, Methods, Running};
use crate::options::HubOptions;

/// Whether the client may call a method as a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Stream,
}

/// What a waiting call costs beside its bytes.
const WAITING_OVERHEAD: usize = 64;

/// What one connection has called and not been answered.
pub(crate) struct Dispatcher<H: Hub> {
    hub: Arc<H>,
    methods: Arc<Methods<H>>,
    connection: Arc<Connection>,
    context: Arc<CallerContext>,
    encoding: Encoding,
    detailed_errors: bool,
    running: Option<Running>,
    /// The call of `running`, in case it must be answered without it.
    running_call: Option<Call>,
    /// Calls that came while another was running; started in order.
    waiting: VecDeque<Bytes>,
    waiting_bytes: usize,
    waiting_limit: usize,
}

impl<H: Hub> Dispatcher<H> {
    pub(crate) fn new(
        hub: Arc<H>,
        methods: Arc<Methods<H>>,
        connection: Arc<Connection>,
        context: CallerContext,
        options: &HubOptions,
    ) -> Self {
        Self {
            hub,
            methods,
            encoding: connection.encoding(),
            connection,
            context: Arc::new(context),
            detailed_errors: options.enable_detailed_errors,
            running: None,
            running_call: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            waiting_limit: options.application_max_buffer_size,
        }
    }

    /// Whether more calls can be taken; if not, the client is not read until some have been answered.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting_bytes < self.waiting_limit
    }

    /// Takes one message of the client. `Err` ends the connection.
    pub(crate) fn take(&mut self, record: &Bytes) -> Result<(), CloseReason> {
        let message = self
            .encoding
            .parse(record)
            .map_err(|invalid| CloseReason::ProtocolError(invalid.to_string()))?;
        match message {
            HubMessage::Invocation(invocation) => {
                if self.is_busy() {
                    // A copy: the record may be a small part of a large read, which would be kept with it.
                    let record = Bytes::copy_from_slice(record);
                    self.waiting_bytes += record.len() + WAITING_OVERHEAD;
                    self.waiting.push_back(record);
                } else {
                    self.start(&invocation);
                }
            }
            HubMessage::StreamInvocation(invocation) => self.refuse_stream(&invocation),
            HubMessage::Ping => self.connection.heard_ping(),
            HubMessage::Close(_) => return Err(CloseReason::ClientLeft),
            HubMessage::Completion(completion) => {
                let id = &completion.invocation_id;
                self.context
                    .lifetime()
                    .complete(&self.connection, id, record)?;
            }
            HubMessage::Unknown { kind } => {
                tracing::debug!(kind, "a message of an unknown type was skipped");
            }
            // About calls and streams that this server does not have, and about stateful reconnect, which it
            // has not offered: ignored, as in ASP.NET Core.
            HubMessage::StreamItem(_)
            | HubMessage::CancelInvocation(_)
            | HubMessage::Ack { .. }
            | HubMessage::Sequence { .. } => {}
        }
        Ok(())
    }

    fn call_of(&self, invocation: &Invocation<'_>) -> Call {
        Call {
            invocation_id: invocation.invocation_id.as_deref().map(str::to_owned),
            target: invocation.target.clone().into_owned(),
            encoding: self.encoding,
            detailed_errors: self.detailed_errors,
        }
    }

    /// Runs a call as far as it goes without waiting.
    fn start(&mut self, invocation: &Invocation<'_>) {
        let call = self.call_of(invocation);
        let Some(mut running) = self.bind(invocation, &call, Kind::Plain) else {
            return;
        };
        if let Some(answer) = running.as_mut().now_or_never() {
            self.answer(answer);
        } else {
            self.running = Some(running);
            self.running_call = Some(call);
        }
    }

    fn refuse_stream(&self, invocation: &Invocation<'_>) {
        let call = self.call_of(invocation);
        // Never run: there is no method that answers with a stream.
        let _ = self.bind(invocation, &call, Kind::Stream);
    }

    /// Finds the method and gives the arguments their types, or answers why not. In the order of ASP.NET Core,
    /// where binding comes before everything else.
    fn bind(&self, invocation: &Invocation<'_>, call: &Call, kind: Kind) -> Option<Running> {
        let Some(method) = self.methods.find(&call.target) else {
            tracing::debug!(
                target = call.target,
                "a client called a method that does not exist"
            );
            self.answer(call.failed_to_bind(" HubException: Method does not exist."));
            return None;
        };
        // Somebody's `Deserialize` may panic.
        let bound = catch_unwind(AssertUnwindSafe(|| {
            method.bind(&self.hub, &self.context, invocation.arguments, call)
        }));
        let running = match bound {
            Ok(Ok(running)) => running,
            Err(_) => {
                tracing::error!(
                    target = call.target,
                    "binding the arguments of a call panicked"
                );
                self.answer(call.failed_to_bind(""));
                return None;
            }
            Ok(Err(error)) => {
                tracing::debug!(
                    target = call.target,
                    ?error,
                    "the arguments of a call do not fit"
                );
                let detail = if self.detailed_errors {
                    format!(" InvalidDataException: {error}")
                } else {
                    String::new()
                };
                self.answer(call.failed_to_bind(&detail));
                return None;
            }
        };
        if kind == Kind::Stream {
            let target = &call.target;
            self.answer(call.error(&format!(
                "The client attempted to invoke the non-streaming '{target}' method with a streaming invocation."
            )));
            return None;
        }
        let streams = invocation.stream_ids.len();
        if streams > 0 {
            self.answer(call.failed_to_run(&format!(
                " HubException: Client sent {streams} stream(s), Hub method expects 0."
            )));
            return None;
        }
        Some(running)
    }

    fn answer(&self, answer: Option<Frame>) {
        if let Some(frame) = answer {
            self.connection.send(frame);
        }
    }

    /// Whether calls run or wait.
    pub(crate) fn is_busy(&self) -> bool {
        self.running.is_some() || !self.waiting.is_empty()
    }

    /// Whether calls wait for another to end.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether the client reads its answers too slowly for more to be made.
    pub(crate) fn is_crowded(&self) -> bool {
        self.connection.outbox.bytes() > self.waiting_limit
    }

    /// Goes on with the running call, or with the next of those that wait. Never ready while there is nothing to do.
    pub(crate) async fn run(&mut self) {
        if let Some(running) = &mut self.running {
            let answer = poll_fn(|context| running.poll_unpin(context)).await;
            self.running = None;
            self.running_call = None;
            self.answer(answer);
            return;
        }
        if self.is_crowded() {
            return std::future::pending().await;
        }
        let Some(record) = self.waiting.pop_front() else {
            return std::future::pending().await;
        };
        self.waiting_bytes -= record.len() + WAITING_OVERHEAD;
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
        // It was read once already when it came.
        if let Ok(HubMessage::Invocation(invocation)) = self.encoding.parse(&record) {
            self.start(&invocation);
        }
        tokio::task::coop::consume_budget().await;
    }

    /// The connection is over. A call that runs is let finish on its own, although nobody hears its answer:
    /// what a method does should not depend on a stranger's network. Calls that still wait are never begun.
    pub(crate) fn abandon(mut self) {
        if let Some(running) = self.running.take() {
            tokio::spawn(running);
        }
    }

    /// The server is going away: waits for the running call, answers those that wait with an error.
    pub(crate) async fn drain(&mut self) {
        self.waiting_bytes = 0;
        for record in std::mem::take(&mut self.waiting) {
            if let Ok(HubMessage::Invocation(invocation)) = self.encoding.parse(&record) {
                let call = self.call_of(&invocation);
                self.answer(call.failed_to_run(" HubException: The server is shutting down."));
            }
        }
        if self.running.is_some() {
            self.run().await;
        }
    }

    /// Answers the running call with an error after all: there is no more time to wait for it.
    pub(crate) fn give_up_running(&self) {
        if let Some(call) = &self.running_call {
            self.answer(call.failed_to_run(" HubException: The server is shutting down."));
        }
    }
}
