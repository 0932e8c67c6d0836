//! Hostile bytes as a whole log of several segments: replay, repair, replay again.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    sluice_wal::fuzzing::segments(bytes);
});
