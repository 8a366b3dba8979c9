//! Real sockets that take little at a time, written by transports and writers at once.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hubcast_protocol::Encoding;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinSet, yield_now};
use tokio::time::timeout;

use crate::close_reason::CloseReason;
use crate::connection::Connection;
use crate::frame::{Broadcast, Frame};
use crate::lifetime::Lifetime;
use crate::options::HubOptions;
use crate::pipe::{Arrived, Pipe};
use crate::transport::websocket::{self, SharedSocket};
use crate::writers::Delivery;

const CLIENTS: usize = 6;
const SENDERS: usize = 3;
/// How many messages each of them sends.
const MESSAGES: usize = 300;
/// How many calls each client makes.
const CALLS: usize = 200;

/// Both ends of a connection whose kernel buffers are as small as they get.
async fn pair(listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = TcpSocket::new_v4().unwrap();
    client.set_recv_buffer_size(2_048).unwrap();
    let address = listener.local_addr().unwrap();
    let (client, server) = tokio::join!(client.connect(address), listener.accept());
    let (server, _) = server.unwrap();
    server.set_nodelay(true).unwrap();
    (client.unwrap(), server)
}

fn listener() -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    // Inherited by what is accepted.
    socket.set_send_buffer_size(2_048).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    socket.listen(64).unwrap()
}

/// Payloads of all lengths: most are short, some do not fit into the socket.
fn text(kind: char, number: usize) -> String {
    let size = if number.is_multiple_of(37) {
        9_000
    } else {
        number % 90
    };
    format!("{kind}{number};{}", "x".repeat(size))
}

/// The server's side, one task: what comes in is answered by what shares the task with the transport.
async fn serve(socket: SharedSocket, connection: Arc<Connection>) {
    let input = Pipe::new(64 * 1024);
    let answering = async {
        let mut answers = 0;
        while let Ok(Arrived::Bytes(bytes)) = input.read().await {
            for _ in bytes {
                let frame = Frame::from_payload(Encoding::Json, text('a', answers).as_bytes());
                connection.answer(frame);
                answers += 1;
            }
        }
    };
    let carrying = async {
        websocket::run(socket, None, &connection, &input).await;
        input.end(CloseReason::ClientLeft);
    };
    tokio::join!(answering, carrying);
}

/// Reads one frame; `None` for a goodbye.
async fn frame(socket: &mut OwnedReadHalf) -> Option<String> {
    let mut header = [0; 2];
    socket.read_exact(&mut header).await.unwrap();
    let size = match header[1] {
        126 => usize::from(socket.read_u16().await.unwrap()),
        short => usize::from(short),
    };
    let mut payload = vec![0; size];
    socket.read_exact(&mut payload).await.unwrap();
    (header[0] == 0x81).then(|| String::from_utf8(payload).unwrap())
}

/// Everything comes in order and once.
async fn hear(mut socket: OwnedReadHalf) -> OwnedReadHalf {
    let (mut room, mut answers) = (0, 0);
    while (room, answers) != (SENDERS * MESSAGES, CALLS) {
        let heard = frame(&mut socket).await.unwrap();
        let (kind, count) = match heard.as_bytes() {
            [b'r', ..] => ('r', &mut room),
            _ => ('a', &mut answers),
        };
        assert_eq!(heard, text(kind, *count));
        *count += 1;
    }
    socket
}

/// The goodbye comes, and nothing else.
async fn part(mut socket: OwnedReadHalf) {
    assert_eq!(frame(&mut socket).await, None);
    assert_eq!(
        socket.read_u8().await.unwrap_err().kind(),
        io::ErrorKind::UnexpectedEof
    );
}

async fn call(mut socket: OwnedWriteHalf) -> OwnedWriteHalf {
    for number in 0..CALLS {
        socket.write_all(b"\x81\x81\0\0\0\0x").await.unwrap();
        if number.is_multiple_of(5) {
            yield_now().await;
        }
    }
    socket
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_writes_everything_arrives_in_order_and_once() {
    let lifetime = Lifetime::start(HubOptions::default(), "Hub", None);
    let listener = listener();
    let mut connections = Vec::new();
    let mut servers = JoinSet::new();
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let (client, server) = pair(&listener).await;
        let connection = Arc::new(Connection::new(number.to_string().into(), &lifetime));
        let socket = SharedSocket::new(server, Arc::clone(&connection));
        servers.spawn(serve(socket, Arc::clone(&connection)));
        let (reader, writer) = client.into_split();
        clients.spawn(async move { tokio::join!(hear(reader), call(writer)) });
        connections.push(connection);
    }
    let connections = Arc::new(connections);
    let room = Arc::new(Mutex::new(0));
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        let (connections, room) = (Arc::clone(&connections), Arc::clone(&room));
        let lifetime = Arc::clone(&lifetime);
        senders.spawn(async move {
            for message in 0..MESSAGES {
                {
                    let mut number = room.lock().unwrap();
                    let broadcast = Broadcast::encode(
                        |encoding| encoding == Encoding::Json,
                        |_, out| {
                            out.extend_from_slice(text('r', *number).as_bytes());
                            Ok(())
                        },
                    )
                    .unwrap();
                    *number += 1;
                    let mut delivery = Delivery::new(&lifetime.writers, &broadcast);
                    for connection in &*connections {
                        delivery.to(connection);
                    }
                }
                // So that they have nothing to do again and again.
                let slowest = &connections[(message + sender) % CLIENTS];
                slowest.outbox.calm(1_000 * (message % 4)).await;
            }
        });
    }
    let everything = async {
        let mut readers = Vec::new();
        while let Some(client) = clients.join_next().await {
            readers.push(client.unwrap());
        }
        for connection in &*connections {
            connection.outbox.finish(None);
        }
        for (reader, _writer) in readers {
            part(reader).await;
        }
        // Although the connections are still known.
        while let Some(server) = servers.join_next().await {
            server.unwrap();
        }
    };
    timeout(Duration::from_secs(20), everything)
        .await
        .expect("everything arrives");
}
