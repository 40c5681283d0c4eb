//! Changes: what is given once, what only ever gets narrower, and what an earlier version took.

use super::*;

/// A change of specs.
fn specs<'a>(old: &Value, new: &Value, said: &'a str) -> (Value, Value, &'a str) {
    (json!({"spec": old}), json!({"spec": new}), said)
}

const POD: &str = "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

fn spec(more: Value) -> Value {
    with(json!({"containers": [{"name": "a", "image": "x"}]}), more)
}

#[test]
fn pods() {
    let toleration = |key: &str, seconds: i64| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
    let tolerations = |list: Value| spec(json!({"tolerations": list}));
    let change = |old: Value, new: Value, said| specs(&spec(old), &spec(new), said);
    update_table(
        "v1",
        "Pod",
        &[
            change(json!({}), json!({"activeDeadlineSeconds": 5}), ""),
            change(json!({"activeDeadlineSeconds": 5}), json!({"activeDeadlineSeconds": 4}), ""),
            change(
                json!({"activeDeadlineSeconds": 5}),
                json!({"activeDeadlineSeconds": 6}),
                "spec.activeDeadlineSeconds: Invalid value: 6: must be less than or equal to previous value",
            ),
            change(
                json!({"activeDeadlineSeconds": 5}),
                json!({}),
                "spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive integer to nil value",
            ),
            specs(
                &tolerations(json!([toleration("a", 1)])),
                &tolerations(json!([toleration("a", 2), toleration("b", 1)])),
                "",
            ),
            specs(
                &tolerations(json!([toleration("a", 1)])),
                &tolerations(json!([toleration("b", 1)])),
                "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds",
            ),
            change(json!({"terminationGracePeriodSeconds": -1}), json!({"terminationGracePeriodSeconds": 1}), ""),
            change(json!({"terminationGracePeriodSeconds": 5}), json!({"terminationGracePeriodSeconds": 1}), POD),
            change(json!({}), json!({"nodeSelector": {"a": "b"}}), POD),
            change(json!({}), json!({"tolerations": []}), ""),
            change(json!({}), json!({"hostname": "h"}), POD),
        ],
    );
}

#[test]
fn gated_pods() {
    let gated = |more: Value| spec(with(json!({"schedulingGates": [{"name": "g"}]}), more));
    let affinity = |terms: Value| {
        gated(
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}}),
        )
    };
    let expression = |key: &str| json!({"key": key, "operator": "Exists"});
    let term =
        |keys: &[&str]| json!([{"matchExpressions": keys.iter().map(|key| expression(key)).collect::<Vec<_>>()}]);
    let at = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
    update_table(
        "v1",
        "Pod",
        &[
            specs(&gated(json!({})), &spec(json!({})), ""),
            specs(
                &spec(json!({})),
                &gated(json!({})),
                "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'g'",
            ),
            specs(
                &gated(json!({"nodeSelector": {"a": "b"}})),
                &gated(json!({"nodeSelector": {"a": "b", "c": "d"}})),
                "",
            ),
            specs(
                &gated(json!({"nodeSelector": {"a": "b"}})),
                &gated(json!({"nodeSelector": {"a": "c"}})),
                "spec.nodeSelector: Invalid value: {\"a\":\"c\"}: only additions to spec.nodeSelector are allowed (no mutations or deletions)",
            ),
            specs(&gated(json!({})), &affinity(term(&["a"])), ""),
            specs(&affinity(term(&["a"])), &affinity(term(&["a", "b"])), ""),
            specs(
                &affinity(term(&["a"])),
                &affinity(term(&["b"])),
                &format!(
                    "{at}[0]: Invalid value: {{\"MatchExpressions\":[{{\"Key\":\"b\",\"Operator\":\"Exists\",\"Values\":null}}],\"MatchFields\":null}}: only additions are allowed (no mutations or deletions)"
                ),
            ),
            specs(
                &gated(json!({})),
                &gated(
                    json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone"}]}}}),
                ),
                POD,
            ),
        ],
    );
}

