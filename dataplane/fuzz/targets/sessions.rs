//! See `nm_fuzz::sessions`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nm_fuzz::sessions::run(data));
