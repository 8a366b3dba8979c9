//! The raw limits: servers that do nothing but move the same bytes.
//!
//! They are written by hand on one thread and one poll. They know no users, no connection in two rooms, no time-outs and no errors,
//! and cut their few fields out of the messages of this very load generator, at places that they know.

use std::io::{self, ErrorKind, Read};
use std::net::SocketAddr;

use memchr::memchr;
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::args::Writes;
use crate::frames::{Decoder, Piece, RECORD_SEPARATOR, server_close, server_text};
use crate::limit_out::Out;
use crate::limit_rooms::Rooms;

const LISTENER: Token = Token(usize::MAX);

/// How much may wait for a client, which is ended when more does: what grows for ever if somebody does not read is no server, not even a raw one.
const MAX_OUT: usize = 4 << 20;

/// A client, and everything that is known of it.
#[derive(Debug)]
struct Member {
    stream: TcpStream,
    upgraded: bool,
    decoder: Decoder,
    out: Out,
    greeted: bool,
    closing: bool,
}

#[derive(Debug)]
struct Server {
    writes: Writes,
    receive: String,
    join: String,
    leave: String,
    echo: String,
    members: Vec<Option<Member>>,
    free: Vec<usize>,
    rooms: Rooms,
    /// The rooms in which something was said in this batch.
    loud: Vec<usize>,
    /// For answers, so that none needs a buffer of its own.
    spare: Vec<u8>,
}

/// A call of the load generator.
struct Call<'a> {
    id: &'a [u8],
    target: &'a [u8],
    arguments: &'a [u8],
}

/// What it calls the hub's methods, and its own.
pub(crate) struct Names {
    pub(crate) receive: String,
    pub(crate) join: String,
    pub(crate) leave: String,
    pub(crate) echo: String,
}

/// Serves until the process ends. `listening` is told where.
pub(crate) fn serve(
    writes: Writes,
    names: Names,
    listening: impl FnOnce(SocketAddr),
) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    listening(listener.local_addr()?);
    let mut server = Server {
        writes,
        receive: names.receive,
        join: names.join,
        leave: names.leave,
        echo: names.echo,
        members: Vec::new(),
        free: Vec::new(),
        rooms: Rooms::default(),
        loud: Vec::new(),
        spare: Vec::new(),
    };
    let mut events = Events::with_capacity(1024);
    let mut scratch = vec![0; 256 * 1024];
    loop {
        if let Err(error) = poll.poll(&mut events, None)
            && error.kind() != ErrorKind::Interrupted
        {
            return Err(error);
        }
        for event in &events {
            match event.token() {
                LISTENER => server.accept(&listener, &poll)?,
                Token(id) => server.ready(id, event, &mut scratch),
            }
        }
        server.end_of_batch();
    }
}

impl Server {
    fn accept(&mut self, listener: &TcpListener, poll: &Poll) -> io::Result<()> {
        loop {
            let mut stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let id = self.free.pop().unwrap_or(self.members.len());
            poll.registry().register(
                &mut stream,
                Token(id),
                Interest::READABLE | Interest::WRITABLE,
            )?;
            let member = Member {
                stream,
                upgraded: false,
                decoder: Decoder::default(),
                out: Out::default(),
                greeted: false,
                closing: false,
            };
            match self.members.get_mut(id) {
                Some(slot) => *slot = Some(member),
                None => self.members.push(Some(member)),
            }
        }
    }

