//! Large stacks for all threads of the program.
//!
//! What reads RabbitMQ's frames descends into tables that lie in each other, in a thread of its own and as deep as whoever published a message had them:
//! 26,000 levels fit into a frame, and the usual two megabytes are too little for 2,000. A program whose stack is too small ends at once, and
//! again when it is started and the message comes again.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Where Rust's threads have the size of their stacks from, in bytes.
const VARIABLE: &str = "RUST_MIN_STACK";

/// What a frame's worth of tables needs at most, twice. An unoptimised program needs several times as much. Address space only: what is never used takes no memory.
const WANTED: usize = if cfg!(debug_assertions) {
    512 << 20
} else {
    128 << 20
};

/// Begins the program anew with large stacks, unless it has them. Only before there is any thread: the size is read once.
pub(crate) fn enlarge() {
    let now = env::var(VARIABLE).ok().and_then(|size| size.parse().ok());
    if now.is_some_and(|size: usize| size >= WANTED) {
        return;
    }
    let Ok(program) = env::current_exe() else {
        return;
    };
    // Returns only if it fails; then it has to do with what it has.
    let mut arguments = env::args_os();
    let _ = Command::new(program)
        .arg0(arguments.next().unwrap_or_default())
        .args(arguments)
        .env(VARIABLE, WANTED.to_string())
        .exec();
}
