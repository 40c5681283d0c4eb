//! Which lists are merged element by element, and by which key.
//!
//! Owns the table; [`super::strategic`] and server-side apply read it. A list without a row is atomic: it is replaced
//! as a whole. The OpenAPI documents carry the same table as `x-kubernetes-patch-*` and `x-kubernetes-list-*`.

/// What a strategic merge patch does with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// Lists are replaced, maps merged.
    Replace,
    /// Lists are merged: objects by the merge key, primitives as a set.
    Merge,
    /// Only the keys that the patch names with `$retainKeys` stay.
    RetainKeys,
    /// Both of the above.
    MergeRetainKeys,
}

/// How server-side apply owns the elements of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListType {
    Atomic,
    Set,
    Map(&'static [&'static str]),
}

/// The rule of one field of one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    pub type_name: &'static str,
    pub field: &'static str,
    pub strategy: Strategy,
    /// Empty for lists of primitives and for fields that are no list.
    pub merge_key: &'static str,
    pub list: ListType,
}

/// The rule of a field, unless it is the default (replace, atomic).
pub fn rule(type_name: &str, field: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.field == field && rule.type_name == type_name)
}

/// Every field that does not have the default rule.
#[rustfmt::skip] // one row a line reads as a table
pub static RULES: &[Rule] = &[
    Rule { type_name: "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicySpec", field: "matchConditions", strategy: Strategy::Merge, merge_key: "name", list: ListType::Map(&["name"]) },
    Rule { type_name: "io.k8s.api.certificates.v1.CertificateSigningRequestStatus", field: "conditions", strategy: Strategy::Replace, merge_key: "type", list: ListType::Map(&["type"]) },
    Rule { type_name: "io.k8s.api.flowcontrol.v1.FlowSchemaStatus", field: "conditions", strategy: Strategy::Merge, merge_key: "type", list: ListType::Map(&["type"]) },
    Rule { type_name: "io.k8s.api.flowcontrol.v1.PriorityLevelConfigurationStatus", field: "conditions", strategy: Strategy::Merge, merge_key: "type", list: ListType::Map(&["type"]) },
    Rule { type_name: "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIServiceStatus", field: "conditions", strategy: Strategy::Merge, merge_key: "type", list: ListType::Map(&["type"]) },
    Rule { type_name: "io.k8s.api.admissionregistration.v1.MutatingWebhookConfiguration", field: "webhooks", strategy: Strategy::Merge, merge_key: "name", list: ListType::Map(&["name"]) },
    Rule { type_name: "io.k8s.api.admissionregistration.v1.ValidatingWebhookConfiguration", field: "webhooks", strategy: Strategy::Merge, merge_key: "name", list: ListType::Map(&["name"]) },
    Rule { type_name: "io.k8s.api.admissionregistration.v1.MutatingWebhook", field: "matchConditions", strategy: Strategy::Merge, merge_key: "name", list: ListType::Map(&["name"]) },
    Rule { type_name: "io.k8s.api.admissionregistration.v1.ValidatingWebhook", field: "matchConditions", strategy: Strategy::Merge, merge_key: "name", list: ListType::Map(&["name"]) },
    Rule { type_name: "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicySpec", field: "matchConditions", strategy: Strategy::Merge, merge_key: "name", list: ListType::Map(&["name"]) },
    Rule { type_name: "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicySpec", field: "variables", strategy: Strategy::Merge, merge_key: "name", list: ListType::Map(&["name"]) },
    Rule { type_name: "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyStatus", field: "conditions", strategy: Strategy::Replace, merge_key: "type", list: ListType::Map(&["type"]) },
    Rule { type_name: "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", field: "finalizers", strategy: Strategy::Merge, merge_key: "", list: ListType::Set },
    Rule { type_name: "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", field: "ownerReferences", strategy: Strategy::Merge, merge_key: "uid", list: ListType::Map(&["uid"]) },
    Rule { type_name: "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionStatus", field: "conditions", strategy: Strategy::Merge, merge_key: "type", list: ListType::Map(&["type"]) },
    Rule { type_name: "io.k8s.api.core.v1.PodSpec", field: "containers", strategy: Strategy::Merge, merge_key: "name", list: ListType::Map(&["name"]) },
    Rule { type_name: "io.k8s.api.core.v1.PodSpec", field: "initContainers", strategy: Strategy::Merge, merge_key: "name", list: ListType::Map(&["name"]) },
    Rule { type_name: "io.k8s.api.core.v1.PodSpec", field: "ephemeralContainers", strategy: Strategy::Merge, merge_key: "name", list: ListType::Map(&["name"]) },
    Rule { type_name: "io.k8s.api.core.v1.PodSpec", field: "imagePullSecrets", strategy: Strategy::Merge, merge_key: "name", list: ListType::Map(&["name"]) },
    Rule { type_name: "io.k8s.api.core.v1.PodSpec", field: "schedulingGates", strategy: Strategy::Merge, merge_key: "name", list: ListType::Map(&["name"]) },
    Rule { type_name: "io.k8s.api.core.v1.PodSpec", field: "hostAliases", strategy: Strategy::Merge, merge_key: "ip", list: ListType::Map(&["ip"]) },
    Rule { type_name: "io.k8s.api.core.v1.PodSpec", field: "topologySpreadConstraints", strategy: Strategy::Merge, merge_key: "topologyKey", list: ListType::Map(&["topologyKey", "whenUnsatisfiable"]) },
    Rule { type_name: "io.k8s.api.core.v1.PodSpec", field: "volumes", strategy: Strategy::MergeRetainKeys, merge_key: "name", list: ListType::Map(&["name"]) },
    Rule { type_name: "io.k8s.api.core.v1.PodSpec", field: "resourceClaims", strategy: Strategy::MergeRetainKeys, merge_key: "name", list: ListType::Map(&["name"]) },
    Rule { type_name: "io.k8s.api.core.v1.Container", field: "env", strategy: Strategy::Merge, merge_key: "name", list: ListType::Map(&["name"]) },
    Rule { type_name: "io.k8s.api.core.v1.Container", field: "ports", strategy: Strategy::Merge, merge_key: "containerPort", list: ListType::Map(&["containerPort", "protocol"]) },
    Rule { type_name: "io.k8s.api.core.v1.Container", field: "volumeMounts", strategy: Strategy::Merge, merge_key: "mountPath", list: ListType::Map(&["mountPath"]) },
    Rule { type_name: "io.k8s.api.core.v1.Container", field: "volumeDevices", strategy: Strategy::Merge, merge_key: "devicePath", list: ListType::Map(&["devicePath"]) },
    Rule { type_name: "io.k8s.api.core.v1.EphemeralContainer", field: "env", strategy: Strategy::Merge, merge_key: "name", list: ListType::Map(&["name"]) },
    Rule { type_name: "io.k8s.api.core.v1.EphemeralContainer", field: "ports", strategy: Strategy::Merge, merge_key: "containerPort", list: ListType::Map(&["containerPort", "protocol"]) },
    Rule { type_name: "io.k8s.api.core.v1.EphemeralContainer", field: "volumeMounts", strategy: Strategy::Merge, merge_key: "mountPath", list: ListType::Map(&["mountPath"]) },
    Rule { type_name: "io.k8s.api.core.v1.EphemeralContainer", field: "volumeDevices", strategy: Strategy::Merge, merge_key: "devicePath", list: ListType::Map(&["devicePath"]) },
    Rule { type_name: "io.k8s.api.core.v1.ResourceRequirements", field: "claims", strategy: Strategy::Replace, merge_key: "", list: ListType::Map(&["name"]) },
    Rule { type_name: "io.k8s.api.core.v1.PodStatus", field: "conditions", strategy: Strategy::Merge, merge_key: "type", list: ListType::Map(&["type"]) },
    Rule { type_name: "io.k8s.api.core.v1.PodStatus", field: "podIPs", strategy: Strategy::Merge, merge_key: "ip", list: ListType::Map(&["ip"]) },
    Rule { type_name: "io.k8s.api.core.v1.PodStatus", field: "hostIPs", strategy: Strategy::Merge, merge_key: "ip", list: ListType::Atomic },
    Rule { type_name: "io.k8s.api.core.v1.PodStatus", field: "resourceClaimStatuses", strategy: Strategy::MergeRetainKeys, merge_key: "name", list: ListType::Map(&["name"]) },
    Rule { type_name: "io.k8s.api.core.v1.ContainerStatus", field: "volumeMounts", strategy: Strategy::Merge, merge_key: "mountPath", list: ListType::Map(&["mountPath"]) },
    Rule { type_name: "io.k8s.api.core.v1.ServiceSpec", field: "ports", strategy: Strategy::Merge, merge_key: "port", list: ListType::Map(&["port", "protocol"]) },
    Rule { type_name: "io.k8s.api.core.v1.ServiceStatus", field: "conditions", strategy: Strategy::Merge, merge_key: "type", list: ListType::Map(&["type"]) },
    Rule { type_name: "io.k8s.api.core.v1.ServiceAccount", field: "secrets", strategy: Strategy::Merge, merge_key: "name", list: ListType::Map(&["name"]) },
    Rule { type_name: "io.k8s.api.core.v1.ReplicationControllerStatus", field: "conditions", strategy: Strategy::Merge, merge_key: "type", list: ListType::Map(&["type"]) },
    Rule { type_name: "io.k8s.api.core.v1.NodeSpec", field: "podCIDRs", strategy: Strategy::Merge, merge_key: "", list: ListType::Set },
    Rule { type_name: "io.k8s.api.core.v1.NodeStatus", field: "conditions", strategy: Strategy::Merge, merge_key: "type", list: ListType::Map(&["type"]) },
    Rule { type_name: "io.k8s.api.core.v1.NodeStatus", field: "addresses", strategy: Strategy::Merge, merge_key: "type", list: ListType::Map(&["type"]) },
    Rule { type_name: "io.k8s.api.core.v1.NamespaceStatus", field: "conditions", strategy: Strategy::Merge, merge_key: "type", list: ListType::Map(&["type"]) },
    Rule { type_name: "io.k8s.api.core.v1.PersistentVolumeClaimStatus", field: "conditions", strategy: Strategy::Merge, merge_key: "type", list: ListType::Map(&["type"]) },
    Rule { type_name: "io.k8s.api.apps.v1.DaemonSetStatus", field: "conditions", strategy: Strategy::Merge, merge_key: "type", list: ListType::Map(&["type"]) },
    Rule { type_name: "io.k8s.api.apps.v1.DeploymentStatus", field: "conditions", strategy: Strategy::Merge, merge_key: "type", list: ListType::Map(&["type"]) },
    Rule { type_name: "io.k8s.api.apps.v1.ReplicaSetStatus", field: "conditions", strategy: Strategy::Merge, merge_key: "type", list: ListType::Map(&["type"]) },
    Rule { type_name: "io.k8s.api.apps.v1.StatefulSetStatus", field: "conditions", strategy: Strategy::Merge, merge_key: "type", list: ListType::Map(&["type"]) },
    Rule { type_name: "io.k8s.api.apps.v1.DeploymentSpec", field: "strategy", strategy: Strategy::RetainKeys, merge_key: "", list: ListType::Atomic },
    Rule { type_name: "io.k8s.api.batch.v1.JobStatus", field: "conditions", strategy: Strategy::Merge, merge_key: "type", list: ListType::Atomic },
    Rule { type_name: "io.k8s.api.autoscaling.v2.HorizontalPodAutoscalerStatus", field: "conditions", strategy: Strategy::Merge, merge_key: "type", list: ListType::Map(&["type"]) },
    Rule { type_name: "io.k8s.api.networking.v1.ServiceCIDRStatus", field: "conditions", strategy: Strategy::Merge, merge_key: "type", list: ListType::Map(&["type"]) },
    Rule { type_name: "io.k8s.api.policy.v1.PodDisruptionBudgetStatus", field: "conditions", strategy: Strategy::Merge, merge_key: "type", list: ListType::Map(&["type"]) },
    Rule { type_name: "io.k8s.api.storage.v1.CSINodeSpec", field: "drivers", strategy: Strategy::Merge, merge_key: "name", list: ListType::Map(&["name"]) },
    Rule { type_name: "io.k8s.api.storage.v1.CSIDriverSpec", field: "volumeLifecycleModes", strategy: Strategy::Replace, merge_key: "", list: ListType::Set },
    Rule { type_name: "io.k8s.api.discovery.v1.Endpoint", field: "addresses", strategy: Strategy::Replace, merge_key: "", list: ListType::Set },
    Rule { type_name: "io.k8s.api.batch.v1.PodFailurePolicyOnExitCodesRequirement", field: "values", strategy: Strategy::Replace, merge_key: "", list: ListType::Set },
    Rule { type_name: "io.k8s.api.batch.v1.UncountedTerminatedPods", field: "failed", strategy: Strategy::Replace, merge_key: "", list: ListType::Set },
    Rule { type_name: "io.k8s.api.batch.v1.UncountedTerminatedPods", field: "succeeded", strategy: Strategy::Replace, merge_key: "", list: ListType::Set },
    Rule { type_name: "io.k8s.api.core.v1.ContainerRestartRuleOnExitCodes", field: "values", strategy: Strategy::Replace, merge_key: "", list: ListType::Set },
    Rule { type_name: "io.k8s.api.core.v1.NodeAllocatableResourceClaimStatus", field: "containers", strategy: Strategy::Replace, merge_key: "", list: ListType::Set },
    Rule { type_name: "io.k8s.api.core.v1.ContainerStatus", field: "allocatedResourcesStatus", strategy: Strategy::Replace, merge_key: "", list: ListType::Map(&["name"]) },
    Rule { type_name: "io.k8s.api.core.v1.ResourceStatus", field: "resources", strategy: Strategy::Replace, merge_key: "", list: ListType::Map(&["resourceID"]) },
];
