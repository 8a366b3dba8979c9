//! A connection's life: handshake, messages, goodbye.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use hubcast_protocol::Encoding;
use hubcast_protocol::framing::Records;
use hubcast_protocol::handshake::{self, HandshakeRequest};
use tokio::time::{Duration, timeout};

use crate::call::{Call, CallState, Stop};
use crate::close_reason::CloseReason;
use crate::connection::Connection;
use crate::context::CallerContext;
use crate::dispatch::Dispatcher;
use crate::filters::{Filters, around_connected, around_disconnected};
use crate::frame::Frame;
use crate::hub::Hub;
use crate::intake::Intake;
use crate::lifetime::Lifetime;
use crate::methods::Methods;
use crate::options::HubOptions;
use crate::pipe::{Arrived, Pipe};
use crate::transport::Transport;

/// How long a running call is waited for when the server goes away. Leaves time to say goodbye within the five
/// seconds after which a server that stops is expected to be gone.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Everything that the connections of one hub share.
pub(crate) struct Served<H: Hub> {
    pub(crate) hub: Arc<H>,
    pub(crate) methods: Methods<H>,
    pub(crate) filters: Filters,
    pub(crate) lifetime: Arc<Lifetime>,
}

impl<H: Hub> Served<H> {
    /// Serves one connection to its end. The transport fills `input` and empties the connection's outbox; it
    /// ends after the outbox has.
    pub(crate) fn handle<'a>(
        &'a self,
        connection: Arc<Connection>,
        input: &'a Pipe,
    ) -> impl Future<Output = ()> + Send + 'a {
        self.handle_and_tell(connection, input, || {})
    }

    /// The same; `let_in` is called when the client takes part in the hub, which may refuse it.
    pub(crate) async fn handle_and_tell(
        &self,
        connection: Arc<Connection>,
        input: &Pipe,
        let_in: impl FnOnce() + Send,
    ) {
        // Whatever happens once is in a box of its own, so that it does not make every connection larger for as long as that lives.
        let reason = match Box::pin(self.shake_hands(&connection, input)).await {
            Ok(intake) => self.take_part(&connection, input, intake, let_in).await,
            Err(reason) => reason,
        };
        connection.end(reason.clone());
        let (id, name) = (&*connection.id, reason.name());
        metrics::counter!("hubcast_connections_ended_total", "reason" => name).increment(1);
        match reason.detail() {
            None if reason.is_ordinary() => {
                tracing::debug!(connection = id, reason = name, "a connection ended");
            }
            // As `Debug`, which escapes whatever a stranger may have written into it.
            detail => tracing::info!(
                connection = id,
                reason = name,
                ?detail,
                "a connection was closed"
            ),
        }
    }

    /// The handshake and its answer. What the client has said right behind its request is kept.
    async fn shake_hands(
        &self,
        connection: &Arc<Connection>,
        input: &Pipe,
    ) -> Result<Box<Intake>, CloseReason> {
        let options = &self.lifetime.options;
        let mut records = Records::new();
        let shaken = tokio::select! {
            biased;
            () = self.lifetime.shutting_down() => Err(CloseReason::ServerShutdown),
            shaken = handshake(connection, input, &mut records, options) => shaken,
        };
        match shaken {
            Ok((encoding, version)) => {
                connection.agree_on(encoding);
                connection.agree_on_version(version, options);
                // Before anything else can be sent to it: nothing may precede the answer.
                connection.answer(Frame::accepted(encoding));
                Ok(Box::new(Intake::new(records, connection, options)))
            }
            Err(reason) => {
                if let Some(text) = refusal(&reason) {
                    let refused = handshake::refused(text);
                    connection.answer(Frame::from_payload(Encoding::Json, &refused));
                }
                // No Close message: the client does not know yet that it speaks the hub protocol.
                connection.outbox.finish(None);
                Err(reason)
            }
        }
    }

    /// Everything between the handshake and the end.
    async fn take_part(
        &self,
        connection: &Arc<Connection>,
        input: &Pipe,
        mut intake: Box<Intake>,
        let_in: impl FnOnce() + Send,
    ) -> CloseReason {
        // Leaves everything again however this ends, a dropped task included.
        let _registered = Registered {
            lifetime: &self.lifetime,
            connection,
        };
        let welcomed = Box::pin(async {
            self.lifetime.connect(connection).await;
            self.welcome(connection, input).await
        });
        let refused = welcomed.await.err().map(Box::new);
        let was_let_in = refused.is_none();
        let reason = match refused {
            None => {
                let_in();
                self.serve(connection, input, &mut intake).await
            }
            Some(reason) => *reason,
        };
        // The goodbye is the last message: it goes out before the connection leaves, so that nothing
        // is lost that was sent to it up to here.
        connection.end(reason.clone());
        let detailed = self.lifetime.options.enable_detailed_errors;
        let goodbye = reason.close_message(connection.encoding(), detailed);
        connection.outbox.finish(goodbye);
        if was_let_in {
            Box::pin(self.farewell(connection, &reason)).await;
        }
        reason
    }

    /// Lets the hub see a new connection before any of its messages are read.
    async fn welcome(&self, connection: &Arc<Connection>, input: &Pipe) -> Result<(), CloseReason> {
        let call = Arc::new(Call::of_the_hub(CallState::of_welcome()));
        let context = CallerContext::new(Arc::clone(connection), Arc::clone(&call));
        // Made inside: making the futures is users' code as well.
        let on_connected = async {
            let on_connected = Box::pin(self.hub.on_connected(&context));
            around_connected(&self.filters, &context, on_connected).await
        };
        let mut on_connected = Box::pin(AssertUnwindSafe(on_connected).catch_unwind());
        let outcome = tokio::select! {
            biased;
            outcome = &mut on_connected => outcome,
            // It is run to its end all the same, but may listen.
            reason = async {
                tokio::select! {
                    biased;
                    reason = connection.ended() => reason,
                    reason = input.ended() => reason,
                }
            } => {
                call.state.stop(Stop::Disconnected);
                match reason {
                    CloseReason::ServerShutdown => timeout(DRAIN_TIMEOUT, on_connected).await.unwrap_or(Ok(Ok(()))),
                    _ => on_connected.await,
                }
            }
        };
        match outcome {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                tracing::info!(connection = &*connection.id, %error, "a hub did not let a client in");
                let detail = error.detail(self.lifetime.options.enable_detailed_errors);
                Err(CloseReason::Rejected(detail))
            }
            Err(_) => {
                tracing::error!(
                    connection = &*connection.id,
                    "on_connected of a hub panicked"
                );
                Err(CloseReason::Rejected(String::new()))
            }
        }
    }

    /// Tells the hub that a connection has ended.
    async fn farewell(&self, connection: &Arc<Connection>, reason: &CloseReason) {
        let call = Call::of_the_hub(CallState::default());
        call.state.stop(Stop::Disconnected);
        let context = CallerContext::new(Arc::clone(connection), Arc::new(call));
        // As in `welcome`.
        let on_disconnected = async {
            let on_disconnected = Box::pin(self.hub.on_disconnected(&context, reason));
            around_disconnected(&self.filters, &context, reason, on_disconnected).await
        };
        match AssertUnwindSafe(on_disconnected).catch_unwind().await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(connection = &*connection.id, %error, "on_disconnected of a hub failed");
            }
            Err(_) => {
                tracing::error!(
                    connection = &*connection.id,
                    "on_disconnected of a hub panicked"
                );
            }
        }
    }

    /// Reads and answers messages until something ends the connection.
    async fn serve(
        &self,
        connection: &Arc<Connection>,
        input: &Pipe,
        intake: &mut Intake,
    ) -> CloseReason {
        let options = &self.lifetime.options;
        let mut dispatcher = Dispatcher::new(self, Arc::clone(connection));
        let reason = loop {
            let reading = match take_records(&mut dispatcher, connection, intake).await {
                Ok(reading) => reading,
                Err(reason) => break reason,
            };
            connection.set_reading_paused(!reading);
            // Calls wait while their client does not read the answers it has.
            let crowded = dispatcher.has_waiting() && dispatcher.is_crowded();
            break tokio::select! {
                biased;
                reason = connection.ended() => reason,
                () = dispatcher.run() => continue,
                () = connection.outbox.calm(options.application_max_buffer_size), if crowded => continue,
                arrived = input.read(), if reading => match arrived {
                    Ok(arrived) => {
                        intake.push(arrived);
                        continue;
                    }
                    Err(reason) if intake.end(&reason) => continue,
                    Err(reason) => reason,
                },
            };
        };
        // In a box of its own: the rare end should not make every connection larger.
        Box::pin(self.leave(dispatcher, connection, reason)).await
    }

    /// Deals with the calls that are left.
    async fn leave(
        &self,
        mut dispatcher: Dispatcher<'_, H>,
        connection: &Connection,
        reason: CloseReason,
    ) -> CloseReason {
        connection.forgo_resumption();
        // Before its calls are waited for: they may wait for its answers.
        self.lifetime.hang_up(connection);
        match reason {
            // A goodbye takes its turn: what came before it is done, unless something else ends the connection.
            CloseReason::ClientLeft
            | CloseReason::ClientFailed(_)
            | CloseReason::ConnectionLost
            | CloseReason::PollingEnded
                if dispatcher.has_waiting() =>
            {
                tokio::select! {
                    biased;
                    _ = connection.ended() => {}
                    () = dispatcher.finish() => {}
                }
            }
            CloseReason::ServerShutdown
                if timeout(DRAIN_TIMEOUT, dispatcher.drain()).await.is_err() =>
            {
                dispatcher.give_up_running();
            }
            _ => {}
        }
        dispatcher.abandon();
        reason
    }
}

