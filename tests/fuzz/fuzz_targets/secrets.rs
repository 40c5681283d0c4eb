//! What users put into Secrets: certificates, keys, password files.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| skiff_ingress::fuzzing::secrets(input));
