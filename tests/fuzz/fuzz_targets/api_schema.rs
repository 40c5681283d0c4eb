//! A custom kind and an object of it. Lines: the schema, the object, the one before.
#![no_main]

use serde_json::{Value, json};
use skiff_fuzz as shared;
use skiff_object::custom::{definition, names};
use skiff_object::{kinds, validate};

fn definition(schema: Value) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.org"},
        "spec": {"group": "example.org", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "subresources": {"status": {}}, "schema": {"openAPIV3Schema": schema}}]}})
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some([schema, object, old]) = shared::lines(input) else { return };
    let Some(schema) = shared::value(schema) else { return };
    let of_definitions =
        kinds::by_kind("apiextensions.k8s.io/v1", "CustomResourceDefinition").expect("a built-in kind");
    let Some(mut crd) = shared::decoded(of_definitions, definition(schema).to_string().as_bytes()) else { return };
    definition::set_defaults(&mut crd);
    if !validate::create(of_definitions, &crd).is_empty() {
        return;
    }
    let decided = names::decide(std::slice::from_ref(&crd), kinds::built_in(), "2026-01-01T00:00:00Z");
    let kind = definition::kinds(&crd, decided[0].accepted()).pop().expect("one is served");
    let Some(object) = shared::decoded(&kind, object) else { return };
    shared::walk(&kind, &object);
    if let Some(old) = shared::decoded(&kind, old) {
        let _ = validate::update(&kind, &object, &old);
    }
});
