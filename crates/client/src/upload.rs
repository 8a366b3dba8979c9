//! Streams that the client sends to a method of the hub.

use std::convert::Infallible;
use std::fmt::{self, Display};

use futures_util::stream::{self, BoxStream, Stream, StreamExt};
use hubcast_protocol::Encoding;
use serde::Serialize;

/// A stream as an argument: the method of the hub takes it as its parameter (in ASP.NET Core an `IAsyncEnumerable` or a
/// `ChannelReader`, here a `ClientStream`).
///
/// ```no_run
/// # async fn example(connection: hubcast_client::HubConnection) -> Result<(), hubcast_client::InvokeError> {
/// use futures_util::stream;
/// use hubcast_client::Upload;
///
/// let numbers = Upload::new(stream::iter(1..=10));
/// let sum: i32 = connection.invoke("StreamingSum", (numbers,)).await?;
/// # Ok(())
/// # }
/// ```
///
/// The stream is polled in the connection's task while the connection lasts, and no faster than the server takes it; it is dropped
/// when the call ends before it.
pub struct Upload(Box<dyn FnOnce(Encoding, String) -> Messages + Send>);

/// The messages that a stream is on the wire, ready to be sent; the last is a completion.
pub(crate) type Messages = BoxStream<'static, Vec<u8>>;

impl fmt::Debug for Upload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Upload")
    }
}

impl Upload {
    /// Sends these items.
    pub fn new<S>(items: S) -> Self
    where
        S: Stream<Item: Serialize> + Send + 'static,
    {
        Self::fallible(items.map(Ok::<_, Infallible>))
    }

    /// Sends these items until one of them is an error, whose text the method of the hub gets.
    pub fn fallible<S, T, E>(items: S) -> Self
    where
        S: Stream<Item = Result<T, E>> + Send + 'static,
        T: Serialize,
        E: Display,
    {
        Self(Box::new(move |encoding, id| {
            let rest = Some((Box::pin(items), id));
            stream::unfold(rest, move |rest| async move {
                let (mut items, id) = rest?;
                let mut message = Vec::new();
                let failure = match items.next().await {
                    Some(Ok(item)) => match encoding.write_stream_item(&mut message, &id, &item) {
                        Ok(()) => return Some((message, Some((items, id)))),
                        Err(error) => error.to_string(),
                    },
                    Some(Err(error)) => error.to_string(),
                    None => {
                        encoding.write_void(&mut message, &id);
                        return Some((message, None));
                    }
                };
                message.clear();
                encoding.write_error(&mut message, &id, or_unknown(&failure));
                Some((message, None))
            })
            .boxed()
        }))
    }

    pub(crate) fn messages(self, encoding: Encoding, id: String) -> Messages {
        (self.0)(encoding, id)
    }
}

/// An empty text would be no error in JSON.
pub(crate) fn or_unknown(error: &str) -> &str {
    if error.is_empty() {
        "unknown error"
    } else {
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sent(upload: Upload) -> String {
        let messages = upload.messages(Encoding::Json, String::from("7"));
        let bytes = messages.collect::<Vec<_>>().await.concat();
        String::from_utf8(bytes).unwrap().replace('\u{1e}', "\n")
    }

    #[tokio::test]
    async fn a_stream_is_its_items_and_a_completion() {
        assert_eq!(
            sent(Upload::new(stream::iter([1, 2]))).await,
            "{\"type\":2,\"invocationId\":\"7\",\"item\":1}\n\
             {\"type\":2,\"invocationId\":\"7\",\"item\":2}\n\
             {\"type\":3,\"invocationId\":\"7\"}\n"
        );
    }

    #[tokio::test]
    async fn an_error_ends_a_stream_and_so_does_what_cannot_be_written() {
        let items = [Ok(1), Err("no more"), Ok(2)];
        assert_eq!(
            sent(Upload::fallible(stream::iter(items))).await,
            "{\"type\":2,\"invocationId\":\"7\",\"item\":1}\n\
             {\"type\":3,\"invocationId\":\"7\",\"error\":\"no more\"}\n"
        );
        let unwritable = std::collections::HashMap::from([(vec![1], 1)]);
        let sent = sent(Upload::new(stream::iter([unwritable]))).await;
        assert!(
            sent.starts_with("{\"type\":3,\"invocationId\":\"7\",\"error\":\"cannot be written"),
            "{sent}"
        );
    }
}
