//! What RabbitMQ passes on from others, made so that lapin can read it. No I/O.
//!
//! Whoever publishes writes things beside the message that RabbitMQ hands on as they are, and over which lapin gives the connection up, every time the message comes: headers that
//! fill a frame, texts that are no UTF-8, and tables that lie so deep in each other that a stack ends. So one message would stop a queue. Here it loses what cannot be read, and comes.
//!
//! RabbitMQ itself cuts long texts in the middle of characters when it tells why it closes something. They are mended, so that whoever asked hears why.

mod content;
mod frames;
mod rest;
#[cfg(test)]
mod tests;

pub(crate) use self::content::MARK;
pub(crate) use self::frames::Frames;
