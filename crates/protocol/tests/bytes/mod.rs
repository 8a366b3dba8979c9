//! Bytes as tests write them down.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

/// The bytes that hexadecimal digits stand for; anything between them is ignored.
pub(crate) fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}
