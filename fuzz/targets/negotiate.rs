//! [`hubcast_fuzz::negotiate`] under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| hubcast_fuzz::negotiate(input));
