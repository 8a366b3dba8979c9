//! The whole hub on an in-memory pipe: hub messages in, hub messages out, no network, a paused clock.

mod client;
mod connections;
mod invocations;
mod servers;
mod streams;
mod surroundings;
