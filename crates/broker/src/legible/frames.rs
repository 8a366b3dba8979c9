//! Frames of AMQP 0-9-1 (section 4.2.3): a type, a channel, a length, so many bytes, and 0xCE. No I/O.

use std::io;

use super::content::legible;
use super::rest::Rest;

/// The types of frames that are looked into.
const METHOD: u8 = 1;
const HEADER: u8 = 2;

/// What stands before the bytes of a frame, and the one behind them.
const BEFORE: usize = 7;
const END: u8 = 0xCE;

/// The longest frame that is looked into, in bytes. RabbitMQ's have 128 KiB, unless it is told otherwise.
const LONGEST: usize = 16 * 1024 * 1024;

/// What stands in a method.
#[derive(Clone, Copy)]
enum Field {
    /// So many bytes that can be anything.
    Bytes(usize),
    /// A length in one byte, and so many bytes of UTF-8.
    Text,
}

/// What comes from RabbitMQ, frame by frame.
#[derive(Debug)]
pub(crate) struct Frames {
    /// The beginning of a frame, as far as it is here.
    begun: Vec<u8>,
    /// How many bytes are still to come of a frame that is not looked into.
    to_pass: usize,
    /// How many bytes a frame may have.
    frame_max: u32,
}

impl Frames {
    /// Frames that have so many bytes at most if they are to be taken, with what is around them; 0 says nothing about it. What RabbitMQ says counts, too.
    pub(crate) fn new(frame_max: u32) -> Self {
        Self {
            begun: Vec::new(),
            to_pass: 0,
            frame_max: at_most(frame_max),
        }
    }

    /// Takes what has come, and adds to `out` what can be read of it. Fails if a frame is too long to be looked into.
    pub(crate) fn pass(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        while !bytes.is_empty() {
            let is_passed = self.to_pass > 0;
            let wanted = if is_passed {
                self.to_pass
            } else {
                self.missing()
            };
            let (now, later) = bytes.split_at(wanted.min(bytes.len()));
            bytes = later;
            if is_passed {
                self.to_pass -= now.len();
                out.extend_from_slice(now);
            } else {
                self.begun.extend_from_slice(now);
                self.look(out)?;
            }
        }
        Ok(())
    }

    /// How many bytes have to come before anything can be said of what has begun.
    fn missing(&self) -> usize {
        let whole = length(&self.begun).map_or(BEFORE, |length| BEFORE + length + 1);
        whole - self.begun.len()
    }

    fn look(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let (Some(&kind), Some(length)) = (self.begun.first(), length(&self.begun)) else {
            return Ok(());
        };
        match kind {
            METHOD | HEADER if length > LONGEST => {
                let text = format!("a frame of {length} bytes: {LONGEST} is the most");
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            METHOD | HEADER if self.missing() > 0 => return Ok(()),
            METHOD => self.look_into_method(),
            HEADER => self.look_into_header(),
            // `AMQP` and a version that is not ours, behind which nothing comes.
            b'A' => self.to_pass = usize::MAX,
            _ => self.to_pass = length + 1,
        }
        out.append(&mut self.begun);
        // What was large need not be kept.
        self.begun.shrink_to(BEFORE);
        Ok(())
    }

    fn look_into_method(&mut self) {
        let Some((identity, arguments)) = self
            .begun
            .get_mut(BEFORE..)
            .and_then(|method| method.split_at_mut_checked(4))
        else {
            return;
        };
        let [0, class, 0, method] = *identity else {
            return;
        };
        let fields: &[Field] = match (class, method) {
            // `connection.tune`: how long frames may be.
            (10, 30) => {
                let mut rest = Rest(arguments);
                if let (Some(_), Some(frame_max)) = (rest.take(2), rest.long()) {
                    self.frame_max = self.frame_max.min(at_most(frame_max));
                }
                return;
            }
            // `connection.close` and `channel.close`: why, cut by RabbitMQ in the middle of a character if it is long.
            (10, 50) | (20, 40) => &[Field::Bytes(2), Field::Text],
            // `connection.blocked`, and why.
            (10, 60) => &[Field::Text],
            // `basic.return`, `basic.deliver` and `basic.get-ok`: where a message was published to.
            (60, 50) => &[Field::Bytes(2), Field::Text, Field::Text, Field::Text],
            (60, 60) => &[Field::Text, Field::Bytes(9), Field::Text, Field::Text],
            (60, 71) => &[Field::Bytes(9), Field::Text, Field::Text],
            _ => return,
        };
        mend(arguments, fields);
    }

    fn look_into_header(&mut self) {
        let content = self.begun.get(BEFORE..self.begun.len() - 1);
        let frame_max = usize::try_from(self.frame_max).unwrap_or(usize::MAX);
        let mended = content.and_then(|content| legible(content, frame_max));
        if let Some(content) = mended
            && let Ok(length) = u32::try_from(content.len())
        {
            self.begun.truncate(3);
            self.begun.extend(length.to_be_bytes());
            self.begun.extend(content);
            self.begun.push(END);
        }
    }
}

/// A limit as AMQP writes it, where 0 is none.
fn at_most(frame_max: u32) -> u32 {
    if frame_max == 0 { u32::MAX } else { frame_max }
}

/// How long the bytes of a frame are, if that is known.
fn length(frame: &[u8]) -> Option<usize> {
    let mut rest = Rest(frame);
    rest.take(3)?;
    usize::try_from(rest.long()?).ok()
}

/// Replaces what cannot be read in texts. They keep their lengths.
fn mend(mut arguments: &mut [u8], fields: &[Field]) {
    for field in fields {
        let length = match (field, arguments.first()) {
            (Field::Bytes(length), _) => *length,
            (Field::Text, Some(&length)) => 1 + usize::from(length),
            (Field::Text, None) => return,
        };
        let Some((field_bytes, rest)) = std::mem::take(&mut arguments).split_at_mut_checked(length)
        else {
            return;
        };
        arguments = rest;
        if let (Field::Text, Some((_, text))) = (field, field_bytes.split_first_mut()) {
            mend_text(text);
        }
    }
}

fn mend_text(mut text: &mut [u8]) {
    while let Err(error) = str::from_utf8(text) {
        let (_, rest) = text.split_at_mut(error.valid_up_to());
        // Without a length it is the beginning of a character, and the end of the text.
        let length = error.error_len().unwrap_or(rest.len());
        let (illegible, rest) = rest.split_at_mut(length);
        illegible.fill(b'?');
        text = rest;
    }
}
