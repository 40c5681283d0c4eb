//! Workloads: strategies, counts, templates.

use super::*;

/// A workload that selects its pods, with more in its spec.
fn workload(more: Value) -> Value {
    json!({"spec": with(json!({"selector": {"matchLabels": {"app": "x"}}, "template": template()}), more)})
}

#[test]
fn templates() {
    let at = "spec.template";
    for (name, emptiness) in
        [("Deployment", "deployment"), ("ReplicaSet", "deployment"), ("StatefulSet", "statefulset")]
    {
        table(
            "apps/v1",
            name,
            &[
                (workload(json!({})), ""),
                (
                    json!({"spec": {"template": template()}}),
                    "spec.selector: Required value\nspec.template.metadata.labels: Invalid value: {\"app\":\"x\"}: `selector` does not match template `labels`",
                ),
                (
                    json!({"spec": {"selector": {}, "template": template()}}),
                    &format!("spec.selector: Invalid value: {{}}: empty selector is invalid for {emptiness}"),
                ),
                (
                    workload(json!({"template": {"spec": {"restartPolicy": "Never"}}})),
                    &format!("{at}.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\""),
                ),
            ],
        );
    }
    for (name, said) in [("Deployment", "ReplicaSet"), ("DaemonSet", "DaemonSet"), ("StatefulSet", "StatefulSet")] {
        table(
            "apps/v1",
            name,
            &[(
                workload(json!({"template": {"spec": {"activeDeadlineSeconds": 5}}})),
                &format!(
                    "{at}.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in {said} is not Supported"
                ),
            )],
        );
    }
    table(
        "apps/v1",
        "DaemonSet",
        &[(
            workload(json!({"template": {"metadata": {"labels": {"a b": "c"}}}})),
            &format!(
                "{at}.labels: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
            ),
        )],
    );
}

#[test]
fn deployments() {
    let rolling = |more: Value| workload(json!({"strategy": {"rollingUpdate": more}}));
    let at = "spec.strategy.rollingUpdate";
    table(
        "apps/v1",
        "Deployment",
        &[
            (rolling(json!({"maxSurge": "150%"})), ""),
            (
                rolling(json!({"maxUnavailable": "150%"})),
                &format!("{at}.maxUnavailable: Invalid value: \"150%\": must not be greater than 100%"),
            ),
            (
                rolling(json!({"maxUnavailable": "00%", "maxSurge": 0})),
                &format!("{at}.maxUnavailable: Invalid value: \"00%\": may not be 0 when `maxSurge` is 0"),
            ),
            (
                rolling(json!({"maxSurge": "x"})),
                &format!(
                    "{at}.maxSurge: Invalid value: \"x\": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"
                ),
            ),
            (
                workload(json!({"strategy": {"type": "Slow"}})),
                "spec.strategy: Unsupported value: {\"Type\":\"Slow\",\"RollingUpdate\":null}: supported values: \"Recreate\", \"RollingUpdate\"",
            ),
            (workload(json!({"strategy": {"type": "Recreate"}})), ""),
            (
                workload(json!({"progressDeadlineSeconds": 5, "minReadySeconds": 5})),
                "spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds",
            ),
            (
                workload(json!({"revisionHistoryLimit": -1})),
                "spec.revisionHistoryLimit: Invalid value: -1: must be greater than or equal to 0",
            ),
        ],
    );
}

#[test]
fn daemon_sets() {
    let rolling = |more: Value| workload(json!({"updateStrategy": {"rollingUpdate": more}}));
    let at = "spec.updateStrategy.rollingUpdate";
    table(
        "apps/v1",
        "DaemonSet",
        &[
            (workload(json!({})), ""),
            (workload(json!({"updateStrategy": {"type": "OnDelete"}})), ""),
            (rolling(json!({"maxSurge": 1, "maxUnavailable": 0})), ""),
            (
                rolling(json!({"maxSurge": 1})),
                &format!("{at}.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero"),
            ),
            (
                rolling(json!({"maxUnavailable": 0})),
                &format!("{at}.maxUnavailable: Required value: cannot be 0 when maxSurge is 0"),
            ),
            (
                workload(json!({"updateStrategy": {"type": "X"}})),
                "spec.updateStrategy: Unsupported value: {\"Type\":\"X\",\"RollingUpdate\":null}: supported values: \"RollingUpdate\", \"OnDelete\"",
            ),
        ],
    );
}

