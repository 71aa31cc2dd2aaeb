//! See `nm_fuzz::ring`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nm_fuzz::ring::run(data));
