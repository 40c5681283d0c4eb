//! Objects as the charts of well-known programs ship them: nothing may be said of them.

use super::*;
use crate::decode::{FieldValidation, decode_value};

/// Two specs of pods, `agent` and `server`, and a list of other objects.
const SHIPPED: &str = include_str!("applications.json");

fn shipped() -> Value {
    serde_json::from_str(SHIPPED).expect("JSON")
}

fn accepted(objects: &[Value]) {
    for object in objects {
        let text = |key: &str| object[key].as_str().unwrap_or_default();
        let kind = kind(text("apiVersion"), text("kind"));
        let read = decode_value(kind, object.clone(), FieldValidation::Strict).expect("well-formed").value;
        let mut object = whole(kind, read);
        assert_eq!(show(create(kind, &object)), "", "{object}");
        assert_eq!(show(update(kind, &object, &object)), "", "{object}");
        let defaulted = object.clone();
        default::apply(kind, &mut object);
        assert_eq!(object, defaulted, "defaults stay");
    }
}

/// A workload around the spec of a pod.
fn around(kind: &str, pod: &Value, more: Value) -> Value {
    let labels = json!({"app.kubernetes.io/name": "x"});
    let base = json!({
        "apiVersion": "apps/v1",
        "kind": kind,
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
    });
    with(base, json!({"spec": more}))
}

#[test]
fn agents_on_each_node() {
    let agent = &shipped()["agent"];
    let rolling = |how: Value| json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": how}});
    accepted(&[
        around("DaemonSet", agent, with(rolling(json!({"maxUnavailable": "10%"})), json!({"revisionHistoryLimit": 0}))),
        around("DaemonSet", agent, rolling(json!({"maxSurge": 0, "maxUnavailable": 2}))),
        around("DaemonSet", agent, json!({"updateStrategy": {"type": "OnDelete"}, "minReadySeconds": 5})),
    ]);
}

#[test]
fn servers() {
    let server = &shipped()["server"];
    let claim = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "8Gi"}}},
        "status": {"phase": "Pending"},
    });
    let placed = json!({
        "nodeName": "n", "priority": 0, "preemptionPolicy": "PreemptLowerPriority",
        "hostname": "a", "subdomain": "b", "setHostnameAsFQDN": true,
    });
    accepted(&[
        around("Deployment", server, json!({"replicas": 0, "strategy": {"type": "Recreate"}})),
        around("Deployment", server, json!({"paused": true, "progressDeadlineSeconds": i32::MAX})),
        around("Deployment", server, json!({"strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}}})),
        around("ReplicaSet", server, json!({"minReadySeconds": 1})),
        around(
            "StatefulSet",
            server,
            json!({
                "serviceName": "db-headless", "podManagementPolicy": "Parallel", "ordinals": {"start": 1},
                "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Retain"},
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}},
                "volumeClaimTemplates": [claim],
            }),
        ),
        json!({"apiVersion": "v1", "kind": "Pod", "spec": with(server.clone(), placed)}),
    ]);
}

#[test]
fn what_stands_around_servers() {
    accepted(shipped()["others"].as_array().expect("list"));
}
