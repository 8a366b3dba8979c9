//! Parameters of handlers own their data.

use hubcast_client::HubConnection;

fn listen(connection: &HubConnection) {
    connection.on("Said", |text: &str| println!("{text}"));
}

fn main() {
    let _ = listen;
}
