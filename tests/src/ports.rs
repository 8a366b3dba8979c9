//! Free ports for programs that cannot be told "any port" and then say which one they took.

use std::net::{Ipv4Addr, TcpListener};
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range from which systems take the ports of outgoing connections. A port up there could be taken by any client
/// while a stopped Redis is meant to come back to it; worse, who keeps knocking at such a port may one day get connected to
/// itself and hold it.
const RANGE: std::ops::Range<u16> = 20_000..30_000;

/// A loopback port that nobody listens on and that no other caller in this process is given.
///
/// Another process may still take it first: whoever starts a program on it has to be ready to try again with another one.
/// A server of ours needs none of this: it takes port 0 and says which one it got.
pub fn free_port() -> u16 {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let length = RANGE.end - RANGE.start;
    // Test programs that run at the same time begin at different places.
    let first = u16::try_from(process::id() % u32::from(length)).expect("smaller than a u16");
    for _ in RANGE {
        let offset = (u32::from(first) * 7 + u32::from(TAKEN.fetch_add(1, Ordering::Relaxed)))
            % u32::from(length);
        let port = RANGE.start + u16::try_from(offset).expect("smaller than a u16");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port in {RANGE:?}")
}
