//! What may not change once an object is made, by kind.
//!
//! Owns changes only: the new object by itself is checked elsewhere. Most rules are rows of a table of fields; the
//! rest compare specs with the fields that may change taken out, and are in a module for each topic.

mod jobs;
mod pods;
mod services;
mod storage;

use super::certificates;
use super::errors::Errors;
use super::events;
use super::node::Node;
use super::structs::{self, Field};
use crate::Kind;
use crate::custom::definition;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Fields that never change: group, kind, path.
const FIELDS: &[(&str, &str, &[&str])] = &[
    ("", "Secret", &["type"]),
    ("apps", "ControllerRevision", &["data"]),
    ("apps", "DaemonSet", &["spec", "selector"]),
    ("apps", "Deployment", &["spec", "selector"]),
    ("apps", "ReplicaSet", &["spec", "selector"]),
    ("batch", "Job", &["spec", "selector"]),
    ("batch", "Job", &["spec", "completionMode"]),
    ("batch", "Job", &["spec", "backoffLimitPerIndex"]),
    ("batch", "Job", &["spec", "managedBy"]),
    ("discovery.k8s.io", "EndpointSlice", &["addressType"]),
    ("networking.k8s.io", "IngressClass", &["spec", "controller"]),
    ("networking.k8s.io", "ServiceCIDR", &["spec", "cidrs"]),
    ("node.k8s.io", "RuntimeClass", &["handler"]),
    ("scheduling.k8s.io", "PriorityClass", &["preemptionPolicy"]),
    ("storage.k8s.io", "CSIDriver", &["spec", "volumeLifecycleModes"]),
    ("storage.k8s.io", "CSIStorageCapacity", &["nodeTopology"]),
    ("storage.k8s.io", "CSIStorageCapacity", &["storageClassName"]),
    ("storage.k8s.io", "StorageClass", &["volumeBindingMode"]),
];

/// As [`FIELDS`], of structures.
const STRUCTS: &[(&str, &str, &[&str], &[Field])] = &[
    ("batch", "Job", &["spec", "podFailurePolicy"], structs::FAILURE_POLICY),
    ("batch", "Job", &["spec", "successPolicy"], structs::SUCCESS_POLICY),
    ("networking.k8s.io", "IPAddress", &["spec", "parentRef"], structs::PARENT_REF),
    ("storage.k8s.io", "VolumeAttachment", &["spec"], structs::ATTACHMENT),
];

/// Fields that never change, with a message of their own.
const FORBIDDEN: &[(&str, &str, &str, &str)] = &[
    ("scheduling.k8s.io", "PriorityClass", "value", "may not be changed in an update."),
    ("storage.k8s.io", "StorageClass", "parameters", "updates to parameters are forbidden."),
    ("storage.k8s.io", "StorageClass", "provisioner", "updates to provisioner are forbidden."),
    ("storage.k8s.io", "StorageClass", "reclaimPolicy", "updates to reclaimPolicy are forbidden."),
    ("storage.k8s.io", "VolumeAttributesClass", "driverName", "updates to driverName are forbidden."),
    ("storage.k8s.io", "VolumeAttributesClass", "parameters", "updates to parameters are forbidden."),
];

