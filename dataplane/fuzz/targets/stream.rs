//! See `nm_fuzz::stream`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nm_fuzz::stream::run(data));
