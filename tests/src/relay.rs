//! A wire that can be cut: connections to it are passed on to somebody else, until a test breaks them all at once.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

/// Passes on what clients and a server say to each other. Dropping it cuts it for good.
pub struct Relay {
    address: SocketAddr,
    cut: watch::Sender<()>,
    ends: Ends,
}

/// When connections ended.
type Ends = Arc<Mutex<Vec<Instant>>>;

impl Relay {
    /// A relay to `host:port`, where nobody need listen yet: whoever connects meanwhile is hung up on.
    pub async fn to(target: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("any port");
        let address = listener.local_addr().expect("a port");
        let (cut, mut is_cut) = watch::channel(());
        let target = target.to_owned();
        let ends = Ends::default();
        let ended = Arc::clone(&ends);
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    cut = is_cut.changed() => match cut {
                        Ok(()) => continue,
                        Err(_) => return,
                    },
                };
                let Ok((client, _)) = accepted else {
                    continue;
                };
                let passing_on = pass_on(client, target.clone(), is_cut.clone());
                let ended = Arc::clone(&ended);
                tokio::spawn(async move {
                    if passing_on.await {
                        ended.lock().expect("no panic").push(Instant::now());
                    }
                });
            }
        });
        Self { address, cut, ends }
    }

    /// Where it listens: `127.0.0.1:PORT`.
    pub fn authority(&self) -> String {
        self.address.to_string()
    }

    /// Breaks all connections, without a word to either side. New ones are passed on as before.
    pub fn cut(&self) {
        self.cut.send_replace(());
    }

    /// When connections ended, whoever ended them, in this order.
    pub fn ends(&self) -> Vec<Instant> {
        self.ends.lock().expect("no panic").clone()
    }
}

/// Whether there was a connection.
async fn pass_on(mut client: TcpStream, target: String, mut is_cut: watch::Receiver<()>) -> bool {
    let Ok(mut server) = TcpStream::connect(target).await else {
        return false;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        _ = is_cut.changed() => {}
    }
    true
}
