//! The default roles and bindings, as tables: <https://kubernetes.io/docs/reference/access-authn-authz/rbac/>.

use serde_json::{Value, json};

use crate::users::CONTROLLERS;

mod parts;
mod update;

pub(super) use update::brought_up;

/// Verbs, API groups, resources.
type Rule = (&'static [&'static str], &'static [&'static str], &'static [&'static str]);

const GROUP: &str = "rbac.authorization.k8s.io";
const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];
const ALL: &[&str] = &["*"];
const CORE: &[&str] = &[""];

const ISSUER_PATHS: &[&str] =
    &["/.well-known/openid-configuration", "/.well-known/openid-configuration/", "/openid/v1/jwks", "/openid/v1/jwks/"];

/// Upstream's metrics server brings it.
const METRICS: &[Rule] = &[(READ, &["metrics.k8s.io"], &["nodes", "pods"])];

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

/// A role or a binding as it is made: its kind, its namespace, and itself.
pub(super) struct Default {
    pub(super) kind: &'static str,
    pub(super) namespace: Option<&'static str>,
    pub(super) object: Value,
}

/// All of them.
pub(super) fn defaults() -> Vec<Default> {
    let role = |object| Default { kind: "ClusterRole", namespace: None, object };
    let binding = |object| Default { kind: "ClusterRoleBinding", namespace: None, object };
    let general = cluster_roles().into_iter().map(role).chain(cluster_role_bindings().into_iter().map(binding));
    general.chain(parts::PARTS.iter().flat_map(of_part)).collect()
}

fn cluster_roles() -> Vec<Value> {
    vec![
        with_paths(role("cluster-admin", &[(ALL, ALL, ALL)]), ALL, ALL),
        aggregated("admin", "admin"),
        labelled(aggregated("edit", "edit"), "admin"),
        labelled(aggregated("view", "view"), "edit"),
        labelled(role("system:aggregate-to-admin", ADMIN), "admin"),
        labelled(role("system:aggregate-to-edit", EDIT), "edit"),
        labelled(role("system:aggregate-to-view", VIEW), "view"),
        labelled(role("system:aggregated-metrics-reader", METRICS), "view"),
        role("system:basic-user", BASIC_USER),
        role("system:auth-delegator", AUTH_DELEGATOR),
        with_paths(role("system:discovery", &[]), &["get"], DISCOVERY_PATHS),
        with_paths(role("system:public-info-viewer", &[]), &["get"], PUBLIC_PATHS),
        with_paths(role("system:monitoring", &[]), &["get"], MONITORING_PATHS),
        with_paths(role("system:service-account-issuer-discovery", &[]), &["get"], ISSUER_PATHS),
    ]
}

fn cluster_role_bindings() -> Vec<Value> {
    let all = [
        ("cluster-admin", &["system:masters"] as &[&'static str]),
        ("system:basic-user", &["system:authenticated"]),
        ("system:discovery", &["system:authenticated"]),
        ("system:public-info-viewer", &["system:authenticated", "system:unauthenticated"]),
        ("system:monitoring", &["system:monitoring"]),
        ("system:service-account-issuer-discovery", &["system:serviceaccounts"]),
    ];
    let bound = |(role, groups): (&str, &[&'static str])| {
        let groups = groups.iter().map(|name| subject(&parts::Subject::Group(name)));
        binding("ClusterRole", role, groups.collect())
    };
    all.map(bound).to_vec()
}

/// The role of a part and who has it.
fn of_part(part: &parts::Part) -> [Default; 2] {
    let mut made = role(part.role, part.rules);
    if !part.names.is_empty() {
        for rule in made["rules"].as_array_mut().into_iter().flatten() {
            rule["resourceNames"] = json!(part.names);
        }
    }
    if !part.paths.is_empty() {
        made = with_paths(made, &["get"], part.paths);
    }
    let (role_kind, binding_kind) = match part.namespace {
        Some(_) => ("Role", "RoleBinding"),
        None => ("ClusterRole", "ClusterRoleBinding"),
    };
    let bound = binding(role_kind, part.role, part.subjects.iter().map(subject).collect());
    let default = |kind, object| Default { kind, namespace: part.namespace, object };
    [default(role_kind, made), default(binding_kind, bound)]
}

fn subject(subject: &parts::Subject) -> Value {
    match subject {
        parts::Subject::User(name) => json!({"kind": "User", "name": name, "apiGroup": GROUP}),
        parts::Subject::Group(name) => json!({"kind": "Group", "name": name, "apiGroup": GROUP}),
        parts::Subject::Account(name) => json!({"kind": "ServiceAccount", "name": name, "namespace": CONTROLLERS}),
    }
}

/// As upstream marks what it makes and keeps up to date.
fn metadata(name: &str) -> Value {
    json!({"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        "annotations": {update::AUTOUPDATE: "true"}})
}

fn role(name: &str, rules: &[Rule]) -> Value {
    let rules: Vec<Value> = rules
        .iter()
        .map(|(verbs, groups, resources)| json!({"verbs": verbs, "apiGroups": groups, "resources": resources}))
        .collect();
    json!({"metadata": metadata(name), "rules": rules})
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

fn binding(kind: &str, role: &str, subjects: Vec<Value>) -> Value {
    json!({
        "metadata": metadata(role),
        "roleRef": {"apiGroup": GROUP, "kind": kind, "name": role},
        "subjects": subjects,
    })
}
