//! What is particular about a kind when it is written: one row a kind, as upstream's registry strategies have it. What no
//! row says holds for every kind. The only place that asks which kind an object is of.

use serde_json::{Value, json};
use skiff_object::custom::definition;
use skiff_object::kinds::Kind;
use skiff_object::meta;

/// Which part of an object a write may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Everything but the status.
    Main,
    Status,
    /// `spec.finalizers` of a namespace.
    Finalize,
    /// `spec.ephemeralContainers` of a pod.
    EphemeralContainers,
    /// The node of a pod, decided by the binding's own handler.
    Binding,
    /// What is decided of a certificate signing request.
    Approval,
}

/// What is filled in when an object is made, in this order. The upstream plug-ins have the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    ServiceAccount,
    DefaultTolerations,
    Priority,
    RuntimeClass,
    LimitRanges,
    QosClass,
    JobSelector,
    /// Who asks for a certificate.
    Requestor,
}

/// What is looked at beyond the object itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Nobody grants what they do not hold.
    RoleEscalation,
    BindingEscalation,
    /// The box's own ports and addresses stay its own.
    HostPorts,
    ServiceAddresses,
    /// Nodes lead traffic to themselves only.
    NodeAddresses,
    PodAddresses,
    /// Endpoints are not on the machine that sends to them.
    EndpointAddresses,
    /// Not every editor takes the traffic of others.
    ExternalAddresses,
    /// What a namespace's limit ranges say.
    PodLimits,
    ClaimLimits,
    /// Not everybody decides of certificates, or signs them.
    Certificates,
}

/// What of an object Pod Security is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodSecurity {
    Nothing,
    Pod,
    /// The template of pods, at this path.
    Template(&'static [&'static str]),
    /// The labels that ask for it.
    Namespace,
}

/// What has to be nobody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserves {
    Nothing,
    /// Cluster addresses and node ports.
    ServiceAddresses,
}

/// How an object goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    Plain,
    /// What runs gets time to end.
    Graceful,
    /// Its own finalizers hold it until it is empty; some are never deleted.
    Namespace,
    /// It stays until its objects are gone.
    Definition,
}

pub struct Strategy {
    group: &'static str,
    kind: &'static str,
    generation: Generation,
    initial_status: fn() -> Value,
    pub on_create: &'static [Mutation],
    /// Fields of the spec that stay as they are where an update leaves them out.
    pub kept: &'static [&'static str],
    /// Whether the spec stays as it was made, whatever is sent.
    pub is_spec_fixed: bool,
    /// Whether some conditions are decisions, and written apart from the status.
    pub has_decisions: bool,
    pub checks: &'static [Check],
    pub pod_security: PodSecurity,
    pub reserves: Reserves,
    pub deletion: Deletion,
    /// Whether an update of what is not there makes it.
    pub made_by_update: bool,
    /// Whether a deletion that is complete is answered with the object, not with a `Status`.
    pub told_when_deleted: bool,
}

/// Whether `metadata.generation` counts the changes of the spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Generation {
    WithStatus,
    Always,
    Never,
    /// Of all but metadata, and the status where that is written apart.
    Custom,
}

const PLAIN: Strategy = Strategy {
    group: "",
    kind: "",
    generation: Generation::WithStatus,
    initial_status: || json!({}),
    on_create: &[],
    kept: &[],
    is_spec_fixed: false,
    has_decisions: false,
    checks: &[],
    pod_security: PodSecurity::Nothing,
    reserves: Reserves::Nothing,
    deletion: Deletion::Plain,
    made_by_update: false,
    told_when_deleted: false,
};

/// What a definition makes. Upstream's are told only that they are gone.
static CUSTOM: Strategy = Strategy { generation: Generation::Custom, initial_status: || Value::Null, ..PLAIN };

const RBAC: Strategy = Strategy { group: "rbac.authorization.k8s.io", made_by_update: true, ..PLAIN };
const STORAGE: Strategy = Strategy { group: "storage.k8s.io", told_when_deleted: true, ..PLAIN };
const TEMPLATE: PodSecurity = PodSecurity::Template(&["spec", "template"]);
const APPS: Strategy = Strategy { group: "apps", pod_security: TEMPLATE, ..PLAIN };

