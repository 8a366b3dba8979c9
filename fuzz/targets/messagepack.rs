//! [`hubcast_fuzz::messagepack`] under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| hubcast_fuzz::messagepack(input));
