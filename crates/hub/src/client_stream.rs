//! What a client sends as a stream: a parameter of a hub method whose value arrives bit by bit.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_util::Stream;
use hubcast_protocol::Value;
use serde::de::DeserializeOwned;

/// A stream that the client sends to a hub method, as one of its parameters. `ChannelReader<T>` and
/// `IAsyncEnumerable<T>` in ASP.NET Core.
///
/// ```
/// use hubcast::{CallerContext, ClientStream, Hub, HubResult, Methods};
///
/// struct Meter;
///
/// impl Hub for Meter {
///     fn methods() -> Methods<Self> {
///         Methods::new().method("Sum", Self::sum)
///     }
/// }
///
/// impl Meter {
///     async fn sum(&self, _: &CallerContext, mut readings: ClientStream<i64>) -> HubResult<i64> {
///         let mut sum = 0;
///         while let Some(reading) = readings.next().await {
///             sum += reading?;
///         }
///         Ok(sum)
///     }
/// }
/// ```
///
/// At most [`HubOptions::stream_buffer_capacity`](crate::HubOptions::stream_buffer_capacity) items wait in it; while
/// it is full, nothing more is read from the client. What the client sends after the method has returned, or after
/// the stream has been dropped, is ignored.
pub struct ClientStream<T>(Arc<Shared<T>>);

/// A client's stream ended badly. After this it gives nothing more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientStreamError {
    /// The client ended the stream with an error. Holds its text; `?` in a hub method shows it to the client again.
    #[error("{0}")]
    Client(String),
    /// The client sent an item that is not of the stream's type.
    #[error("Failed to bind Stream message.")]
    Item,
    /// The connection ended before the stream did.
    #[error("The underlying connection was closed.")]
    Disconnected,
}

impl<T> fmt::Debug for ClientStream<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ClientStream")
            .finish_non_exhaustive()
    }
}

impl<T> ClientStream<T> {
    /// The next item, as soon as there is one; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<T, ClientStreamError>> {
        poll_fn(|context| self.0.poll_next(context)).await
    }
}

impl<T> Stream for ClientStream<T> {
    type Item = Result<T, ClientStreamError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next(context)
    }
}

impl<T> Drop for ClientStream<T> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.reader = Reader::Gone;
        state.items = VecDeque::new();
        let writer = state.writer.take();
        drop(state);
        if let Some(writer) = writer {
            writer.wake();
        }
    }
}

/// The other end of a [`ClientStream`], its type forgotten.
pub(crate) trait Upload: Send + Sync {
    /// Gives an item its type and hands it over, unless there is no room: false then, and the item must be offered
    /// again. An item that does not fit its type ends the stream.
    fn offer(&self, item: Value<'_>) -> bool;

    /// Ready when there is room, or nobody to read. Only one task may wait.
    fn poll_room(&self, context: &mut Context<'_>) -> Poll<()>;

    /// Ends the stream behind what waits in it; only the first end counts.
    fn end(&self, how: Result<(), ClientStreamError>);
}

/// Both ends of a new stream that holds `capacity` items, at least one.
pub(crate) fn client_stream<T>(capacity: usize) -> (ClientStream<T>, Arc<dyn Upload>)
where
    T: DeserializeOwned + Send + 'static,
{
    let shared = Arc::new(Shared {
        capacity: capacity.max(1),
        state: Mutex::new(State {
            items: VecDeque::new(),
            end: None,
            reader: Reader::Busy,
            writer: None,
        }),
    });
    let upload: Arc<dyn Upload> = Arc::<Shared<T>>::clone(&shared);
    (ClientStream(shared), upload)
}

struct Shared<T> {
    capacity: usize,
    state: Mutex<State<T>>,
}

struct State<T> {
    items: VecDeque<T>,
    /// Set when no more items come; taken by the reader.
    end: Option<Result<(), ClientStreamError>>,
    reader: Reader,
    writer: Option<Waker>,
}

enum Reader {
    Busy,
    Waiting(Waker),
    Gone,
}

impl<T> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll_next(&self, context: &mut Context<'_>) -> Poll<Option<Result<T, ClientStreamError>>> {
        let mut state = self.state();
        if let Some(item) = state.items.pop_front() {
            let writer = state.writer.take();
            drop(state);
            if let Some(writer) = writer {
                writer.wake();
            }
            return Poll::Ready(Some(Ok(item)));
        }
        if let Some(end) = &mut state.end {
            return Poll::Ready(std::mem::replace(end, Ok(())).err().map(Err));
        }
        state.reader = Reader::Waiting(context.waker().clone());
        Poll::Pending
    }
}

impl<T> State<T> {
    /// The reader to wake, after the lock is gone.
    fn reader_to_wake(&mut self) -> Option<Waker> {
        match std::mem::replace(&mut self.reader, Reader::Busy) {
            Reader::Waiting(waker) => Some(waker),
            Reader::Busy => None,
            Reader::Gone => {
                self.reader = Reader::Gone;
                None
            }
        }
    }

