//! Defaults by example; applying them twice is applying them once.

use super::*;
use crate::kinds::{built_in, by_kind};
use expect_test::{Expect, expect};

fn check(api_version: &str, kind: &str, mut object: Value, expected: Expect) {
    let kind = by_kind(api_version, kind).expect("is served");
    apply(kind, &mut object);
    expected.assert_eq(&object.to_string());
    let again = {
        let mut again = object.clone();
        apply(kind, &mut again);
        again
    };
    assert_eq!(again, object);
}

#[test]
fn pods() {
    check(
        "v1",
        "Pod",
        json!({"spec": {"hostNetwork": true, "serviceAccountName": "s", "volumes": [{"name": "a"}, {"name": "b", "secret": {"secretName": "x"}}],
        "containers": [{"name": "a", "image": "nginx", "ports": [{"containerPort": 80}], "resources": {"limits": {"cpu": "1"}},
            "livenessProbe": {"httpGet": {"port": 80}}, "env": [{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}]}}),
        expect![[
            r#"{"spec":{"containers":[{"env":[{"name":"X","valueFrom":{"fieldRef":{"apiVersion":"v1","fieldPath":"metadata.name"}}}],"image":"nginx","imagePullPolicy":"Always","livenessProbe":{"failureThreshold":3,"httpGet":{"path":"/","port":80,"scheme":"HTTP"},"periodSeconds":10,"successThreshold":1,"timeoutSeconds":1},"name":"a","ports":[{"containerPort":80,"hostPort":80,"protocol":"TCP"}],"resources":{"limits":{"cpu":"1"},"requests":{"cpu":"1"}},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],"dnsPolicy":"ClusterFirst","enableServiceLinks":true,"hostNetwork":true,"restartPolicy":"Always","schedulerName":"default-scheduler","securityContext":{},"serviceAccount":"s","serviceAccountName":"s","terminationGracePeriodSeconds":30,"volumes":[{"emptyDir":{},"name":"a"},{"name":"b","secret":{"defaultMode":420,"secretName":"x"}}]}}"#
        ]],
    );
}

#[test]
fn pods_with_limits_of_their_own() {
    let pod = |resources: Value, own: Value| {
        let mut pod = json!({"spec": {"resources": resources, "containers": [{"name": "a", "resources": own}]}});
        apply(by_kind("v1", "Pod").expect("is served"), &mut pod);
        pod["spec"]["resources"]["requests"].to_string()
    };
    let limits = json!({"limits": {"cpu": "2", "memory": "1Gi"}});
    assert_eq!(pod(limits.clone(), json!({"requests": {"cpu": "100m"}})), r#"{"cpu":"100m","memory":"1Gi"}"#);
    assert_eq!(pod(limits, json!({})), r#"{"cpu":"2","memory":"1Gi"}"#);
    assert_eq!(pod(json!({"requests": {"cpu": "1"}}), json!({"requests": {"memory": "1"}})), r#"{"cpu":"1"}"#);
}

#[test]
fn deployments() {
    check(
        "apps/v1",
        "Deployment",
        json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "a/b:1", "resources": {"limits": {"cpu": "1"}}}]}}}}),
        expect![[
            r#"{"spec":{"progressDeadlineSeconds":600,"replicas":1,"revisionHistoryLimit":10,"strategy":{"rollingUpdate":{"maxSurge":"25%","maxUnavailable":"25%"},"type":"RollingUpdate"},"template":{"spec":{"containers":[{"image":"a/b:1","imagePullPolicy":"IfNotPresent","name":"a","resources":{"limits":{"cpu":"1"}},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],"dnsPolicy":"ClusterFirst","restartPolicy":"Always","schedulerName":"default-scheduler","securityContext":{},"terminationGracePeriodSeconds":30}}}}"#
        ]],
    );
}

