//! What waits for a client of a raw limit, and how it leaves.

use std::io::{self, ErrorKind, Write};

/// What waits for a client. All that leaves at once lies in one piece: a write of several pieces costs more.
#[derive(Debug, Default)]
pub(crate) struct Out {
    /// What waits for the socket, or for the end of the batch.
    pub(crate) waiting: Vec<u8>,
    /// What comes behind everything that is said in this batch: answers of calls that have said something.
    pub(crate) behind: Vec<u8>,
}

impl Out {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.behind.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + self.behind.len()
    }

    /// Writes what waits, this, and what comes behind it, in one plain write; what the socket does not take waits.
    pub(crate) fn write(&mut self, socket: &mut impl Write, more: &[u8]) -> io::Result<()> {
        let alone = self.is_empty();
        if !alone {
            self.waiting.extend_from_slice(more);
            self.waiting.append(&mut self.behind);
        }
        let all = if alone { more } else { &self.waiting };
        if all.is_empty() {
            return Ok(());
        }
        let written = match socket.write(all) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        if alone {
            let rest = more.get(written..).unwrap_or_default();
            self.waiting.extend_from_slice(rest);
        } else {
            self.waiting.drain(..written);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use super::*;

    /// Takes so many bytes at each write, and counts the writes.
    #[derive(Default)]
    struct Socket {
        takes: Vec<usize>,
        written: Vec<u8>,
        writes: usize,
    }

    impl Write for Socket {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.writes += 1;
            match self.takes.pop() {
                Some(0) => return Err(ErrorKind::WouldBlock.into()),
                Some(length) => {
                    self.written.extend(&bytes[..length]);
                    return Ok(length);
                }
                None => self.written.extend(bytes),
            }
            Ok(bytes.len())
        }

        fn write_vectored(&mut self, _: &[IoSlice<'_>]) -> io::Result<usize> {
            panic!("one piece costs less")
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_message_is_one_plain_write_and_nothing_is_kept_of_it() {
        let (mut out, mut socket) = (Out::default(), Socket::default());
        for _ in 0..3 {
            out.write(&mut socket, b"message").unwrap();
        }
        assert_eq!((socket.writes, socket.written.len()), (3, 21));
        assert_eq!(out.waiting.capacity() + out.behind.capacity(), 0);
        out.write(&mut socket, b"").unwrap();
        assert_eq!(socket.writes, 3, "nothing is not written");
    }

    #[test]
    fn what_waits_what_is_said_and_what_comes_behind_it_leave_in_this_order_at_once() {
        let (mut out, mut socket) = (Out::default(), Socket::default());
        out.waiting.extend(b"one ");
        out.behind.extend(b" three");
        out.write(&mut socket, b"two").unwrap();
        assert_eq!(socket.writes, 1);
        assert_eq!(socket.written, b"one two three");
        assert!(out.is_empty());
    }

    #[test]
    fn what_a_socket_does_not_take_comes_before_what_is_said_next() {
        let (mut out, mut socket) = (Out::default(), Socket::default());
        socket.takes = vec![5, 0, 3];
        out.write(&mut socket, b"first ").unwrap();
        assert_eq!(out.len(), 3);
        out.write(&mut socket, b"second ").unwrap();
        assert_eq!(out.len(), 10);
        out.write(&mut socket, b"").unwrap();
        out.behind.extend(b"third");
        out.write(&mut socket, b"").unwrap();
        assert_eq!(socket.written, b"first second third");
        assert_eq!(socket.writes, 4);
        assert!(out.is_empty());
    }
}