#[test]
fn stateful_sets() {
    let claim = json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let mounted = json!({"spec": {"containers": [{"name": "a", "image": "x", "volumeMounts": [{"name": "data", "mountPath": "/d"}]}]}});
    table(
        "apps/v1",
        "StatefulSet",
        &[
            (workload(json!({"volumeClaimTemplates": [claim], "template": mounted})), ""),
            (
                workload(json!({"template": mounted})),
                "spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"data\"",
            ),
            (
                workload(json!({"podManagementPolicy": "X"})),
                "spec.podManagementPolicy: Invalid value: \"X\": must be 'OrderedReady' or 'Parallel'",
            ),
            (workload(json!({"podManagementPolicy": "Parallel"})), ""),
            (
                workload(json!({"updateStrategy": {"type": "X"}})),
                "spec.updateStrategy: Invalid value: {\"Type\":\"X\",\"RollingUpdate\":null}: must be 'RollingUpdate' or 'OnDelete'",
            ),
            (
                workload(json!({"updateStrategy": {"rollingUpdate": {"partition": -1}}})),
                "spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                workload(json!({"updateStrategy": {"rollingUpdate": {"maxUnavailable": 0}}})),
                "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: 0: cannot be 0",
            ),
            (
                workload(json!({"persistentVolumeClaimRetentionPolicy": {"whenScaled": "X"}})),
                "spec.persistentVolumeClaimRetentionPolicy.whenScaled: Unsupported value: \"X\": supported values: \"Retain\", \"Delete\"",
            ),
            (
                workload(json!({"ordinals": {"start": -1}})),
                "spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                with(workload(json!({})), json!({"metadata": {"name": "a.b"}})),
                "metadata.name: Invalid value: \"a.b\": must not contain dots",
            ),
        ],
    );
}

#[test]
fn older_and_other_kinds() {
    let controller =
        |more: Value| json!({"spec": with(json!({"selector": {"app": "x"}, "template": template()}), more)});
    table(
        "v1",
        "ReplicationController",
        &[
            (controller(json!({})), ""),
            (
                controller(json!({"selector": {"app": "y"}})),
                "spec.template.metadata.labels: Invalid value: {\"app\":\"x\"}: `selector` does not match template `labels`",
            ),
            (json!({"spec": {"selector": {"app": "x"}}}), "spec.template: Required value"),
            (
                controller(json!({"replicas": -1})),
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            ),
        ],
    );
    table(
        "apps/v1",
        "ControllerRevision",
        &[
            (json!({"data": {"a": "b"}, "revision": 1}), ""),
            (
                json!({"revision": -1}),
                "data: Required value: data is mandatory\nrevision: Invalid value: -1: must be greater than or equal to 0",
            ),
        ],
    );
    table(
        "v1",
        "PodTemplate",
        &[
            (json!({"template": template()}), ""),
            (json!({"template": {"spec": {}}}), "template.spec.containers: Required value"),
        ],
    );
}

#[test]
fn budgets() {
    table(
        "policy/v1",
        "PodDisruptionBudget",
        &[
            (json!({"spec": {"minAvailable": "50%", "selector": {"matchLabels": {"a": "b"}}}}), ""),
            (
                json!({"spec": {"minAvailable": "101%"}}),
                "spec.minAvailable: Invalid value: \"101%\": must not be greater than 100%",
            ),
            (
                json!({"spec": {"maxUnavailable": -1}}),
                "spec.maxUnavailable: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                json!({"spec": {"minAvailable": 1, "maxUnavailable": 1}}),
                "spec: Invalid value: {\"MinAvailable\":1,\"Selector\":null,\"MaxUnavailable\":1,\"UnhealthyPodEvictionPolicy\":null}: minAvailable and maxUnavailable cannot be both set",
            ),
            (
                json!({"spec": {"unhealthyPodEvictionPolicy": "X"}}),
                "spec.unhealthyPodEvictionPolicy: Unsupported value: \"X\": supported values: \"AlwaysAllow\", \"IfHealthyBudget\"",
            ),
            (json!({"spec": {"unhealthyPodEvictionPolicy": "AlwaysAllow"}}), ""),
        ],
    );
}

