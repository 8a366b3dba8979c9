//! What goes wrong with RabbitMQ: what passes, and what somebody has to put right.

use lapin::protocol::AMQPErrorKind;
use lapin::{Error, ErrorKind};

/// Why work with a channel has ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// The connection or the channel is gone. Everything that it had delivered and that was not acknowledged is delivered again, to whoever consumes then;
    /// what it was asked and has not answered may have happened or not. To be tried again on a new channel.
    #[error("{0}")]
    Lost(String),
    /// RabbitMQ does not do what was asked, and would not the next time.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// What RabbitMQ says when it does not do what was asked, such as `NOT_FOUND - no exchange 'logs' in vhost '/'`; in front of it, what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

impl Trouble {
    /// For what ended without an error, such as a consumer whose queue was deleted.
    pub fn lost(reason: impl Into<String>) -> Self {
        Self::Lost(reason.into())
    }

    /// What an answer to a question means: RabbitMQ closes the channel on which it is asked for what it will not do. `what` is what was asked.
    pub fn asking(what: impl std::fmt::Display) -> impl FnOnce(Error) -> Self {
        move |error| {
            let reason = describe(&error);
            if is_refusal(&error) {
                Self::Refused(Refusal(format!("{what}: {reason}")))
            } else {
                Self::Lost(reason)
            }
        }
    }
}

/// An error in the middle of the work: whatever it is, the channel is gone.
impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Lost(describe(&error))
    }
}

/// Whether RabbitMQ has closed a channel, and not the whole connection, over what was asked.
pub(crate) fn is_refusal(error: &Error) -> bool {
    let ErrorKind::ProtocolError(error) = error.kind() else {
        return false;
    };
    // In a cluster, a queue that is on a server which is down is NOT_FOUND, too, and will be found.
    let is_down = error
        .get_message()
        .as_str()
        .contains("down or inaccessible");
    // A delivery that was not acknowledged within RabbitMQ's consumer timeout: it is given to somebody else.
    let is_late = error
        .get_message()
        .as_str()
        .contains("delivery acknowledgement on channel");
    matches!(error.kind(), AMQPErrorKind::Soft(_)) && !is_down && !is_late
}

/// Whether what was asked for is there already and is something else, or is nothing that this RabbitMQ knows.
pub(crate) fn is_precondition(error: &Error) -> bool {
    is_refusal(error)
        && matches!(error.kind(), ErrorKind::ProtocolError(error) if error.get_id() == 406)
}

/// Whether what was spoken of is not there: `NOT_FOUND`.
pub(crate) fn is_not_found(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(error) if error.get_id() == 404)
}

/// Whether RabbitMQ will not let this user in, or not to this virtual host, rather than not being able to.
pub(crate) fn is_no_entry(error: &Error) -> bool {
    // ACCESS_REFUSED, RESOURCE_LOCKED, NOT_ALLOWED.
    matches!(error.kind(), ErrorKind::ProtocolError(error) if matches!(error.get_id(), 403 | 405 | 530))
}

/// An error for people: one line, and no secrets, of which RabbitMQ repeats none.
pub(crate) fn describe(error: &Error) -> String {
    let text = match error.kind() {
        // It begins with its name: `NOT_FOUND - no exchange 'logs' in vhost '/'`.
        ErrorKind::ProtocolError(error) => error.get_message().to_string(),
        ErrorKind::IOError(error) => error.to_string(),
        ErrorKind::MissingHeartbeatError => "it has been silent for too long".to_owned(),
        ErrorKind::InvalidConnectionState(_) | ErrorKind::InvalidChannelState(..) => {
            "the connection is closed".to_owned()
        }
        _ => error.to_string(),
    };
    without_given_names(&text.replace(char::is_control, " "))
}

/// The names that RabbitMQ gives to queues are new each time, which would make the same trouble another one.
fn without_given_names(text: &str) -> String {
    const GIVEN: &str = "'amq.gen-";
    let mut parts = text.split(GIVEN);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let rest = part.split_once('\'').map_or("", |(_, rest)| rest);
        text + "of its own" + rest
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapin::protocol::{AMQPError, AMQPHardError, AMQPSoftError};

    fn protocol(kind: impl Into<AMQPErrorKind>, message: &str) -> Error {
        ErrorKind::ProtocolError(AMQPError::new(kind.into(), message.into())).into()
    }

    #[test]
    fn what_is_refused_to_a_channel_is_a_refusal_only_where_it_was_asked() {
        let refused = protocol(
            AMQPSoftError::PRECONDITIONFAILED,
            "PRECONDITION_FAILED - it\nis not",
        );
        let asked = Trouble::asking("declaring the exchange 'x'")(refused.clone());
        let text = "declaring the exchange 'x': PRECONDITION_FAILED - it is not";
        assert_eq!(asked, Trouble::Refused(Refusal(text.to_owned())));
        assert_eq!(
            Trouble::from(refused),
            Trouble::lost("PRECONDITION_FAILED - it is not")
        );
    }

    #[test]
    fn a_queue_on_a_server_that_is_down_is_not_refused() {
        let text = "NOT_FOUND - home node 'rabbit@b' of durable queue 'q' in vhost '/' is down or inaccessible";
        let asked = Trouble::asking("declaring")(protocol(AMQPSoftError::NOTFOUND, text));
        assert_eq!(asked, Trouble::lost(text));
    }

    #[test]
    fn who_takes_long_to_acknowledge_is_not_refused() {
        let text = "PRECONDITION_FAILED - delivery acknowledgement on channel 7 timed out. Timeout value used: 1800000 ms.";
        let asked = Trouble::asking("taking")(protocol(AMQPSoftError::PRECONDITIONFAILED, text));
        assert_eq!(asked, Trouble::lost(text));
    }

    #[test]
    fn names_that_rabbitmq_gives_are_left_out() {
        let text = "ACCESS_REFUSED - write access to queue 'amq.gen-x_1-y' in vhost '/' refused for user 'ro'";
        let described = describe(&protocol(AMQPSoftError::ACCESSREFUSED, text));
        let expected =
            "ACCESS_REFUSED - write access to queue of its own in vhost '/' refused for user 'ro'";
        assert_eq!(described, expected);
        assert_eq!(without_given_names("queue 'amq.gen-"), "queue of its own");
        assert_eq!(without_given_names("nothing"), "nothing");
    }

    #[test]
    fn what_ends_a_connection_passes() {
        let forced = protocol(AMQPHardError::CONNECTIONFORCED, "CONNECTION_FORCED - bye");
        assert!(!is_no_entry(&forced));
        let asked = Trouble::asking("anything")(forced);
        assert_eq!(asked, Trouble::lost("CONNECTION_FORCED - bye"));
    }

    #[test]
    fn an_unknown_virtual_host_and_a_wrong_password_are_no_entry() {
        assert!(is_no_entry(&protocol(
            AMQPHardError::NOTALLOWED,
            "NOT_ALLOWED"
        )));
        assert!(is_no_entry(&protocol(
            AMQPSoftError::ACCESSREFUSED,
            "ACCESS_REFUSED"
        )));
    }
}
