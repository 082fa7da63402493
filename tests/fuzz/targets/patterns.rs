//! See `src/patterns.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fairlead_fuzz::patterns(bytes));