#[test]
fn services() {
    let service = |more: Value| with(json!({"type": "ClusterIP", "ports": [{"port": 80}]}), more);
    let change = |old: Value, new: Value, said| specs(&service(old), &service(new), said);
    let two = json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"]});
    update_table(
        "v1",
        "Service",
        &[
            change(json!({"clusterIP": "10.0.0.1"}), json!({"clusterIP": "10.0.0.1"}), ""),
            change(
                json!({"clusterIP": "10.0.0.1"}),
                json!({"clusterIP": "10.0.0.2"}),
                "spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set",
            ),
            change(
                json!({"clusterIP": "10.0.0.1"}),
                json!({"clusterIP": "None"}),
                "spec.clusterIPs[0]: Invalid value: [\"None\"]: may not change once set",
            ),
            change(
                two.clone(),
                json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]}),
                "spec.ipFamilyPolicy: Invalid value: null: must be set to 'SingleStack' when releasing the secondary clusterIP",
            ),
            change(
                two,
                json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilyPolicy": "SingleStack"}),
                "",
            ),
            change(
                json!({"ipFamilies": ["IPv4"]}),
                json!({"ipFamilies": ["IPv6"]}),
                "spec.ipFamilies[0]: Invalid value: [\"IPv6\"]: may not change once set",
            ),
            change(
                json!({"type": "LoadBalancer", "loadBalancerClass": "a"}),
                json!({"type": "LoadBalancer", "loadBalancerClass": "b"}),
                "spec.loadBalancerClass: Invalid value: \"b\": may not change once set",
            ),
            // What goes with the old type alone goes, unless it was changed at the same time.
            change(
                json!({"type": "NodePort", "externalTrafficPolicy": "Local", "ports": [{"port": 80, "nodePort": 30000}]}),
                json!({"externalTrafficPolicy": "Local", "ports": [{"port": 80, "nodePort": 30000}]}),
                "",
            ),
            change(
                json!({"type": "NodePort", "externalTrafficPolicy": "Cluster"}),
                json!({"externalTrafficPolicy": "Local"}),
                "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
            ),
            change(
                json!({"type": "LoadBalancer", "loadBalancerClass": "a", "allocateLoadBalancerNodePorts": true}),
                json!({"loadBalancerClass": "a", "allocateLoadBalancerNodePorts": true}),
                "",
            ),
            change(
                json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"]}),
                json!({"type": "ExternalName", "externalName": "a", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"]}),
                "",
            ),
        ],
    );
}

