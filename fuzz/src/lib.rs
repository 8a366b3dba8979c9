//! What must be true whatever bytes a stranger sends.
//!
//! Each function takes bytes that somebody made up, gives them to a part of Hubcast, and panics if a promise of that
//! part is broken. `targets/` hands them to libFuzzer; `tests/seeds.rs` replays `seeds/`, where every input that once
//! broke a promise belongs, too.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a panic is the report of a broken promise"
)]

mod anything;
mod bodies;
mod handshake;
mod messages;
mod negotiate;

use std::alloc::System;

use cap::Cap;

pub use bodies::bodies;
pub use handshake::handshake;
pub use messages::{json, messagepack};
pub use negotiate::negotiate;

/// No input here has more than some kilobytes. Whoever believes a length that it declares asks for more than this,
/// and is killed.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, 64 << 20);

/// A promise: it panics if the bytes break it.
pub type Target = fn(&[u8]);

/// Every promise, by the name that its program and its folder of seeds have.
pub const TARGETS: [(&str, Target); 5] = [
    ("handshake", handshake),
    ("json", json),
    ("messagepack", messagepack),
    ("bodies", bodies),
    ("negotiate", negotiate),
];
