//! Bytes that nobody can guess.

/// Random bytes from the operating system.
///
/// # Panics
///
/// When the operating system has none. That cannot be caused from outside, and nothing that is secret could be
/// made from then on.
#[expect(
    clippy::expect_used,
    reason = "there is no safe way to go on without randomness"
)]
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}
