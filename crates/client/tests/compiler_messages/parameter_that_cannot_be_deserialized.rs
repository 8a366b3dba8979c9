//! Parameters of handlers are deserialized.

use hubcast_client::HubConnection;

struct Message;

fn listen(connection: &HubConnection) {
    connection.on("Said", |_: Message| println!("something"));
}

fn main() {
    let _ = listen;
}