static ROWS: &[Strategy] = &[
    Strategy {
        kind: "Pod",
        initial_status: || json!({"phase": "Pending"}),
        on_create: &[
            Mutation::ServiceAccount,
            Mutation::DefaultTolerations,
            Mutation::Priority,
            Mutation::RuntimeClass,
            Mutation::LimitRanges,
            Mutation::QosClass,
        ],
        kept: &["serviceAccountName", "serviceAccount", "priority", "preemptionPolicy", "nodeName"],
        checks: &[Check::HostPorts, Check::PodAddresses, Check::PodLimits],
        pod_security: PodSecurity::Pod,
        deletion: Deletion::Graceful,
        ..PLAIN
    },
    Strategy {
        kind: "Namespace",
        generation: Generation::Never,
        initial_status: || json!({"phase": "Active"}),
        pod_security: PodSecurity::Namespace,
        deletion: Deletion::Namespace,
        ..PLAIN
    },
    Strategy {
        kind: "Service",
        generation: Generation::Never,
        initial_status: || json!({"loadBalancer": {}}),
        checks: &[Check::ServiceAddresses, Check::ExternalAddresses],
        reserves: Reserves::ServiceAddresses,
        made_by_update: true,
        told_when_deleted: true,
        ..PLAIN
    },
    Strategy {
        kind: "Node",
        generation: Generation::Never,
        initial_status: || Value::Null,
        checks: &[Check::NodeAddresses],
        ..PLAIN
    },
    Strategy {
        kind: "PersistentVolume",
        generation: Generation::Never,
        initial_status: || json!({"phase": "Pending"}),
        told_when_deleted: true,
        ..PLAIN
    },
    Strategy {
        kind: "PersistentVolumeClaim",
        generation: Generation::Never,
        initial_status: || json!({"phase": "Pending"}),
        checks: &[Check::ClaimLimits],
        told_when_deleted: true,
        ..PLAIN
    },
    Strategy { kind: "Endpoints", checks: &[Check::EndpointAddresses], made_by_update: true, ..PLAIN },
    Strategy { group: "discovery.k8s.io", kind: "EndpointSlice", checks: &[Check::EndpointAddresses], ..PLAIN },
    Strategy { kind: "ResourceQuota", generation: Generation::Never, told_when_deleted: true, ..PLAIN },
    Strategy { kind: "LimitRange", made_by_update: true, ..PLAIN },
    Strategy {
        kind: "PodTemplate",
        pod_security: PodSecurity::Template(&["template"]),
        made_by_update: true,
        told_when_deleted: true,
        ..PLAIN
    },
    Strategy { kind: "ServiceAccount", told_when_deleted: true, ..PLAIN },
    Strategy { kind: "Event", made_by_update: true, ..PLAIN },
    Strategy { group: "events.k8s.io", kind: "Event", made_by_update: true, ..PLAIN },
    Strategy { group: "coordination.k8s.io", kind: "Lease", made_by_update: true, ..PLAIN },
    Strategy { kind: "StorageClass", ..STORAGE },
    Strategy { kind: "CSIDriver", ..STORAGE },
    Strategy { kind: "CSINode", ..STORAGE },
    Strategy { kind: "VolumeAttachment", initial_status: || json!({"attached": false}), ..STORAGE },
    Strategy {
        group: "policy",
        kind: "PodDisruptionBudget",
        initial_status: || json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0}),
        ..PLAIN
    },
    Strategy {
        group: "autoscaling",
        kind: "HorizontalPodAutoscaler",
        initial_status: || json!({"currentReplicas": 0, "desiredReplicas": 0}),
        ..PLAIN
    },
    Strategy {
        kind: "ReplicationController",
        initial_status: || json!({"replicas": 0}),
        pod_security: TEMPLATE,
        ..PLAIN
    },
    Strategy { kind: "Deployment", ..APPS },
    Strategy {
        kind: "DaemonSet",
        initial_status: || json!({"currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0}),
        ..APPS
    },
    Strategy { kind: "ReplicaSet", initial_status: || json!({"replicas": 0}), ..APPS },
    Strategy { kind: "StatefulSet", initial_status: || json!({"replicas": 0, "availableReplicas": 0}), ..APPS },
    Strategy { group: "batch", kind: "Job", on_create: &[Mutation::JobSelector], pod_security: TEMPLATE, ..PLAIN },
    Strategy {
        group: "batch",
        kind: "CronJob",
        pod_security: PodSecurity::Template(&["spec", "jobTemplate", "spec", "template"]),
        ..PLAIN
    },
    Strategy { group: "networking.k8s.io", kind: "Ingress", initial_status: || json!({"loadBalancer": {}}), ..PLAIN },
    Strategy { group: "networking.k8s.io", kind: "NetworkPolicy", generation: Generation::Always, ..PLAIN },
    Strategy {
        group: definition::GROUP,
        kind: definition::KIND,
        initial_status: || json!({"acceptedNames": {"kind": "", "plural": ""}, "conditions": [], "storedVersions": []}),
        deletion: Deletion::Definition,
        told_when_deleted: true,
        ..PLAIN
    },
    Strategy {
        group: "certificates.k8s.io",
        kind: "CertificateSigningRequest",
        generation: Generation::Never,
        on_create: &[Mutation::Requestor],
        is_spec_fixed: true,
        has_decisions: true,
        checks: &[Check::Certificates],
        ..PLAIN
    },
    Strategy { kind: "Role", checks: &[Check::RoleEscalation], ..RBAC },
    Strategy { kind: "ClusterRole", checks: &[Check::RoleEscalation], ..RBAC },
    Strategy { kind: "RoleBinding", checks: &[Check::BindingEscalation], ..RBAC },
    Strategy { kind: "ClusterRoleBinding", checks: &[Check::BindingEscalation], ..RBAC },
];

const IMMORTAL_NAMESPACES: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];

