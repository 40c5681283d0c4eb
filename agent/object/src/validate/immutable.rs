//! What may not change once an object is made, by kind.
//!
//! Owns changes only: the new object by itself is checked elsewhere. Most rules are rows of a table of fields; the
//! rest compare specs with the fields that may change taken out.

use super::errors::Errors;
use super::node::Node;
use crate::Kind;
use crate::custom::definition;
use serde_json::{Map, Value};

/// Fields that never change: group, kind, path.
const FIELDS: &[(&str, &str, &[&str])] = &[
    ("", "Secret", &["type"]),
    ("apps", "DaemonSet", &["spec", "selector"]),
    ("apps", "Deployment", &["spec", "selector"]),
    ("apps", "ReplicaSet", &["spec", "selector"]),
    ("batch", "Job", &["spec", "selector"]),
    ("batch", "Job", &["spec", "completionMode"]),
    ("batch", "Job", &["spec", "podFailurePolicy"]),
    ("batch", "Job", &["spec", "backoffLimitPerIndex"]),
    ("discovery.k8s.io", "EndpointSlice", &["addressType"]),
    ("networking.k8s.io", "IngressClass", &["spec", "controller"]),
    ("node.k8s.io", "RuntimeClass", &["handler"]),
    ("storage.k8s.io", "StorageClass", &["reclaimPolicy"]),
    ("storage.k8s.io", "StorageClass", &["volumeBindingMode"]),
];

/// Fields that never change, with a message of their own.
const FORBIDDEN: &[(&str, &str, &str, &str)] = &[
    ("scheduling.k8s.io", "PriorityClass", "value", "may not be changed in an update."),
    ("scheduling.k8s.io", "PriorityClass", "preemptionPolicy", "may not be changed in an update."),
    ("storage.k8s.io", "StorageClass", "parameters", "updates to parameters are forbidden."),
    ("storage.k8s.io", "StorageClass", "provisioner", "updates to provisioner are forbidden."),
];

/// Checks a change.
pub fn update(kind: &Kind, new: &Node<'_>, old: &Node<'_>, errors: &mut Errors) {
    for (_, _, path) in FIELDS.iter().filter(|(group, name, _)| *group == kind.group && *name == kind.kind) {
        unchanged(&new.at(path), &old.at(path), errors);
    }
    for (_, _, field, detail) in
        FORBIDDEN.iter().filter(|(group, name, _, _)| *group == kind.group && *name == kind.kind)
    {
        if new.get(field).value != old.get(field).value {
            errors.forbidden(&new.get(field), detail);
        }
    }
    match (&*kind.group, &*kind.kind) {
        ("", "Pod") => pod(&new.get("spec"), &old.get("spec"), errors),
        ("", "ConfigMap") => data(new, old, &["data", "binaryData"], errors),
        ("", "Secret") => data(new, old, &["data"], errors),
        ("", "Service") => service(&new.get("spec"), &old.get("spec"), errors),
        ("", "Node") => node_ranges(&new.get("spec"), &old.get("spec"), errors),
        ("", "PersistentVolumeClaim") => claim(new, old, errors),
        ("", "PersistentVolume") => volume(&new.get("spec"), &old.get("spec"), errors),
        (definition::GROUP, definition::KIND) => definition::validate_update(new, old, errors),
        ("apps", "StatefulSet") => stateful_set(&new.get("spec"), &old.get("spec"), errors),
        ("batch", "Job") => job(&new.get("spec"), &old.get("spec"), errors),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
            let (new, old) = (new.get("roleRef"), old.get("roleRef"));
            if new.value != old.value {
                errors.invalid(&new, "cannot change roleRef");
            }
        }
        (_, _) => {}
    }
}

fn unchanged(new: &Node<'_>, old: &Node<'_>, errors: &mut Errors) {
    if new.value != old.value {
        errors.invalid(new, "field is immutable");
    }
}

