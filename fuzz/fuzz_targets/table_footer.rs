//! Hostile bytes for `sluice_table`'s footer decoder.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    sluice_table::fuzzing::footer(bytes);
});
