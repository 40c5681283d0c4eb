//! Messages as upstream's API server gives them, and objects that must pass.

mod applications;
mod configuration;
mod events;
mod jobs;
mod networks;
mod pods;
mod security;
mod services;
mod storage;
mod updates;
mod volumes;
mod workloads;

use super::*;
use crate::kinds::{built_in, by_kind};
use crate::{default, meta};
use expect_test::{Expect, expect};
use serde_json::json;

fn kind(api_version: &str, name: &str) -> &'static Kind {
    by_kind(api_version, name).expect("is served")
}

fn whole(kind: &Kind, mut object: Value) -> Value {
    if object["metadata"]["name"].is_null() && object["metadata"]["generateName"].is_null() {
        meta::set(&mut object, "name", "a");
    }
    if kind.namespaced() && object["metadata"]["namespace"].is_null() {
        meta::set(&mut object, "namespace", "default");
    }
    default::apply(kind, &mut object);
    object
}

fn show(errors: Vec<FieldError>) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn check(api_version: &str, name: &str, object: Value, expected: Expect) {
    let kind = kind(api_version, name);
    expected.assert_eq(&show(create(kind, &whole(kind, object))));
}

fn check_update(api_version: &str, name: &str, old: Value, new: Value, expected: Expect) {
    let kind = kind(api_version, name);
    expected.assert_eq(&show(changed(kind, new, old)));
}

/// What is wrong with a change, as a write makes it.
fn changed(kind: &Kind, new: Value, old: Value) -> Vec<FieldError> {
    let (mut new, old) = (whole(kind, new), whole(kind, old));
    crate::default::drop_outdated(kind, &mut new, &old);
    update(kind, &new, &old)
}

/// What is said of each of some objects, a line an error; nothing is said of those that are right.
fn table(api_version: &str, name: &str, rows: &[(Value, &str)]) {
    let kind = kind(api_version, name);
    let differ = rows.iter().filter_map(|(object, expected)| {
        let said = show(create(kind, &whole(kind, object.clone())));
        (said != *expected).then(|| format!("{object}\n  said:     {said}\n  expected: {expected}\n"))
    });
    let differ: Vec<String> = differ.collect();
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

/// What is said of each of some changes, of the first object into the second.
fn update_table(api_version: &str, name: &str, rows: &[(Value, Value, &str)]) {
    let kind = kind(api_version, name);
    let differ = rows.iter().filter_map(|(old, new, expected)| {
        let said = show(changed(kind, new.clone(), old.clone()));
        (said != *expected).then(|| format!("{old}\n{new}\n  said:     {said}\n  expected: {expected}\n"))
    });
    let differ: Vec<String> = differ.collect();
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

/// An object with more in it.
fn with(mut base: Value, more: Value) -> Value {
    json_patch::merge(&mut base, &more);
    base
}

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "a", "image": "x"}]}})
}

fn pod(spec: Value) -> Value {
    json!({"spec": spec})
}

fn one_container(container: Value) -> Value {
    let mut whole = json!({"name": "a", "image": "x"});
    json_patch::merge(&mut whole, &container);
    pod(json!({"containers": [whole]}))
}

