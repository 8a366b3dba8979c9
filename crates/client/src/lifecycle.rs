//! The life of a connection from its start to its end, in one task: connecting, carrying, connecting again.

use std::error::Error;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::sync::{broadcast, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::connector::Connect;
use crate::error::{ConnectionError, InvokeError, StartError};
use crate::handlers::{Handlers, Job};
use crate::queue::{self, queue};
use crate::retry::{RetryContext, RetryPolicy};
use crate::session::Session;
use crate::state::{ConnectionEvent, EVENTS, HubConnectionState};
use crate::wire::{End, Settings, Wire};

/// How many bytes of the server's calls wait for their handlers; beyond that nothing more is read.
const JOBS: usize = 1024 * 1024;

/// What a connection's handles and its task have in common.
pub(crate) struct Shared {
    pub(crate) connector: Box<dyn Connect>,
    pub(crate) settings: Settings,
    pub(crate) retry: Option<RetryPolicy>,
    pub(crate) handlers: Handlers,
    pub(crate) events: broadcast::Sender<ConnectionEvent>,
    status: watch::Sender<Status>,
}

/// How the connection is now.
pub(crate) struct Status {
    pub(crate) state: HubConnectionState,
    pub(crate) connection_id: Option<Arc<str>>,
    /// There is one exactly while calls can be made.
    session: Option<Arc<Session>>,
}

impl Status {
    const DISCONNECTED: Self = Self {
        state: HubConnectionState::Disconnected,
        connection_id: None,
        session: None,
    };
}

impl Shared {
    pub(crate) fn new(
        connector: Box<dyn Connect>,
        settings: Settings,
        retry: Option<RetryPolicy>,
    ) -> Self {
        Self {
            connector,
            settings,
            retry,
            handlers: Handlers::default(),
            events: broadcast::Sender::new(EVENTS),
            status: watch::Sender::new(Status::DISCONNECTED),
        }
    }

    pub(crate) fn state(&self) -> HubConnectionState {
        self.status.borrow().state
    }

    pub(crate) fn connection_id(&self) -> Option<Arc<str>> {
        self.status.borrow().connection_id.clone()
    }

    /// What calls are made on.
    pub(crate) fn session(&self) -> Result<Arc<Session>, InvokeError> {
        let status = self.status.borrow();
        let state = status.state;
        let session = status.session.clone();
        session.ok_or(InvokeError::NotConnected { state })
    }

    /// Takes the connection for a start.
    pub(crate) fn begin(&self) -> Result<(), StartError> {
        let mut found = HubConnectionState::Disconnected;
        let begun = self.status.send_if_modified(|status| {
            found = status.state;
            let may_begin = found == HubConnectionState::Disconnected;
            if may_begin {
                status.state = HubConnectionState::Connecting;
            }
            may_begin
        });
        let state = found;
        begun
            .then_some(())
            .ok_or(StartError::NotDisconnected { state })
    }

    /// Says that the connection is being stopped, if there is one.
    pub(crate) fn stopping(&self) {
        self.status.send_if_modified(|status| {
            let may_stop = status.state != HubConnectionState::Disconnected;
            if may_stop {
                status.state = HubConnectionState::Disconnecting;
            }
            may_stop
        });
    }

    /// Waits until the connection has ended.
    pub(crate) async fn ended(&self) {
        let mut status = self.status.subscribe();
        let is_over = |status: &Status| status.state == HubConnectionState::Disconnected;
        let _ = status.wait_for(is_over).await;
    }

    fn connected(&self, wire: &Wire) {
        self.status.send_replace(Status {
            state: HubConnectionState::Connected,
            connection_id: wire.connection_id.clone(),
            session: Some(Arc::clone(&wire.session)),
        });
    }

    /// There is no session any more: what waits for it fails.
    fn disconnected(&self, state: HubConnectionState, reason: Option<&ConnectionError>) {
        let before = self.status.send_replace(Status {
            state,
            ..Status::DISCONNECTED
        });
        if let Some(session) = before.session {
            session.end(reason);
        }
    }

    fn tell(&self, event: ConnectionEvent) {
        // Nobody has to listen.
        let _ = self.events.send(event);
    }

    async fn open(&self) -> Result<Wire, StartError> {
        let opened = self.connector.connect().await?;
        Wire::shake(opened, &self.settings).await
    }
}

/// The wish to end a connection: expressed, or implied by nobody being left who could express it.
#[derive(Clone)]
pub(crate) struct Stop(pub(crate) watch::Receiver<bool>);

impl Stop {
    pub(crate) async fn requested(&mut self) {
        let _ = self.0.wait_for(|requested| *requested).await;
    }

    pub(crate) fn is_requested(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}

/// However the task ends, even if its runtime goes away: the connection is over.
struct Over<'a>(&'a Shared);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.disconnected(HubConnectionState::Disconnected, None);
    }
}

