//! Each directive by example, and the laws of patches.

use super::*;
use crate::kinds::by_kind;
use proptest::prelude::*;
use serde_json::json;

fn strategic(current: Value, patch: Value) -> Value {
    let kind = by_kind("apps/v1", "Deployment").expect("is served");
    apply(kind, &current, PatchKind::Strategic, &patch).expect("is applicable")
}

fn pod_spec(spec: Value) -> Value {
    json!({"spec": {"template": {"spec": spec}}})
}

#[test]
fn lists_merge_by_key() {
    let current = pod_spec(
        json!({"containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}, {"name": "b", "image": "1"}]}),
    );
    let patch = pod_spec(
        json!({"containers": [{"name": "a", "image": "2", "env": [{"name": "Y", "value": "2"}]}, {"name": "c"}]}),
    );
    let expected = pod_spec(
        json!({"containers": [{"name": "a", "image": "2", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]},
        {"name": "b", "image": "1"}, {"name": "c"}]}),
    );
    assert_eq!(strategic(current, patch), expected);
}

#[test]
fn elements_are_deleted_and_replaced() {
    let current = || pod_spec(json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]}));
    let delete = pod_spec(json!({"containers": [{"name": "a", "$patch": "delete"}]}));
    assert_eq!(strategic(current(), delete), pod_spec(json!({"containers": [{"name": "b", "image": "1"}]})));
    let replace = pod_spec(json!({"containers": [{"name": "a", "$patch": "replace", "tty": true}]}));
    assert_eq!(
        strategic(current(), replace)["spec"]["template"]["spec"]["containers"][0],
        json!({"name": "a", "tty": true})
    );
    let replace_all = pod_spec(json!({"containers": [{"$patch": "replace"}, {"name": "c"}]}));
    assert_eq!(strategic(current(), replace_all), pod_spec(json!({"containers": [{"name": "c"}]})));
}

#[test]
fn maps_are_merged_replaced_and_deleted() {
    let current = || json!({"metadata": {"labels": {"a": "1", "b": "2"}, "annotations": {"x": "y"}}});
    assert_eq!(
        strategic(current(), json!({"metadata": {"labels": {"a": null, "c": "3"}}}))["metadata"]["labels"],
        json!({"b": "2", "c": "3"})
    );
    assert_eq!(
        strategic(current(), json!({"metadata": {"labels": {"$patch": "replace", "c": "3"}}}))["metadata"]["labels"],
        json!({"c": "3"})
    );
    assert_eq!(
        strategic(current(), json!({"metadata": {"labels": {"$patch": "delete"}}}))["metadata"]["labels"],
        json!({})
    );
    assert_eq!(
        strategic(current(), json!({"metadata": {"labels": null}}))["metadata"],
        json!({"annotations": {"x": "y"}})
    );
}

#[test]
fn primitives_are_a_set() {
    let current = || json!({"metadata": {"finalizers": ["a", "b"]}});
    assert_eq!(
        strategic(current(), json!({"metadata": {"finalizers": ["b", "c"]}})),
        json!({"metadata": {"finalizers": ["a", "b", "c"]}})
    );
    let patch =
        json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "$setElementOrder/finalizers": ["b"]}});
    assert_eq!(strategic(current(), patch), json!({"metadata": {"finalizers": ["b"]}}));
}

#[test]
fn atomic_lists_are_replaced() {
    let current = pod_spec(json!({"tolerations": [{"key": "a"}]}));
    let patch = pod_spec(json!({"tolerations": [{"key": "b"}]}));
    assert_eq!(strategic(current, patch.clone()), patch);
}

#[test]
fn retained_keys() {
    let current = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    assert_eq!(strategic(current, patch), json!({"spec": {"strategy": {"type": "Recreate"}}}));
    let volumes = |source: Value| pod_spec(json!({"volumes": [source]}));
    let patched = strategic(
        volumes(json!({"name": "v", "emptyDir": {}})),
        volumes(json!({"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/"}})),
    );
    assert_eq!(patched, volumes(json!({"name": "v", "hostPath": {"path": "/"}})));
}

#[test]
fn element_order() {
    let current = pod_spec(json!({"containers": [{"name": "a"}, {"name": "server"}, {"name": "b"}]}));
    let patch = pod_spec(
        json!({"$setElementOrder/containers": [{"name": "c"}, {"name": "b"}, {"name": "a"}], "containers": [{"name": "c"}]}),
    );
    assert_eq!(
        strategic(current, patch),
        pod_spec(json!({"containers": [{"name": "c"}, {"name": "b"}, {"name": "a"}, {"name": "server"}]}))
    );
}

