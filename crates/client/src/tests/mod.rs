//! The client against a server that says exactly what a test tells it to, in memory, with a paused clock.

mod any_bytes;
mod calls;
mod handling;
mod life;
mod reconnects;
mod server;
mod strangers;
mod streams;
