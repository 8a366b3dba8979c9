//! What the end-to-end tests are made of: real processes on free ports, and clients that speak to them.
//!
//! Nothing in here waits for a fixed time. Whatever a test waits for has a deadline and a name, and a process that is dropped
//! while a test fails prints the end of its log, so a failure shows both sides.
//!
//! These helpers deliberately share no code with the server: what they know of the wire they know from its specification.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a test helper that meets the unexpected has to fail the test"
)]

pub mod amqp;
pub mod authority;
pub mod bystander;
pub mod client;
pub mod conformance;
pub mod envelope;
pub mod http;
pub mod hubcast;
pub mod nginx;
pub mod ports;
pub mod process;
pub mod rabbitmq;
pub mod redis_server;
pub mod relay;
pub mod socket;
pub mod terminal;
pub mod wait;
pub mod wire;
pub mod worker;

pub use authority::Authority;
pub use bystander::Bystander;
pub use client::{Client, End};
pub use conformance::Conformance;
pub use hubcast::Hubcast;
pub use nginx::Nginx;
pub use rabbitmq::RabbitMq;
pub use redis_server::RedisServer;
pub use relay::Relay;
pub use socket::Socket;
pub use terminal::Terminal;
pub use wire::Wire;
pub use worker::RawWorker;
