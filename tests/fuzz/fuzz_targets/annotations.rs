//! What an Ingress says in its annotations.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| skiff_ingress::fuzzing::annotations(input));
