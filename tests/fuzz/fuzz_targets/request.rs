//! The head of a request: what is refused, and that what passes is unambiguous.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| skiff_ingress::fuzzing::request(input));
