//! Hostile bytes as a directory's manifest, CURRENT and log: read, and a database opened on them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    sluicedb::fuzzing::manifest_file(bytes);
});