#[test]
fn others() {
    check(
        "v1",
        "Service",
        json!({"spec": {"ports": [{"port": 80}], "type": "LoadBalancer", "sessionAffinity": "ClientIP"}}),
        expect![[
            r#"{"spec":{"allocateLoadBalancerNodePorts":true,"externalTrafficPolicy":"Cluster","internalTrafficPolicy":"Cluster","ports":[{"port":80,"protocol":"TCP","targetPort":80}],"sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":10800}},"type":"LoadBalancer"},"status":{"loadBalancer":{}}}"#
        ]],
    );
    check(
        "v1",
        "Secret",
        json!({"stringData": {"a": "b"}, "data": {"c": "ZA=="}}),
        expect![[r#"{"data":{"a":"Yg==","c":"ZA=="},"type":"Opaque"}"#]],
    );
    check(
        "v1",
        "Namespace",
        json!({"metadata": {"name": "a"}}),
        expect![[
            r#"{"metadata":{"labels":{"kubernetes.io/metadata.name":"a"},"name":"a"},"spec":{"finalizers":["kubernetes"]},"status":{"phase":"Active"}}"#
        ]],
    );
    check(
        "batch/v1",
        "Job",
        json!({"spec": {"template": {"metadata": {"labels": {"a": "b"}}}}}),
        expect![[
            r#"{"metadata":{"labels":{"a":"b"}},"spec":{"backoffLimit":6,"completionMode":"NonIndexed","completions":1,"manualSelector":false,"parallelism":1,"podReplacementPolicy":"TerminatingOrFailed","suspend":false,"template":{"metadata":{"labels":{"a":"b"}},"spec":{"dnsPolicy":"ClusterFirst","restartPolicy":"Always","schedulerName":"default-scheduler","securityContext":{},"terminationGracePeriodSeconds":30}}}}"#
        ]],
    );
    check(
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        json!({"roleRef": {"kind": "Role", "name": "a"}, "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s"}]}),
        expect![[
            r#"{"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"a"},"subjects":[{"apiGroup":"rbac.authorization.k8s.io","kind":"User","name":"u"},{"kind":"ServiceAccount","name":"s"}]}"#
        ]],
    );
    check(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        json!({"spec": {"maxReplicas": 2, "behavior": {"scaleDown": {"selectPolicy": "Min"}}}}),
        expect![[
            r#"{"spec":{"behavior":{"scaleDown":{"policies":[{"periodSeconds":15,"type":"Percent","value":100}],"selectPolicy":"Min"},"scaleUp":{"policies":[{"periodSeconds":15,"type":"Pods","value":4},{"periodSeconds":15,"type":"Percent","value":100}],"selectPolicy":"Max","stabilizationWindowSeconds":0}},"maxReplicas":2,"metrics":[{"resource":{"name":"cpu","target":{"averageUtilization":80,"type":"Utilization"}},"type":"Resource"}],"minReplicas":1}}"#
        ]],
    );
    check(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        json!({"spec": {"egress": [{"ports": [{"port": 53}]}]}}),
        expect![[
            r#"{"spec":{"egress":[{"ports":[{"port":53,"protocol":"TCP"}]}],"policyTypes":["Ingress","Egress"]}}"#
        ]],
    );
}

#[test]
fn job_selectors() {
    let mut job = json!({"metadata": {"name": "a", "uid": "u"}, "spec": {"template": {}}});
    generate_job_selector(&mut job);
    assert_eq!(job["spec"]["selector"]["matchLabels"]["batch.kubernetes.io/controller-uid"], "u");
    assert_eq!(job["spec"]["template"]["metadata"]["labels"]["job-name"], "a");
}

#[test]
fn every_row_names_a_field() {
    for (ty, field, _) in ROWS {
        let whole = if ty.starts_with("io.k8s.") { (*ty).to_owned() } else { format!("io.k8s.api.{ty}") };
        let found = crate::schema::find(&whole).named().and_then(|ty| ty.field(field)).map(|f| f.name);
        assert!(found.is_some(), "{ty}.{field}");
    }
}

#[test]
fn malformed_objects_do_not_panic() {
    for kind in built_in().kinds() {
        for mut object in [
            json!(null),
            json!([]),
            json!({"spec": 1, "metadata": []}),
            json!({"spec": {"template": [], "containers": {}, "ports": 3, "strategy": []}}),
        ] {
            apply(kind, &mut object);
        }
    }
}
