//! The messages of one client on their way from the pipe to the dispatcher.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use hubcast_protocol::HubMessage;
use hubcast_protocol::framing::Records;

use crate::close_reason::CloseReason;
use crate::connection::Connection;
use crate::options::HubOptions;
use crate::pipe::Arrived;

/// What a message that was read ahead costs beside its bytes.
const OVERHEAD: usize = 64;

/// How much is read ahead, in buffers of stateful reconnect: a stock client has one of its own, and sends no more than that before it hears
/// of ours.
const BUFFERS_AHEAD: usize = 4;

/// Cuts bytes into messages.
pub(crate) struct Intake {
    records: Records,
    maximum_message_size: Option<usize>,
    /// Where both sides count.
    ahead: Option<Box<Ahead>>,
}

/// What is read ahead of the dispatcher, for the acknowledgements in it: a call that cannot be taken may wait for answers to
/// be written, and those for an `Ack` that comes behind the call.
struct Ahead {
    connection: Arc<Connection>,
    /// Whole messages.
    messages: VecDeque<Bytes>,
    bytes: usize,
    limit: usize,
    /// What comes after them, if that is the end.
    end: Option<CloseReason>,
}

impl Intake {
    /// Goes on behind the handshake.
    pub(crate) fn new(
        mut records: Records,
        connection: &Arc<Connection>,
        options: &HubOptions,
    ) -> Self {
        records.switch_to(connection.encoding());
        let ahead = connection.counts().then(|| {
            Box::new(Ahead {
                connection: Arc::clone(connection),
                messages: VecDeque::new(),
                bytes: 0,
                limit: options
                    .stateful_reconnect_buffer_size
                    .saturating_mul(BUFFERS_AHEAD)
                    .min(options.transport_max_buffer_size),
                end: None,
            })
        });
        Self {
            records,
            maximum_message_size: options.maximum_receive_message_size,
            ahead,
        }
    }

    /// Takes what came out of the pipe.
    pub(crate) fn push(&mut self, arrived: Arrived) {
        match (arrived, &mut self.ahead) {
            (Arrived::Bytes(bytes), _) => self.records.push(bytes),
            // Nothing of this has been counted, so that the client sends it again.
            (Arrived::Anew, Some(ahead)) => {
                self.records = Records::new();
                self.records.switch_to(ahead.connection.encoding());
                ahead.messages = VecDeque::new();
                ahead.bytes = 0;
            }
            (Arrived::Anew, None) => {}
        }
    }

    /// Notes that nothing more will come out of the pipe; false if that is the end, because nothing has been read ahead.
    pub(crate) fn end(&mut self, reason: &CloseReason) -> bool {
        match &mut self.ahead {
            Some(ahead) if !ahead.messages.is_empty() => {
                ahead.end.get_or_insert_with(|| reason.clone());
                true
            }
            _ => false,
        }
    }

    /// The next whole message. An error ends the connection.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, CloseReason> {
        if let Some(ahead) = &mut self.ahead {
            if let Some(message) = ahead.messages.pop_front() {
                ahead.bytes -= message.len() + OVERHEAD;
                return Ok(Some(message));
            }
            if let Some(reason) = &ahead.end {
                return Err(reason.clone());
            }
        }
        self.cut()
    }

    fn cut(&mut self) -> Result<Option<Bytes>, CloseReason> {
        self.records
            .next(self.maximum_message_size)
            .map_err(|too_large| CloseReason::ProtocolError(too_large.to_string()))
    }

    /// Takes the acknowledgements out of what has arrived, while nothing else can be taken. False if the client shall
    /// not be read meanwhile.
    pub(crate) fn look_ahead(&mut self) -> bool {
        loop {
            let message = match &self.ahead {
                Some(ahead) if ahead.end.is_none() => self.cut(),
                _ => return false,
            };
            let Some(ahead) = &mut self.ahead else {
                return false;
            };
            match message {
                Ok(Some(message)) => ahead.take(&message),
                Ok(None) => return ahead.bytes < ahead.limit,
                // It takes its turn behind the others.
                Err(reason) => ahead.end = Some(reason),
            }
        }
    }
}

impl Ahead {
    fn take(&mut self, message: &Bytes) {
        self.connection.heard();
        if let Ok(HubMessage::Ack { sequence_id }) = self.connection.encoding().parse(message) {
            self.connection.outbox.acknowledge(sequence_id);
        } else {
            self.bytes += message.len() + OVERHEAD;
            // A copy: the message may be a small part of a large read, which would be kept with it.
            self.messages.push_back(Bytes::copy_from_slice(message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use hubcast_protocol::Encoding;

    #[tokio::test]
    async fn what_is_read_ahead_keeps_no_more_than_its_own_bytes() {
        let options = HubOptions::default();
        let connection = Connection::alone("a", &options).resumable();
        connection.agree_on(Encoding::Json);
        connection.agree_on_version(2, &options);
        let mut intake = Intake::new(Records::new(), &Arc::new(connection), &options);
        // One small message, and many that are done with at once.
        let acks = "{\"type\":8,\"sequenceId\":0}\x1e".repeat(2_000);
        let bytes = format!("{{\"type\":6}}\x1e{acks}");
        intake.push(Arrived::Bytes(BytesMut::from(&*bytes)));
        assert!(intake.look_ahead());
        let ping = intake.next().unwrap().unwrap();
        assert_eq!(ping, r#"{"type":6}"#);
        let memory = ping.try_into_mut().unwrap().capacity();
        assert!(memory < 100, "{memory}");
    }
}
