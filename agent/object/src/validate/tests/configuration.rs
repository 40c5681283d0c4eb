//! Secrets, quotas, limits, priorities and roles.

use super::*;

#[test]
fn secrets() {
    let config = |json: &str| {
        let data = crate::base64::encode(json.as_bytes());
        json!({"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": data}})
    };
    let at = "data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\"";
    table(
        "v1",
        "Secret",
        &[
            (config("{\"auths\": {}}"), ""),
            (config("no"), &format!("{at}: invalid character 'o' in literal or value")),
            (config("x"), &format!("{at}: invalid character 'x' looking for beginning of value")),
            (config(""), &format!("{at}: unexpected end of JSON input")),
            (
                config("[]"),
                &format!("{at}: json: cannot unmarshal array into Go value of type map[string]interface {{}}"),
            ),
            (json!({"type": "kubernetes.io/dockerconfigjson"}), "data[.dockerconfigjson]: Required value"),
            (
                json!({"type": "kubernetes.io/ssh-auth", "data": {"ssh-privatekey": ""}}),
                "data[ssh-privatekey]: Required value",
            ),
            (json!({"type": "kubernetes.io/ssh-auth", "data": {"ssh-privatekey": "eA=="}}), ""),
            (
                json!({"type": "kubernetes.io/basic-auth"}),
                "data[username]: Required value\ndata[password]: Required value",
            ),
            (json!({"type": "kubernetes.io/basic-auth", "data": {"username": ""}}), ""),
            (
                json!({"type": "kubernetes.io/service-account-token"}),
                "metadata.annotations[kubernetes.io/service-account.name]: Required value",
            ),
        ],
    );
}

#[test]
fn resource_quotas() {
    let quota = |spec: Value| json!({"spec": spec});
    let hard = |name: &str, amount: &str| quota(json!({"hard": {name: amount}}));
    let selector =
        |expression: Value| quota(json!({"hard": {"pods": "1"}, "scopeSelector": {"matchExpressions": [expression]}}));
    let at = "spec.scopeSelector.matchExpressions";
    table(
        "v1",
        "ResourceQuota",
        &[
            (hard("requests.nvidia.com/gpu", "1"), ""),
            (hard("count/pods", "1"), ""),
            (hard("services.nodeports", "2"), ""),
            (
                hard("disk", "1"),
                "spec.hard[disk]: Invalid value: \"disk\": must be a standard resource type or fully qualified\nspec.hard[disk]: Invalid value: \"disk\": must be a standard resource for quota",
            ),
            (
                hard("storage", "1"),
                "spec.hard[storage]: Invalid value: \"storage\": must be a standard resource for quota",
            ),
            (hard("pods", "500m"), "spec.hard[pods]: Invalid value: \"500m\": must be an integer"),
            (hard("cpu", "-1"), "spec.hard[cpu]: Invalid value: \"-1\": must be greater than or equal to 0"),
            (quota(json!({"hard": {"pods": "1"}, "scopes": ["BestEffort"]})), ""),
            (
                quota(json!({"hard": {"cpu": "1"}, "scopes": ["BestEffort"]})),
                "spec.scopes: Invalid value: [\"BestEffort\"]: unsupported scope applied to resource",
            ),
            (
                quota(json!({"hard": {"pods": "1"}, "scopes": ["X"]})),
                "spec.scopes: Invalid value: [\"X\"]: unsupported scope",
            ),
            (
                quota(json!({"hard": {"pods": "1"}, "scopes": ["BestEffort", "NotBestEffort"]})),
                "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: conflicting scopes",
            ),
            (selector(json!({"scopeName": "PriorityClass", "operator": "In", "values": ["high"]})), ""),
            (
                selector(json!({"scopeName": "PriorityClass", "operator": "In"})),
                &format!(
                    "{at}.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
                ),
            ),
            (
                selector(json!({"scopeName": "PriorityClass", "operator": "X"})),
                &format!("{at}.operator: Invalid value: \"X\": not a valid selector operator"),
            ),
            (
                selector(json!({"scopeName": "X", "operator": "Exists"})),
                &format!("{at}.scopeName: Invalid value: \"X\": unsupported scope"),
            ),
        ],
    );
}

