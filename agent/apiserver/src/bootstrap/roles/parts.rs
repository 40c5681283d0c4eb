//! The roles of what the cluster consists of: nodes, the scheduler, each controller, and Skiff's own parts. Upstream's
//! where upstream has them: <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#core-component-roles>.

use super::{CORE, READ, Rule};

/// Who has a role.
pub enum Subject {
    User(&'static str),
    Group(&'static str),
    /// A service account of `kube-system`.
    Account(&'static str),
}

/// One role and who has it.
pub struct Part {
    pub role: &'static str,
    /// `None`: everywhere.
    pub namespace: Option<&'static str>,
    pub subjects: &'static [Subject],
    pub rules: &'static [Rule],
    /// Names that the rules are about; none: all.
    pub names: &'static [&'static str],
    pub paths: &'static [&'static str],
}

const SIGNING: &[&str] = &["certificates.k8s.io"];
const COORDINATION: &[&str] = &["coordination.k8s.io"];
const DISCOVERY: &[&str] = &["discovery.k8s.io"];
const NETWORKING: &[&str] = &["networking.k8s.io"];
const APPS: &[&str] = &["apps"];
const BATCH: &[&str] = &["batch"];
const ANY: &[&str] = &["*"];
const CHANGE: &[&str] = &["patch", "update"];
const OBSERVE: &[&str] = &["list", "watch"];
/// Of what is made, looked after and removed.
const KEEP: &[&str] = &["create", "delete", "get", "list", "patch", "update", "watch"];
const EVENTS: Rule = (&["create", "patch", "update"], &["", "events.k8s.io"], &["events"]);
const TRAFFIC_LEASES: Rule = (&["create", "get", "patch"], COORDINATION, &["leases"]);
const REVIEWS: [Rule; 2] = [
    (&["create"], &["authentication.k8s.io"], &["tokenreviews"]),
    (&["create"], &["authorization.k8s.io"], &["subjectaccessreviews"]),
];

const FEED: &str = "/skiff/v1/metadata";

/// Everywhere, for all objects, and no path.
const fn part(role: &'static str, subjects: &'static [Subject], rules: &'static [Rule]) -> Part {
    Part { role, namespace: None, subjects, rules, names: &[], paths: &[] }
}

const fn within(namespace: &'static str, part: Part) -> Part {
    Part { namespace: Some(namespace), ..part }
}

/// What nodes do at all. Nobody is bound to it: the node authorizer grants each node what of this is its own.
const NODE: &[Rule] = &[
    REVIEWS[0],
    REVIEWS[1],
    EVENTS,
    (READ, CORE, &["services", "endpoints"]),
    (&["create", "get", "list", "watch", "patch", "update"], CORE, &["nodes"]),
    (CHANGE, CORE, &["nodes/status", "pods/status"]),
    (&["get", "list", "watch", "delete"], CORE, &["pods"]),
    (&["create"], CORE, &["pods/eviction", "serviceaccounts/token"]),
    (READ, CORE, &["configmaps", "secrets"]),
    (&["get"], CORE, &["persistentvolumeclaims"]),
    (&["create", "delete", "get", "patch", "update"], COORDINATION, &["leases"]),
    (READ, &["node.k8s.io"], &["runtimeclasses"]),
];

/// How traffic to a node's pods is sent, and how far others are with it before one is stopped.
const NODE_TRAFFIC: &[Rule] = &[(READ, DISCOVERY, &["endpointslices"])];

const SCHEDULER: &[Rule] = &[
    REVIEWS[0],
    REVIEWS[1],
    EVENTS,
    (&["create", "get", "list", "patch", "update", "watch"], COORDINATION, &["leases"]),
    (READ, CORE, &["nodes", "namespaces", "services", "replicationcontrollers"]),
    (&["delete", "get", "list", "watch"], CORE, &["pods"]),
    (&["create"], CORE, &["bindings", "pods/binding"]),
    (CHANGE, CORE, &["pods/status"]),
    (READ, APPS, &["replicasets", "statefulsets"]),
    (READ, &["policy"], &["poddisruptionbudgets"]),
    (READ, CORE, &["persistentvolumeclaims", "persistentvolumes"]),
    (READ, &["storage.k8s.io"], &["csinodes", "storageclasses"]),
];

/// The caches that controllers share are of any kind.
const CONTROLLER_MANAGER: &[Rule] = &[(OBSERVE, ANY, ANY)];

const DEPLOYMENTS: &[Rule] = &[
    EVENTS,
    (&["get", "list", "patch", "update", "watch"], APPS, &["deployments"]),
    (CHANGE, APPS, &["deployments/status", "deployments/finalizers"]),
    (KEEP, APPS, &["replicasets"]),
    (&["get", "list", "update", "watch"], CORE, &["pods"]),
];

const REPLICA_SETS: &[Rule] = &[
    EVENTS,
    (&["get", "list", "update", "watch"], APPS, &["replicasets"]),
    (CHANGE, APPS, &["replicasets/status", "replicasets/finalizers"]),
    (&["create", "delete", "list", "patch", "watch"], CORE, &["pods"]),
];

const DAEMON_SETS: &[Rule] = &[
    EVENTS,
    (READ, APPS, &["daemonsets"]),
    (CHANGE, APPS, &["daemonsets/status", "daemonsets/finalizers"]),
    (KEEP, APPS, &["controllerrevisions"]),
    (READ, CORE, &["nodes"]),
    (&["create", "delete", "list", "patch", "watch"], CORE, &["pods"]),
];

const STATEFUL_SETS: &[Rule] = &[
    EVENTS,
    (READ, APPS, &["statefulsets"]),
    (CHANGE, APPS, &["statefulsets/status", "statefulsets/finalizers"]),
    (KEEP, APPS, &["controllerrevisions"]),
    (KEEP, CORE, &["pods"]),
    (CHANGE, CORE, &["pods/finalizers"]),
    (&["create", "get", "list", "patch", "update", "watch"], CORE, &["persistentvolumeclaims"]),
];

const REPLICATION_CONTROLLERS: &[Rule] = &[
    EVENTS,
    (&["get", "list", "update", "watch"], CORE, &["replicationcontrollers"]),
    (CHANGE, CORE, &["replicationcontrollers/finalizers", "replicationcontrollers/status"]),
    (&["create", "delete", "list", "patch", "watch"], CORE, &["pods"]),
];

/// Counts what disruption budgets allow.
const DISRUPTION: &[Rule] = &[
    EVENTS,
    (READ, APPS, &["deployments", "replicasets", "statefulsets"]),
    (READ, CORE, &["pods", "replicationcontrollers"]),
    (READ, &["policy"], &["poddisruptionbudgets"]),
    (CHANGE, &["policy"], &["poddisruptionbudgets/status"]),
    (&["patch"], CORE, &["pods/status"]),
    (&["get"], ANY, &["*/scale"]),
];

/// Fills the rules of roles that are made of others: whatever those grant.
const ROLE_AGGREGATION: &[Rule] =
    &[(&["escalate", "get", "list", "patch", "update", "watch"], &["rbac.authorization.k8s.io"], &["clusterroles"])];

const AUTOSCALERS: &[Rule] = &[
    EVENTS,
    (READ, &["autoscaling"], &["horizontalpodautoscalers"]),
    (CHANGE, &["autoscaling"], &["horizontalpodautoscalers/status"]),
    (&["get", "update"], ANY, &["*/scale"]),
    (&["list", "watch"], CORE, &["pods"]),
    (&["list"], &["metrics.k8s.io"], &["pods"]),
    (&["get", "list"], &["custom.metrics.k8s.io", "external.metrics.k8s.io"], ANY),
];

/// Makes the pods of jobs, and takes off the finalizer by which it counts them.
const JOBS: &[Rule] = &[
    EVENTS,
    (&["get", "list", "patch", "update", "watch"], BATCH, &["jobs"]),
    (CHANGE, BATCH, &["jobs/status", "jobs/finalizers"]),
    (&["create", "delete", "list", "patch", "watch"], CORE, &["pods"]),
];

const FINISHED_JOBS: &[Rule] = &[EVENTS, (&["delete", "get", "list", "watch"], BATCH, &["jobs"])];

const CRON_JOBS: &[Rule] = &[
    EVENTS,
    (&["get", "list", "update", "watch"], BATCH, &["cronjobs"]),
    (CHANGE, BATCH, &["cronjobs/status", "cronjobs/finalizers"]),
    (KEEP, BATCH, &["jobs"]),
];

/// Endpoints, their slices, and the mirrors of those that people made.
const ENDPOINTS: &[Rule] = &[
    EVENTS,
    (READ, CORE, &["pods", "services", "nodes"]),
    (KEEP, CORE, &["endpoints"]),
    (&["create"], CORE, &["endpoints/restricted"]),
    (CHANGE, CORE, &["services/finalizers"]),
    (KEEP, DISCOVERY, &["endpointslices"]),
    (&["create"], DISCOVERY, &["endpointslices/restricted"]),
];

/// The default account of each namespace, and what its pods trust.
const SERVICE_ACCOUNTS: &[Rule] = &[
    EVENTS,
    (READ, CORE, &["namespaces"]),
    (&["create", "get", "list", "watch"], CORE, &["serviceaccounts"]),
    (&["create", "get", "list", "patch", "update", "watch"], CORE, &["configmaps"]),
];

/// Fills the secrets that ask for an account's token.
const ACCOUNT_TOKENS: &[Rule] = &[
    EVENTS,
    (&["delete", "get", "list", "patch", "watch"], CORE, &["secrets"]),
    (&["create"], CORE, &["serviceaccounts/token"]),
];

/// Decides of the certificates of nodes, and signs for the box.
const CERTIFICATES: &[Rule] = &[
    EVENTS,
    REVIEWS[1],
    (&["delete", "get", "list", "watch"], &["certificates.k8s.io"], &["certificatesigningrequests"]),
    (CHANGE, &["certificates.k8s.io"], &["certificatesigningrequests/approval", "certificatesigningrequests/status"]),
    (&["approve", "sign"], &["certificates.k8s.io"], &["signers"]),
];

const NAMESPACES: &[Rule] = &[
    EVENTS,
    (&["delete", "get", "list", "watch"], CORE, &["namespaces"]),
    (CHANGE, CORE, &["namespaces/finalize", "namespaces/status"]),
    (&["delete", "deletecollection", "get", "list"], ANY, ANY),
];

const NODES: &[Rule] = &[
    EVENTS,
    (&["delete", "get", "list", "patch", "update", "watch"], CORE, &["nodes"]),
    (CHANGE, CORE, &["nodes/status", "pods/status"]),
    (&["delete", "get", "list", "watch"], CORE, &["pods"]),
    (READ, COORDINATION, &["leases"]),
];

/// Gives nodes their ranges of pod addresses.
const NODE_RANGES: &[Rule] = &[EVENTS, (&["get", "list", "patch", "watch"], CORE, &["nodes"])];

/// Removes pods that ended, or whose node is gone.
const POD_GARBAGE: &[Rule] = &[
    EVENTS,
    (READ, CORE, &["nodes"]),
    (&["delete", "get", "list", "watch"], CORE, &["pods"]),
    (CHANGE, CORE, &["pods/status"]),
];

/// Counts what is used of quotas, which may limit any kind.
const RESOURCE_QUOTAS: &[Rule] =
    &[(READ, CORE, &["resourcequotas"]), (CHANGE, CORE, &["resourcequotas/status"]), (&["list"], ANY, ANY)];

const GARBAGE: &[Rule] = &[EVENTS, (&["delete", "get", "list", "patch", "update", "watch"], ANY, ANY)];

const NETWORK: &[Rule] = &[
    EVENTS,
    (READ, CORE, &["nodes", "pods", "services"]),
    (CHANGE, CORE, &["services/status"]),
    (READ, DISCOVERY, &["endpointslices"]),
];

/// The Service of cluster DNS, which it makes.
const DNS_SERVICE: &[Rule] = &[(&["create", "get", "patch", "update"], CORE, &["endpoints", "services"])];

const INGRESS: &[Rule] = &[
    EVENTS,
    (READ, CORE, &["nodes", "services"]),
    (READ, DISCOVERY, &["endpointslices"]),
    (READ, NETWORKING, &["ingresses"]),
    (&["create", "get", "list", "watch"], NETWORKING, &["ingressclasses"]),
    (CHANGE, NETWORKING, &["ingresses/status"]),
    // The certificates that it reads, orders and renews are in the namespaces of their Ingresses.
    (KEEP, CORE, &["secrets"]),
];

const CONSOLE: &[Rule] = &[(&["get", "list"], CORE, &["nodes", "pods"])];

const AGENT: &[Rule] = &[(READ, CORE, &["namespaces", "nodes", "pods"])];

pub const PARTS: &[Part] = &[
    // Nobody has it before an API server behind this one is installed.
    Part {
        names: &["extension-apiserver-authentication"],
        ..within(
            "kube-system",
            part("extension-apiserver-authentication-reader", &[], &[(READ, CORE, &["configmaps"])]),
        )
    },
    part("system:node", &[], NODE),
    // Who joins with a token is bound to these by whoever wants that.
    part(
        "system:node-bootstrapper",
        &[],
        &[(&["create", "get", "list", "watch"], SIGNING, &["certificatesigningrequests"])],
    ),
    part(
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        &[],
        &[(&["create"], SIGNING, &["certificatesigningrequests/nodeclient"])],
    ),
    part(
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        &[],
        &[(&["create"], SIGNING, &["certificatesigningrequests/selfnodeclient"])],
    ),
    part("system:skiff:node", &[Subject::Group("system:nodes")], NODE_TRAFFIC),
    within(
        "kube-node-lease",
        part("system:skiff:node", &[Subject::Group("system:nodes")], &[(&["get", "list"], COORDINATION, &["leases"])]),
    ),
    part("system:kube-scheduler", &[Subject::User("system:kube-scheduler")], SCHEDULER),
    part("system:kube-controller-manager", &[Subject::User("system:kube-controller-manager")], CONTROLLER_MANAGER),
    part("system:controller:deployment-controller", &[Subject::Account("deployment-controller")], DEPLOYMENTS),
    part("system:controller:replicaset-controller", &[Subject::Account("replicaset-controller")], REPLICA_SETS),
    part("system:controller:daemon-set-controller", &[Subject::Account("daemon-set-controller")], DAEMON_SETS),
    part("system:controller:statefulset-controller", &[Subject::Account("statefulset-controller")], STATEFUL_SETS),
    part(
        "system:controller:replication-controller",
        &[Subject::Account("replication-controller")],
        REPLICATION_CONTROLLERS,
    ),
    part("system:controller:disruption-controller", &[Subject::Account("disruption-controller")], DISRUPTION),
    part(
        "system:controller:clusterrole-aggregation-controller",
        &[Subject::Account("clusterrole-aggregation-controller")],
        ROLE_AGGREGATION,
    ),
    part("system:controller:horizontal-pod-autoscaler", &[Subject::Account("horizontal-pod-autoscaler")], AUTOSCALERS),
    part("system:controller:job-controller", &[Subject::Account("job-controller")], JOBS),
    // The same part of the agent deletes them.
    part("system:controller:ttl-after-finished-controller", &[Subject::Account("job-controller")], FINISHED_JOBS),
    part("system:controller:cronjob-controller", &[Subject::Account("cronjob-controller")], CRON_JOBS),
    part("system:controller:endpoint-controller", &[Subject::Account("endpoint-controller")], ENDPOINTS),
    part(
        "system:controller:service-account-controller",
        &[Subject::Account("service-account-controller")],
        SERVICE_ACCOUNTS,
    ),
    part(
        "system:controller:serviceaccount-token-controller",
        &[Subject::Account("serviceaccount-token-controller")],
        ACCOUNT_TOKENS,
    ),
    part("system:controller:certificate-controller", &[Subject::Account("certificate-controller")], CERTIFICATES),
    part("system:controller:namespace-controller", &[Subject::Account("namespace-controller")], NAMESPACES),
    part("system:controller:node-ipam-controller", &[Subject::Account("node-ipam-controller")], NODE_RANGES),
    part("system:controller:pod-garbage-collector", &[Subject::Account("pod-garbage-collector")], POD_GARBAGE),
    part(
        "system:controller:resourcequota-controller",
        &[Subject::Account("resourcequota-controller")],
        RESOURCE_QUOTAS,
    ),
    part("system:controller:node-controller", &[Subject::Account("node-controller")], NODES),
    Part {
        paths: &[FEED],
        ..part("system:controller:generic-garbage-collector", &[Subject::Account("generic-garbage-collector")], GARBAGE)
    },
    part("system:skiff:network", &[Subject::User("system:skiff:network")], NETWORK),
    within("kube-system", part("system:skiff:network", &[Subject::User("system:skiff:network")], DNS_SERVICE)),
    within(
        "kube-node-lease",
        part("system:skiff:network", &[Subject::User("system:skiff:network")], &[TRAFFIC_LEASES]),
    ),
    part("system:skiff:ingress", &[Subject::User("system:skiff:ingress")], INGRESS),
    within(
        "kube-node-lease",
        part("system:skiff:ingress", &[Subject::User("system:skiff:ingress")], &[TRAFFIC_LEASES]),
    ),
    Part {
        paths: &["/skiff/v1/problems"],
        ..part("system:skiff:console", &[Subject::User("system:skiff:console")], CONSOLE)
    },
    // The certificate of the box's CA, to show its fingerprint.
    Part {
        names: &["box-ca"],
        ..within(
            "kube-system",
            part("system:skiff:console", &[Subject::User("system:skiff:console")], &[(READ, CORE, &["secrets"])]),
        )
    },
    part("system:skiff:agent", &[Subject::User("system:skiff:agent")], AGENT),
];
