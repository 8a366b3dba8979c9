//! A handler with a result is registered with `on_result`.

use hubcast_client::HubConnection;

fn listen(connection: &HubConnection) {
    connection.on("Double", |number: i32| number * 2);
}

fn main() {
    let _ = listen;
}
