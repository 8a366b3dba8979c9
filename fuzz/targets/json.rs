//! [`hubcast_fuzz::json`] under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| hubcast_fuzz::json(input));
