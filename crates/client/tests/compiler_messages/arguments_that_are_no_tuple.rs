//! The arguments of a call are a tuple.

use hubcast_client::{HubConnection, InvokeError};

async fn call(connection: &HubConnection) -> Result<(), InvokeError> {
    connection.send("Say", "hello").await
}

fn main() {
    let _ = call;
}