/// Hands whole messages to the dispatcher; false if the client shall not be read for now.
///
/// That is when too many of its calls wait, for each other or for answers that it does not read, or when a stream of its is full.
async fn take_records<H: Hub>(
    dispatcher: &mut Dispatcher<'_, H>,
    connection: &Connection,
    intake: &mut Intake,
) -> Result<bool, CloseReason> {
    loop {
        // Whoever has been thrown out is not heard any more, even if it spoke before it was.
        if let Some(reason) = connection.end_reason() {
            return Err(reason.clone());
        }
        if !dispatcher.has_room() {
            return Ok(intake.look_ahead());
        }
        let Some(record) = intake.next()? else {
            return Ok(true);
        };
        connection.heard();
        dispatcher.take(&record)?;
        // A client that keeps its socket full would otherwise keep its worker to itself.
        tokio::task::coop::consume_budget().await;
    }
}

/// Waits for the client's request and says what is agreed on, if it is something that this server can agree to.
async fn handshake(
    connection: &Connection,
    input: &Pipe,
    records: &mut Records,
    options: &HubOptions,
) -> Result<(Encoding, i32), CloseReason> {
    let request = async {
        loop {
            match records.next(options.maximum_receive_message_size) {
                Ok(Some(record)) => return Ok(record),
                Ok(None) => {
                    if let Arrived::Bytes(bytes) = input.read().await? {
                        records.push(bytes);
                    }
                }
                Err(_) => return Err(CloseReason::HandshakeCanceled),
            }
        }
    };
    let record = match timeout(options.handshake_timeout, request).await {
        Ok(record) => record?,
        Err(_) => return Err(CloseReason::HandshakeCanceled),
    };
    let request = HandshakeRequest::parse(&record).map_err(|invalid| {
        let mut text = String::from("An unexpected error occurred during connection handshake.");
        if options.enable_detailed_errors {
            text = format!("{text} InvalidDataException: {invalid}");
        }
        CloseReason::HandshakeRefused(text)
    })?;
    let HandshakeRequest { protocol, version } = &request;
    let encoding = Encoding::from_name(protocol).filter(|encoding| options.supports(*encoding));
    let Some(encoding) = encoding else {
        return Err(CloseReason::HandshakeRefused(format!(
            "The protocol '{protocol}' is not supported."
        )));
    };
    if encoding.is_binary() && connection.transport() == Some(Transport::ServerSentEvents) {
        return Err(CloseReason::HandshakeRefused(format!(
            "Cannot use the '{}' protocol on the current transport. The transport does not support 'Binary' transfer \
             format.",
            encoding.name()
        )));
    }
    if *version > handshake::NEWEST_VERSION {
        return Err(CloseReason::HandshakeRefused(format!(
            "The server does not support version {version} of the '{protocol}' protocol."
        )));
    }
    Ok((encoding, *version))
}

/// What a client is told whose handshake failed; `None` if there is nobody to tell.
fn refusal(reason: &CloseReason) -> Option<&str> {
    match reason {
        CloseReason::HandshakeRefused(text) => Some(text),
        CloseReason::HandshakeCanceled => Some("Handshake was canceled."),
        _ => None,
    }
}

/// A connection that takes part in the hub, until this is dropped.
struct Registered<'a> {
    lifetime: &'a Lifetime,
    connection: &'a Connection,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.lifetime.disconnect(self.connection);
    }
}
