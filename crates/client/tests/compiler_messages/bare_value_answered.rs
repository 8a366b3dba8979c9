//! An answer is a `Result`.

use hubcast_client::HubConnection;

fn listen(connection: &HubConnection) {
    connection.on_result("Double", |number: i32| number * 2);
}

fn main() {
    let _ = listen;
}
