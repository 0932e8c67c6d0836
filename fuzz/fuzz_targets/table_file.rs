//! Hostile bytes as a whole table: open, scans, gets, verification.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    sluice_table::fuzzing::file(bytes);
});
