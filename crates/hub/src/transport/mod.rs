//! What carries a connection's bytes. A transport never looks into a message.

pub(crate) mod upgrade;
pub(crate) mod websocket;