    fn ready(&mut self, id: usize, event: &Event, scratch: &mut [u8]) {
        let capacity = scratch.len();
        let mut reading = event.is_readable();
        while reading {
            let Some(Some(member)) = self.members.get_mut(id) else {
                return;
            };
            match member.stream.read(scratch) {
                Ok(0) => return self.end(id),
                Ok(length) => {
                    let read = scratch.get_mut(..length).unwrap_or_default();
                    self.read(id, read);
                    reading = length == capacity || event.is_read_closed();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => reading = false,
                Err(_) => return self.end(id),
            }
        }
        if !self.will_be_written(id) {
            self.flush(id, &[]);
        }
    }

    /// Whether something will be said in the client's room at the end of the batch: what waits for it goes with that.
    fn will_be_written(&self, id: usize) -> bool {
        let room = self.rooms.of(id).and_then(|room| self.rooms.get(room));
        room.is_some_and(|room| !room.said.is_empty())
    }

    fn read(&mut self, id: usize, bytes: &mut [u8]) {
        let Some(Some(member)) = self.members.get_mut(id) else {
            return;
        };
        if !member.upgraded {
            // The load generator's request comes in one piece, and is right.
            member.upgraded = true;
            member.out.waiting.extend_from_slice(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            );
            return;
        }
        let mut decoder = std::mem::take(&mut member.decoder);
        let fed = decoder.feed(bytes, |piece| match piece {
            Piece::Record(record) => self.hear(id, record),
            Piece::Ping(_) => {}
            Piece::Close => {
                if let Some(Some(member)) = self.members.get_mut(id) {
                    member.closing = true;
                    server_close(&mut member.out.waiting);
                }
            }
        });
        if let Some(Some(member)) = self.members.get_mut(id) {
            member.decoder = decoder;
            member.closing |= fed.is_err();
        }
    }

    fn hear(&mut self, id: usize, record: &[u8]) {
        let Some(Some(member)) = self.members.get_mut(id) else {
            return;
        };
        if !member.greeted {
            member.greeted = true;
            append(&mut member.out.waiting, &[b"{}"]);
            return;
        }
        let Some(call) = call(record) else {
            return;
        };
        let mut result = &b"null"[..];
        if call.target == self.echo.as_bytes() {
            result = call.arguments;
        } else if call.target == self.join.as_bytes() {
            self.rooms.join(id, call.arguments);
        } else if call.target == self.leave.as_bytes() {
            self.rooms.leave(id);
        } else if let Some(room) = self.rooms.of(id) {
            let said = memchr(b',', call.arguments).and_then(|at| call.arguments.get(at + 1..));
            self.say(room, said.unwrap_or_default());
        }
        // The answer comes behind what the call itself has sent.
        if self.writes == Writes::Each {
            let mut answer = std::mem::take(&mut self.spare);
            answer.clear();
            completion(&mut answer, call.id, result);
            self.flush(id, &answer);
            self.spare = answer;
            return;
        }
        let behind = self.will_be_written(id);
        let Some(Some(member)) = self.members.get_mut(id) else {
            return;
        };
        let out = if behind {
            &mut member.out.behind
        } else {
            &mut member.out.waiting
        };
        if out.capacity() == 0 {
            *out = std::mem::take(&mut self.spare);
            out.clear();
        }
        completion(out, call.id, result);
    }

    fn say(&mut self, room: usize, said: &[u8]) {
        let Some(of) = self.rooms.get_mut(room) else {
            return;
        };
        if of.said.is_empty() {
            self.loud.push(room);
        }
        append(
            &mut of.said,
            &[
                br#"{"type":1,"target":""#,
                self.receive.as_bytes(),
                br#"","arguments":["#,
                said,
                b"]}",
            ],
        );
        if self.writes == Writes::Each {
            self.spread(room);
        }
    }

    /// Writes what was said in a room to its members.
    fn spread(&mut self, room: usize) {
        let Some(of) = self.rooms.get_mut(room) else {
            return;
        };
        let mut said = std::mem::take(&mut of.said);
        let mut at = 0;
        while let Some(member) = self.rooms.member(room, at) {
            // Where one has ended, the last one is now.
            if self.flush(member, &said) {
                at += 1;
            }
        }
        said.clear();
        if let Some(of) = self.rooms.get_mut(room) {
            of.said = said;
        }
    }

    fn end_of_batch(&mut self) {
        let mut loud = std::mem::take(&mut self.loud);
        for room in loud.drain(..) {
            self.spread(room);
        }
        self.loud = loud;
    }

    /// Writes what waits for a client and then this, in one call; whether the client is still there.
    fn flush(&mut self, id: usize, more: &[u8]) -> bool {
        let Some(Some(member)) = self.members.get_mut(id) else {
            return false;
        };
        if member.out.write(&mut member.stream, more).is_err() || member.out.len() > MAX_OUT {
            self.end(id);
            return false;
        }
        if member.out.is_empty() {
            let waiting = &mut member.out.waiting;
            if waiting.capacity() > 4096 {
                *waiting = Vec::new();
            } else if waiting.capacity() > 0 && self.rooms.of(id).is_none() {
                self.spare = std::mem::take(waiting);
            }
            if member.closing {
                self.end(id);
                return false;
            }
        }
        true
    }

    fn end(&mut self, id: usize) {
        self.rooms.leave(id);
        if let Some(slot) = self.members.get_mut(id)
            && slot.take().is_some()
        {
            self.free.push(id);
        }
    }
}

/// Takes a call of the load generator apart: `{"type":1,"invocationId":"..","target":"..","arguments":[..]}`.
fn call(record: &[u8]) -> Option<Call<'_>> {
    let rest = record.strip_prefix(br#"{"type":1,"invocationId":""#)?;
    let (id, rest) = rest.split_at_checked(memchr(b'"', rest)?)?;
    let rest = rest.strip_prefix(br#"","target":""#)?;
    let (target, rest) = rest.split_at_checked(memchr(b'"', rest)?)?;
    let arguments = rest
        .strip_prefix(br#"","arguments":["#)?
        .strip_suffix(b"]}")?;
    Some(Call {
        id,
        target,
        arguments,
    })
}

fn completion(out: &mut Vec<u8>, id: &[u8], result: &[u8]) {
    append(
        out,
        &[
            br#"{"type":3,"invocationId":""#,
            id,
            br#"","result":"#,
            result,
            b"}",
        ],
    );
}

/// Appends these parts as one hub message in one frame.
fn append(out: &mut Vec<u8>, parts: &[&[u8]]) {
    server_text(out, parts.iter().map(|part| part.len()).sum::<usize>() + 1);
    for part in parts {
        out.extend_from_slice(part);
    }
    out.push(RECORD_SEPARATOR);
}