#[test]
fn malformed_patches() {
    let kind = by_kind("v1", "Pod").expect("is served");
    let error = |patch_kind, patch: Value| {
        apply(kind, &json!({"spec": {}}), patch_kind, &patch).expect_err("is malformed").to_string()
    };
    assert_eq!(
        error(PatchKind::Strategic, json!({"spec": {"containers": [{"image": "x"}]}})),
        "map: {\"image\":\"x\"} does not contain declared merge key: name"
    );
    assert_eq!(error(PatchKind::Strategic, json!({"spec": {"$patch": "x"}})), "unknown patch type found: x");
    assert!(error(PatchKind::Json, json!([{"op": "x"}])).starts_with("json patch: "));
    assert!(
        error(PatchKind::Json, json!([{"op": "remove", "path": "/x"}])).starts_with("the server rejected our request")
    );
    let doubling: Vec<Value> = (0..64).map(|i| json!({"op": "copy", "from": "", "path": format!("/x{i}")})).collect();
    assert!(matches!(apply(kind, &json!({}), PatchKind::Json, &doubling.into()), Err(PatchError::TooLarge)));
}

#[test]
fn rfc_patches() {
    let kind = by_kind("v1", "ConfigMap").expect("is served");
    let current = json!({"data": {"a": "1", "b": "2"}});
    assert_eq!(
        apply(kind, &current, PatchKind::Merge, &json!({"data": {"a": null}})).expect("is applicable"),
        json!({"data": {"b": "2"}})
    );
    let patch =
        json!([{"op": "test", "path": "/data/a", "value": "1"}, {"op": "replace", "path": "/data/a", "value": "3"}]);
    assert_eq!(apply(kind, &current, PatchKind::Json, &patch).expect("is applicable")["data"]["a"], "3");
}

fn deployments() -> impl Strategy<Value = Value> {
    let container =
        ("[a-c]", "[x-z]", prop::collection::btree_map("[A-C]", "[0-9]", 0..3)).prop_map(|(name, image, env)| {
            let env: Vec<Value> = env.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
            json!({"name": name, "image": image, "env": env})
        });
    let containers = prop::collection::vec(container, 0..3).prop_map(|mut list| {
        list.sort_by_key(|c| c["name"].to_string());
        list.dedup_by_key(|c| c["name"].to_string());
        list
    });
    let labels = prop::collection::btree_map("[a-c]", "[0-9]", 0..3);
    (containers, labels).prop_map(|(containers, labels)| {
        json!({"metadata": {"labels": labels}, "spec": {"template": {"spec": {"containers": containers}}}})
    })
}

fn any_patch() -> impl Strategy<Value = Value> {
    let names = prop::sample::select(vec![
        "spec",
        "template",
        "containers",
        "name",
        "$patch",
        "$retainKeys",
        "metadata",
        "labels",
        "finalizers",
        "$setElementOrder/containers",
        "$deleteFromPrimitiveList/finalizers",
        "$setElementOrder/finalizers",
        "delete",
        "env",
    ])
    .prop_map(str::to_owned);
    let leaf = prop_oneof![
        Just(Value::Null),
        prop::sample::select(vec!["a", "b", "delete", "replace", "merge"]).prop_map(Value::from),
        any::<i8>().prop_map(Value::from)
    ];
    leaf.prop_recursive(6, 48, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(names.clone(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn the_empty_patch_changes_nothing(object in deployments()) {
        prop_assert_eq!(strategic(object.clone(), json!({})), object);
    }

    #[test]
    fn an_object_is_a_patch_to_itself(object in deployments()) {
        prop_assert_eq!(strategic(object.clone(), object.clone()), object);
    }

    #[test]
    fn patching_twice_is_patching_once(object in deployments(), patch in deployments()) {
        let once = strategic(object, patch.clone());
        prop_assert_eq!(strategic(once.clone(), patch), once);
    }

    #[test]
    fn never_panics(object in deployments(), patch in any_patch()) {
        let kind = by_kind("apps/v1", "Deployment").expect("is served");
        for patch_kind in [PatchKind::Json, PatchKind::Merge, PatchKind::Strategic] {
            let _ = apply(kind, &object, patch_kind, &patch);
        }
        let _ = apply(kind, &patch, PatchKind::Strategic, &object);
    }
}

#[test]
fn what_is_missing_is_null_for_a_test() {
    let test =
        |path: &str| json!([{"op": "test", "path": path, "value": null}, {"op": "add", "path": "/a", "value": [1]}]);
    let patched = super::json(&json!({"b": 1}), &test("/a")).expect("it fits");
    assert_eq!(patched, json!({"b": 1, "a": [1]}));
    assert!(super::json(&json!({"b": 1}), &test("/b")).is_err());
    let other = json!([{"op": "test", "path": "/a", "value": 1}]);
    assert!(super::json(&json!({"b": 1}), &other).is_err());
}
