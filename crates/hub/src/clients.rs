//! Choosing who gets a message, and sending it.

use std::collections::HashSet;
use std::future::Future;
use std::ops::Deref;

use crate::arguments::{ClientArguments, List};
use crate::connection::Connection;
use crate::error::SendError;
use crate::frame::Broadcast;
use crate::lifetime::{Lifetime, To};

/// The clients of a hub, to choose from. ASP.NET Core's `IHubClients`.
#[derive(Debug, Clone, Copy)]
pub struct Clients<'a> {
    lifetime: &'a Lifetime,
}

impl<'a> Clients<'a> {
    pub(crate) fn new(lifetime: &'a Lifetime) -> Self {
        Self { lifetime }
    }

    fn recipients(self, chosen: Chosen<'a>) -> Recipients<'a> {
        Recipients {
            lifetime: self.lifetime,
            chosen,
            except: HashSet::new(),
        }
    }

    /// Every client of the hub, on every server.
    pub fn all(&self) -> Recipients<'a> {
        self.recipients(Chosen::All)
    }

    /// The client of that connection, on whichever server it is. An unknown id gets nothing, silently.
    pub fn client(&self, connection_id: &'a str) -> Recipients<'a> {
        self.recipients(Chosen::Connections(vec![connection_id]))
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
}

/// The clients of a hub as seen from a call, where there is a caller: everything that [`Clients`] has, and
/// more. ASP.NET Core's `IHubCallerClients`.
#[derive(Debug, Clone, Copy)]
pub struct CallerClients<'a> {
    clients: Clients<'a>,
    caller: &'a Connection,
}

impl<'a> CallerClients<'a> {
    pub(crate) fn new(lifetime: &'a Lifetime, caller: &'a Connection) -> Self {
        Self {
            clients: Clients::new(lifetime),
            caller,
        }
    }

    /// The client that made the call.
    pub fn caller(&self) -> Recipients<'a> {
        self.clients.client(&self.caller.id)
    }

    /// Every client of the hub but the caller.
    pub fn others(&self) -> Recipients<'a> {
        self.clients.all().except([&*self.caller.id])
    }

    /// The members of a group but the caller.
    pub fn others_in_group(&self, name: &'a str) -> Recipients<'a> {
        self.clients.group(name).except([&*self.caller.id])
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
}

#[derive(Debug, Clone)]
enum Chosen<'a> {
    All,
    Connections(Vec<&'a str>),
    Groups(Vec<&'a str>),
}

impl<'a> Recipients<'a> {
    /// Leaves out some connections, on whichever server they are: `AllExcept`, `GroupExcept`.
    pub fn except<I>(mut self, connection_ids: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.except
            .extend(connection_ids.into_iter().map(Into::into));
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
            |encoding, out| encoding.write_invocation(out, None, method, &List(&arguments), &[]),
        )
        .map_err(|source| SendError::Encode {
            method: method.to_owned(),
            source,
        });
        drop(arguments);
        async move { self.deliver(broadcast?).await }
    }

    async fn deliver(self, message: Broadcast) -> Result<(), SendError> {
        match &self.chosen {
            Chosen::All => self.to(To::All, &message).await,
            Chosen::Connections(ids) => {
                for id in ids.iter().filter(|id| !self.except.contains(**id)) {
                    self.to(To::Connection(id), &message).await;
                }
            }
            Chosen::Groups(names) => {
                for name in names {
                    self.to(To::Group(name), &message).await;
                }
            }
        }
        Ok(())
    }

    async fn to(&self, to: To<'_>, message: &Broadcast) {
        self.lifetime.send(to, &self.except, message).await;
    }
}
