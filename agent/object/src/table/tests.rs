//! Rows as `kubectl get -o wide` shows them.

use super::*;
use crate::kinds::{built_in, by_kind};
use expect_test::{Expect, expect};
use serde_json::json;

fn now() -> Timestamp {
    "2024-01-01T01:00:00Z".parse().expect("is a time")
}

fn check(api_version: &str, kind: &str, object: Value, expected: Expect) {
    let kind = by_kind(api_version, kind).expect("is served");
    let cells = rows(kind, &object, now());
    let lines = columns(kind).into_iter().zip(cells).map(|(column, cell)| match cell {
        Value::String(text) => format!("{}: {text}", column.name),
        other => format!("{}: {other}", column.name),
    });
    expected.assert_eq(&lines.collect::<Vec<_>>().join(" | "));
}

fn pod(mut status: Value, restart: Value) -> Value {
    if status["phase"].is_null() {
        status["phase"] = "Running".into();
    }
    json!({"metadata": {"name": "p", "creationTimestamp": "2024-01-01T00:00:00Z", "deletionTimestamp": restart},
        "spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}, {"name": "j"}]}, "status": status})
}

fn pod_line(status: Value, deleted: Value) -> String {
    let kind = by_kind("v1", "Pod").expect("is served");
    let cells = rows(kind, &pod(status, deleted), now());
    cells[1..4].iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
}

#[test]
fn pods() {
    let running = json!({"ready": true, "state": {"running": {}}, "restartCount": 0});
    let init_done = json!([{"name": "i", "state": {"terminated": {"exitCode": 0}}}, {"name": "j", "state": {"terminated": {"exitCode": 0}}}]);
    let last = json!({"terminated": {"finishedAt": "2024-01-01T00:55:00Z"}});
    let lines = [
        pod_line(json!({"phase": "Pending"}), json!(null)),
        pod_line(
            json!({"initContainerStatuses": [{"name": "i", "state": {"running": {}}}], "phase": "Pending"}),
            json!(null),
        ),
        pod_line(
            json!({"initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 3}}, "restartCount": 2}], "phase": "Pending"}),
            json!(null),
        ),
        pod_line(json!({"initContainerStatuses": init_done, "containerStatuses": [running, running]}), json!(null)),
        pod_line(
            json!({"containerStatuses": [running, {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "restartCount": 4, "lastState": last}]}),
            json!(null),
        ),
        pod_line(
            json!({"containerStatuses": [running, {"state": {"waiting": {"reason": "ErrImagePull"}}}]}),
            json!("2024-01-01T00:59:00Z"),
        ),
        pod_line(
            json!({"containerStatuses": [{"state": {"terminated": {"reason": "Completed"}}}], "phase": "Succeeded"}),
            json!(null),
        ),
        pod_line(
            json!({"containerStatuses": [{"state": {"terminated": {"exitCode": 137}}}, running], "phase": "Running"}),
            json!(null),
        ),
        pod_line(
            json!({"containerStatuses": [{"state": {"terminated": {"reason": "Completed"}}}, running], "phase": "Running"}),
            json!(null),
        ),
        pod_line(json!({"reason": "Evicted", "phase": "Failed"}), json!(null)),
        pod_line(
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]}),
            json!(null),
        ),
    ];
    expect![[r#"
        0/2 Pending 0
        0/2 Init:0/2 0
        0/2 Init:ExitCode:3 2
        2/2 Running 0
        1/2 CrashLoopBackOff 4 (5m ago)
        1/2 Terminating 0
        0/2 Completed 0
        1/2 ExitCode:137 0
        1/2 NotReady 0
        0/2 Evicted 0
        0/2 SchedulingGated 0"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn workloads() {
    let object = || {
        json!({"metadata": {"name": "d", "creationTimestamp": "2024-01-01T00:00:00Z"},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"a": "b"}}, "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}, "completions": 2, "suspend": false, "schedule": "* * * * *"},
        "status": {"readyReplicas": 1, "updatedReplicas": 2, "startTime": "2024-01-01T00:30:00Z"}})
    };
    check(
        "apps/v1",
        "Deployment",
        object(),
        expect![
            "Name: d | Ready: 1/3 | Up-to-date: 2 | Available: 0 | Age: 60m | Containers: c | Images: i | Selector: a=b"
        ],
    );
    check(
        "apps/v1",
        "ReplicaSet",
        object(),
        expect!["Name: d | Desired: 3 | Current: 0 | Ready: 1 | Age: 60m | Containers: c | Images: i | Selector: a=b"],
    );
    check(
        "apps/v1",
        "DaemonSet",
        object(),
        expect![
            "Name: d | Desired: 0 | Current: 0 | Ready: 0 | Up-to-date: 0 | Available: 0 | Node Selector: <none> | Age: 60m | Containers: c | Images: i | Selector: a=b"
        ],
    );
    check(
        "batch/v1",
        "Job",
        object(),
        expect![
            "Name: d | Status: Running | Completions: 0/2 | Duration: 30m | Age: 60m | Containers: c | Images: i | Selector: a=b"
        ],
    );
    check(
        "batch/v1",
        "CronJob",
        object(),
        expect![
            "Name: d | Schedule: * * * * * | Timezone: <none> | Suspend: False | Active: 0 | Last Schedule: <none> | Age: 60m | Containers:  | Images:  | Selector: <none>"
        ],
    );
    check(
        "autoscaling/v1",
        "HorizontalPodAutoscaler",
        json!({"apiVersion": "autoscaling/v1", "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50, "scaleTargetRef": {"kind": "Deployment", "name": "d"}}}),
        expect![
            "Name:  | Reference: Deployment/d | Targets: cpu: <unknown>/50% | MinPods: <unset> | MaxPods: 3 | Replicas: 0 | Age: <unknown>"
        ],
    );
}

#[test]
fn networking() {
    check(
        "v1",
        "Service",
        json!({"metadata": {"name": "s"}, "spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.1", "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}]}}),
        expect![
            "Name: s | Type: LoadBalancer | Cluster-IP: 10.0.0.1 | External-IP: <pending> | Port(s): 80:30080/TCP | Age: <unknown> | Selector: <none>"
        ],
    );
    check(
        "v1",
        "Endpoints",
        json!({"subsets": [{"addresses": [{"ip": "1.1.1.1"}, {"ip": "1.1.1.2"}], "ports": [{"port": 1}, {"port": 2}]}]}),
        expect!["Name:  | Endpoints: 1.1.1.1:1,1.1.1.1:2,1.1.1.2:1 + 1 more... | Age: <unknown>"],
    );
    check(
        "networking.k8s.io/v1",
        "Ingress",
        json!({"spec": {"rules": [{"host": "a.b"}], "tls": [{}]}, "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}}),
        expect!["Name:  | Class: <none> | Hosts: a.b | Address: 1.2.3.4 | Ports: 80, 443 | Age: <unknown>"],
    );
    check(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        json!({"addressType": "IPv4", "endpoints": [{"addresses": ["1.1.1.1"]}]}),
        expect!["Name:  | AddressType: IPv4 | Ports: <unset> | Endpoints: 1.1.1.1 | Age: <unknown>"],
    );
}

#[test]
fn cluster() {
    check(
        "v1",
        "Node",
        json!({"metadata": {"name": "n", "labels": {"node-role.kubernetes.io/control-plane": ""}}, "spec": {"unschedulable": true},
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "InternalIP", "address": "1.1.1.1"}], "nodeInfo": {"kubeletVersion": "v1"}}}),
        expect![
            "Name: n | Status: Ready,SchedulingDisabled | Roles: control-plane | Age: <unknown> | Version: v1 | Internal-IP: 1.1.1.1 | External-IP: <none> | OS-Image: <unknown> | Kernel-Version: <unknown> | Container-Runtime: <unknown>"
        ],
    );
    check(
        "v1",
        "Event",
        json!({"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "p"}, "reason": "R", "type": "Normal", "message": "m\n", "count": 3, "lastTimestamp": "2024-01-01T00:59:00Z", "firstTimestamp": "2024-01-01T00:00:00Z", "source": {"component": "k", "host": "h"}}),
        expect![
            "Last Seen: 60s | Type: Normal | Reason: R | Object: pod/p | Subobject:  | Source: k, h | Message: m | First Seen: 60m | Count: 3 | Name: e"
        ],
    );
    check(
        "v1",
        "ResourceQuota",
        json!({"status": {"hard": {"pods": "2", "limits.cpu": "1"}, "used": {"pods": "1", "limits.cpu": "0"}}}),
        expect!["Name:  | Request: pods: 1/2 | Limit: limits.cpu: 0/1 | Age: <unknown>"],
    );
    check(
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s", "namespace": "n"}]}),
        expect!["Name:  | Role: Role/r | Age: <unknown> | Users: u | Groups:  | ServiceAccounts: n/s"],
    );
    check(
        "rbac.authorization.k8s.io/v1",
        "Role",
        json!({"metadata": {"name": "r", "creationTimestamp": "2024-01-01T00:00:00Z"}}),
        expect!["Name: r | Created At: 2024-01-01T00:00:00Z"],
    );
}

#[test]
fn storage() {
    check(
        "v1",
        "PersistentVolumeClaim",
        json!({"metadata": {"name": "c"}, "spec": {"volumeName": "v", "storageClassName": "local"}, "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]}}),
        expect![
            "Name: c | Status: Bound | Volume: v | Capacity: 1Gi | Access Modes: RWO | StorageClass: local | VolumeAttributesClass: <unset> | Age: <unknown> | VolumeMode: <unset>"
        ],
    );
    check(
        "storage.k8s.io/v1",
        "StorageClass",
        json!({"metadata": {"name": "l", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}, "provisioner": "p"}),
        expect![
            "Name: l (default) | Provisioner: p | ReclaimPolicy:  | VolumeBindingMode:  | AllowVolumeExpansion: false | Age: <unknown>"
        ],
    );
}

#[test]
fn every_row_has_a_cell_for_each_column() {
    for kind in built_in().kinds() {
        for object in [json!({}), json!({"spec": 1, "status": [], "metadata": "x", "subsets": [1]})] {
            assert_eq!(rows(kind, &object, now()).len(), columns(kind).len(), "{}", kind.kind);
        }
    }
}