    fn takes_no_more(&self) -> bool {
        self.end.is_some() || matches!(self.reader, Reader::Gone)
    }
}

impl<T: DeserializeOwned + Send> Upload for Shared<T> {
    fn offer(&self, item: Value<'_>) -> bool {
        {
            let state = self.state();
            if state.takes_no_more() {
                return true;
            }
            if state.items.len() >= self.capacity {
                return false;
            }
        }
        // Without the lock: somebody's `Deserialize` may do anything. Nobody else adds items meanwhile.
        let item = item.decode::<T>();
        let mut state = self.state();
        if state.takes_no_more() {
            return true;
        }
        match item {
            Ok(item) => state.items.push_back(item),
            Err(_) => state.end = Some(Err(ClientStreamError::Item)),
        }
        let reader = state.reader_to_wake();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
        true
    }

    fn poll_room(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.takes_no_more() || state.items.len() < self.capacity {
            return Poll::Ready(());
        }
        state.writer = Some(context.waker().clone());
        Poll::Pending
    }

    fn end(&self, how: Result<(), ClientStreamError>) {
        let mut state = self.state();
        state.end.get_or_insert(how);
        let reader = state.reader_to_wake();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use hubcast_protocol::{Encoding, HubMessage};

    fn offer(upload: &dyn Upload, json: &str) -> bool {
        let message = format!(r#"{{"type":2,"invocationId":"1","item":{json}}}"#);
        let Ok(HubMessage::StreamItem(item)) = Encoding::Json.parse(message.as_bytes()) else {
            panic!("{message}")
        };
        upload.offer(item.item)
    }

    #[tokio::test]
    async fn items_arrive_in_order_and_the_end_behind_them() {
        let (mut stream, upload) = client_stream::<i32>(10);
        assert!(offer(&*upload, "1"));
        assert!(offer(&*upload, "2"));
        upload.end(Err(ClientStreamError::Client("enough".into())));
        assert!(offer(&*upload, "3"), "taken, and ignored");
        assert_eq!(stream.next().await, Some(Ok(1)));
        assert_eq!(stream.next().await, Some(Ok(2)));
        let end = Err(ClientStreamError::Client("enough".into()));
        assert_eq!(stream.next().await, Some(end));
        assert_eq!(stream.next().await, None);
    }

    #[tokio::test]
    async fn a_full_stream_takes_more_when_something_has_been_read() {
        let (mut stream, upload) = client_stream::<i32>(2);
        assert!(offer(&*upload, "1") && offer(&*upload, "2"));
        assert!(!offer(&*upload, "3"));
        let mut room = Box::pin(poll_fn(|context| upload.poll_room(context)));
        assert!(room.as_mut().now_or_never().is_none());
        assert_eq!(stream.next().await, Some(Ok(1)));
        room.await;
        assert!(offer(&*upload, "3"));
    }

    #[tokio::test]
    async fn an_item_of_another_type_ends_the_stream() {
        let (mut stream, upload) = client_stream::<i32>(2);
        assert!(offer(&*upload, "1"));
        assert!(offer(&*upload, r#""two""#));
        assert_eq!(stream.next().await, Some(Ok(1)));
        assert_eq!(stream.next().await, Some(Err(ClientStreamError::Item)));
        assert_eq!(stream.next().await, None);
    }

    #[tokio::test]
    async fn a_stream_that_nobody_reads_never_makes_the_client_wait() {
        let (stream, upload) = client_stream::<i32>(1);
        assert!(offer(&*upload, "1"));
        assert!(!offer(&*upload, "2"));
        drop(stream);
        poll_fn(|context| upload.poll_room(context)).await;
        assert!(offer(&*upload, "2") && offer(&*upload, "3"));
    }
}