#[test]
fn limit_ranges() {
    let range = |item: Value| json!({"spec": {"limits": [item]}});
    let at = "spec.limits[0]";
    table("v1", "LimitRange", &[
        (range(json!({"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "1"}})), ""),
        (range(json!({"type": "X"})), &format!("{at}.type: Invalid value: \"X\": must be a standard limit type or fully qualified")),
        (range(json!({"type": "Pod", "max": {"cpu": "1"}, "min": {"cpu": "2"}})), &format!("{at}.min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1")),
        (range(json!({"type": "Pod", "default": {"cpu": "1"}})), &format!("{at}.default: Forbidden: may not be specified when `type` is 'Pod'")),
        (range(json!({"type": "PersistentVolumeClaim"})), &format!("{at}.limits: Required value: either minimum or maximum storage value is required, but neither was provided")),
        (range(json!({"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}})), ""),
        (range(json!({"type": "Container", "max": {"disk": "1"}})), &["max", "default", "defaultRequest"].map(|list| format!("{at}.{list}[disk]: Invalid value: \"disk\": must be a standard resource type or fully qualified\n{at}.{list}[disk]: Invalid value: \"disk\": must be a standard resource for containers")).join("\n")),
        (range(json!({"type": "Pod", "maxLimitRequestRatio": {"cpu": "500m"}})), &format!("{at}.maxLimitRequestRatio[cpu]: Invalid value: \"500m\": ratio 500m is less than 1")),
        (range(json!({"type": "Pod", "maxLimitRequestRatio": {"cpu": "10"}, "min": {"cpu": "1"}, "max": {"cpu": "2"}})), &format!("{at}.maxLimitRequestRatio[cpu]: Invalid value: \"10\": ratio 10 is greater than max/min = 2.000000")),
    ]);
}

#[test]
fn classes_of_pods() {
    let named = |name: &str, value: i64| json!({"metadata": {"name": name}, "value": value});
    let reserved =
        "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error:";
    table(
        "scheduling.k8s.io/v1",
        "PriorityClass",
        &[
            (named("a", 1_000_000_000), ""),
            (
                named("a", 1_000_000_001),
                "value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
            ),
            (named("system-mine", 1), &format!("{reserved} system-mine is not a known system priority class")),
            (
                named("system-node-critical", 1),
                &format!("{reserved} value of system-node-critical PriorityClass must be 2000001000"),
            ),
            (
                with(named("a", 1), json!({"preemptionPolicy": "X"})),
                "preemptionPolicy: Unsupported value: \"X\": supported values: \"PreemptLowerPriority\", \"Never\"",
            ),
        ],
    );
    table(
        "node.k8s.io/v1",
        "RuntimeClass",
        &[
            (json!({"handler": "h", "overhead": {"podFixed": {"cpu": "1"}}}), ""),
            (
                json!({"handler": "h", "overhead": {"podFixed": {"cpu": "-1"}}}),
                "overhead.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
            ),
            (
                json!({"handler": "h", "scheduling": {"tolerations": [{"key": "a", "operator": "X"}]}}),
                "scheduling.tolerations[0].operator: Unsupported value: \"X\": supported values: \"Equal\", \"Exists\"",
            ),
        ],
    );
    table(
        "coordination.k8s.io/v1",
        "Lease",
        &[
            (json!({"spec": {"leaseDurationSeconds": 15}}), ""),
            (
                json!({"spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1}}),
                "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0\nspec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
            ),
        ],
    );
}

#[test]
fn bindings() {
    let binding = |subject: Value| json!({"roleRef": {"kind": "ClusterRole", "name": "a"}, "subjects": [subject]});
    let account = json!({"kind": "ServiceAccount", "name": "a"});
    table(
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        &[
            (binding(account.clone()), ""),
            (
                binding(json!({"kind": "X", "name": "a"})),
                "subjects[0].kind: Unsupported value: \"X\": supported values: \"ServiceAccount\", \"User\", \"Group\"",
            ),
            (
                binding(json!({"kind": "User", "name": "a", "apiGroup": "x"})),
                "subjects[0].apiGroup: Unsupported value: \"x\": supported values: \"rbac.authorization.k8s.io\"",
            ),
        ],
    );
    table(
        "rbac.authorization.k8s.io/v1",
        "ClusterRoleBinding",
        &[
            (binding(account), "subjects[0].namespace: Required value"),
            (binding(json!({"kind": "ServiceAccount", "name": "a", "namespace": "n"})), ""),
        ],
    );
    table(
        "v1",
        "Namespace",
        &[
            (json!({"spec": {"finalizers": ["kubernetes"]}}), ""),
            (
                json!({"spec": {"finalizers": ["x"]}}),
                "spec.finalizers: Invalid value: \"x\": name is neither a standard finalizer name nor is it fully qualified",
            ),
        ],
    );
}
