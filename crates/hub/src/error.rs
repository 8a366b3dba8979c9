//! What can go wrong in a hub method, and how much of it a client may read.

use std::any::Any;
use std::error::Error;
use std::fmt;

use crate::client_stream::ClientStreamError;

/// What a hub method returns.
pub type HubResult<T = ()> = Result<T, HubError>;

/// The failure of a hub method.
///
/// Two kinds: a text that was chosen for the client ([`HubError::new`], ASP.NET Core's `HubException`),
/// and any other error, which `?` turns into a `HubError` that keeps its text from the client. The client
/// then reads only `An unexpected error occurred invoking 'X' on the server.`; the log has the rest. What another client
/// answered ([`InvokeError::Client`]) counts as chosen, too, and so does [`InvokeError::Canceled`].
///
/// It does not implement [`Error`] itself: that is what lets `?` accept every error there is.
#[derive(Debug)]
pub struct HubError(Kind);

#[derive(Debug)]
enum Kind {
    Public(String),
    Hidden {
        type_name: &'static str,
        source: Box<dyn Error + Send + Sync>,
    },
}

impl HubError {
    /// A failure whose text the client shall read.
    ///
    /// It arrives behind the general sentence, as in ASP.NET Core:
    /// `An unexpected error occurred invoking 'X' on the server. HubException: <message>`.
    pub fn new(message: impl Into<String>) -> Self {
        Self(Kind::Public(message.into()))
    }

    /// What follows the general sentence in a message to the client: always for a public text, only with
    /// detailed errors for any other. Starts with a space where it is not empty.
    pub(crate) fn detail(&self, detailed_errors: bool) -> String {
        match &self.0 {
            Kind::Public(message) => format!(" HubException: {message}"),
            Kind::Hidden { type_name, source } if detailed_errors => {
                format!(" {type_name}: {source}")
            }
            Kind::Hidden { .. } => String::new(),
        }
    }
}

/// For logs: the whole text, and that of the errors behind it.
impl fmt::Display for HubError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Public(message) => formatter.write_str(message),
            Kind::Hidden { source, .. } => {
                write!(formatter, "{source}")?;
                let mut cause = source.source();
                while let Some(error) = cause {
                    write!(formatter, ": {error}")?;
                    cause = error.source();
                }
                Ok(())
            }
        }
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for HubError {
    fn from(error: E) -> Self {
        // What the client itself has written is no secret from it, and what another answers is meant to be passed on.
        let any = &error as &dyn Any;
        let is_public = any.is::<ClientStreamError>()
            || matches!(
                any.downcast_ref(),
                Some(InvokeError::Client(_) | InvokeError::Canceled)
            );
        if is_public {
            return Self::new(error.to_string());
        }
        Self(Kind::Hidden {
            type_name: short_type_name::<E>(),
            source: Box::new(error),
        })
    }
}

/// The name of a type without its path and its parameters.
pub(crate) fn short_type_name<T: ?Sized>() -> &'static str {
    let whole = std::any::type_name::<T>();
    let path = whole.split('<').next().unwrap_or(whole);
    path.rsplit("::").next().unwrap_or(path)
}

/// A client was asked for a result and gave none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvokeError {
    /// No server has the connection, or the servers that might cannot be reached now.
    #[error("Connection '{connection_id}' does not exist.")]
    NotFound {
        /// The connection that was meant.
        connection_id: String,
    },
    /// The client went away before it answered.
    #[error("Connection '{connection_id}' disconnected.")]
    Disconnected {
        /// The connection that was asked.
        connection_id: String,
    },
    /// The client has been asked for 1,024 results that it has not given: more would only be kept for it. ASP.NET Core has no
    /// such limit.
    #[error("Connection '{connection_id}' has too many invocations to answer.")]
    TooMany {
        /// The connection that was meant.
        connection_id: String,
    },
    /// The client did not answer within [`SingleClient::timeout`](crate::SingleClient::timeout). It is not told.
    #[error("Invocation canceled by the server.")]
    Canceled,
    /// The client answered with an error: its own text, which a `?` in a hub method shows to the caller.
    #[error("{0}")]
    Client(String),
    /// The client's answer is not of the type that was asked for.
    #[error("Error trying to deserialize result to {type_name}. {detail}")]
    Decode {
        /// The type, without its path.
        type_name: &'static str,
        /// What did not fit.
        detail: String,
    },
    /// An argument could not be written in the clients' encoding.
    #[error("the arguments of '{method}' cannot be encoded: {source}")]
    Encode {
        /// The client method that was to be called.
        method: String,
        /// What the encoder objected to.
        source: hubcast_protocol::EncodeError,
    },
    /// Nothing that a client says is read before the hub has heard of its connection, so its answer would never come.
    #[error("Client results inside OnConnectedAsync Hub methods are not allowed.")]
    InsideOnConnected,
}

/// A message could not be sent to clients.
///
/// That nobody is there to receive it is no error, and neither is a client that goes away.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// An argument could not be written in the clients' encoding, for example a map whose keys are not strings.
    #[error("the arguments of '{method}' cannot be encoded: {source}")]
    Encode {
        /// The client method that was to be called.
        method: String,
        /// What the encoder objected to.
        source: hubcast_protocol::EncodeError,
    },
}

/// A connection could not be put into a group or taken out of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// The connection is not on this server, and no other server said that it has it.
    ///
    /// As in ASP.NET Core with a Redis backplane, this takes [`ACK_TIMEOUT`](crate::ACK_TIMEOUT). Without a
    /// backplane an unknown connection is silently nothing.
    #[error("no server has the connection '{connection_id}', or it did not answer in time")]
    NoAnswer {
        /// The connection that was meant.
        connection_id: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_chosen_texts_reach_the_client() {
        let public = HubError::new("the room is full");
        assert_eq!(public.detail(false), " HubException: the room is full");

        let hidden = HubError::from(std::io::Error::other("disk on fire"));
        assert_eq!(hidden.detail(false), "");
        assert_eq!(hidden.detail(true), " Error: disk on fire");
        assert_eq!(hidden.to_string(), "disk on fire");
    }

    #[test]
    fn of_client_results_only_the_clients_own_text_and_a_cancellation_reach_the_caller() {
        let connection_id = String::from("a");
        for (error, detail) in [
            (
                InvokeError::Client("not today".into()),
                " HubException: not today",
            ),
            (
                InvokeError::Canceled,
                " HubException: Invocation canceled by the server.",
            ),
            (InvokeError::NotFound { connection_id }, ""),
            (InvokeError::InsideOnConnected, ""),
        ] {
            assert_eq!(HubError::from(error).detail(false), detail);
        }
        let connection_id = String::from("a");
        let hidden = HubError::from(InvokeError::Disconnected { connection_id });
        assert_eq!(
            hidden.detail(true),
            " InvokeError: Connection 'a' disconnected."
        );
    }
}
