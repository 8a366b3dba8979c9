//! Handlers run on any thread.

use std::sync::{Arc, Mutex};

use hubcast_client::HubConnection;

fn listen(connection: &HubConnection) {
    let count = Arc::new(Mutex::new(0));
    connection.on("Tick", move || {
        let count = count.clone();
        async move {
            let mut count = count.lock().unwrap();
            tokio::task::yield_now().await;
            *count += 1;
        }
    });
}

fn main() {
    let _ = listen;
}
