//! The rows of the table of kinds.
//!
//! Owns nothing but data; the meaning of each column is in [`super::Kind`].

use std::borrow::Cow;

use super::{Group, Kind, Nature, Scope};
use crate::schema::Text;

/// A built-in kind.
pub struct Row {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    short_names: &'static [&'static str],
    categories: &'static [&'static str],
    scope: Scope,
    nature: Nature,
    prefix: &'static str,
    status: bool,
    scale: bool,
    subresources: &'static [&'static str],
    storage_version: Option<&'static str>,
    schema: &'static str,
}

impl Row {
    pub fn kind(&self) -> Kind {
        let list = |names: &[&'static str]| names.iter().copied().map(Cow::Borrowed).collect::<Vec<Text>>();
        Kind {
            group: self.group.into(),
            version: self.version.into(),
            kind: self.kind.into(),
            plural: self.plural.into(),
            singular: self.singular.into(),
            short_names: list(self.short_names),
            categories: list(self.categories),
            scope: self.scope,
            nature: self.nature,
            prefix: self.prefix.into(),
            status: self.status,
            scale: self.scale,
            subresources: list(self.subresources),
            storage_version: self.storage_version.map(Cow::Borrowed),
            type_name: self.schema.into(),
            custom: None,
        }
    }
}

const fn base(group: &'static str, version: &'static str) -> Row {
    Row {
        group,
        version,
        kind: "",
        plural: "",
        singular: "",
        short_names: &[],
        categories: &[],
        scope: Scope::Namespaced,
        nature: Nature::Stored,
        prefix: "",
        status: false,
        scale: false,
        subresources: &[],
        storage_version: None,
        schema: "",
    }
}

const CORE_V1: Row = base("", "v1");
const APPS_V1: Row = base("apps", "v1");
const EVENTS_V1: Row = base("events.k8s.io", "v1");
const AUTHENTICATION_V1: Row = base("authentication.k8s.io", "v1");
const AUTHORIZATION_V1: Row = base("authorization.k8s.io", "v1");
const AUTOSCALING_V2: Row = base("autoscaling", "v2");
const AUTOSCALING_V1: Row = base("autoscaling", "v1");
const BATCH_V1: Row = base("batch", "v1");
const NETWORKING_V1: Row = base("networking.k8s.io", "v1");
const POLICY_V1: Row = base("policy", "v1");
const RBAC_V1: Row = base("rbac.authorization.k8s.io", "v1");
const STORAGE_V1: Row = base("storage.k8s.io", "v1");
const SCHEDULING_V1: Row = base("scheduling.k8s.io", "v1");
const COORDINATION_V1: Row = base("coordination.k8s.io", "v1");
const NODE_V1: Row = base("node.k8s.io", "v1");
const DISCOVERY_V1: Row = base("discovery.k8s.io", "v1");
const APIEXTENSIONS_V1: Row = base("apiextensions.k8s.io", "v1");
const APIREGISTRATION_V1: Row = Row { scope: Scope::Cluster, status: true, ..base("apiregistration.k8s.io", "v1") };
const CERTIFICATES_V1: Row = Row { scope: Scope::Cluster, status: true, ..base("certificates.k8s.io", "v1") };
const FLOWCONTROL_V1: Row = Row { scope: Scope::Cluster, status: true, ..base("flowcontrol.apiserver.k8s.io", "v1") };
const METRICS_V1BETA1: Row = Row { nature: Nature::Computed, ..base("metrics.k8s.io", "v1beta1") };
const ADMISSION_V1: Row = Row { scope: Scope::Cluster, ..base("admissionregistration.k8s.io", "v1") };

/// The groups in the order in which upstream's discovery lists them, with their versions.
const GROUPS: &[(&str, &[&str])] = &[
    ("", &["v1"]),
    ("apiregistration.k8s.io", &["v1"]),
    ("apps", &["v1"]),
    ("events.k8s.io", &["v1"]),
    ("authentication.k8s.io", &["v1"]),
    ("authorization.k8s.io", &["v1"]),
    ("autoscaling", &["v2", "v1"]),
    ("batch", &["v1"]),
    ("certificates.k8s.io", &["v1"]),
    ("networking.k8s.io", &["v1"]),
    ("policy", &["v1"]),
    ("rbac.authorization.k8s.io", &["v1"]),
    ("storage.k8s.io", &["v1"]),
    ("scheduling.k8s.io", &["v1"]),
    ("coordination.k8s.io", &["v1"]),
    ("node.k8s.io", &["v1"]),
    ("discovery.k8s.io", &["v1"]),
    ("flowcontrol.apiserver.k8s.io", &["v1"]),
    ("apiextensions.k8s.io", &["v1"]),
    ("admissionregistration.k8s.io", &["v1"]),
    ("metrics.k8s.io", &["v1beta1"]),
];

pub fn groups() -> Vec<Group> {
    let versions = |versions: &[&'static str]| versions.iter().copied().map(Cow::Borrowed).collect();
    GROUPS.iter().map(|(name, all)| Group { name: (*name).into(), versions: versions(all) }).collect()
}

/// Every served kind, group by group, resources in alphabetical order as discovery lists them.
#[rustfmt::skip] // one row a line reads as a table
pub const KINDS: &[Row] = &[
    Row { kind: "ConfigMap", plural: "configmaps", singular: "configmap", prefix: "/registry/configmaps", short_names: &["cm"], schema: "io.k8s.api.core.v1.ConfigMap", ..CORE_V1 },
    Row { kind: "Endpoints", plural: "endpoints", singular: "endpoints", prefix: "/registry/services/endpoints", short_names: &["ep"], schema: "io.k8s.api.core.v1.Endpoints", ..CORE_V1 },
    Row { kind: "Event", plural: "events", singular: "event", prefix: "/registry/events", short_names: &["ev"], nature: Nature::Volatile, schema: "io.k8s.api.core.v1.Event", ..CORE_V1 },
    Row { kind: "LimitRange", plural: "limitranges", singular: "limitrange", prefix: "/registry/limitranges", short_names: &["limits"], schema: "io.k8s.api.core.v1.LimitRange", ..CORE_V1 },
    Row { kind: "Namespace", plural: "namespaces", singular: "namespace", prefix: "/registry/namespaces", scope: Scope::Cluster, short_names: &["ns"], status: true, subresources: &["finalize"], schema: "io.k8s.api.core.v1.Namespace", ..CORE_V1 },
    Row { kind: "Node", plural: "nodes", singular: "node", prefix: "/registry/minions", scope: Scope::Cluster, short_names: &["no"], status: true, subresources: &["proxy"], schema: "io.k8s.api.core.v1.Node", ..CORE_V1 },
    Row { kind: "PersistentVolumeClaim", plural: "persistentvolumeclaims", singular: "persistentvolumeclaim", prefix: "/registry/persistentvolumeclaims", short_names: &["pvc"], status: true, schema: "io.k8s.api.core.v1.PersistentVolumeClaim", ..CORE_V1 },
    Row { kind: "PersistentVolume", plural: "persistentvolumes", singular: "persistentvolume", prefix: "/registry/persistentvolumes", scope: Scope::Cluster, short_names: &["pv"], status: true, schema: "io.k8s.api.core.v1.PersistentVolume", ..CORE_V1 },
    Row { kind: "Pod", plural: "pods", singular: "pod", prefix: "/registry/pods", short_names: &["po"], categories: &["all"], status: true, subresources: &["attach", "binding", "ephemeralcontainers", "eviction", "exec", "log", "portforward", "proxy"], schema: "io.k8s.api.core.v1.Pod", ..CORE_V1 },
    Row { kind: "PodTemplate", plural: "podtemplates", singular: "podtemplate", prefix: "/registry/podtemplates", schema: "io.k8s.api.core.v1.PodTemplate", ..CORE_V1 },
    Row { kind: "ReplicationController", plural: "replicationcontrollers", singular: "replicationcontroller", prefix: "/registry/controllers", short_names: &["rc"], categories: &["all"], status: true, scale: true, schema: "io.k8s.api.core.v1.ReplicationController", ..CORE_V1 },
    Row { kind: "ResourceQuota", plural: "resourcequotas", singular: "resourcequota", prefix: "/registry/resourcequotas", short_names: &["quota"], status: true, schema: "io.k8s.api.core.v1.ResourceQuota", ..CORE_V1 },
    Row { kind: "Secret", plural: "secrets", singular: "secret", prefix: "/registry/secrets", schema: "io.k8s.api.core.v1.Secret", ..CORE_V1 },
    Row { kind: "ServiceAccount", plural: "serviceaccounts", singular: "serviceaccount", prefix: "/registry/serviceaccounts", short_names: &["sa"], subresources: &["token"], schema: "io.k8s.api.core.v1.ServiceAccount", ..CORE_V1 },
    Row { kind: "Service", plural: "services", singular: "service", prefix: "/registry/services/specs", short_names: &["svc"], categories: &["all"], status: true, subresources: &["proxy"], schema: "io.k8s.api.core.v1.Service", ..CORE_V1 },
    Row { kind: "APIService", plural: "apiservices", singular: "apiservice", prefix: "/registry/apiregistration.k8s.io/apiservices", categories: &["api-extensions"], schema: "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIService", ..APIREGISTRATION_V1 },
    Row { kind: "ControllerRevision", plural: "controllerrevisions", singular: "controllerrevision", prefix: "/registry/controllerrevisions", schema: "io.k8s.api.apps.v1.ControllerRevision", ..APPS_V1 },
    Row { kind: "DaemonSet", plural: "daemonsets", singular: "daemonset", prefix: "/registry/daemonsets", short_names: &["ds"], categories: &["all"], status: true, schema: "io.k8s.api.apps.v1.DaemonSet", ..APPS_V1 },
    Row { kind: "Deployment", plural: "deployments", singular: "deployment", prefix: "/registry/deployments", short_names: &["deploy"], categories: &["all"], status: true, scale: true, schema: "io.k8s.api.apps.v1.Deployment", ..APPS_V1 },
    Row { kind: "ReplicaSet", plural: "replicasets", singular: "replicaset", prefix: "/registry/replicasets", short_names: &["rs"], categories: &["all"], status: true, scale: true, schema: "io.k8s.api.apps.v1.ReplicaSet", ..APPS_V1 },
    Row { kind: "StatefulSet", plural: "statefulsets", singular: "statefulset", prefix: "/registry/statefulsets", short_names: &["sts"], categories: &["all"], status: true, scale: true, schema: "io.k8s.api.apps.v1.StatefulSet", ..APPS_V1 },
    Row { kind: "Event", plural: "events", singular: "event", prefix: "/registry/events", short_names: &["ev"], nature: Nature::Volatile, storage_version: Some("v1"), schema: "io.k8s.api.events.v1.Event", ..EVENTS_V1 },
    Row { kind: "SelfSubjectReview", plural: "selfsubjectreviews", singular: "selfsubjectreview", scope: Scope::Cluster, nature: Nature::Review, schema: "io.k8s.api.authentication.v1.SelfSubjectReview", ..AUTHENTICATION_V1 },
    Row { kind: "TokenReview", plural: "tokenreviews", singular: "tokenreview", scope: Scope::Cluster, nature: Nature::Review, schema: "io.k8s.api.authentication.v1.TokenReview", ..AUTHENTICATION_V1 },
    Row { kind: "LocalSubjectAccessReview", plural: "localsubjectaccessreviews", singular: "localsubjectaccessreview", nature: Nature::Review, schema: "io.k8s.api.authorization.v1.LocalSubjectAccessReview", ..AUTHORIZATION_V1 },
    Row { kind: "SelfSubjectAccessReview", plural: "selfsubjectaccessreviews", singular: "selfsubjectaccessreview", scope: Scope::Cluster, nature: Nature::Review, schema: "io.k8s.api.authorization.v1.SelfSubjectAccessReview", ..AUTHORIZATION_V1 },
    Row { kind: "SelfSubjectRulesReview", plural: "selfsubjectrulesreviews", singular: "selfsubjectrulesreview", scope: Scope::Cluster, nature: Nature::Review, schema: "io.k8s.api.authorization.v1.SelfSubjectRulesReview", ..AUTHORIZATION_V1 },
    Row { kind: "SubjectAccessReview", plural: "subjectaccessreviews", singular: "subjectaccessreview", scope: Scope::Cluster, nature: Nature::Review, schema: "io.k8s.api.authorization.v1.SubjectAccessReview", ..AUTHORIZATION_V1 },
    Row { kind: "HorizontalPodAutoscaler", plural: "horizontalpodautoscalers", singular: "horizontalpodautoscaler", prefix: "/registry/horizontalpodautoscalers", short_names: &["hpa"], categories: &["all"], status: true, schema: "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler", ..AUTOSCALING_V2 },
    Row { kind: "HorizontalPodAutoscaler", plural: "horizontalpodautoscalers", singular: "horizontalpodautoscaler", prefix: "/registry/horizontalpodautoscalers", short_names: &["hpa"], categories: &["all"], status: true, storage_version: Some("autoscaling/v2"), schema: "io.k8s.api.autoscaling.v1.HorizontalPodAutoscaler", ..AUTOSCALING_V1 },
    Row { kind: "CronJob", plural: "cronjobs", singular: "cronjob", prefix: "/registry/cronjobs", short_names: &["cj"], categories: &["all"], status: true, schema: "io.k8s.api.batch.v1.CronJob", ..BATCH_V1 },
    Row { kind: "Job", plural: "jobs", singular: "job", prefix: "/registry/jobs", categories: &["all"], status: true, schema: "io.k8s.api.batch.v1.Job", ..BATCH_V1 },
    Row { kind: "CertificateSigningRequest", plural: "certificatesigningrequests", singular: "certificatesigningrequest", prefix: "/registry/certificatesigningrequests", short_names: &["csr"], subresources: &["approval"], schema: "io.k8s.api.certificates.v1.CertificateSigningRequest", ..CERTIFICATES_V1 },
    Row { kind: "IngressClass", plural: "ingressclasses", singular: "ingressclass", prefix: "/registry/ingressclasses", scope: Scope::Cluster, schema: "io.k8s.api.networking.v1.IngressClass", ..NETWORKING_V1 },
    Row { kind: "Ingress", plural: "ingresses", singular: "ingress", prefix: "/registry/ingress", short_names: &["ing"], status: true, schema: "io.k8s.api.networking.v1.Ingress", ..NETWORKING_V1 },
    Row { kind: "IPAddress", plural: "ipaddresses", singular: "ipaddress", prefix: "/registry/ipaddresses", scope: Scope::Cluster, short_names: &["ip"], schema: "io.k8s.api.networking.v1.IPAddress", ..NETWORKING_V1 },
    Row { kind: "NetworkPolicy", plural: "networkpolicies", singular: "networkpolicy", prefix: "/registry/networkpolicies", short_names: &["netpol"], schema: "io.k8s.api.networking.v1.NetworkPolicy", ..NETWORKING_V1 },
    Row { kind: "ServiceCIDR", plural: "servicecidrs", singular: "servicecidr", prefix: "/registry/servicecidrs", scope: Scope::Cluster, status: true, schema: "io.k8s.api.networking.v1.ServiceCIDR", ..NETWORKING_V1 },
    Row { kind: "PodDisruptionBudget", plural: "poddisruptionbudgets", singular: "poddisruptionbudget", prefix: "/registry/poddisruptionbudgets", short_names: &["pdb"], status: true, schema: "io.k8s.api.policy.v1.PodDisruptionBudget", ..POLICY_V1 },
    Row { kind: "ClusterRoleBinding", plural: "clusterrolebindings", singular: "clusterrolebinding", prefix: "/registry/clusterrolebindings", scope: Scope::Cluster, schema: "io.k8s.api.rbac.v1.ClusterRoleBinding", ..RBAC_V1 },
    Row { kind: "ClusterRole", plural: "clusterroles", singular: "clusterrole", prefix: "/registry/clusterroles", scope: Scope::Cluster, schema: "io.k8s.api.rbac.v1.ClusterRole", ..RBAC_V1 },
    Row { kind: "RoleBinding", plural: "rolebindings", singular: "rolebinding", prefix: "/registry/rolebindings", schema: "io.k8s.api.rbac.v1.RoleBinding", ..RBAC_V1 },
    Row { kind: "Role", plural: "roles", singular: "role", prefix: "/registry/roles", schema: "io.k8s.api.rbac.v1.Role", ..RBAC_V1 },
    Row { kind: "CSIDriver", plural: "csidrivers", singular: "csidriver", prefix: "/registry/csidrivers", scope: Scope::Cluster, schema: "io.k8s.api.storage.v1.CSIDriver", ..STORAGE_V1 },
    Row { kind: "CSINode", plural: "csinodes", singular: "csinode", prefix: "/registry/csinodes", scope: Scope::Cluster, schema: "io.k8s.api.storage.v1.CSINode", ..STORAGE_V1 },
    Row { kind: "CSIStorageCapacity", plural: "csistoragecapacities", singular: "csistoragecapacity", prefix: "/registry/csistoragecapacities", schema: "io.k8s.api.storage.v1.CSIStorageCapacity", ..STORAGE_V1 },
    Row { kind: "StorageClass", plural: "storageclasses", singular: "storageclass", prefix: "/registry/storageclasses", scope: Scope::Cluster, short_names: &["sc"], schema: "io.k8s.api.storage.v1.StorageClass", ..STORAGE_V1 },
    Row { kind: "VolumeAttachment", plural: "volumeattachments", singular: "volumeattachment", prefix: "/registry/volumeattachments", scope: Scope::Cluster, status: true, schema: "io.k8s.api.storage.v1.VolumeAttachment", ..STORAGE_V1 },
    Row { kind: "VolumeAttributesClass", plural: "volumeattributesclasses", singular: "volumeattributesclass", prefix: "/registry/volumeattributesclasses", scope: Scope::Cluster, short_names: &["vac"], schema: "io.k8s.api.storage.v1.VolumeAttributesClass", ..STORAGE_V1 },
    Row { kind: "PriorityClass", plural: "priorityclasses", singular: "priorityclass", prefix: "/registry/priorityclasses", scope: Scope::Cluster, short_names: &["pc"], schema: "io.k8s.api.scheduling.v1.PriorityClass", ..SCHEDULING_V1 },
    Row { kind: "Lease", plural: "leases", singular: "lease", prefix: "/registry/leases", nature: Nature::Volatile, schema: "io.k8s.api.coordination.v1.Lease", ..COORDINATION_V1 },
    Row { kind: "RuntimeClass", plural: "runtimeclasses", singular: "runtimeclass", prefix: "/registry/runtimeclasses", scope: Scope::Cluster, schema: "io.k8s.api.node.v1.RuntimeClass", ..NODE_V1 },
    Row { kind: "EndpointSlice", plural: "endpointslices", singular: "endpointslice", prefix: "/registry/endpointslices", schema: "io.k8s.api.discovery.v1.EndpointSlice", ..DISCOVERY_V1 },
    Row { kind: "FlowSchema", plural: "flowschemas", singular: "flowschema", prefix: "/registry/flowschemas", schema: "io.k8s.api.flowcontrol.v1.FlowSchema", ..FLOWCONTROL_V1 },
    Row { kind: "PriorityLevelConfiguration", plural: "prioritylevelconfigurations", singular: "prioritylevelconfiguration", prefix: "/registry/prioritylevelconfigurations", schema: "io.k8s.api.flowcontrol.v1.PriorityLevelConfiguration", ..FLOWCONTROL_V1 },
    Row { kind: "CustomResourceDefinition", plural: "customresourcedefinitions", singular: "customresourcedefinition", prefix: "/registry/apiextensions.k8s.io/customresourcedefinitions", scope: Scope::Cluster, short_names: &["crd", "crds"], categories: &["api-extensions"], status: true, schema: "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition", ..APIEXTENSIONS_V1 },
    Row { kind: "MutatingAdmissionPolicy", plural: "mutatingadmissionpolicies", singular: "mutatingadmissionpolicy", prefix: "/registry/mutatingadmissionpolicies", categories: &["api-extensions"], schema: "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicy", ..ADMISSION_V1 },
    Row { kind: "MutatingAdmissionPolicyBinding", plural: "mutatingadmissionpolicybindings", singular: "mutatingadmissionpolicybinding", prefix: "/registry/mutatingadmissionpolicybindings", categories: &["api-extensions"], schema: "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicyBinding", ..ADMISSION_V1 },
    Row { kind: "MutatingWebhookConfiguration", plural: "mutatingwebhookconfigurations", singular: "mutatingwebhookconfiguration", prefix: "/registry/mutatingwebhookconfigurations", categories: &["api-extensions"], schema: "io.k8s.api.admissionregistration.v1.MutatingWebhookConfiguration", ..ADMISSION_V1 },
    Row { kind: "ValidatingAdmissionPolicy", plural: "validatingadmissionpolicies", singular: "validatingadmissionpolicy", prefix: "/registry/validatingadmissionpolicies", categories: &["api-extensions"], status: true, schema: "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicy", ..ADMISSION_V1 },
    Row { kind: "ValidatingAdmissionPolicyBinding", plural: "validatingadmissionpolicybindings", singular: "validatingadmissionpolicybinding", prefix: "/registry/validatingadmissionpolicybindings", categories: &["api-extensions"], schema: "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyBinding", ..ADMISSION_V1 },
    Row { kind: "ValidatingWebhookConfiguration", plural: "validatingwebhookconfigurations", singular: "validatingwebhookconfiguration", prefix: "/registry/validatingwebhookconfigurations", categories: &["api-extensions"], schema: "io.k8s.api.admissionregistration.v1.ValidatingWebhookConfiguration", ..ADMISSION_V1 },
    Row { kind: "NodeMetrics", plural: "nodes", scope: Scope::Cluster, ..METRICS_V1BETA1 },
    Row { kind: "PodMetrics", plural: "pods", ..METRICS_V1BETA1 },
];

/// Kinds that are only ever the body of a subresource or of an option: they have a schema but no path of their own.
#[rustfmt::skip] // one row a line reads as a table
pub const BODIES: &[Row] = &[
    Row { kind: "Binding", plural: "bindings", singular: "binding", nature: Nature::Body, schema: "io.k8s.api.core.v1.Binding", ..CORE_V1 },
    Row { kind: "Eviction", plural: "evictions", singular: "eviction", nature: Nature::Body, schema: "io.k8s.api.policy.v1.Eviction", ..POLICY_V1 },
    Row { kind: "TokenRequest", plural: "tokenrequests", singular: "tokenrequest", nature: Nature::Body, schema: "io.k8s.api.authentication.v1.TokenRequest", ..AUTHENTICATION_V1 },
    Row { kind: "Scale", plural: "scales", singular: "scale", nature: Nature::Body, schema: "io.k8s.api.autoscaling.v1.Scale", ..AUTOSCALING_V1 },
    Row { kind: "DeleteOptions", plural: "deleteoptions", singular: "deleteoptions", scope: Scope::Cluster, nature: Nature::Body, schema: "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions", ..CORE_V1 },
    Row { kind: "Status", plural: "statuses", singular: "status", scope: Scope::Cluster, nature: Nature::Body, schema: "io.k8s.apimachinery.pkg.apis.meta.v1.Status", ..CORE_V1 },
];
