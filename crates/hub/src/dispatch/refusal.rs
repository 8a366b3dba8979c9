//! What is wrong with a call beside its name and its arguments.

use hubcast_protocol::Invocation;

use super::{Dispatcher, Kind};
use crate::call::Call;
use crate::hub::Hub;
use crate::methods::Registered;

impl<H: Hub> Dispatcher<'_, H> {
    /// The text for the caller, in the words of ASP.NET Core where it has some; `None` if all is well.
    pub(super) fn refusal(
        &self,
        method: &Registered<H>,
        invocation: &Invocation<'_>,
        call: &Call,
        kind: Kind,
    ) -> Option<String> {
        let target = &call.target;
        match (kind, method.method.is_stream()) {
            (Kind::Stream, false) => {
                return Some(format!(
                    "The client attempted to invoke the non-streaming '{target}' method with a streaming invocation."
                ));
            }
            (Kind::Plain, true) => {
                return Some(format!(
                    "The client attempted to invoke the streaming '{target}' method with a non-streaming invocation."
                ));
            }
            _ => {}
        }
        let failed = |why: String| {
            Some(format!(
                "An unexpected error occurred invoking '{target}' on the server. HubException: {why}"
            ))
        };
        let (sent, expected) = (invocation.stream_ids.len(), method.method.streams());
        if sent != expected {
            return failed(format!(
                "Client sent {sent} stream(s), Hub method expects {expected}."
            ));
        }
        let id = invocation.invocation_id.as_deref();
        if kind == Kind::Stream
            && self
                .calls
                .values()
                .any(|begun| begun.is_stream && begun.id() == id)
        {
            return Some(format!(
                "Invocation ID '{}' is already in use.",
                id.unwrap_or_default()
            ));
        }
        let mut ids = invocation.stream_ids.iter().enumerate();
        let doubled = ids.find(|(position, id)| {
            self.uploads.contains(id)
                || invocation
                    .stream_ids
                    .iter()
                    .take(*position)
                    .any(|other| other == *id)
        });
        if let Some((_, id)) = doubled {
            return failed(format!("Stream ID '{id}' is already in use."));
        }
        // A stream that the client has ended counts until its method has, which takes no slot either.
        let begun = self.calls.values();
        let streams: usize = begun
            .map(|begun| usize::from(begun.is_stream) + begun.streams.len())
            .sum();
        let wanted = sent + usize::from(kind == Kind::Stream);
        let most = self.options().maximum_streams_per_client;
        if wanted > 0 && streams + wanted > most {
            return failed(format!(
                "A client may have at most {most} streams at a time."
            ));
        }
        None
    }
}