/// Lives the life of a connection. `started` is told whether it was made; if nobody waits for that any more, it is not.
pub(crate) async fn drive(
    shared: Arc<Shared>,
    mut stop: Stop,
    mut started: oneshot::Sender<Result<(), StartError>>,
) {
    let shared = &*shared;
    let over = Over(shared);
    let opened = tokio::select! {
        biased;
        () = stop.requested() => Err(StartError::Stopped),
        () = started.closed() => return,
        opened = shared.open() => opened,
    };
    let wire = match opened {
        Ok(wire) => wire,
        Err(error) => {
            drop(over);
            let _ = started.send(Err(error));
            return;
        }
    };
    shared.connected(&wire);
    if started.send(Ok(())).is_err() {
        return;
    }
    let (jobs, mut waiting) = queue::<Job>(JOBS);
    let handling = async {
        while let Some((job, _room)) = waiting.next().await {
            shared.handlers.run(job).await;
        }
    };
    let mut handling = pin!(handling);
    let mut living_stop = stop.clone();
    let living = live(shared, wire, jobs, &mut living_stop);
    let living = pin!(AssertUnwindSafe(living).catch_unwind());
    // Calls are handled beside everything else, so that a handler may make calls itself. The handling has no end of its own.
    let reason = tokio::select! {
        // Whoever waits for the end hears of it, though the program's own code is to blame.
        outcome = living => outcome.unwrap_or_else(|_| {
            tracing::error!("what a connection ran for the program panicked");
            Some(ConnectionError::Panicked)
        }),
        reason = async { (&mut handling).await; std::future::pending().await } => reason,
    };
    shared.disconnected(HubConnectionState::Disconnecting, reason.as_ref());
    if !stop.is_requested() {
        // What the server has said before its goodbye is still heard.
        tokio::select! {
            _ = timeout(shared.settings.server_timeout, handling) => {}
            () = stop.requested() => {}
        }
    }
    drop(over);
    shared.tell(ConnectionEvent::Closed(reason));
}

/// One connection after another, until there is none. Gives the reason of the end.
async fn live(
    shared: &Shared,
    mut wire: Wire,
    jobs: queue::Sender<Job>,
    stop: &mut Stop,
) -> Option<ConnectionError> {
    loop {
        let end = wire.run(&shared.settings, &jobs, stop).await;
        let reason = end.error().cloned();
        tracing::debug!(?reason, "the connection ended");
        let (End::Lost(_), Some(policy)) = (end, &shared.retry) else {
            return reason;
        };
        shared.disconnected(HubConnectionState::Reconnecting, reason.as_ref());
        shared.tell(ConnectionEvent::Reconnecting(reason.clone()));
        wire = match reconnect(shared, policy, reason, stop).await {
            Ok(wire) => wire,
            Err(reason) => return reason,
        };
        shared.connected(&wire);
        shared.tell(ConnectionEvent::Reconnected {
            connection_id: wire.connection_id.clone(),
        });
    }
}

/// Tries until there is a connection. Otherwise gives the reason of the end; there is none if it was stopped.
async fn reconnect(
    shared: &Shared,
    policy: &RetryPolicy,
    reason: Option<ConnectionError>,
    stop: &mut Stop,
) -> Result<Wire, Option<ConnectionError>> {
    let begun = Instant::now();
    let mut attempts = 0;
    let mut last: Option<Arc<StartError>> = None;
    loop {
        let lost_for = reason
            .as_ref()
            .map(|reason| reason as &(dyn Error + Send + Sync));
        let failed_for = last
            .as_deref()
            .map(|reason| reason as &(dyn Error + Send + Sync));
        let delay = policy.next_delay(&RetryContext {
            previous_retry_count: attempts,
            elapsed_time: begun.elapsed(),
            retry_reason: failed_for.or(lost_for),
        });
        let Some(delay) = delay else {
            return Err(match last {
                Some(last) => Some(ConnectionError::ReconnectFailed { attempts, last }),
                None => reason,
            });
        };
        let attempt = async {
            sleep(delay).await;
            shared.open().await
        };
        let opened = tokio::select! {
            biased;
            () = stop.requested() => return Err(None),
            opened = attempt => opened,
        };
        match opened {
            Ok(wire) => return Ok(wire),
            Err(error) => {
                tracing::debug!(%error, attempts, "an attempt to reconnect failed");
                attempts += 1;
                last = Some(Arc::new(error));
            }
        }
    }
}
