//! The path of a request: what is forwarded is read again as the same, and has nothing that is resolved on the way.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| skiff_ingress::fuzzing::path(input));
