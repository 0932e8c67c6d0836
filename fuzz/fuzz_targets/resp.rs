//! Hostile bytes for the parser of requests.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    sluice_resp::fuzzing::requests(bytes);
});
