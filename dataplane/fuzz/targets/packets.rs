//! See `nm_fuzz::packets`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nm_fuzz::packets::run(data));
