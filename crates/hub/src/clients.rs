//! Choosing who gets a message, and sending it.

use std::collections::HashSet;
use std::future::Future;
use std::ops::Deref;
use std::time::Duration;

use futures_util::future::join_all;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::arguments::{ClientArguments, List};
use crate::context::CallerContext;
use crate::error::{InvokeError, SendError};
use crate::frame::Broadcast;
use crate::lifetime::{Lifetime, To, new_invocation_id};

/// The clients of a hub, to choose from. ASP.NET Core's `IHubClients`.
#[derive(Debug, Clone, Copy)]
pub struct Clients<'a> {
    lifetime: &'a Lifetime,
    /// The call that chooses, if one does.
    call: Option<&'a CallerContext>,
}

impl<'a> Clients<'a> {
    pub(crate) fn new(lifetime: &'a Lifetime, call: Option<&'a CallerContext>) -> Self {
        Self { lifetime, call }
    }

    fn recipients(self, chosen: Chosen<'a>) -> Recipients<'a> {
        Recipients {
            lifetime: self.lifetime,
            chosen,
            except: HashSet::new(),
            headers: Vec::new(),
        }
    }

    /// Every client of the hub, on every server.
    pub fn all(&self) -> Recipients<'a> {
        self.recipients(Chosen::All)
    }

    /// The client of that connection, on whichever server it is. An unknown id gets nothing, silently, but for
    /// [`invoke`](SingleClient::invoke).
    pub fn client(&self, connection_id: &'a str) -> SingleClient<'a> {
        SingleClient {
            lifetime: self.lifetime,
            connection_id,
            call: self.call,
            timeout: None,
        }
    }

    /// The clients of those connections.
    pub fn clients<I>(&self, connection_ids: I) -> Recipients<'a>
    where
        I: IntoIterator<Item = &'a str>,
    {
        self.recipients(Chosen::Connections(connection_ids.into_iter().collect()))
    }

    /// The members of a group. Names are compared exactly.
    pub fn group(&self, name: &'a str) -> Recipients<'a> {
        self.recipients(Chosen::Groups(vec![name]))
    }

    /// The members of several groups; empty names are skipped. Who is in two of them gets the message twice, as in
    /// ASP.NET Core.
    pub fn groups<I>(&self, names: I) -> Recipients<'a>
    where
        I: IntoIterator<Item = &'a str>,
    {
        let names = names.into_iter().filter(|name| !name.is_empty());
        self.recipients(Chosen::Groups(names.collect()))
    }

    /// Every connection of a user, on whichever servers they are. Ids are compared exactly; an empty one is nobody's.
    ///
    /// Who the user of a connection is, [`UserIdProvider`](crate::UserIdProvider) says.
    pub fn user(&self, id: &'a str) -> Recipients<'a> {
        self.users([id])
    }

    /// Every connection of several users; empty ids are skipped.
    pub fn users<I>(&self, ids: I) -> Recipients<'a>
    where
        I: IntoIterator<Item = &'a str>,
    {
        let ids = ids.into_iter().filter(|id| !id.is_empty());
        self.recipients(Chosen::Users(ids.collect()))
    }
}

/// The clients of a hub as seen from a call, where there is a caller: everything that [`Clients`] has, and
/// more. ASP.NET Core's `IHubCallerClients`.
#[derive(Debug, Clone, Copy)]
pub struct CallerClients<'a> {
    clients: Clients<'a>,
    caller: &'a CallerContext,
}

impl<'a> CallerClients<'a> {
    pub(crate) fn new(lifetime: &'a Lifetime, caller: &'a CallerContext) -> Self {
        Self {
            clients: Clients::new(lifetime, Some(caller)),
            caller,
        }
    }

    /// The client that made the call.
    pub fn caller(&self) -> SingleClient<'a> {
        self.clients.client(self.caller.connection_id())
    }

    /// Every client of the hub but the caller.
    pub fn others(&self) -> Recipients<'a> {
        self.clients.all().except([self.caller.connection_id()])
    }

    /// The members of a group but the caller.
    pub fn others_in_group(&self, name: &'a str) -> Recipients<'a> {
        self.clients
            .group(name)
            .except([self.caller.connection_id()])
    }
}

impl<'a> Deref for CallerClients<'a> {
    type Target = Clients<'a>;

    fn deref(&self) -> &Self::Target {
        &self.clients
    }
}

/// Clients that have been chosen to get a message.
#[derive(Debug, Clone)]
pub struct Recipients<'a> {
    lifetime: &'a Lifetime,
    chosen: Chosen<'a>,
    except: HashSet<String>,
    headers: Vec<(&'a str, &'a str)>,
}

