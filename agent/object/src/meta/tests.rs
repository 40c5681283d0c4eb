//! Accessors on whole, empty and malformed objects.

use super::*;
use serde_json::json;

#[test]
fn reads_what_is_there() {
    let object = json!({"metadata": {"name": "a", "namespace": "n", "uid": "u", "generation": 3,
        "labels": {"x": "y"}, "finalizers": ["f"],
        "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "1", "controller": true}]}});
    assert_eq!((name(&object), namespace(&object), uid(&object), generation(&object)), ("a", Some("n"), "u", 3));
    assert_eq!(label(&object, "x"), Some("y"));
    assert_eq!(finalizers(&object).collect::<Vec<_>>(), ["f"]);
    assert_eq!(controller(&object).map(|o| o.name), Some("p"));
}

#[test]
fn survives_what_is_not() {
    for object in
        [json!(null), json!([]), json!({"metadata": 3}), json!({"metadata": {"labels": 1, "ownerReferences": [3]}})]
    {
        assert_eq!(name(&object), "");
        assert_eq!(namespace(&object), None);
        assert!(labels(&object).is_none());
        assert!(controller(&object).is_none());
        let mut object = object;
        set(&mut object, "name", "a");
        assert_eq!(name(&object), "a");
    }
}
