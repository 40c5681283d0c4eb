//! A body in YAML.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| skiff_apiserver::fuzzing::yaml(input));
