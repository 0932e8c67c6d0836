//! Hostile text: configuration files, command lines, values, patterns, and commands run on data.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    sluice_server::fuzzing::text(bytes);
});
