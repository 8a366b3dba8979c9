//! Changing the groups of connections on other servers, and for other servers those of ours.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use futures_util::future::{FutureExt, ready};
use tokio::sync::oneshot;

use super::envelope::{self, GroupAction, GroupCommand};
use super::{ACK_TIMEOUT, Lifetime, Remote};
use crate::error::GroupError;

impl Lifetime {
    /// Does what another server asks for a connection that is here; stays silent about any other.
    pub(super) fn obey(self: &Arc<Self>, command: GroupCommand) {
        let Some(connection) = self.find(&command.connection) else {
            return;
        };
        // Here and now, so that commands take effect in the order of their coming.
        let done = match command.action {
            GroupAction::Add => self.add_local(&connection, &command.group),
            GroupAction::Remove => {
                self.remove_local(&connection, &command.group);
                ready(()).boxed()
            }
            GroupAction::Unknown(action) => {
                tracing::debug!(action, "a group command that this version does not know");
                ready(()).boxed()
            }
        };
        let lifetime = Arc::clone(self);
        tokio::spawn(async move {
            done.await;
            // Only now: an acknowledgement says that the subscription is in effect.
            if let Some(remote) = &lifetime.remote {
                let channel = remote.channels.acks_of(&command.server);
                let ack = envelope::write_ack(command.id);
                remote.backplane.publish(&channel, ack).await;
            }
        });
    }
}

impl Remote {
    pub(super) fn awaited_acks(&self) -> MutexGuard<'_, HashMap<i32, oneshot::Sender<()>>> {
        self.awaited_acks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks whichever server has the connection, and waits until it has done so.
    pub(super) async fn command(
        &self,
        action: GroupAction,
        connection: &str,
        group: &str,
    ) -> Result<(), GroupError> {
        // Wraps around after two thousand million commands; .NET reads a signed 32-bit number.
        let id = self.next_command.fetch_add(1, Ordering::Relaxed);
        let (done, acknowledged) = oneshot::channel();
        self.awaited_acks().insert(id, done);
        let forget = ForgetAck { remote: self, id };
        let command = envelope::write_group_command(&GroupCommand {
            id,
            server: self.server_name.clone(),
            action,
            group: group.to_owned(),
            connection: connection.to_owned(),
        });
        let channel = self.channels.group_commands();
        let outcome = tokio::time::timeout(ACK_TIMEOUT, async {
            self.backplane.publish(&channel, command).await;
            acknowledged.await
        })
        .await;
        drop(forget);
        match outcome {
            Ok(Ok(())) => Ok(()),
            _ => Err(GroupError::NoAnswer {
                connection_id: connection.to_owned(),
            }),
        }
    }
}

/// Forgets an awaited acknowledgement however its wait ends, a dropped future included.
struct ForgetAck<'a> {
    remote: &'a Remote,
    id: i32,
}

impl Drop for ForgetAck<'_> {
    fn drop(&mut self) {
        self.remote.awaited_acks().remove(&self.id);
    }
}
