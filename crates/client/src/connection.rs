//! What a program holds of its connection.

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use hubcast_protocol::Value;
use serde::de::DeserializeOwned;
use tokio::sync::{oneshot, watch};

use crate::arguments::HubArguments;
use crate::error::{InvokeError, StartError};
use crate::handler::{Answering, FromArguments, Handler, IntoAnswer, IntoDone, Plain};
use crate::hub_stream::HubStream;
use crate::lifecycle::{Shared, Stop, drive};
use crate::session::{Outcome, Wanted};
use crate::state::{ConnectionEvents, HubConnectionState};

/// A connection to a hub. SignalR's `HubConnection`; made by a [`HubConnectionBuilder`](crate::HubConnectionBuilder).
///
/// Clones are handles of the same connection. When the last of them is dropped the connection is closed: what waits to be sent is
/// sent, the server is told, and five seconds later at the latest nothing of it is left. A [handler](Self::on) that makes
/// calls itself keeps a [weak handle](Self::downgrade), or the connection would never be dropped.
#[derive(Clone)]
pub struct HubConnection(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    /// Ends the running task when it says so, and when it is dropped.
    stop: Mutex<watch::Sender<bool>>,
}

impl fmt::Debug for HubConnection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("HubConnection")
            .field("state", &self.state())
            .field("connection_id", &self.connection_id())
            .finish_non_exhaustive()
    }
}

impl HubConnection {
    pub(crate) fn new(shared: Shared) -> Self {
        Self(Arc::new(Handle {
            shared: Arc::new(shared),
            stop: Mutex::new(watch::Sender::new(false)),
        }))
    }

    fn shared(&self) -> &Shared {
        &self.0.shared
    }

    /// Connects: negotiation, WebSocket, handshake. Tried once; what is lost later is made anew if the connection was built with
    /// [automatic reconnect](crate::HubConnectionBuilder::automatic_reconnect).
    ///
    /// Needs a Tokio runtime, on which it spawns the one task of the connection. If this is dropped before it is done,
    /// nothing is connected.
    pub async fn start(&self) -> Result<(), StartError> {
        let (sender, started) = oneshot::channel();
        {
            let mut stop = self.0.stop.lock().unwrap_or_else(PoisonError::into_inner);
            self.shared().begin()?;
            *stop = watch::Sender::new(false);
            let shared = Arc::clone(&self.0.shared);
            tokio::spawn(drive(shared, Stop(stop.subscribe()), sender));
        }
        // Without an answer the runtime has gone away under the task.
        started.await.unwrap_or(Err(StartError::Stopped))
    }

    /// Ends the connection, and waits for its end: what waits to be sent is sent, the server is told, and has five seconds to
    /// hang up. Calls that wait for answers fail as [`InvokeError::Closed`]; handlers that run are dropped.
    ///
    /// Nothing happens if there is no connection. It can be started again.
    pub async fn stop(&self) {
        {
            let stop = self.0.stop.lock().unwrap_or_else(PoisonError::into_inner);
            stop.send_replace(true);
            self.shared().stopping();
        }
        self.shared().ended().await;
    }

    /// What the connection is doing.
    pub fn state(&self) -> HubConnectionState {
        self.shared().state()
    }

    /// The name by which the hub knows the connection. `None` while there is none, and where negotiation is skipped; after a
    /// reconnect it is another.
    pub fn connection_id(&self) -> Option<Arc<str>> {
        self.shared().connection_id()
    }

