//! Streams that a method of the hub answers with.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::future::BoxFuture;
use futures_util::stream::{FusedStream, Stream};
use hubcast_protocol::Value;
use serde::de::DeserializeOwned;

use crate::arguments::HubArguments;
use crate::error::InvokeError;
use crate::queue::{self, Closed, Room};
use crate::session::{Call, Items, Session, Wanted};

/// How many bytes of a stream wait to be read.
const BUFFER: usize = 256 * 1024;

/// The items that a method of the hub answers with. After an error there are no more.
///
/// Dropping it tells the server that it is no longer wanted. It has to be read: when 256 KiB of it wait, the connection
/// reads nothing more until there is room again, for SignalR has no other way to slow a stream down; and when there is none for as long as
/// the server time-out, the stream fails as [`InvokeError::NotRead`].
pub struct HubStream<T> {
    items: queue::Receiver<Result<T, InvokeError>>,
    /// Taken back when this is dropped.
    call: Option<Call>,
}

impl<T> fmt::Debug for HubStream<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("HubStream").finish_non_exhaustive()
    }
}

impl<T: DeserializeOwned + Send + 'static> HubStream<T> {
    pub(crate) async fn open<A: HubArguments>(
        session: &Arc<Session>,
        method: &str,
        arguments: A,
    ) -> Result<Self, InvokeError> {
        let (sender, items) = queue::queue(BUFFER);
        let wanted = Wanted::Items(Arc::new(ItemsOf::<T>(sender)));
        let call = session.call(method, arguments, wanted).await?;
        Ok(Self {
            items,
            call: Some(call),
        })
    }
}

impl<T> Stream for HubStream<T> {
    type Item = Result<T, InvokeError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.call.is_none() {
            return Poll::Ready(None);
        }
        let next = ready!(self.items.poll_next(context)).map(|(item, _)| item);
        if !matches!(next, Some(Ok(_))) {
            self.call = None;
        }
        Poll::Ready(next)
    }
}

impl<T> FusedStream for HubStream<T> {
    fn is_terminated(&self) -> bool {
        self.call.is_none()
    }
}

impl<T> Unpin for HubStream<T> {}

/// The end that the connection puts items into.
struct ItemsOf<T>(queue::Sender<Result<T, InvokeError>>);

impl<T: DeserializeOwned + Send> Items for ItemsOf<T> {
    fn room(&self, bytes: usize) -> BoxFuture<'_, Result<Room, Closed>> {
        Box::pin(self.0.room(bytes))
    }

    fn item(&self, value: Value<'_>, room: Room) -> bool {
        let item = value
            .decode()
            .map_err(|error| InvokeError::decode::<T>(&error));
        let fits = item.is_ok();
        // When the reader is gone, the call has been taken back already.
        let _ = self.0.push(item, room);
        fits
    }

    fn fail(&self, error: InvokeError) {
        let _ = self.0.send_free(Err(error));
    }
}
