//! Server-side apply. Lines: the object that is there, with its owners; what is applied; what is applied then.
#![no_main]

use serde_json::Value;
use skiff_fuzz as shared;
use skiff_object::Kind;
use skiff_object::managed::{self, Applied, Managers, Writing};

fn apply(kind: &Kind, manager: &str, live: Option<&Value>, config: &Value, force: bool) -> Option<Value> {
    let writing = Writing { kind, manager, subresource: "", untouched: &[], views: &[], now: "2026-01-01T00:00:00Z" };
    match managed::apply(&writing, live, config, force).ok()? {
        Applied::Object(mut object, managers) => {
            managers.write(&mut object);
            assert!(Managers::read(&object).is_ok(), "what was written is read");
            Some(object)
        }
        Applied::Conflicts(conflicts) => {
            assert!(!force && !conflicts.is_empty(), "who forces has no conflict");
            None
        }
    }
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some([live, first, second]) = shared::lines(input) else { return };
    let kind = shared::kind_of(&shared::value(live).unwrap_or_default());
    let read = |bytes| shared::decoded(kind, bytes);
    let (Some(live), Some(first), Some(second)) = (read(live), read(first), read(second)) else { return };
    // What is stored has some.
    if live.get("metadata").is_none() {
        return;
    }
    let _ = apply(kind, "one", Some(&live), &first, false);
    let Some(applied) = apply(kind, "one", Some(&live), &first, true) else { return };
    let again = apply(kind, "one", Some(&applied), &first, false);
    assert_eq!(again.as_ref(), Some(&applied), "what is applied again changes nothing");
    let _ = apply(kind, "two", Some(&applied), &second, false);
    let _ = apply(kind, "one", Some(&applied), &second, false);
    let writing = Writing { kind, manager: "three", subresource: "", untouched: &[], views: &[], now: "2026-01-01T00:00:00Z" };
    if let Ok(managers) = Managers::read(&applied) {
        let _ = managed::update(&writing, managers, Some(&applied), &second);
    }
});