    /// Calls a method and waits for its result.
    ///
    /// `T` is any type that can be deserialized: `()` for a method without a result, [`IgnoredAny`](serde::de::IgnoredAny) for a
    /// result that does not matter. If this is dropped before the answer comes, the server is told that it is no longer wanted, which servers older than ASP.NET
    /// Core 11 do not listen to.
    ///
    /// ```no_run
    /// # async fn example(connection: hubcast_client::HubConnection) -> Result<(), hubcast_client::InvokeError> {
    /// let sum: i32 = connection.invoke("Add", (1, 2)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn invoke<T>(
        &self,
        method: &str,
        arguments: impl HubArguments,
    ) -> Result<T, InvokeError>
    where
        T: DeserializeOwned + Send + 'static,
    {
        let session = self.shared().session()?;
        let encoding = session.encoding;
        let (sender, answer) = oneshot::channel();
        let on_result = Box::new(move |outcome: Outcome<'_>| {
            let result = outcome.and_then(|value| {
                let value = value.unwrap_or(Value::null(encoding));
                value
                    .decode()
                    .map_err(|error| InvokeError::decode::<T>(&error))
            });
            let _ = sender.send(result);
        });
        let wanted = Wanted::Result(on_result);
        let _call = session.call(method, arguments, wanted).await?;
        answer.await.unwrap_or(Err(InvokeError::Closed))
    }

    /// Calls a method without waiting for it: returns when the call is on its way. Whether it succeeded is never known.
    pub async fn send(
        &self,
        method: &str,
        arguments: impl HubArguments,
    ) -> Result<(), InvokeError> {
        let session = self.shared().session()?;
        session.call(method, arguments, Wanted::Nothing).await?;
        Ok(())
    }

    /// Calls a method that answers with a stream.
    ///
    /// ```no_run
    /// # async fn example(connection: hubcast_client::HubConnection) -> Result<(), hubcast_client::InvokeError> {
    /// use futures_util::StreamExt;
    ///
    /// let mut numbers = connection.stream::<i32>("Counter", (10, 500)).await?;
    /// while let Some(number) = numbers.next().await {
    ///     println!("{}", number?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn stream<T>(
        &self,
        method: &str,
        arguments: impl HubArguments,
    ) -> Result<HubStream<T>, InvokeError>
    where
        T: DeserializeOwned + Send + 'static,
    {
        let session = self.shared().session()?;
        HubStream::open(&session, method, arguments).await
    }

    /// Has a function called when the server calls `method` (in any ASCII case): one of up to eight parameters that can be
    /// deserialized and own their data, ordinary or async.
    ///
    /// ```no_run
    /// # fn example(connection: hubcast_client::HubConnection) {
    /// connection.on("ReceiveMessage", |user: String, text: String| println!("{user}: {text}"));
    /// connection.on("Slow", |n: u64| async move {
    ///     tokio::time::sleep(std::time::Duration::from_millis(n)).await;
    /// });
    /// # }
    /// ```
    ///
    /// Calls are handled one at a time and in the order in which they arrive; if there are several handlers for a method, in the
    /// order in which they were added. A handler may call the server and wait for it, but whatever comes meanwhile waits for the
    /// handler. It runs in the connection's task and must not block it. A call whose arguments do not fit is logged and skipped.
    ///
    /// Best done before the start, so that no call is missed. Handlers stay over reconnects and restarts.
    pub fn on<F, P, K>(&self, method: &str, handler: F) -> Subscription
    where
        F: Handler<P, Output: IntoDone<K, Future: Send + 'static>>,
        P: FromArguments + 'static,
        K: 'static,
    {
        self.subscribe(method, Arc::new(Plain::<F, P, K>(handler, PhantomData)))
    }

    /// Has a function answer when the server asks for a result of `method`: as for [`on`](Self::on), but one that gives a
    /// `Result`, of which the server gets the value, or the error's text.
    ///
    /// ```no_run
    /// # fn example(connection: hubcast_client::HubConnection) {
    /// connection.on_result("Confirm", |question: String| async move {
    ///     if question.is_empty() { Err("nothing was asked") } else { Ok(true) }
    /// });
    /// # }
    /// ```
    ///
    /// A method has one such handler: it takes the place of another. Without one the server gets the stock clients' error,
    /// `Client didn't provide a result.`
    pub fn on_result<F, P, K>(&self, method: &str, handler: F) -> Subscription
    where
        F: Handler<P, Output: IntoAnswer<K, Future: Send + 'static>>,
        P: FromArguments + 'static,
        K: 'static,
    {
        self.subscribe(method, Arc::new(Answering::<F, P, K>(handler, PhantomData)))
    }

    fn subscribe(&self, method: &str, target: Arc<dyn crate::handler::Target>) -> Subscription {
        Subscription {
            number: self.shared().handlers.add(method, target),
            method: method.to_owned(),
            shared: Arc::downgrade(&self.0.shared),
        }
    }

    /// Removes all handlers of a method.
    pub fn off(&self, method: &str) {
        self.shared().handlers.remove_all(method);
    }

    /// What happens to the connection from now on. The stock clients' `onreconnecting`, `onreconnected` and `onclose`.
    pub fn events(&self) -> ConnectionEvents {
        ConnectionEvents(self.shared().events.subscribe())
    }

    /// A handle that does not keep the connection.
    pub fn downgrade(&self) -> WeakHubConnection {
        WeakHubConnection(Arc::downgrade(&self.0))
    }
}

/// A handle that does not keep its connection, for handlers that make calls themselves.
#[derive(Clone)]
pub struct WeakHubConnection(Weak<Handle>);

impl WeakHubConnection {
    /// The connection, if it has not been dropped.
    pub fn upgrade(&self) -> Option<HubConnection> {
        self.0.upgrade().map(HubConnection)
    }
}

impl fmt::Debug for WeakHubConnection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("WeakHubConnection")
    }
}

/// A handler that was added. Dropping this changes nothing.
pub struct Subscription {
    shared: Weak<Shared>,
    method: String,
    number: u64,
}

impl Subscription {
    /// Removes the handler. A call that is being handled is handled to its end.
    pub fn unsubscribe(self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.handlers.remove(&self.method, self.number);
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("Subscription")
            .field(&self.method)
            .finish()
    }
}
