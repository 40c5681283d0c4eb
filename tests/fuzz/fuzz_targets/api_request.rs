//! The first line of a request to the API: what it is about is one object or one collection, and nobody else's.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| skiff_apiserver::fuzzing::request(input));
