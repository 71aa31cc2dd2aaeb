//! See `nm_fuzz::control`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nm_fuzz::control::run(data));