#[test]
fn metadata_of_all_kinds() {
    check(
        "v1",
        "ConfigMap",
        json!({"metadata": {"name": "A_b", "labels": {"a b": "-"}, "finalizers": ["x"], "ownerReferences": [{"apiVersion": "v1"}]}}),
        expect![[r#"
        metadata.name: Invalid value: "A_b": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        metadata.labels: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        metadata.labels: Invalid value: "-": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
        metadata.ownerReferences[0].kind: Invalid value: "": kind must not be empty
        metadata.ownerReferences[0].name: Invalid value: "": name must not be empty
        metadata.ownerReferences[0].uid: Invalid value: "": uid must not be empty
        metadata.finalizers[0]: Invalid value: "x": name is neither a standard finalizer name nor is it fully qualified"#]],
    );
    check("v1", "ConfigMap", json!({"metadata": {"generateName": "a-"}}), expect![""]);
    check(
        "v1",
        "Namespace",
        json!({"metadata": {"name": "a.b", "namespace": "x"}}),
        expect![[r#"
        metadata.name: Invalid value: "a.b": must not contain dots
        metadata.namespace: Forbidden: not allowed on this type"#]],
    );
    let config_map = kind("v1", "ConfigMap");
    expect![[r#"
        metadata.name: Required value: name or generateName is required
        metadata.namespace: Required value"#]]
    .assert_eq(&show(create(config_map, &json!({}))));
    check(
        "rbac.authorization.k8s.io/v1",
        "ClusterRole",
        json!({"metadata": {"name": "system:a/b"}}),
        expect![[r#"metadata.name: Invalid value: "system:a/b": may not contain '/'"#]],
    );
}

#[test]
fn pods_that_are_wrong() {
    check("v1", "Pod", pod(json!({})), expect!["spec.containers: Required value"]);
    check(
        "v1",
        "Pod",
        pod(
            json!({"containers": [{"name": "a"}, {"name": "a", "image": " x"}], "initContainers": [{"name": "B", "image": "x", "livenessProbe": {"exec": {"command": ["x"]}}}], "restartPolicy": "X", "dnsPolicy": "Y"}),
        ),
        expect![[r#"
            spec.containers[0].image: Required value
            spec.containers[1].name: Duplicate value: "a"
            spec.initContainers[0].name: Invalid value: "B": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always
            spec.restartPolicy: Unsupported value: "X": supported values: "Always", "OnFailure", "Never"
            spec.dnsPolicy: Unsupported value: "Y": supported values: "ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"
            spec.containers[1].image: Invalid value: " x": must not have leading or trailing whitespace"#]],
    );
    check(
        "v1",
        "Pod",
        one_container(
            json!({"ports": [{"containerPort": 0}, {"containerPort": 70000, "name": "a"}, {"containerPort": 1, "name": "a", "hostPort": 5}, {"containerPort": 2, "hostPort": 5}]}),
        ),
        expect![[r#"
        spec.containers[0].ports[0].containerPort: Required value
        spec.containers[0].ports[1].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive
        spec.containers[0].ports[2].name: Duplicate value: "a"
        spec.containers[0].ports[3].hostPort: Duplicate value: "TCP//5""#]],
    );
    check(
        "v1",
        "Pod",
        one_container(
            json!({"volumeMounts": [{"name": "v", "mountPath": "/a", "subPath": "../x"}], "env": [{"name": "a=b"}, {"name": "x", "value": "1", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]}),
        ),
        expect![[r#"
            spec.containers[0].env[0].name: Invalid value: "a=b": a valid environment variable name must consist only of printable ASCII characters other than '='
            spec.containers[0].env[1].valueFrom.fieldRef.fieldPath: Invalid value: "x": error converting fieldPath: field label not supported: x
            spec.containers[0].env[1].valueFrom: Invalid value: "": may not be specified when `value` is not empty
            spec.containers[0].volumeMounts[0].name: Not found: "v"
            spec.containers[0].volumeMounts.subPath: Invalid value: "../x": must not contain '..'"#]],
    );
    check(
        "v1",
        "Pod",
        one_container(
            json!({"resources": {"limits": {"cpu": "1", "gpu": "1"}, "requests": {"cpu": "2", "memory": "-1"}}, "livenessProbe": {"successThreshold": 2, "httpGet": {}}}),
        ),
        expect![[r#"
            spec.containers[0].resources.limits[gpu]: Invalid value: "gpu": must be a standard resource type or fully qualified
            spec.containers[0].resources.limits[gpu]: Invalid value: "gpu": must be a standard resource for containers
            spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1
            spec.containers[0].resources.requests[gpu]: Invalid value: "gpu": must be a standard resource type or fully qualified
            spec.containers[0].resources.requests[gpu]: Invalid value: "gpu": must be a standard resource for containers
            spec.containers[0].resources.requests[memory]: Invalid value: "-1": must be greater than or equal to 0
            spec.containers[0].livenessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive
            spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1"#]],
    );
    check(
        "v1",
        "Pod",
        pod(
            json!({"containers": [{"name": "a", "image": "x"}], "volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}, {"name": "v", "secret": {}}], "tolerations": [{"operator": "Equal"}]}),
        ),
        expect![[r#"
            spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type
            spec.volumes[1].secret.secretName: Required value
            spec.tolerations[0].operator: Invalid value: "Equal": operator must be Exists when `key` is empty, which means "match all values and all keys""#]],
    );
}

#[test]
fn workloads_that_are_wrong() {
    check(
        "apps/v1",
        "Deployment",
        json!({"spec": {"template": template()}}),
        expect![[r#"
        spec.selector: Required value
        spec.template.metadata.labels: Invalid value: {"app":"x"}: `selector` does not match template `labels`"#]],
    );
    check(
        "apps/v1",
        "Deployment",
        json!({"spec": {"selector": {}, "template": template(), "replicas": -1}}),
        expect![[r#"
        spec.replicas: Invalid value: -1: must be greater than or equal to 0
        spec.selector: Invalid value: {}: empty selector is invalid for deployment"#]],
    );
    check(
        "apps/v1",
        "Deployment",
        json!({"spec": {"selector": {"matchLabels": {"app": "y"}}, "template": template(), "strategy": {"type": "Recreate", "rollingUpdate": {}}}}),
        expect![[r#"
        spec.template.metadata.labels: Invalid value: {"app":"x"}: `selector` does not match template `labels`
        spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"#]],
    );
    check(
        "batch/v1",
        "Job",
        json!({"spec": {"template": template()}}),
        expect![[r#"spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never""#]],
    );
    check(
        "batch/v1",
        "CronJob",
        json!({"spec": {"schedule": "* * * 13", "jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "x"}]}}}}}}),
        expect![[r#"spec.schedule: Invalid value: "* * * 13": expected exactly 5 fields, found 4: [* * * 13]"#]],
    );
}

#[test]
fn services_that_are_wrong() {
    check("v1", "Service", json!({"spec": {}}), expect!["spec.ports: Required value"]);
    check(
        "v1",
        "Service",
        json!({"metadata": {"name": "1a"}, "spec": {"clusterIP": "x", "ports": [{"port": 80}, {"port": 80, "name": "b", "nodePort": 30000}]}}),
        expect![[r#"
            metadata.name: Invalid value: "1a": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
            spec.ports[0].name: Required value
            spec.clusterIPs[0]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
            spec.ports[1].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'
            spec.ports[1]: Duplicate value: {"Name":"","Protocol":"TCP","AppProtocol":null,"Port":80,"TargetPort":0,"NodePort":0}"#]],
    );
    check(
        "v1",
        "Service",
        json!({"spec": {"type": "ExternalName", "externalName": "a_b"}}),
        expect![[
            r#"spec.externalName: Invalid value: "a_b": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"#
        ]],
    );
}

#[test]
fn others_that_are_wrong() {
    check(
        "v1",
        "Secret",
        json!({"type": "kubernetes.io/tls", "data": {"a/b": ""}}),
        expect![[r#"
        data[a/b]: Invalid value: "a/b": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')
        data[tls.crt]: Required value
        data[tls.key]: Required value"#]],
    );
    check(
        "v1",
        "ConfigMap",
        json!({"data": {"a": "x".repeat(1024 * 1024 + 1)}}),
        expect!["[]: Too long: may not be more than 1048576 bytes"],
    );
    check(
        "v1",
        "PersistentVolumeClaim",
        json!({"spec": {}}),
        expect![[r#"
            spec.accessModes: Required value: at least 1 access mode is required
            spec.resources[storage]: Required value"#]],
    );
    check(
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        json!({"roleRef": {"kind": "X", "name": "a"}, "subjects": [{"kind": "ServiceAccount", "name": "a"}]}),
        expect![[r#"roleRef.kind: Unsupported value: "X": supported values: "Role", "ClusterRole""#]],
    );
    check(
        "networking.k8s.io/v1",
        "Ingress",
        json!({"spec": {"rules": [{"host": "10.0.0.1", "http": {"paths": [{"path": "a", "pathType": "Prefix", "backend": {"service": {"name": "a"}}}, {"path": "/"}]}}]}}),
        expect![[r#"
            spec.rules[0].host: Invalid value: "10.0.0.1": must be a DNS name, not an IP address
            spec.rules[0].http.paths[0].path: Invalid value: "a": must be an absolute path
            spec.rules[0].http.paths[0].backend: Required value: port name or number is required
            spec.rules[0].http.paths[1].pathType: Required value: pathType must be specified"#]],
    );
    check(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        json!({"spec": {"minReplicas": 3, "maxReplicas": 2, "scaleTargetRef": {"kind": "Deployment"}}}),
        expect![[r#"
        spec.maxReplicas: Invalid value: 2: must be greater than or equal to `minReplicas`
        spec.scaleTargetRef.name: Required value"#]],
    );
}

#[test]
fn changes_that_are_refused() {
    let spec = |key: &str| json!({"spec": {"selector": {"matchLabels": {"app": "x"}, "matchExpressions": [{"key": key, "operator": "DoesNotExist"}]}, "template": template()}});
    check_update(
        "apps/v1",
        "Deployment",
        spec("a"),
        spec("b"),
        expect![[
            r#"spec.selector: Invalid value: {"matchExpressions":[{"key":"b","operator":"DoesNotExist"}],"matchLabels":{"app":"x"}}: field is immutable"#
        ]],
    );
    check_update(
        "apps/v1",
        "StatefulSet",
        spec("a"),
        spec("b"),
        expect![
            "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
        ],
    );
    check_update("v1", "Pod", one_container(json!({})), one_container(json!({"image": "y"})), expect![""]);
    check_update(
        "v1",
        "Pod",
        one_container(json!({})),
        one_container(json!({"tty": true})),
        expect![
            "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
        ],
    );
    check_update(
        "v1",
        "ConfigMap",
        json!({"immutable": true, "data": {"a": "1"}}),
        json!({"immutable": true, "data": {"a": "2"}}),
        expect!["data: Forbidden: field is immutable when `immutable` is set"],
    );
    check_update(
        "v1",
        "Secret",
        json!({"type": "a"}),
        json!({"type": "b"}),
        expect![[r#"type: Invalid value: "b": field is immutable"#]],
    );
    check_update(
        "v1",
        "ConfigMap",
        json!({"metadata": {"uid": "a", "deletionTimestamp": "x"}}),
        json!({"metadata": {"uid": "b", "deletionTimestamp": "x", "finalizers": ["a/b"]}}),
        expect![[r#"
        metadata.uid: Invalid value: "b": field is immutable
        metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{"a/b"}"#]],
    );
    let claim = |size: &str| json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}, "status": {"phase": "Bound"}});
    check_update("v1", "PersistentVolumeClaim", claim("1Gi"), claim("2Gi"), expect![""]);
    check_update("v1", "PersistentVolumeClaim", claim("2Gi"), claim("1Gi"), expect![""]);
}

#[test]
fn ranges_of_nodes() {
    let node = |ranges: &[&str]| json!({"spec": {"podCIDRs": ranges}});
    check("v1", "Node", node(&["10.42.0.0/24", "fd00::/64"]), expect![""]);
    check("v1", "Node", json!({"spec": {"podCIDR": "10.42.0.0/24"}}), expect![""]);
    check(
        "v1",
        "Node",
        node(&["10.42.0.7/24", "10.43.0.0/33"]),
        expect![[r#"
            spec.podCIDRs[0]: Invalid value: "10.42.0.7/24": must be in canonical form ("10.42.0.0/24")
            spec.podCIDRs[1]: Invalid value: "10.43.0.0/33": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)
            spec.podCIDRs: Invalid value: ["10.42.0.7/24","10.43.0.0/33"]: may specify no more than one CIDR for each IP family"#]],
    );
    check(
        "v1",
        "Node",
        json!({"spec": {"podCIDR": "everything", "podCIDRs": ["fd00::1/64"]}}),
        expect![[r#"
            spec.podCIDRs[0]: Invalid value: "fd00::1/64": must be in canonical form ("fd00::/64")
            spec.podCIDR: Invalid value: "everything": must be the first of podCIDRs"#]],
    );
    check(
        "v1",
        "Node",
        json!({"spec": {"podCIDR": "x"}}),
        expect![[r#"
        spec.podCIDRs[0]: Invalid value: "x": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"#]],
    );
    check_update("v1", "Node", json!({}), node(&["10.42.0.0/24"]), expect![""]);
    check_update(
        "v1",
        "Node",
        node(&["10.42.0.0/24"]),
        node(&["10.42.1.0/24"]),
        expect![[r#"
            spec.podCIDR: Forbidden: node updates may not change podCIDR except from "" to valid
            spec.podCIDRs: Forbidden: node updates may not change podCIDRs except from "" to valid"#]],
    );
}

#[test]
fn objects_that_are_right() {
    for name in ["Deployment", "ReplicaSet", "StatefulSet", "DaemonSet"] {
        check(
            "apps/v1",
            name,
            json!({"spec": {"selector": {"matchLabels": {"app": "x"}}, "template": template()}}),
            expect![""],
        );
    }
    check(
        "v1",
        "Service",
        json!({"spec": {"ports": [{"port": 80, "targetPort": "http"}], "selector": {"a": "b"}}}),
        expect![""],
    );
    check("v1", "Service", json!({"spec": {"clusterIP": "None"}}), expect![""]);
    check("v1", "Namespace", json!({}), expect![""]);
    check("v1", "Node", json!({}), expect![""]);
    check("v1", "Event", json!({"involvedObject": {"kind": "Node", "name": "a"}}), expect![""]);
    check("storage.k8s.io/v1", "StorageClass", json!({"provisioner": "skiff.dev/local"}), expect![""]);
    check(
        "scheduling.k8s.io/v1",
        "PriorityClass",
        json!({"metadata": {"name": "system-node-critical"}, "value": 2000001000}),
        expect![""],
    );
    check(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]}),
        expect![""],
    );
}

#[test]
fn malformed_objects_do_not_panic() {
    for kind in built_in().kinds() {
        for object in [
            json!(null),
            json!([]),
            json!({"spec": 1, "metadata": []}),
            json!({"metadata": {"labels": [], "finalizers": {}}, "spec": {"template": [], "containers": {}, "ports": [3], "selector": 1, "volumes": [[]]}}),
        ] {
            let _ = create(kind, &object);
            let _ = update(kind, &object, &json!({"spec": {"containers": [1]}}));
            let _ = status(kind, &object, &json!(null));
        }
    }
}

/// A pod and a job with most of what has rules of its own.
fn rich() -> Vec<(&'static str, &'static str, Value)> {
    let spec = json!({
        "containers": [{"name": "a", "image": "x", "ports": [{"containerPort": 80, "hostPort": 80}], "env": [{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a']"}}}],
            "resources": {"limits": {"cpu": "1", "hugepages-2Mi": "2Mi"}, "claims": [{"name": "c"}]}, "volumeMounts": [{"name": "v", "mountPath": "/m", "subPath": "s"}],
            "volumeDevices": [{"name": "w", "devicePath": "/d"}], "lifecycle": {"preStop": {"sleep": {"seconds": 1}}}, "livenessProbe": {"httpGet": {"port": 80}},
            "securityContext": {"seccompProfile": {"type": "Localhost", "localhostProfile": "p"}, "windowsOptions": {"runAsUserName": "a\\b"}}}],
        "volumes": [{"name": "v", "projected": {"sources": [{"downwardAPI": {"items": [{"path": "p", "fieldRef": {"fieldPath": "metadata.name"}}]}}]}}, {"name": "w", "iscsi": {"targetPortal": "p", "iqn": "iqn.2001-04.com:x", "lun": 1, "initiatorName": "eui.0123456789abcdef"}}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}]}}},
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule", "minDomains": 1}],
        "tolerations": [{"key": "a", "operator": "Exists"}], "resourceClaims": [{"name": "c", "resourceClaimName": "c"}], "schedulingGates": [{"name": "g"}],
        "securityContext": {"sysctls": [{"name": "a.b", "value": "1"}]}, "dnsConfig": {"searches": ["a"]}, "resources": {"requests": {"cpu": "1"}}, "os": {"name": "linux"}, "restartPolicy": "Never"
    });
    let policies = json!({"completionMode": "Indexed", "completions": 3, "successPolicy": {"rules": [{"succeededIndexes": "0-1", "succeededCount": 1}]},
        "podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1, 2]}}]}, "template": {"spec": spec}});
    let quota = json!({"spec": {"hard": {"pods": "1"}, "scopes": ["BestEffort"], "scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["a"]}]}}});
    let service = json!({"spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"], "ipFamilies": ["IPv4", "IPv6"], "ports": [{"port": 80}], "loadBalancerSourceRanges": ["10.0.0.0/8"], "externalIPs": ["8.8.8.8"]}});
    let policy = json!({"spec": {"ingress": [{"ports": [{"port": 80, "endPort": 90}], "from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]}]}});
    let autoscaler = json!({"spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "A", "name": "b"}, "behavior": {"scaleDown": {"selectPolicy": "Min"}}, "metrics": [{"type": "Pods", "pods": {"metric": {"name": "m"}, "target": {"type": "Value", "averageValue": "1"}}}]}});
    let range = json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "0"}, "maxLimitRequestRatio": {"cpu": "2"}}]}});
    let claim = json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "dataSourceRef": {"kind": "A", "name": "b"}}});
    let cron = json!({"spec": {"schedule": "*/5 1-2 * jan @", "timeZone": "UTC", "jobTemplate": {"spec": policies}}});
    vec![
        (
            "v1",
            "Pod",
            json!({"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "1"}}, "spec": spec}),
        ),
        ("batch/v1", "Job", json!({"spec": policies})),
        ("batch/v1", "CronJob", cron),
        ("v1", "ResourceQuota", quota),
        ("v1", "Service", service),
        ("networking.k8s.io/v1", "NetworkPolicy", policy),
        ("autoscaling/v2", "HorizontalPodAutoscaler", autoscaler),
        ("v1", "LimitRange", range),
        ("v1", "PersistentVolumeClaim", claim),
    ]
}

/// Where every value of an object is.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(map) => map.iter().for_each(|(key, inner)| {
            let key = key.replace('~', "~0").replace('/', "~1");
            places(inner, &format!("{at}/{key}"), found);
        }),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(index, inner)| places(inner, &format!("{at}/{index}"), found));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn odd_values_anywhere_do_not_panic() {
    let odd = json!([null, -1, i64::MAX, 1e300, "", "é/µ-:,", {"": {}}, [[]], [{}, {}]]);
    for (api_version, name, object) in rich() {
        let kind = kind(api_version, name);
        let mut found = Vec::new();
        places(&object, "", &mut found);
        for place in &found {
            for value in odd.as_array().expect("a list") {
                let mut changed = object.clone();
                *changed.pointer_mut(place).expect("a place of the object") = value.clone();
                let _ = create(kind, &changed);
                let _ = update(kind, &changed, &object);
                let _ = update(kind, &object, &changed);
                default::apply(kind, &mut changed);
            }
        }
    }
}
