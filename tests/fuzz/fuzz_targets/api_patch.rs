//! A patch of an object. Lines: which patch, the object, the patch.
#![no_main]

use skiff_fuzz as shared;
use skiff_object::decode::{self, FieldValidation};
use skiff_object::patch::{self, PatchKind};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some([which, object, patch]) = shared::lines(input) else { return };
    let patch_kind = match which {
        b"json" => PatchKind::Json,
        b"merge" => PatchKind::Merge,
        b"strategic" => PatchKind::Strategic,
        _ => return,
    };
    let kind = shared::kind_of(&shared::value(object).unwrap_or_default());
    let (Some(object), Some(patch)) = (shared::decoded(kind, object), shared::value(patch)) else { return };
    let Ok(patched) = patch::apply(kind, &object, patch_kind, &patch) else { return };
    if patch_kind == PatchKind::Merge {
        let again = patch::apply(kind, &patched, patch_kind, &patch);
        assert_eq!(again.ok().as_ref(), Some(&patched), "a merge patch says how it is to be");
    }
    if let Ok(read) = decode::decode_value(kind, patched, FieldValidation::Warn) {
        shared::walk(kind, &read.value);
    }
});