#[test]
fn storage() {
    let claim = |spec: Value, phase: &str| {
        let base = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}});
        json!({"spec": with(base, spec), "status": {"phase": phase, "capacity": {"storage": "2Gi"}}})
    };
    let size = |size: &str| json!({"resources": {"requests": {"storage": size}}});
    let class = |name: Value| json!({"volumeAttributesClassName": name});
    let immutable = "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
    update_table(
        "v1",
        "PersistentVolumeClaim",
        &[
            (claim(json!({}), "Bound"), claim(size("3Gi"), "Bound"), ""),
            (claim(json!({}), "Pending"), claim(size("3Gi"), "Pending"), immutable),
            (claim(size("4Gi"), "Bound"), claim(size("3Gi"), "Bound"), ""),
            (
                claim(size("4Gi"), "Bound"),
                claim(size("2Gi"), "Bound"),
                "spec.resources.requests.storage: Forbidden: field can not be less than status.capacity",
            ),
            (claim(json!({}), "Pending"), claim(json!({"volumeName": "v"}), "Pending"), ""),
            (claim(json!({"volumeName": "v"}), "Bound"), claim(json!({"volumeName": "w"}), "Bound"), immutable),
            (claim(json!({}), "Bound"), claim(class(json!("a")), "Bound"), ""),
            (
                claim(class(json!("a")), "Bound"),
                claim(json!({}), "Bound"),
                &format!(
                    "{immutable}\nspec.volumeAttributesClassName: Forbidden: update from non-nil value to nil is forbidden"
                ),
            ),
            (
                claim(json!({}), "Bound"),
                claim(json!({"volumeMode": "Block"}), "Bound"),
                &format!("{immutable}\nvolumeMode: Invalid value: \"Block\": field is immutable"),
            ),
        ],
    );
    let volume = |more: Value| {
        let spec = json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "csi": {"driver": "a.b", "volumeHandle": "v"}});
        json!({"spec": with(spec, more)})
    };
    let here = |key: &str| json!({"nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": key, "operator": "Exists"}]}]}}});
    update_table(
        "v1",
        "PersistentVolume",
        &[
            (
                volume(json!({})),
                volume(json!({"claimRef": {"name": "c"}, "persistentVolumeReclaimPolicy": "Delete"})),
                "",
            ),
            (
                volume(json!({})),
                volume(json!({"csi": {"volumeHandle": "w"}})),
                "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation",
            ),
            (
                volume(json!({})),
                volume(json!({"csi": {"controllerExpandSecretRef": {"name": "s", "namespace": "n"}}})),
                "",
            ),
            (volume(here("beta.kubernetes.io/os")), volume(here("kubernetes.io/os")), ""),
            (
                volume(here("a")),
                volume(here("b")),
                "nodeAffinity: Invalid value: {\"Required\":{\"NodeSelectorTerms\":[{\"MatchExpressions\":[{\"Key\":\"b\",\"Operator\":\"Exists\",\"Values\":null}],\"MatchFields\":null}]}}: field is immutable, except for updating from beta label to GA",
            ),
        ],
    );
    let provisioner = |more: Value| with(json!({"provisioner": "a.b"}), more);
    update_table(
        "storage.k8s.io/v1",
        "StorageClass",
        &[
            (provisioner(json!({})), provisioner(json!({"allowVolumeExpansion": true})), ""),
            (
                provisioner(json!({})),
                provisioner(json!({"reclaimPolicy": "Retain"})),
                "reclaimPolicy: Forbidden: updates to reclaimPolicy are forbidden.",
            ),
            (
                provisioner(json!({})),
                provisioner(json!({"parameters": {"a": "b"}})),
                "parameters: Forbidden: updates to parameters are forbidden.",
            ),
        ],
    );
    update_table(
        "storage.k8s.io/v1",
        "CSIDriver",
        &[
            specs(&json!({}), &json!({"podInfoOnMount": true}), ""),
            specs(
                &json!({}),
                &json!({"attachRequired": false}),
                "spec.attachedRequired: Invalid value: false: field is immutable",
            ),
        ],
    );
}

#[test]
fn jobs() {
    let job = |more: Value| {
        let template = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "x"}]}});
        json!({"spec": with(json!({"template": template}), more)})
    };
    let place = json!({"template": {"spec": {"nodeSelector": {"a": "b"}}}});
    let immutable = show(update(
        kind("batch/v1", "Job"),
        &whole(kind("batch/v1", "Job"), job(place.clone())),
        &whole(kind("batch/v1", "Job"), job(json!({}))),
    ));
    assert!(immutable.starts_with("spec.template: Invalid value: {") && immutable.ends_with(": field is immutable"));
    let suspended = json!({"suspend": true});
    let indexed = |count: i64| job(json!({"completionMode": "Indexed", "completions": count, "parallelism": count}));
    update_table(
        "batch/v1",
        "Job",
        &[
            (job(suspended.clone()), job(with(suspended, place)), ""),
            (
                job(json!({"completions": 1})),
                job(json!({"completions": 2})),
                "spec.completions: Invalid value: 2: field is immutable",
            ),
            (indexed(1), indexed(2), ""),
            (
                indexed(1),
                with(indexed(1), json!({"spec": {"completions": 2}})),
                "spec.completions: Invalid value: 2: can only be modified in tandem with spec.parallelism",
            ),
            (
                job(json!({})),
                job(json!({"managedBy": "a.b/c"})),
                "spec.managedBy: Invalid value: \"a.b/c\": field is immutable",
            ),
            (job(json!({"completions": 1})), job(json!({"completions": 1, "parallelism": 2, "suspend": true})), ""),
        ],
    );
}