/// Checks a change.
pub fn update(kind: &Kind, new: &Node<'_>, old: &Node<'_>, errors: &mut Errors) {
    for (_, _, path) in FIELDS.iter().filter(|(group, name, _)| kind.is(group, name)) {
        unchanged(&new.at(path), &old.at(path), errors);
    }
    for (_, _, path, fields) in STRUCTS.iter().filter(|(group, name, _, _)| kind.is(group, name)) {
        let (new, old) = (new.at(path), old.at(path));
        if !same(new.value, old.value) {
            errors.invalid_struct(&new, fields, "field is immutable");
        }
    }
    for (_, _, field, detail) in FORBIDDEN.iter().filter(|(group, name, _, _)| kind.is(group, name)) {
        if !same(new.get(field).value, old.get(field).value) {
            errors.forbidden(&new.get(field), detail);
        }
    }
    let specs = (&new.get("spec"), &old.get("spec"));
    match (&*kind.group, &*kind.kind) {
        ("", "Pod") => pods::pod(new, old, errors),
        ("", "ConfigMap") => data(new, old, &["data", "binaryData"], errors),
        ("", "Secret") => data(new, old, &["data"], errors),
        ("", "Service") => services::service(specs.0, specs.1, errors),
        ("", "Node") => node(specs.0, specs.1, errors),
        ("", "PersistentVolumeClaim") => storage::claim(new, old, errors),
        ("", "PersistentVolume") => storage::volume(specs.0, specs.1, errors),
        ("", "ResourceQuota") => quota(specs.0, specs.1, errors),
        (definition::GROUP, definition::KIND) => definition::validate_update(new, old, errors),
        ("apps", "StatefulSet") => stateful_set(specs.0, specs.1, errors),
        ("batch", "Job") => jobs::job(new, old, errors),
        ("certificates.k8s.io", "CertificateSigningRequest") => certificates::update(new, old, errors),
        ("events.k8s.io", "Event") => events::update(new, old, errors),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
            let (new, old) = (new.get("roleRef"), old.get("roleRef"));
            if new.value != old.value {
                errors.invalid_struct(&new, structs::ROLE_REF, "cannot change roleRef");
            }
        }
        ("storage.k8s.io", "CSIDriver") => {
            // Upstream calls the field so.
            let named = Node { path: specs.0.get("attachedRequired").path, ..specs.0.get("attachRequired") };
            unchanged(&named, &specs.1.get("attachRequired"), errors);
        }
        ("storage.k8s.io", "CSINode") => storage::node_drivers(specs.0, specs.1, errors),
        (_, _) => {}
    }
}

/// Whether two values are the same; an empty list is none.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let missing = |of: &Map<String, Value>, name: &str| of.get(name).is_none_or(is_none);
            a.iter().all(|(name, value)| b.get(name).map_or(is_none(value), |other| same(value, other)))
                && b.iter().all(|(name, value)| !missing(a, name) || is_none(value))
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (a, b) => a == b || is_none(a) && is_none(b),
    }
}

fn is_none(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

fn unchanged(new: &Node<'_>, old: &Node<'_>, errors: &mut Errors) {
    if !same(new.value, old.value) {
        errors.invalid(new, "field is immutable");
    }
}

/// The fields of a map but for some.
fn without(map: &Node<'_>, fields: &[&str]) -> Value {
    let entries = map.value.as_object().into_iter().flatten();
    let kept = entries.filter(|(name, value)| !fields.contains(&name.as_str()) && !value.is_null());
    Value::Object(kept.map(|(name, value)| (name.clone(), value.clone())).collect())
}

fn data(new: &Node<'_>, old: &Node<'_>, fields: &[&str], errors: &mut Errors) {
    if !old.get("immutable").is_true() {
        return;
    }
    if !new.get("immutable").is_true() {
        errors.forbidden(&new.get("immutable"), "field is immutable when `immutable` is set");
    }
    for field in fields {
        if new.get(field).value != old.get(field).value {
            errors.forbidden(&new.get(field), "field is immutable when `immutable` is set");
        }
    }
}

/// A node gets its range of pod addresses and its provider's name for it once: pods have addresses from the range.
fn node(new: &Node<'_>, old: &Node<'_>, errors: &mut Errors) {
    for field in ["podCIDR", "podCIDRs", "providerID"] {
        let (after, before) = (new.get(field), old.get(field));
        if !before.is_empty() && after.value != before.value {
            errors.forbidden(&after, &format!("node updates may not change {field} except from \"\" to valid"));
        }
    }
}

fn quota(new: &Node<'_>, old: &Node<'_>, errors: &mut Errors) {
    let scopes = |spec: &Node<'_>| -> BTreeSet<String> {
        spec.get("scopes").items().iter().map(|scope| scope.text().to_owned()).collect()
    };
    if scopes(new) != scopes(old) {
        errors.invalid(&new.get("scopes"), "field is immutable");
    }
}

const STATEFUL_SET_MUTABLE: &[&str] = &[
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];
const STATEFUL_SET: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";

fn stateful_set(new: &Node<'_>, old: &Node<'_>, errors: &mut Errors) {
    if !same(&without(new, STATEFUL_SET_MUTABLE), &without(old, STATEFUL_SET_MUTABLE)) {
        errors.forbidden(new, STATEFUL_SET);
    }
}
