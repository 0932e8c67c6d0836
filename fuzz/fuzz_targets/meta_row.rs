//! Hostile bytes for the decoder of the Redis layer's meta rows.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    sluice_keyspace::fuzzing::meta_row(bytes);
});