#[derive(Debug, Clone)]
enum Chosen<'a> {
    All,
    Connections(Vec<&'a str>),
    Groups(Vec<&'a str>),
    Users(Vec<&'a str>),
}

impl<'a> Recipients<'a> {
    /// Leaves out some connections, on whichever server they are: `AllExcept`, `GroupExcept`. Of a user's connections,
    /// too; but there ASP.NET Core servers that share the backplane leave nobody out.
    pub fn except<I>(mut self, connection_ids: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.except
            .extend(connection_ids.into_iter().map(Into::into));
        self
    }

    /// Sends a header along with the message: something about it that is no argument. Stock clients of all languages take it and show it to
    /// nobody, as ASP.NET Core, which sends none; [`LocalConnection`](crate::LocalConnection)s can read it.
    ///
    /// The later of two of one name counts. One whose name or value is empty is left out: .NET clients take it for an error.
    pub fn header(mut self, name: &'a str, value: &'a str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        if !name.is_empty() && !value.is_empty() {
            self.headers.push((name, value));
        }
        self
    }

    /// Calls a method of the chosen clients, which do not answer.
    ///
    /// `method` is the name that the client's `on(..)` was given; clients compare names ignoring case. The message
    /// is encoded once, however many receive it. Done when the message is in the queue of every receiver on this
    /// server and, with a backplane, on its way to the other servers; a slow receiver is never waited for.
    ///
    /// From one caller to one client, messages through the same selector arrive in the order they were sent.
    ///
    /// # Errors
    ///
    /// When an argument cannot be encoded. Nobody gets anything then.
    pub fn send<A: ClientArguments>(
        self,
        method: &str,
        arguments: A,
    ) -> impl Future<Output = Result<(), SendError>> + Send + use<'a, A> {
        // Encoded here and not in the future, which need not carry the arguments then.
        let lifetime = self.lifetime;
        let broadcast = Broadcast::encode(
            |encoding| lifetime.writes(encoding),
            |encoding, out| {
                let (headers, arguments) = (&self.headers, &List(&arguments));
                encoding.write_invocation_with_headers(out, headers, None, method, arguments, &[])
            },
        )
        .map_err(|source| SendError::Encode {
            method: method.to_owned(),
            source,
        });
        drop(arguments);
        async move { self.deliver(broadcast?).await }
    }

    async fn deliver(self, message: Broadcast) -> Result<(), SendError> {
        let to: Vec<To<'_>> = match &self.chosen {
            Chosen::All => vec![To::All],
            Chosen::Connections(ids) => {
                let ids = ids.iter().filter(|id| !self.except.contains(**id));
                ids.map(|id| To::Connection(id)).collect()
            }
            Chosen::Groups(names) => names.iter().map(|name| To::Group(name)).collect(),
            Chosen::Users(ids) => ids.iter().map(|id| To::User(id)).collect(),
        };
        // Sent in this order, but not each only when the one before has come back from the backplane.
        let sends = to
            .into_iter()
            .map(|to| self.lifetime.send(to, &self.except, &message));
        join_all(sends).await;
        Ok(())
    }
}

/// One client that has been chosen: it can be sent a message, as all can, and it alone can be asked for a result.
/// ASP.NET Core's `ISingleClientProxy`.
#[derive(Debug, Clone, Copy)]
pub struct SingleClient<'a> {
    lifetime: &'a Lifetime,
    connection_id: &'a str,
    /// The call that asks, if one does.
    call: Option<&'a CallerContext>,
    timeout: Option<Duration>,
}

impl<'a> From<SingleClient<'a>> for Recipients<'a> {
    fn from(client: SingleClient<'a>) -> Self {
        Recipients {
            lifetime: client.lifetime,
            chosen: Chosen::Connections(vec![client.connection_id]),
            except: HashSet::new(),
            headers: Vec::new(),
        }
    }
}

impl<'a> SingleClient<'a> {
    /// Calls a method of the client, which does not answer; see [`Recipients::send`].
    ///
    /// A call that sends to its own caller is the one sender that waits: while more than
    /// [`application_max_buffer_size`](crate::HubOptions::application_max_buffer_size) bytes are on their way to the caller, this is not
    /// done, so a method can send as much as its caller asked for, as fast as that takes it.
    ///
    /// # Errors
    ///
    /// When an argument cannot be encoded.
    pub fn send<A: ClientArguments>(
        self,
        method: &str,
        arguments: A,
    ) -> impl Future<Output = Result<(), SendError>> + Send + use<'a, A> {
        let sent = Recipients::from(self).send(method, arguments);
        let caller = self
            .call
            .filter(|call| call.connection_id() == self.connection_id);
        async move {
            sent.await?;
            if let Some(caller) = caller {
                caller.room().await;
            }
            Ok(())
        }
    }

    /// How long [`invoke`](Self::invoke) waits for the answer at most. Default: for as long as the client is there, as in
    /// ASP.NET Core, where the caller's token is all that ends it sooner. A client of another server should always have one: when
    /// that server crashes, or Redis is away while the answer comes, nobody tells.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Calls a method of the client and waits for what it returns, on whichever server the client is.
    ///
    /// ```
    /// # use hubcast::{CallerContext, HubResult};
    /// # async fn example(ctx: &CallerContext, id: &str) -> HubResult {
    /// let agreed = ctx.clients().client(id).invoke::<bool>("Confirm", ("Delete it?",)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A client that returns nothing has returned a null: ask for an `Option`, or for `()`. Whoever no longer wants the
    /// answer drops the future, or sets a [`timeout`](Self::timeout); the client is not told.
    ///
    /// # Errors
    ///
    /// See [`InvokeError`]. The client's own error, and a time-out, are shown to the caller of a hub method that ends with
    /// them; all others are not.
    pub fn invoke<T: DeserializeOwned>(
        self,
        method: &str,
        arguments: impl ClientArguments,
    ) -> impl Future<Output = Result<T, InvokeError>> + Send {
        // Encoded here and not in the future, which need not carry the arguments then.
        let lifetime = self.lifetime;
        let id = new_invocation_id();
        let broadcast = Broadcast::encode(
            |encoding| lifetime.writes(encoding),
            |encoding, out| {
                encoding.write_invocation(out, Some(&id), method, &List(&arguments), &[])
            },
        )
        .map_err(|source| InvokeError::Encode {
            method: method.to_owned(),
            source,
        });
        drop(arguments);
        async move {
            let message = broadcast?;
            if let Some(call) = self.call {
                call.before_waiting()?;
            }
            let answer = lifetime.invoke(self.connection_id, &id, &message);
            let answer = match self.timeout {
                Some(limit) => match timeout(limit, answer).await {
                    Ok(answer) => answer?,
                    Err(_) => return Err(InvokeError::Canceled),
                },
                None => answer.await?,
            };
            answer.decode()
        }
    }
}
