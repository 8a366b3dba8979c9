//! What goes to the server: messages, pings, streams of ours, and the goodbye.

use std::convert::Infallible;

use futures_util::stream::{FuturesUnordered, SplitSink};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{Settings, lost, message};
use crate::connector::Socket;
use crate::error::ConnectionError;
use crate::queue::{self, Room};
use crate::session::{Outgoing, Pump};

/// How much is put together before it is written.
const BATCH: usize = 64 * 1024;

/// The writing half.
pub(super) struct Writer<'a> {
    pub(super) sink: &'a mut SplitSink<Socket, Message>,
    pub(super) outgoing: queue::Receiver<Outgoing>,
    pub(super) pumps: UnboundedSender<Pump>,
    pub(super) settings: &'a Settings,
}

impl Writer<'_> {
    pub(super) async fn run(mut self) -> ConnectionError {
        let settings = self.settings;
        let Err(error) = self.write().await;
        lost(error, settings)
    }

    async fn write(&mut self) -> Result<Infallible, Error> {
        // From the first ping on a server holds a client to its time-out: the stock clients ping at once.
        self.ping().await?;
        loop {
            let due = Instant::now() + self.settings.keep_alive_interval;
            match timeout_at(due, self.outgoing.next()).await {
                Ok(Some(first)) => self.batch(first).await?,
                // Cannot be: the session is ours, and has the other end.
                Ok(None) => return std::future::pending().await,
                Err(_) => self.ping().await?,
            }
        }
    }

    async fn ping(&mut self) -> Result<(), Error> {
        let encoding = self.settings.encoding;
        let ping = message(encoding, encoding.ping().to_vec());
        self.sink.send(ping).await
    }

    /// Writes what waits, up to a limit, at once. Its room is free when it is written.
    async fn batch(&mut self, first: (Outgoing, Room)) -> Result<(), Error> {
        let (mut next, mut rooms, mut bytes) = (Some(first), Vec::new(), 0);
        while let Some((outgoing, room)) = next {
            rooms.push(room);
            bytes += self.feed(outgoing).await?;
            next = if bytes < BATCH {
                self.outgoing.ready()
            } else {
                None
            };
        }
        self.sink.flush().await
    }

    async fn feed(&mut self, outgoing: Outgoing) -> Result<usize, Error> {
        let encoding = self.settings.encoding;
        let bytes = match outgoing {
            Outgoing::Message(bytes) => bytes,
            Outgoing::Call(bytes, pumps) => {
                for pump in pumps {
                    let _ = self.pumps.send(pump);
                }
                bytes
            }
            Outgoing::Goodbye => {
                let mut close = Vec::new();
                encoding.write_close(&mut close, None, false);
                self.sink.feed(message(encoding, close)).await?;
                self.sink.close().await?;
                // What is left is to wait for the server to hang up.
                return std::future::pending().await;
            }
        };
        let length = bytes.len();
        self.sink.feed(message(encoding, bytes)).await?;
        Ok(length)
    }
}

/// Sends the streams of ours side by side.
pub(super) async fn pump_all(mut new: UnboundedReceiver<Pump>) -> Infallible {
    let mut running = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(pump) = new.recv() => running.push(pump.run()),
            Some(()) = running.next() => {}
            else => return std::future::pending().await,
        }
    }
}
