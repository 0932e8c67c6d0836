//! Hostile rows in the families of the Redis data model: open, walk, read, write, expire, purge.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    sluice_keyspace::fuzzing::rows(bytes);
});
