//! Validation of objects, with upstream's messages.
//!
//! Owns which object is right in itself. Rules that need other objects (quotas, existing claims, free addresses) are
//! admission's. It works on decoded and defaulted objects; on anything else it reports errors but never panics.

mod admission;
mod configuration;
mod containers;
mod errors;
mod immutable;
mod metadata;
pub mod names;
mod networking;
mod node;
mod pods;
mod policies;
mod rbac;
mod resources;
mod selectors;
mod services;
mod storage;
mod volumes;
mod workloads;

pub use errors::{FieldError, FieldErrorKind};

use crate::Kind;
use crate::custom::definition;
pub(crate) use errors::Errors;
pub(crate) use node::Node;
use serde_json::Value;

type Check = fn(&Node<'_>, &mut Errors);

/// What is checked of each kind beside its metadata: group, kind, check.
const CHECKS: &[(&str, &str, Check)] = &[
    ("", "ConfigMap", configuration::config_map),
    ("", "Endpoints", networking::endpoints),
    ("", "Event", configuration::event),
    ("", "LimitRange", configuration::limit_range),
    ("", "Node", networking::node),
    ("", "PersistentVolume", storage::volume),
    ("", "PersistentVolumeClaim", storage::claim),
    ("", "Pod", pods::pod),
    ("", "PodTemplate", workloads::pod_template),
    ("", "ReplicationController", workloads::replication_controller),
    ("", "ResourceQuota", configuration::resource_quota),
    ("", "Secret", configuration::secret),
    ("", "Service", services::service),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration", admission::webhooks),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy", admission::policy),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding", admission::binding),
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", admission::webhooks),
    (definition::GROUP, definition::KIND, definition::validate),
    ("apps", "DaemonSet", workloads::daemon_set),
    ("apps", "Deployment", workloads::deployment),
    ("apps", "ReplicaSet", workloads::replica_set),
    ("apps", "StatefulSet", workloads::stateful_set),
    ("autoscaling", "HorizontalPodAutoscaler", policies::autoscaler),
    ("batch", "CronJob", workloads::cron_job),
    ("batch", "Job", workloads::job),
    ("coordination.k8s.io", "Lease", policies::lease),
    ("discovery.k8s.io", "EndpointSlice", networking::endpoint_slice),
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
    ("storage.k8s.io", "StorageClass", storage::class),
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
const CREATE_CHECKS: &[(&str, &str, Check)] = &[("", "Pod", pods::create_only)];

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
    check(kind, new, &mut errors);
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
