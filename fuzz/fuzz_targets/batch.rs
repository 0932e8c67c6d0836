//! Hostile bytes for the decoder of batch payloads.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    sluicedb::fuzzing::batch(bytes);
});