impl Strategy {
    pub fn of(kind: &Kind) -> &'static Strategy {
        if kind.custom.is_some() {
            return &CUSTOM;
        }
        ROWS.iter().find(|row| kind.is(row.group, row.kind)).unwrap_or(&PLAIN)
    }

    pub fn has_generation(&self, kind: &Kind) -> bool {
        match self.generation {
            Generation::WithStatus => kind.status,
            Generation::Always | Generation::Custom => true,
            Generation::Never => false,
        }
    }

    /// Whether a change is one that the generation counts.
    pub fn is_generation(&self, kind: &Kind, new: &Value, old: &Value) -> bool {
        let counted = |object: &Value| {
            let fields = object.as_object().into_iter().flatten();
            let counted = |name: &str| name != "metadata" && !(kind.status && name == "status");
            fields
                .filter(|(name, _)| counted(name))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect::<Vec<_>>()
        };
        match self.generation {
            Generation::WithStatus | Generation::Always => new.get("spec") != old.get("spec"),
            Generation::Custom => counted(new) != counted(old),
            Generation::Never => false,
        }
    }

    /// `None`: the kind has no status, or its writers bring it.
    pub fn initial_status(&self, kind: &Kind) -> Option<Value> {
        kind.status.then(self.initial_status).filter(|status| !status.is_null())
    }

    /// Why an object of this name may not be deleted.
    pub fn undeletable(&self, name: &str) -> Option<&'static str> {
        match self.deletion {
            Deletion::Namespace if IMMORTAL_NAMESPACES.contains(&name) => Some("this namespace may not be deleted"),
            Deletion::Namespace | Deletion::Plain | Deletion::Graceful | Deletion::Definition => None,
        }
    }

    /// Whether nothing holds an object back any more that was asked to go.
    pub fn is_gone(&self, object: &Value) -> bool {
        meta::deletion_timestamp(object).is_some()
            && meta::deletion_grace_period_seconds(object).unwrap_or(0) == 0
            && !self.is_held(object)
    }

    /// Whether finalizers hold an object.
    pub fn is_held(&self, object: &Value) -> bool {
        let by_spec = || !meta::items(meta::at(object, &["spec", "finalizers"])).is_empty();
        meta::finalizers(object).next().is_some() || self.deletion == Deletion::Namespace && by_spec()
    }
}

#[cfg(test)]
mod tests {
    use skiff_object::kinds;

    use super::*;

    #[test]
    fn every_row_is_of_a_kind() {
        for row in ROWS {
            let found = kinds::built_in().kinds().any(|kind| kind.is(row.group, row.kind));
            assert!(found, "{} {}", row.group, row.kind);
        }
    }
}
