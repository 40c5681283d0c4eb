//! The header of a load balancer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| skiff_ingress::fuzzing::proxy_protocol(input));