/// The fields of a map but for some.
fn without(map: &Node<'_>, fields: &[&str]) -> Map<String, Value> {
    let entries = map.value.as_object().into_iter().flatten();
    let kept = entries.filter(|(name, value)| !fields.contains(&name.as_str()) && !value.is_null());
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

const POD: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

fn pod(new: &Node<'_>, old: &Node<'_>, errors: &mut Errors) {
    const MUTABLE: &[&str] = &[
        "containers",
        "initContainers",
        "activeDeadlineSeconds",
        "tolerations",
        "terminationGracePeriodSeconds",
        "schedulingGates",
    ];
    for list in ["containers", "initContainers"] {
        let (new_list, old_list) = (new.get(list), old.get(list));
        if new_list.items().len() != old_list.items().len() {
            errors.forbidden(&new_list, "pod updates may not add or remove containers");
            return;
        }
    }
    deadline(&new.get("activeDeadlineSeconds"), &old.get("activeDeadlineSeconds"), errors);
    let gates = old.get("schedulingGates").items();
    let new_gates = new.get("schedulingGates");
    if new_gates.items().iter().any(|gate| !gates.iter().any(|old| old.value == gate.value)) {
        errors.forbidden(&new_gates, "only deletion is allowed, but found new scheduling gate");
    }
    let images_only = ["containers", "initContainers"].iter().all(|list| {
        let (new_items, old_items) = (new.get(list).items(), old.get(list).items());
        new_items.iter().zip(&old_items).all(|(new, old)| without(new, &["image"]) == without(old, &["image"]))
    });
    let added_only = {
        let tolerations = new.get("tolerations").items();
        old.get("tolerations").items().iter().all(|old| tolerations.iter().any(|new| tolerates(new, old)))
    };
    let grace = (new.get("terminationGracePeriodSeconds").int(), old.get("terminationGracePeriodSeconds").int());
    let same_grace = grace.0 == grace.1 || (grace.0 == Some(1) && grace.1.is_some_and(|seconds| seconds < 0));
    // Until its gates are gone a pod's place may still be narrowed down.
    let gated: &[&str] = if gates.is_empty() { &[] } else { &["nodeSelector", "affinity"] };
    let mutable: Vec<&str> = MUTABLE.iter().chain(gated).copied().collect();
    if !images_only || !added_only || !same_grace || without(new, &mutable) != without(old, &mutable) {
        errors.forbidden(new, POD);
    }
}

/// Only the seconds of a toleration may change.
fn tolerates(new: &Node<'_>, old: &Node<'_>) -> bool {
    without(new, &["tolerationSeconds"]) == without(old, &["tolerationSeconds"])
}

fn deadline(new: &Node<'_>, old: &Node<'_>, errors: &mut Errors) {
    match (new.int(), old.int()) {
        (None, Some(_)) => errors.invalid(new, "must not update from a positive integer to nil value"),
        (Some(after), Some(before)) if after > before => {
            errors.invalid(new, &format!("must be less than or equal to previous value {before}"));
        }
        (Some(_) | None, Some(_) | None) => {}
    }
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

/// The first address never changes, but for a change from or to an external name. One left out counts as unchanged.
fn service(new: &Node<'_>, old: &Node<'_>, errors: &mut Errors) {
    let (after, before) = (new.get("clusterIP"), old.get("clusterIP"));
    let external = [new, old].iter().any(|spec| spec.get("type").text() == "ExternalName");
    if !external && !after.is_empty() && !before.is_empty() && after.value != before.value {
        let node = Node { path: format!("{}.clusterIPs[0]", new.path), value: after.value };
        errors.invalid(&node, "may not change once set");
    }
}

/// A node gets its range of pod addresses once: pods have addresses from it.
fn node_ranges(new: &Node<'_>, old: &Node<'_>, errors: &mut Errors) {
    for field in ["podCIDR", "podCIDRs"] {
        let (after, before) = (new.get(field), old.get(field));
        if !before.is_empty() && after.value != before.value {
            errors.forbidden(&after, &format!("node updates may not change {field} except from \"\" to valid"));
        }
    }
}

const CLAIM: &str =
    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";

fn claim(new: &Node<'_>, old: &Node<'_>, errors: &mut Errors) {
    let (spec, before) = (new.get("spec"), old.get("spec"));
    let mut mutable = vec!["resources", "volumeAttributesClassName"];
    // The binder names the volume; a class may be set once, where there was none.
    mutable.extend(["volumeName", "storageClassName"].iter().filter(|name| before.get(name).is_empty()));
    let resources = |spec: &Node<'_>| without(&spec.get("resources"), &["requests"]);
    if without(&spec, &mutable) != without(&before, &mutable) || resources(&spec) != resources(&before) {
        errors.forbidden(&spec, CLAIM);
    }
    let (after_size, before_size) = (requested(&spec), requested(&before));
    let bound = old.at(&["status", "phase"]).text() == "Bound";
    match after_size.quantity().cmp(&before_size.quantity()) {
        std::cmp::Ordering::Less => {
            errors.forbidden(
                &Node { path: format!("{}.resources.requests.storage", spec.path), ..after_size },
                "field can not be less than previous value",
            );
        }
        std::cmp::Ordering::Greater if !bound => errors.forbidden(&spec, CLAIM),
        std::cmp::Ordering::Greater | std::cmp::Ordering::Equal => {}
    }
}

fn requested<'a>(spec: &Node<'a>) -> Node<'a> {
    spec.at(&["resources", "requests"]).key("storage")
}

/// What may change in a volume: all else is its source.
const VOLUME_MUTABLE: &[&str] = &[
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

fn volume(new: &Node<'_>, old: &Node<'_>, errors: &mut Errors) {
    if without(new, VOLUME_MUTABLE) != without(old, VOLUME_MUTABLE) {
        let node = Node { path: format!("{}.persistentvolumesource", new.path), value: new.value };
        errors.forbidden(&node, "spec.persistentvolumesource is immutable after creation");
    }
    unchanged(&new.get("volumeMode"), &old.get("volumeMode"), errors);
    let (after, before) = (new.get("nodeAffinity"), old.get("nodeAffinity"));
    if !before.is_missing() {
        unchanged(&after, &before, errors);
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
    if without(new, STATEFUL_SET_MUTABLE) != without(old, STATEFUL_SET_MUTABLE) {
        errors.forbidden(new, STATEFUL_SET);
    }
}

/// A job's pods are given once; only of a suspended job may their place be chosen anew.
fn job(new: &Node<'_>, old: &Node<'_>, errors: &mut Errors) {
    const PLACE: &[&str] = &["affinity", "nodeSelector", "tolerations", "schedulingGates"];
    let place: &[&str] = if old.get("suspend").is_true() { PLACE } else { &[] };
    let template = |job: &Node<'_>| {
        let template = job.get("template");
        let metadata = if place.is_empty() { template.get("metadata").value.clone() } else { Value::Null };
        (metadata, without(&template.get("spec"), place))
    };
    if template(new) != template(old) {
        errors.invalid(&new.get("template"), "field is immutable");
    }
    if new.get("completionMode").text() != "Indexed" {
        unchanged(&new.get("completions"), &old.get("completions"), errors);
    }
}
