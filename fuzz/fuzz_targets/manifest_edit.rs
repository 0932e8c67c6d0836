//! Hostile bytes for the decoder of manifest edits.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    sluicedb::fuzzing::manifest_edit(bytes);
});
