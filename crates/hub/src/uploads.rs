//! The streams that one client sends, from its messages to the methods that read them.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hubcast_protocol::{CompletionPayload, Encoding, HubMessage, StreamItem};

use crate::client_stream::{ClientStreamError, Upload};

/// A stream and the id that the client has given it.
pub(crate) type NamedUpload = (String, Arc<dyn Upload>);

/// The streams of a client that have begun and not ended.
#[derive(Default)]
pub(crate) struct Uploads {
    by_id: BTreeMap<String, Arc<dyn Upload>>,
    /// An item that its stream has no room for; nothing more is read until it has.
    stuck: Option<Box<(Arc<dyn Upload>, Bytes)>>,
}

impl Uploads {
    pub(crate) fn contains(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    pub(crate) fn begin(&mut self, streams: &[NamedUpload]) {
        self.by_id.extend(streams.iter().cloned());
    }

    /// Whether an item waits for room.
    pub(crate) fn are_stuck(&self) -> bool {
        self.stuck.is_some()
    }

    /// Whether an item waits for room in this stream.
    pub(crate) fn is_stuck(&self, upload: &Arc<dyn Upload>) -> bool {
        let stuck = self.stuck.as_ref();
        stuck.is_some_and(|stuck| Arc::ptr_eq(&stuck.0, upload))
    }

    /// Hands an item to its stream. One of a stream that nobody reads any more, or that never was, is ignored.
    pub(crate) fn take_item(&mut self, record: &Bytes, item: &StreamItem<'_>) {
        let Some(upload) = self.by_id.get(&*item.invocation_id) else {
            return;
        };
        // Somebody's `Deserialize` may panic.
        let taken = catch_unwind(AssertUnwindSafe(|| upload.offer(item.item)));
        match taken {
            Ok(true) => {}
            Ok(false) => self.stuck = Some(Box::new((Arc::clone(upload), record.clone()))),
            Err(_) => {
                tracing::error!("reading an item of a client's stream panicked");
                upload.end(Err(ClientStreamError::Item));
            }
        }
    }

    /// Ends the stream of that id as the client has; false if there is none.
    pub(crate) fn take_end(&mut self, id: &str, how: &CompletionPayload<'_>) -> bool {
        let Some(upload) = self.by_id.remove(id) else {
            return false;
        };
        upload.end(match how {
            CompletionPayload::Error(error) => {
                Err(ClientStreamError::Client(error.clone().into_owned()))
            }
            CompletionPayload::Result(_) | CompletionPayload::Void => Ok(()),
        });
        true
    }

    /// Goes on with an item that waits for room. Ready when one has been dealt with.
    pub(crate) fn poll_stuck(&mut self, context: &mut Context<'_>, encoding: Encoding) -> Poll<()> {
        let Some(stuck) = self.stuck.take() else {
            return Poll::Pending;
        };
        if stuck.0.poll_room(context).is_pending() {
            self.stuck = Some(stuck);
            return Poll::Pending;
        }
        let (_, record) = *stuck;
        // It was read once already when it came.
        if let Ok(HubMessage::StreamItem(item)) = encoding.parse(&record) {
            self.take_item(&record, &item);
        }
        Poll::Ready(())
    }

    /// The method that read these streams has ended.
    pub(crate) fn finish(&mut self, streams: Vec<NamedUpload>) {
        for (id, upload) in streams {
            // The method may have given its stream to somebody else, who shall not wait for ever.
            upload.end(Ok(()));
            // By now the id may be that of a newer stream.
            let newest = self.by_id.get(&id);
            if newest.is_some_and(|newest| Arc::ptr_eq(newest, &upload)) {
                self.by_id.remove(&id);
            }
        }
    }

    /// Nothing more can come of any stream.
    pub(crate) fn end_all(&self) {
        for upload in self.by_id.values() {
            upload.end(Err(ClientStreamError::Disconnected));
        }
    }
}
