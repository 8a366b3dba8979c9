//! Clients within the process: connections like all others, but nobody carries their bytes anywhere.
//!
//! Such a client speaks the hub protocol in JSON. What it is sent stays in its outbox until it looks at it, so one that does not is too slow, as a
//! client of the network would be. It says nothing but its handshake, and the answers that a stock client gives without being asked.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use hubcast_protocol::Encoding;
use hubcast_protocol::framing::RECORD_SEPARATOR;
use serde::de::{Deserialize, DeserializeOwned};
use serde_json::value::RawValue;
use tokio::sync::oneshot;
use tokio::task::coop::consume_budget;

use crate::close_reason::CloseReason;
use crate::connection::Connection;
use crate::endpoint::Mounted;
use crate::hub::Hub;
use crate::pipe::Pipe;
use crate::requests::{Counted, Measured};
use crate::tokens::new_connection_id;
use crate::transport::Transport;

const HANDSHAKE: &str = "{\"protocol\":\"json\",\"version\":1}\u{1e}";

/// What whoever asks for a result is told, in the words of the stock clients.
const NO_RESULT: &str = "Client didn't provide a result.";

/// The type of an Invocation.
const INVOCATION: i32 = 1;

/// A client within the process; see [`HubEndpoint::connect_local`](crate::HubEndpoint::connect_local). Dropping it leaves the hub.
#[derive(Debug)]
pub struct LocalConnection(Arc<Local>);

/// What both sides have.
#[derive(Debug)]
struct Local {
    connection: Arc<Connection>,
    input: Pipe,
}

/// A call of one of a client's methods, as a [`LocalConnection`] gets it.
#[derive(Debug, serde::Deserialize)]
pub struct LocalInvocation {
    #[serde(rename = "type")]
    kind: i32,
    #[serde(rename = "invocationId")]
    invocation_id: Option<String>,
    target: String,
    arguments: Box<RawValue>,
    #[serde(default)]
    headers: HashMap<String, String>,
}

/// Connects; done when the hub has let the client in.
pub(crate) async fn connect<H: Hub>(
    mounted: Arc<Mounted<H>>,
) -> Result<LocalConnection, CloseReason> {
    let lifetime = &mounted.served.lifetime;
    let connection = Connection::new(new_connection_id().into(), lifetime);
    connection.carried_by(Transport::Local);
    let local = Arc::new(Local {
        connection: Arc::new(connection),
        input: Pipe::new(lifetime.options.application_max_buffer_size),
    });
    let client = LocalConnection(Arc::clone(&local));
    let (letting_in, let_in) = oneshot::channel();
    let noted = (Counted::new(&mounted.sockets), Measured::new());
    tokio::spawn(async move {
        let connection = Arc::clone(&local.connection);
        let let_in = || {
            // Whoever waited may have given up.
            let _ = letting_in.send(());
        };
        let served = &mounted.served;
        served
            .handle_and_tell(connection, &local.input, let_in)
            .await;
        drop(noted);
    });
    let mut handshake = BytesMut::from(HANDSHAKE);
    poll_fn(|context| client.0.input.poll_write(context, &mut handshake)).await;
    match let_in.await {
        Ok(()) => Ok(client),
        Err(_) => Err(client.ended().await),
    }
}

impl LocalConnection {
    /// The id of this connection, with which it is put into groups, or excepted from what is sent to them.
    pub fn connection_id(&self) -> &str {
        &self.0.connection.id
    }

    /// Waits for the next call of one of the client's methods; nothing is lost when the future is dropped. Who asks for a result is told that there
    /// is none.
    ///
    /// A client that does not ask for what waits for it is ended (`CloseReason::TooSlow`), as one that does not read its socket:
    /// see [`transport_max_buffer_size`](crate::HubOptions::transport_max_buffer_size) and
    /// [`transport_send_timeout`](crate::HubOptions::transport_send_timeout). The hub's pings wait, too: a client has to ask even if it is never called.
    ///
    /// # Errors
    ///
    /// When the connection has ended, with the reason, and everything that came before has been taken.
    pub async fn next(&mut self) -> Result<LocalInvocation, CloseReason> {
        let outbox = &self.0.connection.outbox;
        loop {
            // Where there is always something, others shall have their turn.
            consume_budget().await;
            let Some(frame) = poll_fn(|context| outbox.poll_take_one(context)).await else {
                return Err(self.ended().await);
            };
            if let Some(invocation) = LocalInvocation::read(frame.payload()) {
                self.decline(&invocation);
                return Ok(invocation);
            }
        }
    }

    /// Says that there is no result, if one is asked for.
    fn decline(&self, invocation: &LocalInvocation) {
        let Some(id) = &invocation.invocation_id else {
            return;
        };
        let mut completion = Vec::new();
        Encoding::Json.write_error(&mut completion, id, NO_RESULT);
        // Out of its framing.
        completion.pop();
        let connection = &self.0.connection;
        let completed = connection
            .lifetime
            .complete(connection, id, &Bytes::from(completion));
        if let Err(reason) = completed {
            connection.end(reason);
        }
    }

    /// Why the connection has ended. Nobody else waits for that any more when the outbox has.
    async fn ended(&self) -> CloseReason {
        self.0.connection.ended().await
    }
}

impl Drop for LocalConnection {
    fn drop(&mut self) {
        self.0.input.end(CloseReason::ClientLeft);
        self.0.connection.outbox.kill();
    }
}

impl LocalInvocation {
    /// `None` for what is no invocation: pings, answers, and what another server sent that cannot be read.
    fn read(record: &[u8]) -> Option<Self> {
        let record = record.strip_suffix(&[RECORD_SEPARATOR]).unwrap_or(record);
        let invocation = Self::deserialize(&mut serde_json::Deserializer::from_slice(record)).ok();
        invocation.filter(|invocation| invocation.kind == INVOCATION)
    }

    /// The method's name, as the sender spells it.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Whether it is a call of that method: names are compared ignoring ASCII case, as all clients do.
    pub fn is(&self, method: &str) -> bool {
        self.target.eq_ignore_ascii_case(method)
    }

    /// What was [sent along](crate::Recipients::header) under a name, which is compared exactly.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The arguments as a tuple, or as anything else that an array can be.
    ///
    /// # Errors
    ///
    /// When there are more or fewer of them, or they are of other types.
    pub fn arguments<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.arguments.get())
    }
}
