//! See `src/grants.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fairlead_fuzz::grants(bytes));
