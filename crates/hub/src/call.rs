//! What one call knows of itself.

use crate::error::InvokeError;

/// The state of one call of the hub, for as long as it runs; its [`CallerContext`](crate::CallerContext) leads to it.
#[derive(Debug, Default)]
pub(crate) struct CallState {
    /// The hub hears of a new connection, and nothing that the client says is read before it has.
    pub(crate) inside_on_connected: bool,
}

impl CallState {
    /// The call is about to wait for the answer of a client, perhaps of its own caller.
    pub(crate) fn before_waiting(&self) -> Result<(), InvokeError> {
        if self.inside_on_connected {
            // Would wait for ever.
            return Err(InvokeError::InsideOnConnected);
        }
        Ok(())
    }
}
