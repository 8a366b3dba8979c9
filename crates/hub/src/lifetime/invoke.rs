//! Asking clients for results, on this server and through the backplane.
//!
//! The server that asks publishes the invocation where the connection is listened for, and names the channel on which it
//! wants the answer; the server that has the connection remembers who asked, and passes the answer on unread.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use hubcast_protocol::{CompletionPayload, Encoding, HubMessage};

use super::envelope::{Malformed, Message, Question};
use super::results::{Answer, Asker, Taken};
use super::{Lifetime, Remote, envelope};
use crate::close_reason::CloseReason;
use crate::connection::Connection;
use crate::error::InvokeError;
use crate::frame::Broadcast;

/// What servers tell each other about a client that is gone. ASP.NET Core's own words.
const DISCONNECTED: &str = "Connection disconnected.";

impl Lifetime {
    /// Asks one client, wherever it is, and waits for its answer.
    pub(crate) async fn invoke(
        &self,
        connection_id: &str,
        invocation_id: &str,
        message: &Broadcast,
    ) -> Result<Answer, InvokeError> {
        let missing = || InvokeError::NotFound {
            connection_id: connection_id.to_owned(),
        };
        let gone = || InvokeError::Disconnected {
            connection_id: connection_id.to_owned(),
        };
        // Before the client is looked for: whoever hangs up later finds the question.
        let expected = self.results.expect(invocation_id, connection_id);
        let expected = expected.ok_or_else(|| InvokeError::TooMany {
            connection_id: connection_id.to_owned(),
        })?;
        match (self.find(connection_id), &self.remote) {
            (Some(connection), _) => {
                // An encoding that nobody had when the message was written is one of a client that came after that.
                let frame = message.frame(connection.encoding()).ok_or_else(missing)?;
                if connection.has_hung_up() {
                    return Err(gone());
                }
                connection.send(frame.clone());
            }
            (None, Some(remote)) => {
                let question = Question {
                    invocation_id: invocation_id.to_owned(),
                    return_channel: remote.channels.results(),
                };
                let channel = remote.channels.connection(connection_id);
                let payload = envelope::write_message(&[].into(), message, Some(&question));
                match remote.backplane.publish(&channel, payload).await {
                    None | Some(0) => return Err(missing()),
                    Some(_) => {}
                }
            }
            (None, None) => return Err(missing()),
        }
        expected.answer().await.ok_or_else(gone)
    }

    /// A client of this server has answered. An answer to what somebody else was asked ends its connection.
    pub(crate) fn complete(
        &self,
        connection: &Connection,
        invocation_id: &str,
        completion: &Bytes,
    ) -> Result<(), CloseReason> {
        match self.results.take(invocation_id, &connection.id) {
            Taken::Unknown => {}
            Taken::SomebodyElses => {
                return Err(CloseReason::ProtocolError(
                    "A Completion answers an invocation of another connection.".to_owned(),
                ));
            }
            Taken::Asked(Asker::Here(waiting)) => {
                // Whoever waited may have given up. A copy: the message may be a small part of a large read.
                let _ = waiting.send(Answer {
                    encoding: connection.encoding(),
                    completion: Bytes::copy_from_slice(completion),
                });
            }
            Taken::Asked(Asker::Elsewhere(channel)) => {
                let mut framed = Vec::with_capacity(completion.len() + 5);
                let encoding = connection.encoding();
                encoding.write_message(&mut framed, completion);
                self.pass_on(channel, envelope::write_result(encoding, &framed));
            }
        }
        Ok(())
    }

    /// A client says nothing more: whoever waits for an answer of it waits in vain.
    pub(crate) fn hang_up(&self, connection: &Connection) {
        connection.hung_up.store(true, Ordering::Relaxed);
        for (invocation_id, asker) in self.results.take_all(&connection.id) {
            // Who waits here is told by the loss of its sender.
            if let Asker::Elsewhere(channel) = asker {
                self.refuse(channel, &invocation_id, DISCONNECTED);
            }
        }
    }

    /// Another server asks a client of this one.
    pub(super) fn ask(
        &self,
        remote: &Remote,
        connection_id: &str,
        message: &Message,
        question: &Question,
    ) -> Result<(), Malformed> {
        let Question {
            invocation_id,
            return_channel,
        } = question;
        // Nobody shall have this server publish just anywhere.
        if !remote.channels.takes_results(return_channel) {
            return Err(Malformed("a return channel of another kind"));
        }
        let refuse = |text: &str| self.refuse(return_channel.clone(), invocation_id, text);
        let Some(connection) = self.find(connection_id) else {
            refuse(DISCONNECTED);
            return Ok(());
        };
        let broadcast = message.broadcast();
        let Some(frame) = broadcast.frame(connection.encoding()) else {
            refuse("The invocation did not come in the protocol of the client.");
            return Ok(());
        };
        // This server's own question, to a client that came while it was on its way, is remembered already.
        if *return_channel != remote.channels.results() {
            let id = &connection.id;
            if let Err(refused) = self
                .results
                .forward(invocation_id, id, return_channel.clone())
            {
                refuse(&refused.to_string());
                return Ok(());
            }
        }
        // Only now: whoever hangs up later finds the question.
        if connection.has_hung_up() {
            if let Taken::Asked(_) = self.results.take(invocation_id, &connection.id) {
                refuse(DISCONNECTED);
            }
            return Ok(());
        }
        connection.send(frame.clone());
        Ok(())
    }

    /// Another server passes on what its client has answered.
    pub(super) fn returned(&self, payload: &[u8]) -> Result<(), Malformed> {
        let (encoding, message) = envelope::read_result(payload)?;
        let Ok(HubMessage::Completion(completion)) = encoding.parse(&message) else {
            return Err(Malformed("a result that is no Completion"));
        };
        let Some(waiting) = self.results.take_ours(&completion.invocation_id) else {
            tracing::debug!("another server answered what nobody here asks any more");
            return Ok(());
        };
        match completion.payload {
            // Told by the loss of the sender, as for a client of this server.
            CompletionPayload::Error(text) if text == DISCONNECTED => drop(waiting),
            _ => {
                // Whoever waited may have given up.
                let _ = waiting.send(Answer {
                    encoding,
                    completion: message,
                });
            }
        }
        Ok(())
    }

    /// Answers another server in place of a client.
    fn refuse(&self, channel: String, invocation_id: &str, text: &str) {
        let mut framed = Vec::new();
        // Which every server reads.
        Encoding::Json.write_error(&mut framed, invocation_id, text);
        self.pass_on(channel, envelope::write_result(Encoding::Json, &framed));
    }

    /// Publishes without waiting for it, as whoever receives a message must.
    fn pass_on(&self, channel: String, payload: Bytes) {
        let (Some(remote), Ok(runtime)) = (&self.remote, tokio::runtime::Handle::try_current())
        else {
            return;
        };
        let backplane = Arc::clone(&remote.backplane);
        runtime.spawn(async move { backplane.publish(&channel, payload).await });
    }
}
