//! Selectors. Lines: of labels, of fields, of labels as an object has them.
#![no_main]

use serde_json::json;
use skiff_fuzz as shared;
use skiff_object::fields::FieldSelector;
use skiff_object::labels::Selector;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some([labels, fields, object]) = shared::lines::<3>(input) else { return };
    let pod = json!({"metadata": {"name": "a", "namespace": "b", "labels": {"app": "web", "tier": "1", "empty": ""}},
        "spec": {"nodeName": "n"}, "status": {"phase": "Running"}});
    let of_pod = pod["metadata"]["labels"].as_object().expect("labels");
    if let Some(selector) = std::str::from_utf8(labels).ok().and_then(|text| Selector::parse(text).ok()) {
        let matches = selector.matches(of_pod);
        assert!(matches || !selector.is_empty(), "who asks for nothing gets all");
    }
    if let Some(selector) = shared::value(object).and_then(|object| Selector::from_label_selector(&object).ok()) {
        assert!(!(selector.is_nothing() && selector.matches(of_pod)));
    }
    let Some(selector) = std::str::from_utf8(fields).ok().and_then(|text| FieldSelector::parse(text).ok()) else {
        return;
    };
    let kind = shared::kind_of(&pod);
    if selector.check(kind).is_ok() && selector.matches(kind, &pod) {
        for field in ["metadata.name", "spec.nodeName"] {
            assert!(selector.exact(field).is_none_or(|value| ["a", "n"].contains(&value)), "{selector:?}");
        }
    }
});
