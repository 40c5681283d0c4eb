//! What is filled in, and each way to be outside of a range in upstream's words.

use serde_json::{Value, json};

use super::*;

fn range(items: Value) -> Value {
    json!({"spec": {"limits": items}})
}

fn pod(resources: Value) -> Value {
    json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "resources": resources}]}})
}

fn filled_in(items: Value, mut pod: Value) -> (Value, String) {
    fill_in(&range(items), &mut pod);
    let said = meta::annotation(&pod, ANNOTATION).unwrap_or_default().to_owned();
    (pod["spec"].clone(), said)
}

fn check(items: Value, resources: Value, expected: &[&str]) {
    assert_eq!(check_pod(&range(items.clone()), &pod(resources.clone())), expected, "{items} {resources}");
}

#[test]
fn what_is_missing_is_filled_in() {
    let defaults = json!([{"type": "Container", "default": {"memory": "1Gi", "cpu": "1"}, "defaultRequest": {"cpu": "100m"}},
        {"type": "Pod", "default": {"cpu": "7"}}]);
    let (spec, said) = filled_in(defaults.clone(), pod(json!({})));
    assert_eq!(
        spec["containers"][0]["resources"],
        json!({"limits": {"memory": "1Gi", "cpu": "1"}, "requests": {"cpu": "100m"}})
    );
    assert_eq!(said, "LimitRanger plugin set: cpu request for container c; cpu, memory limit for container c");
    let own = json!({"limits": {"cpu": "2", "memory": "1Mi"}, "requests": {"cpu": "0"}});
    assert_eq!(filled_in(defaults.clone(), pod(own.clone())), (pod(own)["spec"].clone(), String::new()));
    let mut two = pod(json!({"limits": {"cpu": "2", "memory": null}, "requests": {"cpu": "1"}}));
    two["spec"]["initContainers"] = json!([{"name": "i"}]);
    let (spec, said) = filled_in(defaults, two);
    assert_eq!(spec["containers"][0]["resources"]["limits"], json!({"cpu": "2", "memory": "1Gi"}));
    assert_eq!(
        said,
        "LimitRanger plugin set: memory limit for container c; cpu request for init container i; cpu, memory limit for init container i"
    );
    assert_eq!(filled_in(json!("odd"), Value::Null).0, Value::Null);
}

#[test]
fn containers_are_held_within_bounds() {
    let min = json!([{"type": "Container", "min": {"cpu": "100m"}}]);
    check(min.clone(), json!({}), &["minimum cpu usage per Container is 100m.  No request is specified"]);
    check(
        min.clone(),
        json!({"requests": {"cpu": "0.05"}}),
        &["minimum cpu usage per Container is 100m, but request is 50m"],
    );
    check(
        min.clone(),
        json!({"requests": {"cpu": "1"}, "limits": {"cpu": "50m"}}),
        &["minimum cpu usage per Container is 100m, but limit is 50m"],
    );
    check(min, json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "1"}}), &[]);
    let max = json!([{"type": "Container", "max": {"cpu": "1", "memory": "1Gi"}}]);
    check(
        max.clone(),
        json!({"limits": {"cpu": "2"}}),
        &[
            "maximum cpu usage per Container is 1, but limit is 2",
            "maximum memory usage per Container is 1Gi.  No limit is specified",
        ],
    );
    check(
        max.clone(),
        json!({"requests": {"cpu": "1500m"}, "limits": {"cpu": "1", "memory": "1Gi"}}),
        &["maximum cpu usage per Container is 1, but request is 1500m"],
    );
    check(max, json!({"limits": {"cpu": "1000m", "memory": "1024Mi"}}), &[]);
}

#[test]
fn limits_are_held_near_requests() {
    let ratio = json!([{"type": "Container", "maxLimitRequestRatio": {"cpu": "11"}}]);
    check(
        ratio.clone(),
        json!({"limits": {"cpu": "1"}}),
        &["cpu max limit to request ratio per Container is 11, but no request is specified or request is 0"],
    );
    check(
        ratio.clone(),
        json!({"requests": {"cpu": "1"}}),
        &["cpu max limit to request ratio per Container is 11, but no limit is specified or limit is 0"],
    );
    check(ratio.clone(), json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "1.1"}}), &[]);
    check(
        ratio,
        json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "1.15"}}),
        &["cpu max limit to request ratio per Container is 11, but provided ratio is 11.500000"],
    );
}

#[test]
fn a_pod_counts_as_a_whole() {
    let items = json!([{"type": "Pod", "min": {"memory": "1Gi"}, "max": {"cpu": "1"}}]);
    let mut pod = pod(json!({"requests": {"memory": "512Mi"}, "limits": {"cpu": "600m"}}));
    assert_eq!(check_pod(&range(items.clone()), &pod), ["minimum memory usage per Pod is 1Gi, but request is 512Mi"]);
    let container = pod["spec"]["containers"][0].clone();
    pod["spec"]["containers"].as_array_mut().expect("a list").push(container);
    assert_eq!(check_pod(&range(items.clone()), &pod), ["maximum cpu usage per Pod is 1, but limit is 1200m"]);
    pod["spec"]["containers"].as_array_mut().expect("a list").pop();
    pod["spec"]["initContainers"] = json!([{"resources": {"requests": {"memory": "1Gi"}, "limits": {"cpu": "2"}}}]);
    assert_eq!(check_pod(&range(items), &pod), ["maximum cpu usage per Pod is 1, but limit is 2"]);
    assert!(check_pod(&Value::Null, &Value::Null).is_empty());
}

#[test]
fn claims_are_held_within_bounds() {
    let items = json!([{"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "5Gi"}},
        {"type": "Container", "max": {"storage": "1"}}]);
    let check = |storage: Value, expected: &[&str]| {
        let claim = json!({"spec": {"resources": {"requests": {"storage": storage}}}});
        assert_eq!(check_claim(&range(items.clone()), &claim), expected);
    };
    check(json!("1Gi"), &[]);
    check(json!("5Gi"), &[]);
    check(json!("512Mi"), &["minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 512Mi"]);
    check(json!("6Gi"), &["maximum storage usage per PersistentVolumeClaim is 5Gi, but request is 6Gi"]);
    check(
        Value::Null,
        &[
            "minimum storage usage per PersistentVolumeClaim is 1Gi.  No request is specified",
            "maximum storage usage per PersistentVolumeClaim is 5Gi.  No request is specified",
        ],
    );
}
