//! A body in JSON, of the kind that it says: read, defaulted, judged, printed and written in protobuf.
#![no_main]

use skiff_fuzz as shared;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let kind = shared::kind_of(&shared::value(input).unwrap_or_default());
    if let Some(object) = shared::decoded(kind, input) {
        shared::walk(kind, &object);
    }
});
