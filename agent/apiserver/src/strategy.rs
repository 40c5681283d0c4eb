//! What a kind's writers may set: the pure preparation of an object before it is created or replaced, as upstream's
//! registry strategies do it.

use jiff::Timestamp;
use serde_json::{Value, json};
use skiff_object::kinds::{Kind, Scope};
use skiff_object::{default, meta};

use crate::random;

/// Which part of an object an update may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Everything but the status.
    Main,
    Status,
    /// `spec.finalizers` of a namespace.
    Finalize,
    /// Whatever a subresource of the server itself decides: bindings, scale, ephemeral containers.
    Whole,
}

/// Kinds whose specification carries no generation upstream.
const WITHOUT_GENERATION: &[&str] =
    &["Service", "Node", "Namespace", "PersistentVolume", "PersistentVolumeClaim", "ResourceQuota"];

fn has_generation(kind: &Kind) -> bool {
    (kind.status && !WITHOUT_GENERATION.contains(&kind.kind)) || kind.kind == "NetworkPolicy"
}

/// RFC 3339 in whole seconds, as metav1.Time is written.
pub fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

pub fn prepare_create(kind: &Kind, namespace: Option<&str>, object: &mut Value) {
    object["apiVersion"] = json!(kind.api_version());
    object["kind"] = json!(kind.kind);
    random::generate_name(object);
    for field in ["selfLink", "managedFields", "resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        meta::unset(object, field);
    }
    meta::set(object, "uid", random::uuid());
    meta::set(object, "creationTimestamp", now());
    match (&kind.scope, namespace) {
        (Scope::Namespaced, Some(namespace)) => meta::set(object, "namespace", namespace),
        (Scope::Namespaced, None) | (Scope::Cluster, _) => meta::unset(object, "namespace"),
    }
    if has_generation(kind) {
        meta::set(object, "generation", 1);
    } else {
        meta::unset(object, "generation");
    }
    if kind.status && kind.kind != "Node" {
        object["status"] = initial_status(kind);
    }
    default::apply(kind, object);
    if kind.kind == "Job" {
        default::generate_job_selector(object);
    }
}

fn initial_status(kind: &Kind) -> Value {
    match kind.kind {
        "Pod" | "PersistentVolumeClaim" | "PersistentVolume" => json!({"phase": "Pending"}),
        "Namespace" => json!({"phase": "Active"}),
        "Service" | "Ingress" => json!({"loadBalancer": {}}),
        "ReplicaSet" | "ReplicationController" => json!({"replicas": 0}),
        "StatefulSet" => json!({"replicas": 0, "availableReplicas": 0}),
        _ => json!({}),
    }
}

/// The object to store when `new` is written over `old`.
pub fn prepare_update(kind: &Kind, part: Part, mut new: Value, old: &Value) -> Value {
    let mut result = match part {
        Part::Main | Part::Whole => {
            for field in [
                "namespace",
                "uid",
                "creationTimestamp",
                "deletionTimestamp",
                "deletionGracePeriodSeconds",
                "generation",
            ] {
                copy(&mut new, old, field);
            }
            meta::unset(&mut new, "managedFields");
            meta::unset(&mut new, "selfLink");
            if kind.status && part == Part::Main {
                match old.get("status") {
                    Some(status) => new["status"] = status.clone(),
                    None => drop(meta::map_mut(&mut new).remove("status")),
                }
            }
            default::apply(kind, &mut new);
            new
        }
        Part::Status => {
            let mut result = old.clone();
            match new.get_mut("status") {
                Some(status) => result["status"] = status.take(),
                None => drop(meta::map_mut(&mut result).remove("status")),
            }
            result
        }
        Part::Finalize => {
            let mut result = old.clone();
            result["spec"]["finalizers"] = new["spec"]["finalizers"].take();
            result
        }
    };
    result["apiVersion"] = json!(kind.api_version());
    result["kind"] = json!(kind.kind);
    if has_generation(kind) && result.get("spec") != old.get("spec") {
        meta::set(&mut result, "generation", meta::generation(old) + 1);
    }
    result
}

fn copy(new: &mut Value, old: &Value, field: &str) {
    match meta::field(old, field) {
        Some(value) => meta::set(new, field, value.clone()),
        None => meta::unset(new, field),
    }
}

/// Whether nothing holds an object back any more that was asked to go.
pub fn is_gone(kind: &Kind, object: &Value) -> bool {
    meta::deletion_timestamp(object).is_some()
        && meta::finalizers(object).next().is_none()
        && meta::deletion_grace_period_seconds(object).unwrap_or(0) == 0
        && !held_by_namespace_finalizers(kind, object)
}

pub fn held_by_namespace_finalizers(kind: &Kind, object: &Value) -> bool {
    kind.kind == "Namespace" && !meta::items(meta::at(object, &["spec", "finalizers"])).is_empty()
}