#[test]
fn autoscalers() {
    let autoscaler = |more: Value| {
        let spec = json!({"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "d"}});
        json!({"spec": with(spec, more)})
    };
    let metric = |metric: Value| autoscaler(json!({"metrics": [metric]}));
    let resource = |target: Value| metric(json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}));
    let down = |more: Value| autoscaler(json!({"behavior": {"scaleDown": more}}));
    let at = "spec.metrics[0]";
    let types = "supported values: \"ContainerResource\", \"External\", \"Object\", \"Pods\", \"Resource\"";
    table(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        &[
            (autoscaler(json!({})), ""),
            (
                autoscaler(json!({"minReplicas": 0})),
                "spec.minReplicas: Invalid value: 0: must be greater than or equal to 1",
            ),
            (resource(json!({"type": "Utilization", "averageUtilization": 50})), ""),
            (
                resource(json!({"type": "Utilization", "averageUtilization": 0})),
                &format!("{at}.resource.target.averageUtilization: Invalid value: 0: must be greater than 0"),
            ),
            (
                resource(json!({"type": "Utilization"})),
                &format!(
                    "{at}.resource.target.averageUtilization: Required value: must set either a target raw value or a target utilization"
                ),
            ),
            (
                resource(json!({"type": "Utilization", "averageUtilization": 50, "averageValue": "1"})),
                &format!(
                    "{at}.resource.target.averageValue: Forbidden: may not set both a target raw value and a target utilization"
                ),
            ),
            (
                resource(json!({"type": "X", "averageUtilization": 50})),
                &format!(
                    "{at}.resource.target.type: Invalid value: \"X\": must be either Utilization, Value, or AverageValue"
                ),
            ),
            (metric(json!({"type": "Y"})), &format!("{at}.type: Unsupported value: \"Y\": {types}")),
            (
                metric(json!({"type": "Pods"})),
                &format!("{at}.pods: Required value: must populate information for the given metric source"),
            ),
            (
                metric(
                    json!({"type": "Pods", "pods": {"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "-1"}}}),
                ),
                &format!("{at}.pods.target.averageValue: Invalid value: \"-1\": must be positive"),
            ),
            (
                metric(
                    json!({"type": "External", "external": {"metric": {}, "target": {"type": "Value", "value": "1"}}}),
                ),
                &format!("{at}.external.metric.name: Required value: must specify a metric name"),
            ),
            (
                metric(
                    json!({"type": "External", "external": {"metric": {"name": "m"}, "target": {"type": "Value", "value": "1"}}}),
                ),
                "",
            ),
            (
                metric(
                    json!({"type": "Object", "object": {"describedObject": {"kind": "Service", "name": "s"}, "metric": {"name": "m"}, "target": {"type": "Value"}}}),
                ),
                &format!(
                    "{at}.object.target.averageValue: Required value: must set either a target value or averageValue"
                ),
            ),
            (
                metric(
                    json!({"type": "ContainerResource", "containerResource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 1}}}),
                ),
                &format!("{at}.containerResource.container: Required value: must specify a container"),
            ),
            (down(json!({"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]})), ""),
            (
                down(json!({"policies": [{"type": "X", "value": 0, "periodSeconds": 1801}]})),
                "spec.behavior.scaleDown.policies[0].type: Unsupported value: \"X\": supported values: \"Percent\", \"Pods\"\nspec.behavior.scaleDown.policies[0].value: Invalid value: 0: must be greater than zero\nspec.behavior.scaleDown.policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to 1800",
            ),
            (
                down(json!({"selectPolicy": "X"})),
                "spec.behavior.scaleDown.selectPolicy: Unsupported value: \"X\": supported values: \"Disabled\", \"Max\", \"Min\"",
            ),
            (
                down(json!({"stabilizationWindowSeconds": 3601})),
                "spec.behavior.scaleDown.stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to 3600",
            ),
        ],
    );
    table(
        "autoscaling/v1",
        "HorizontalPodAutoscaler",
        &[
            (autoscaler(json!({"targetCPUUtilizationPercentage": 50})), ""),
            (
                autoscaler(json!({"targetCPUUtilizationPercentage": 0})),
                &format!("{at}.resource.target.averageUtilization: Invalid value: 0: must be greater than 0"),
            ),
        ],
    );
}

/// What is left out is there and empty: its own defaults hold.
#[test]
fn nothing_at_all() {
    const NO_LABELS: &str =
        "spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`";
    const NO_CONTAINERS: &str = "spec.template.spec.containers: Required value";
    const NO_RESTARTS: &str =
        "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"";
    for name in ["Deployment", "ReplicaSet", "StatefulSet"] {
        let said = format!("spec.selector: Required value\n{NO_LABELS}\n{NO_CONTAINERS}");
        table("apps/v1", name, &[(json!({}), &said)]);
    }
    table("apps/v1", "DaemonSet", &[(json!({}), &format!("{NO_LABELS}\n{NO_CONTAINERS}"))]);
    table("batch/v1", "Job", &[(json!({}), &format!("{NO_CONTAINERS}\n{NO_RESTARTS}"))]);
    table("v1", "Pod", &[(json!({}), "spec.containers: Required value")]);
    table("v1", "Service", &[(json!({}), "spec.ports: Required value")]);
}
