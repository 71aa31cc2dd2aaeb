//! See `nm_fuzz::max`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nm_fuzz::max::run(data));
