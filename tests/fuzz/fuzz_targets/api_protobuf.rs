//! A body in protobuf; the first byte is the number of its kind.
#![no_main]

use skiff_fuzz as shared;
use skiff_object::protobuf;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((first, body)) = input.split_first() else { return };
    let kind = shared::kind_at(*first);
    let Ok(object) = protobuf::decode(kind, body) else { return };
    if let Some(object) = shared::decoded(kind, object.to_string().as_bytes()) {
        shared::walk(kind, &object);
    }
});
