//! The whole hub on an in-memory pipe: hub messages in, hub messages out, no network, a paused clock.

mod backplane;
mod backplane_pitfalls;
mod client;
mod client_results;
mod connections;
mod invocations;
mod scene;
mod servers;
mod sockets;
mod stateful;
mod strangers;
mod stream_hub;
mod streams;
mod surroundings;
mod uploads;
mod users;
