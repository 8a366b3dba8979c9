//! What comes from the server: bytes to messages, and messages to whom they concern.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::SplitStream;
use hubcast_protocol::framing::{FramingError, Records};
use hubcast_protocol::{CompletionPayload, HubMessage, StreamItem};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{End, Settings, lost};
use crate::connector::Socket;
use crate::error::{ConnectionError, InvokeError};
use crate::handlers::Job;
use crate::queue;
use crate::session::Session;

/// The reading half.
pub(super) struct Reader<'a> {
    pub(super) stream: SplitStream<Socket>,
    pub(super) records: Records,
    pub(super) session: &'a Arc<Session>,
    pub(super) jobs: &'a queue::Sender<Job>,
    pub(super) settings: &'a Settings,
}

impl Reader<'_> {
    pub(super) async fn run(mut self) -> End {
        loop {
            match self.step().await {
                Ok(None) => {}
                Ok(Some(end)) => return end,
                Err(error) => return End::Lost(Some(error)),
            }
        }
    }

    /// Takes what has arrived, and waits for more.
    async fn step(&mut self) -> Result<Option<End>, ConnectionError> {
        while let Some(record) = next_record(&mut self.records, self.settings)? {
            if let Some(end) = self.dispatch(record).await? {
                return Ok(Some(end));
            }
        }
        // Begins only now: while handlers and streams were waited for, nobody listened to the server.
        let limit = self.settings.server_timeout;
        let receiving = receive(&mut self.stream, self.settings);
        let bytes = timeout(limit, receiving).await;
        let bytes = bytes.unwrap_or(Err(ConnectionError::ServerTimeout { limit }))?;
        self.records.push(BytesMut::from(bytes));
        Ok(None)
    }

    async fn dispatch(&mut self, record: Bytes) -> Result<Option<End>, ConnectionError> {
        let encoding = self.session.encoding;
        match encoding.parse(&record)? {
            // A copy, because the record keeps everything in memory that arrived with it.
            HubMessage::Invocation(_) => self.enqueue(Bytes::copy_from_slice(&record)).await?,
            HubMessage::StreamItem(item) => self.item(item).await,
            HubMessage::Completion(completion) => {
                let outcome = match completion.payload {
                    CompletionPayload::Result(value) => Ok(Some(value)),
                    CompletionPayload::Void => Ok(None),
                    CompletionPayload::Error(text) => Err(InvokeError::Server(text.into_owned())),
                };
                self.session.complete(&completion.invocation_id, outcome);
            }
            HubMessage::Close(close) => {
                let text = close.error.map(std::borrow::Cow::into_owned);
                let error = text.map(ConnectionError::ClosedByServer);
                return Ok(Some(if close.allow_reconnect {
                    End::Lost(error)
                } else {
                    End::Closed(error)
                }));
            }
            HubMessage::Ping => {}
            // Nothing that a server has to say to this client, and what only newer ones know.
            HubMessage::StreamInvocation(_)
            | HubMessage::CancelInvocation(_)
            | HubMessage::Ack { .. }
            | HubMessage::Sequence { .. }
            | HubMessage::Unknown { .. } => tracing::debug!("a message of the server is skipped"),
        }
        Ok(None)
    }

    /// Hands a call to the handlers. Nothing is read while there is no room for it.
    async fn enqueue(&self, record: Bytes) -> Result<(), ConnectionError> {
        let length = record.len();
        let job = Job {
            record,
            session: Arc::clone(self.session),
        };
        let limit = self.settings.server_timeout;
        match timeout(limit, self.jobs.send(job, length)).await {
            // An error cannot be: the handlers outlive the connection.
            Ok(_) => Ok(()),
            Err(_) => Err(ConnectionError::HandlersTooSlow { limit }),
        }
    }

    /// Hands an item to its stream. Nothing is read while there is no room for it.
    async fn item(&self, item: StreamItem<'_>) {
        let id = &*item.invocation_id;
        let Some(items) = self.session.items(id) else {
            return;
        };
        let limit = self.settings.server_timeout;
        let value = item.item;
        match timeout(limit, items.room(value.as_bytes().len())).await {
            Ok(Ok(room)) => {
                if !items.item(value, room) {
                    self.session.cancel(id);
                }
            }
            Ok(Err(queue::Closed)) => {}
            Err(_) => self.session.fail_stream(id, InvokeError::NotRead { limit }),
        }
    }
}

/// The next bytes of hub messages.
pub(super) async fn receive(
    stream: &mut (impl StreamExt<Item = Result<Message, Error>> + Unpin),
    settings: &Settings,
) -> Result<Bytes, ConnectionError> {
    loop {
        match stream.next().await {
            Some(Ok(Message::Text(text))) => return Ok(text.into()),
            Some(Ok(Message::Binary(bytes))) => return Ok(bytes),
            Some(Ok(Message::Close(_))) | None => return Err(ConnectionError::Ended),
            // Signs of life of the WebSocket, not of the hub.
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(lost(error, settings)),
        }
    }
}

/// The next whole message of those bytes.
pub(super) fn next_record(
    records: &mut Records,
    settings: &Settings,
) -> Result<Option<Bytes>, ConnectionError> {
    records
        .next(Some(settings.max_message_size))
        .map_err(|error| match error {
            FramingError::TooLarge { limit } => ConnectionError::TooLarge { limit },
            FramingError::Over2Gb => ConnectionError::TooLarge {
                limit: settings.max_message_size,
            },
        })
}