/// Structures are shown as upstream's own types are.
#[test]
fn structures() {
    let job = |more: Value| {
        let template = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "x"}]}});
        json!({"spec": with(json!({"template": template, "completionMode": "Indexed", "completions": 3}), more)})
    };
    let failure = json!({"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]});
    let failure = job(json!({"podFailurePolicy": failure}));
    let success = |count: u8| job(json!({"successPolicy": {"rules": [{"succeededCount": count}]}}));
    update_table(
        "batch/v1",
        "Job",
        &[
            (failure.clone(), failure.clone(), ""),
            (
                job(json!({})),
                failure.clone(),
                "spec.podFailurePolicy: Invalid value: {\"Rules\":[{\"Action\":\"Ignore\",\"OnExitCodes\":null,\"OnPodConditions\":[{\"Type\":\"DisruptionTarget\",\"Status\":\"True\"}]}]}: field is immutable",
            ),
            (failure, job(json!({})), "spec.podFailurePolicy: Invalid value: null: field is immutable"),
            (success(1), success(1), ""),
            (
                success(1),
                success(2),
                "spec.successPolicy: Invalid value: {\"Rules\":[{\"SucceededIndexes\":null,\"SucceededCount\":2}]}: field is immutable",
            ),
        ],
    );
    let attachment =
        |node: &str| json!({"spec": {"attacher": "a.b", "source": {"persistentVolumeName": "v"}, "nodeName": node}});
    update_table(
        "storage.k8s.io/v1",
        "VolumeAttachment",
        &[
            (attachment("n"), attachment("n"), ""),
            (
                attachment("n"),
                attachment("m"),
                "spec: Invalid value: {\"Attacher\":\"a.b\",\"Source\":{\"PersistentVolumeName\":\"v\",\"InlineVolumeSpec\":null},\"NodeName\":\"m\"}: field is immutable",
            ),
        ],
    );
}

#[test]
fn others() {
    update_table(
        "v1",
        "ResourceQuota",
        &[
            specs(&json!({"hard": {"pods": "1"}}), &json!({"hard": {"pods": "2"}}), ""),
            specs(
                &json!({}),
                &json!({"scopes": ["BestEffort"]}),
                "spec.scopes: Invalid value: [\"BestEffort\"]: field is immutable",
            ),
        ],
    );
    update_table(
        "v1",
        "Node",
        &[
            specs(&json!({}), &json!({"providerID": "a"}), ""),
            specs(
                &json!({"providerID": "a"}),
                &json!({"providerID": "b"}),
                "spec.providerID: Forbidden: node updates may not change providerID except from \"\" to valid",
            ),
        ],
    );
    update_table(
        "scheduling.k8s.io/v1",
        "PriorityClass",
        &[
            (json!({"value": 1}), json!({"value": 1, "description": "x"}), ""),
            (
                json!({"value": 1}),
                json!({"value": 2, "preemptionPolicy": "Never"}),
                "preemptionPolicy: Invalid value: \"Never\": field is immutable\nvalue: Forbidden: may not be changed in an update.",
            ),
        ],
    );
    update_table(
        "v1",
        "Secret",
        &[
            (json!({"immutable": true}), json!({}), "immutable: Forbidden: field is immutable when `immutable` is set"),
            (json!({"immutable": true}), json!({"immutable": true, "metadata": {"labels": {"a": "b"}}}), ""),
        ],
    );
    update_table(
        "apps/v1",
        "ControllerRevision",
        &[
            (json!({"data": 1, "revision": 1}), json!({"data": 1, "revision": 2}), ""),
            (
                json!({"data": 1, "revision": 1}),
                json!({"data": 2, "revision": 1}),
                "data: Invalid value: 2: field is immutable",
            ),
        ],
    );
    update_table(
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        &[(
            json!({"roleRef": {"kind": "Role", "name": "a"}}),
            json!({"roleRef": {"kind": "Role", "name": "b"}}),
            "roleRef: Invalid value: {\"APIGroup\":\"rbac.authorization.k8s.io\",\"Kind\":\"Role\",\"Name\":\"b\"}: cannot change roleRef",
        )],
    );
}

#[test]
fn what_an_earlier_version_took_stays() {
    let wrong = |image: &str| pod(json!({"containers": [{"name": "a", "image": image, "restartPolicy": "Always"}]}));
    update_table(
        "v1",
        "Pod",
        &[
            (wrong("x"), wrong("x"), ""),
            (wrong("x"), wrong("y"), ""),
            (
                one_container(json!({})),
                wrong("x"),
                &format!("spec.containers[0].restartPolicy: Forbidden: may not be set for non-init containers\n{POD}"),
            ),
        ],
    );
}
