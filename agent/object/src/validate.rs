//! Validation of objects, with upstream's messages.
//!
//! Owns which object is right in itself. Rules that need other objects (quotas, existing claims, free addresses) are
//! admission's. It works on decoded and defaulted objects; on anything else it reports errors but never panics.

pub(crate) mod admission;
mod aggregation;
mod autoscalers;
pub mod certificates;
mod configuration;
mod containers;
mod endpoints;
mod errors;
mod events;
mod flow_control;
mod immutable;
mod jobs;
mod metadata;
pub mod names;
mod networking;
mod node;
mod nodes;
mod pods;
mod policies;
mod quotas;
mod rbac;
mod resources;
mod selectors;
mod services;
mod storage;
mod structs;
mod volumes;
mod workloads;

pub use errors::{FieldError, FieldErrorKind};

use crate::Kind;
use crate::custom::definition;
pub(crate) use errors::Errors;
pub(crate) use node::Node;
use serde_json::Value;
use storage::classes;

type Check = fn(&Node<'_>, &mut Errors);

/// What is checked of each kind beside its metadata: group, kind, check.
const CHECKS: &[(&str, &str, Check)] = &[
    ("", "ConfigMap", configuration::config_map),
    ("", "Endpoints", endpoints::endpoints),
    ("", "Event", events::old),
    ("", "LimitRange", quotas::limit_range),
    ("", "Namespace", configuration::namespace),
    ("", "Node", nodes::node),
    ("", "PersistentVolume", storage::volume),
    ("", "PersistentVolumeClaim", storage::claim),
    ("", "Pod", pods::pod),
    ("", "PodTemplate", workloads::pod_template),
    ("", "ReplicationController", workloads::replication_controller),
    ("", "ResourceQuota", quotas::resource_quota),
    ("", "Secret", configuration::secret),
    ("", "Service", services::service),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicy", admission::mutating_policy),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding", admission::mutating_binding),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration", admission::webhooks),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy", admission::policy),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding", admission::binding),
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", admission::webhooks),
    (definition::GROUP, definition::KIND, definition::validate),
    ("apiregistration.k8s.io", "APIService", aggregation::api_service),
    ("apps", "ControllerRevision", workloads::revision),
    ("apps", "DaemonSet", workloads::daemon_set),
    ("apps", "Deployment", workloads::deployment),
    ("apps", "ReplicaSet", workloads::replica_set),
    ("apps", "StatefulSet", workloads::stateful_set),
    ("autoscaling", "HorizontalPodAutoscaler", autoscalers::autoscaler),
    ("batch", "CronJob", jobs::cron_job),
    ("batch", "Job", jobs::job),
    ("certificates.k8s.io", "CertificateSigningRequest", certificates::request),
    ("coordination.k8s.io", "Lease", policies::lease),
    ("discovery.k8s.io", "EndpointSlice", endpoints::endpoint_slice),
    ("events.k8s.io", "Event", events::new),
    ("flowcontrol.apiserver.k8s.io", "FlowSchema", flow_control::flow_schema),
    ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration", flow_control::priority_level),
    ("networking.k8s.io", "IPAddress", networking::ip_address),
    ("networking.k8s.io", "Ingress", networking::ingress),
    ("networking.k8s.io", "IngressClass", networking::ingress_class),
    ("networking.k8s.io", "NetworkPolicy", networking::network_policy),
    ("networking.k8s.io", "ServiceCIDR", networking::service_cidr),
    ("node.k8s.io", "RuntimeClass", policies::runtime_class),
    ("policy", "PodDisruptionBudget", policies::disruption_budget),
    ("rbac.authorization.k8s.io", "ClusterRole", rbac::cluster_role),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding", rbac::binding),
    ("rbac.authorization.k8s.io", "Role", rbac::role),
    ("rbac.authorization.k8s.io", "RoleBinding", rbac::binding),
    ("scheduling.k8s.io", "PriorityClass", policies::priority_class),
    ("storage.k8s.io", "CSIDriver", classes::csi_driver),
    ("storage.k8s.io", "CSINode", classes::csi_node),
    ("storage.k8s.io", "CSIStorageCapacity", classes::csi_storage_capacity),
    ("storage.k8s.io", "StorageClass", classes::storage_class),
    ("storage.k8s.io", "VolumeAttachment", classes::volume_attachment),
    ("storage.k8s.io", "VolumeAttributesClass", classes::attributes_class),
];

fn check(kind: &Kind, object: &Value, errors: &mut Errors) {
    let root = Node::root(object);
    metadata::create(kind, &root.get("metadata"), errors);
    run(CHECKS, kind, &root, errors);
}

/// What its schema says of a custom object.
fn custom(kind: &Kind, object: &Value, old: Option<&Value>, errors: &mut Errors) {
    if let Some(custom) = &kind.custom {
        custom.validate(object, old).into_iter().for_each(|error| errors.push(error));
    }
}

/// What is checked of a new object alone.
const CREATE_CHECKS: &[(&str, &str, Check)] = &[
    ("", "Pod", pods::create_only),
    ("apps", "StatefulSet", workloads::stateful_set_name),
    ("batch", "CronJob", jobs::cron_job_name),
    ("batch", "Job", jobs::create_only),
    ("events.k8s.io", "Event", events::create_only),
    ("networking.k8s.io", "Ingress", networking::ingress_create_only),
    ("storage.k8s.io", "VolumeAttachment", classes::attachment_create_only),
];

fn run(checks: &[(&str, &str, Check)], kind: &Kind, root: &Node<'_>, errors: &mut Errors) {
    if let Some((_, _, check)) = checks.iter().find(|(group, name, _)| kind.is(group, name)) {
        check(root, errors);
    }
}

/// What is wrong with a new object.
pub fn create(kind: &Kind, object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    // Reviews and bodies of subresources are not stored and need no name.
    if kind.is_kept() {
        check(kind, object, &mut errors);
        run(CREATE_CHECKS, kind, &Node::root(object), &mut errors);
        custom(kind, object, None, &mut errors);
    }
    errors.into_vec()
}

/// What is wrong with a changed object, in itself and as a change of the old one.
pub fn update(kind: &Kind, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    metadata::update(&Node::root(new).get("metadata"), &Node::root(old).get("metadata"), &mut errors);
    let mut own = Errors::default();
    check(kind, new, &mut own);
    let mut own = own.into_vec();
    if !own.is_empty() {
        // What an earlier version took may stay as it is: else nothing about the object could change any more.
        let mut before = Errors::default();
        check(kind, old, &mut before);
        let before = before.into_vec();
        own.retain(|error| !before.contains(error));
    }
    errors.extend(own);
    immutable::update(kind, &Node::root(new), &Node::root(old), &mut errors);
    custom(kind, new, Some(old), &mut errors);
    errors.into_vec()
}

/// What is wrong with a pod whose ephemeral containers were changed, and with the change.
pub fn ephemeral_containers(kind: &Kind, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    check(kind, new, &mut errors);
    pods::ephemeral_update(&Node::root(new), &Node::root(old), &mut errors);
    errors.into_vec()
}

/// What is wrong with a change of the status: of built-in kinds only metadata can be, the rest stays as it was.
pub fn status(kind: &Kind, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    metadata::update(&Node::root(new).get("metadata"), &Node::root(old).get("metadata"), &mut errors);
    metadata::create(kind, &Node::root(new).get("metadata"), &mut errors);
    custom(kind, new, Some(old), &mut errors);
    errors.into_vec()
}

#[cfg(test)]
mod tests;
