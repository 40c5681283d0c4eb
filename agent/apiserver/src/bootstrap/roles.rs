//! The default roles and bindings, as tables: <https://kubernetes.io/docs/reference/access-authn-authz/rbac/>.

use serde_json::{Value, json};

/// Verbs, API groups, resources.
type Rule = (&'static [&'static str], &'static [&'static str], &'static [&'static str]);

const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];
const ALL: &[&str] = &["*"];
const CORE: &[&str] = &[""];

const VIEW: &[Rule] = &[
    (
        READ,
        CORE,
        &[
            "configmaps",
            "endpoints",
            "persistentvolumeclaims",
            "persistentvolumeclaims/status",
            "pods",
            "replicationcontrollers",
            "replicationcontrollers/scale",
            "serviceaccounts",
            "services",
            "services/status",
            "bindings",
            "events",
            "limitranges",
            "namespaces/status",
            "pods/log",
            "pods/status",
            "replicationcontrollers/status",
            "resourcequotas",
            "resourcequotas/status",
            "namespaces",
        ],
    ),
    (READ, &["discovery.k8s.io"], &["endpointslices"]),
    (READ, &["events.k8s.io"], &["events"]),
    (
        READ,
        &["apps"],
        &[
            "controllerrevisions",
            "daemonsets",
            "daemonsets/status",
            "deployments",
            "deployments/scale",
            "deployments/status",
            "replicasets",
            "replicasets/scale",
            "replicasets/status",
            "statefulsets",
            "statefulsets/scale",
            "statefulsets/status",
        ],
    ),
    (READ, &["autoscaling"], &["horizontalpodautoscalers", "horizontalpodautoscalers/status"]),
    (READ, &["batch"], &["cronjobs", "cronjobs/status", "jobs", "jobs/status"]),
    (READ, &["policy"], &["poddisruptionbudgets", "poddisruptionbudgets/status"]),
    (READ, &["networking.k8s.io"], &["ingresses", "ingresses/status", "networkpolicies"]),
];

