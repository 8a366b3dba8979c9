//! How the suite's table was measured, in words.

use std::thread::available_parallelism;

use nix::sys::utsname::uname;

use crate::args::Suite;
use crate::process::tick;

/// Paragraphs of Markdown.
pub(crate) fn describe(suite: &Suite) -> String {
    let rounds = match suite.rounds {
        1 => "One round".to_owned(),
        count => format!("{count} rounds"),
    };
    format!(
        "{rounds} of {} s after {} s of warming up; idle connections have one. Every row has a server of its own, `hubcast serve`, and in each \
         round the server and the raw limits that it is compared with are measured in turn, over WebSockets, in JSON, without TLS, on the loopback, by a load \
         generator on the same processors. Shown are medians, and the lowest and the highest in parentheses. A ratio to a limit is of the same round; one to \
         another row is of rounds of the same number, which were not at the same time. Every message was counted and compared: with what was sent, \
         with the order in which others in its room on the same server saw it, and with the answer to its call.\n\
         \n\
         The raw limits are servers by hand that only move the same bytes: *one write* writes every message by itself, *coalesced* everything that waits for \
         a connection at once. Processor time, user and system, is that of the servers alone, all of them together, without Redis, per million calls, \
         deliveries or connections; it is counted in ticks of {:.0} ms.\n\
         \n\
         *Per second* is how many of those the server managed, not what it could with more processors. *Generator* is the processor time of the load \
         generator as a ratio to the server's: near one and above, it is the generator that decides how much is done, as it does beside the coalesced limit, \
         which needs far less than whoever counts what it sends. Then processor time per message still compares; throughput does not.\n\
         \n\
         {}.\n",
        suite.seconds,
        suite.warm_up,
        tick() * 1e3,
        machine()
    )
}

/// The system, its processors and this program.
pub(crate) fn machine() -> String {
    let kernel = match uname() {
        Ok(name) => format!(
            "{} {}",
            name.sysname().to_string_lossy(),
            name.release().to_string_lossy()
        ),
        Err(_) => "An unknown kernel".to_owned(),
    };
    let processors = match available_parallelism() {
        Ok(count) if count.get() == 1 => "1 processor".to_owned(),
        Ok(count) => format!("{count} processors"),
        Err(_) => "an unknown number of processors".to_owned(),
    };
    let build = if cfg!(debug_assertions) {
        ", built for debugging"
    } else {
        ""
    };
    format!(
        "{kernel}, {processors}, hubcast {}{build}",
        env!("CARGO_PKG_VERSION")
    )
}
