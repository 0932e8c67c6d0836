//! Hostile bytes for the decoder of log segments.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    sluice_wal::fuzzing::frame(bytes);
});