const EDIT: &[Rule] = &[
    (READ, CORE, &["pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "secrets", "services/proxy"]),
    (&["impersonate"], CORE, &["serviceaccounts"]),
    (WRITE, CORE, &["pods", "pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "pods/ephemeralcontainers"]),
    (&["create"], CORE, &["pods/eviction", "serviceaccounts/token"]),
    (
        WRITE,
        CORE,
        &[
            "configmaps",
            "events",
            "persistentvolumeclaims",
            "replicationcontrollers",
            "replicationcontrollers/scale",
            "secrets",
            "serviceaccounts",
            "services",
            "services/proxy",
        ],
    ),
    (
        WRITE,
        &["apps"],
        &[
            "daemonsets",
            "deployments",
            "deployments/rollback",
            "deployments/scale",
            "replicasets",
            "replicasets/scale",
            "statefulsets",
            "statefulsets/scale",
        ],
    ),
    (WRITE, &["autoscaling"], &["horizontalpodautoscalers"]),
    (WRITE, &["batch"], &["cronjobs", "jobs"]),
    (WRITE, &["policy"], &["poddisruptionbudgets"]),
    (WRITE, &["networking.k8s.io"], &["ingresses", "networkpolicies"]),
    (
        &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        &["coordination.k8s.io"],
        &["leases"],
    ),
];

const ADMIN: &[Rule] = &[
    (&["create"], &["authorization.k8s.io"], &["localsubjectaccessreviews"]),
    (
        &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        &["rbac.authorization.k8s.io"],
        &["rolebindings", "roles"],
    ),
];

const BASIC_USER: &[Rule] = &[
    (&["create"], &["authorization.k8s.io"], &["selfsubjectaccessreviews", "selfsubjectrulesreviews"]),
    (&["create"], &["authentication.k8s.io"], &["selfsubjectreviews"]),
];

const AUTH_DELEGATOR: &[Rule] = &[
    (&["create"], &["authentication.k8s.io"], &["tokenreviews"]),
    (&["create"], &["authorization.k8s.io"], &["subjectaccessreviews"]),
];

const DISCOVERY_PATHS: &[&str] = &[
    "/api",
    "/api/*",
    "/apis",
    "/apis/*",
    "/healthz",
    "/livez",
    "/openapi",
    "/openapi/*",
    "/readyz",
    "/version",
    "/version/",
];
const PUBLIC_PATHS: &[&str] = &["/healthz", "/livez", "/readyz", "/version", "/version/"];
const MONITORING_PATHS: &[&str] =
    &["/healthz", "/healthz/*", "/livez", "/livez/*", "/metrics", "/metrics/slis", "/readyz", "/readyz/*"];

pub(super) fn cluster_roles() -> Vec<Value> {
    vec![
        with_paths(role("cluster-admin", &[(ALL, ALL, ALL)]), ALL, ALL),
        aggregated("admin", "admin"),
        labelled(aggregated("edit", "edit"), "admin"),
        labelled(aggregated("view", "view"), "edit"),
        labelled(role("system:aggregate-to-admin", ADMIN), "admin"),
        labelled(role("system:aggregate-to-edit", EDIT), "edit"),
        labelled(role("system:aggregate-to-view", VIEW), "view"),
        role("system:basic-user", BASIC_USER),
        role("system:auth-delegator", AUTH_DELEGATOR),
        with_paths(role("system:discovery", &[]), &["get"], DISCOVERY_PATHS),
        with_paths(role("system:public-info-viewer", &[]), &["get"], PUBLIC_PATHS),
        with_paths(role("system:monitoring", &[]), &["get"], MONITORING_PATHS),
    ]
}

pub(super) fn cluster_role_bindings() -> Vec<Value> {
    vec![
        binding("cluster-admin", &["system:masters"]),
        binding("system:basic-user", &["system:authenticated"]),
        binding("system:discovery", &["system:authenticated"]),
        binding("system:public-info-viewer", &["system:authenticated", "system:unauthenticated"]),
        binding("system:monitoring", &["system:monitoring"]),
    ]
}

fn role(name: &str, rules: &[Rule]) -> Value {
    let rules: Vec<Value> = rules
        .iter()
        .map(|(verbs, groups, resources)| json!({"verbs": verbs, "apiGroups": groups, "resources": resources}))
        .collect();
    json!({"metadata": {"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}}, "rules": rules})
}

fn with_paths(mut role: Value, verbs: &[&str], paths: &[&str]) -> Value {
    if let Some(rules) = role["rules"].as_array_mut() {
        rules.push(json!({"verbs": verbs, "nonResourceURLs": paths}));
    }
    role
}

fn aggregation_label(to: &str) -> String {
    format!("rbac.authorization.k8s.io/aggregate-to-{to}")
}

/// A role made of all roles labelled for it; `edit` carries the label of `admin`, and so on, so that each includes
/// the lesser ones.
fn aggregated(name: &str, label: &str) -> Value {
    let lesser: &[&str] = match name {
        "admin" => &["admin", "edit", "view"],
        "edit" => &["edit", "view"],
        _ => &["view"],
    };
    debug_assert_eq!(name, label);
    let selectors: Vec<Value> =
        lesser.iter().map(|to| json!({"matchLabels": {aggregation_label(to): "true"}})).collect();
    let mut role = role(name, &[]);
    role["aggregationRule"] = json!({"clusterRoleSelectors": selectors});
    role
}

fn labelled(mut role: Value, to: &str) -> Value {
    role["metadata"]["labels"][aggregation_label(to)] = json!("true");
    role
}

fn binding(role: &str, groups: &[&str]) -> Value {
    let subjects: Vec<Value> = groups
        .iter()
        .map(|name| json!({"kind": "Group", "name": name, "apiGroup": "rbac.authorization.k8s.io"}))
        .collect();
    json!({
        "metadata": {"name": role, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": subjects,
    })
}
