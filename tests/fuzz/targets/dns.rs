//! See `src/dns.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fairlead_fuzz::dns(bytes));
