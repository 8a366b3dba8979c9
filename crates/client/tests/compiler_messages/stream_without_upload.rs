//! A stream is put into an `Upload`.

use futures_util::stream;
use hubcast_client::{HubConnection, InvokeError};

async fn call(connection: &HubConnection) -> Result<i32, InvokeError> {
    connection.invoke("Sum", (stream::iter(1..=10),)).await
}

fn main() {
    let _ = call;
}
