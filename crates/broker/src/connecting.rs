//! One attempt to connect, which leaves nothing behind when it fails.

use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

use async_compat::CompatExt;
use hubcast_tls::Stream;
use lapin::tcp::AsyncTcpStream;
use lapin::uri::{AMQPAuthority, AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties, Error, ErrorKind};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::carrier::carry;
use crate::trouble::{describe, is_no_entry};
use crate::url::AmqpUrl;

/// What connections are called in RabbitMQ's own views.
const NAME: &str = "hubcast";

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum NotConnected {
    /// RabbitMQ cannot be reached, or not now.
    Away(String),
    /// It answers, and does not let us in.
    Refused(String),
}

/// Connects, logs in, and opens the virtual host.
pub(crate) async fn connect(url: &AmqpUrl) -> Result<Connection, NotConnected> {
    let attempt = Attempt::default();
    let runtime = lapin::runtime::default_runtime().map_err(NotConnected::from)?;
    let patience = url.patience();
    let open = {
        let attempt = attempt.clone();
        async move |uri: AMQPUri, _| {
            let stream = speak(attempt.open(&uri.authority).await?, &uri).await?;
            let frame_max = uri.query.frame_max.unwrap_or_default();
            Ok::<_, Error>(AsyncTcpStream::Plain(carry(stream, frame_max)?.compat()))
        }
    };
    let properties = ConnectionProperties::default().with_connection_name(NAME.into());
    let connecting = Connection::connector(url.uri().clone(), runtime, open, properties);
    // What is under way when the time is over, or when nobody wants it any more, is cut off by the guard.
    let guard = Guard(Some(attempt));
    match timeout(patience, connecting).await {
        Ok(Ok(connection)) => {
            guard.succeeded();
            Ok(connection)
        }
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(NotConnected::Away(format!("no answer within {patience:?}"))),
    }
}

/// What is spoken on a socket: AMQP, or TLS around it.
async fn speak(socket: tokio::net::TcpStream, uri: &AMQPUri) -> std::io::Result<Box<dyn Stream>> {
    if uri.scheme == AMQPScheme::AMQP {
        return Ok(Box::new(socket));
    }
    let encrypted = hubcast_tls::connect(socket, &uri.authority.host).await;
    Ok(Box::new(encrypted.map_err(std::io::Error::other)?))
}

impl From<Error> for NotConnected {
    fn from(error: Error) -> Self {
        let reason = match error.kind() {
            // An end in the middle of the greeting: RabbitMQ says why in its log only.
            ErrorKind::IOError(io) if io.kind() == std::io::ErrorKind::ConnectionAborted => {
                "it has closed the connection before we were let in".to_owned()
            }
            _ => describe(&error),
        };
        if is_no_entry(&error) {
            Self::Refused(reason)
        } else {
            Self::Away(reason)
        }
    }
}

/// The socket of a connection that is being made, which lapin makes and reads in a thread of its own until it ends.
#[derive(Default, Clone)]
struct Attempt(Arc<Made>);

#[derive(Default)]
struct Made {
    socket: Mutex<Socket>,
    cut: Notify,
}

#[derive(Default)]
enum Socket {
    #[default]
    NotYet,
    Open(TcpStream),
    Cut,
}

impl Attempt {
    async fn open(&self, authority: &AMQPAuthority) -> std::io::Result<tokio::net::TcpStream> {
        let address = (authority.host.as_str(), authority.port);
        // No timer here: that thread may outlive the runtime, whose timers panic then.
        let stream = tokio::select! {
            biased;
            () = self.0.cut.notified() => return Err(std::io::ErrorKind::TimedOut.into()),
            stream = tokio::net::TcpStream::connect(address) => stream?,
        };
        stream.set_nodelay(true)?;
        let handle = TcpStream::from(stream.as_fd().try_clone_to_owned()?);
        let mut socket = self.0.socket.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*socket, Socket::Cut) {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        *socket = Socket::Open(handle);
        Ok(stream)
    }
}

/// Ends an attempt that is given up: otherwise a RabbitMQ that accepts and says nothing would cost a thread each time.
struct Guard(Option<Attempt>);

impl Guard {
    fn succeeded(mut self) {
        self.0 = None;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(attempt) = self.0.take() else {
            return;
        };
        let made = &attempt.0;
        let mut socket = made.socket.lock().unwrap_or_else(PoisonError::into_inner);
        if let Socket::Open(stream) = &*socket {
            // Fails if the other side was quicker.
            let _ = stream.shutdown(Shutdown::Both);
        }
        *socket = Socket::Cut;
        // Kept for whoever has not begun to wait.
        made.cut.notify_one();
    }
}
