//! Changes of pods: images, and what only ever gets narrower.
//!
//! Owns what may change in a pod's spec, and that annotations with a meaning of their own stay.

use super::super::errors::Errors;
use super::super::node::Node;
use super::super::structs;
use super::{is_none, same, without};
use serde_json::Value;

const POD: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// What is compared by rules of its own.
const MUTABLE: &[&str] = &[
    "containers",
    "initContainers",
    "activeDeadlineSeconds",
    "tolerations",
    "terminationGracePeriodSeconds",
    "schedulingGates",
    "nodeSelector",
    "affinity",
];

pub fn pod(new: &Node<'_>, old: &Node<'_>, errors: &mut Errors) {
    annotations(&new.at(&["metadata", "annotations"]), &old.at(&["metadata", "annotations"]), errors);
    let (new, old) = (&new.get("spec"), &old.get("spec"));
    for list in ["containers", "initContainers"] {
        let (new_list, old_list) = (new.get(list), old.get(list));
        if new_list.items().len() != old_list.items().len() {
            errors.forbidden(&new_list, "pod updates may not add or remove containers");
            return;
        }
    }
    if deadline(&new.get("activeDeadlineSeconds"), &old.get("activeDeadlineSeconds"), errors) {
        return;
    }
    tolerations(&new.get("tolerations"), &old.get("tolerations"), errors);
    gates(&new.get("schedulingGates"), &old.get("schedulingGates"), errors);
    let images_only = ["containers", "initContainers"].iter().all(|list| {
        let (new_items, old_items) = (new.get(list).items(), old.get(list).items());
        new_items.iter().zip(&old_items).all(|(new, old)| same(&without(new, &["image"]), &without(old, &["image"])))
    });
    let grace = (new.get("terminationGracePeriodSeconds").int(), old.get("terminationGracePeriodSeconds").int());
    let same_grace = grace.0 == grace.1 || (grace.0 == Some(1) && grace.1.is_some_and(|seconds| seconds < 0));
    // Until its gates are gone a pod's place may still be narrowed down.
    let same_place = if old.get("schedulingGates").is_empty() {
        same(new.get("affinity").value, old.get("affinity").value)
            && same_map(new.get("nodeSelector").value, old.get("nodeSelector").value)
    } else {
        narrower(new, old, errors)
    };
    if !(images_only && same_grace && same_place && same(&without(new, MUTABLE), &without(old, MUTABLE))) {
        errors.forbidden(new, POD);
    }
}

const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Annotations that a pod has from its start or never.
fn annotations(new: &Node<'_>, old: &Node<'_>, errors: &mut Errors) {
    let what = |key: &str| match key {
        MIRROR => Some("mirror pod annotation"),
        key => key.starts_with(APP_ARMOR).then_some("AppArmor annotations"),
    };
    for (key, value) in old.entries() {
        if let Some(what) = what(key).filter(|_| new.key(key).value != value.value) {
            errors.forbidden(&new.key(key), &format!("may not remove or update {what}"));
        }
    }
    for (key, node) in new.entries() {
        if let Some(what) = what(key).filter(|_| old.key(key).is_missing()) {
            errors.forbidden(&node, &format!("may not add {what}"));
        }
    }
}

/// Whether the deadline was moved out, after which upstream looks no further.
fn deadline(new: &Node<'_>, old: &Node<'_>, errors: &mut Errors) -> bool {
    match (new.int(), old.int()) {
        (None, Some(_)) => errors.invalid(new, "must not update from a positive integer to nil value"),
        (Some(after), Some(before)) if after > before => {
            errors.invalid(new, "must be less than or equal to previous value");
            return true;
        }
        (Some(_) | None, Some(_) | None) => {}
    }
    false
}

/// Only the seconds of a toleration may change.
fn tolerations(new: &Node<'_>, old: &Node<'_>, errors: &mut Errors) {
    const SECONDS: &[&str] = &["tolerationSeconds"];
    let items = new.items();
    let kept = |old: &Node<'_>| items.iter().any(|new| same(&without(new, SECONDS), &without(old, SECONDS)));
    if !old.items().iter().all(kept) {
        errors.forbidden(new, "existing toleration can not be modified except its tolerationSeconds");
    }
}

fn gates(new: &Node<'_>, old: &Node<'_>, errors: &mut Errors) {
    let known = old.items();
    for name in new.items().iter().map(|gate| gate.get("name")) {
        if !known.iter().any(|gate| gate.get("name").text() == name.text()) {
            let detail = format!("only deletion is allowed, but found new scheduling gate '{}'", name.text());
            errors.forbidden(&name, &detail);
        }
    }
}

/// Whether two maps are the same; an empty one is none.
fn same_map(a: &Value, b: &Value) -> bool {
    let empty = |value: &Value| value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
    a == b || empty(a) && empty(b)
}

/// Checks that a pod's place is only narrowed down; whether nothing else about it changed.
fn narrower(new: &Node<'_>, old: &Node<'_>, errors: &mut Errors) -> bool {
    let (selector, before) = (new.get("nodeSelector"), old.get("nodeSelector"));
    if before.entries().iter().any(|(key, value)| selector.key(key).value != value.value) {
        let detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        errors.invalid(&selector, detail);
    }
    let (affinity, before) = (new.get("affinity"), old.get("affinity"));
    let (nodes, nodes_before) = (affinity.get("nodeAffinity"), before.get("nodeAffinity"));
    if !same(nodes.value, nodes_before.value) {
        node_affinity(&nodes, &nodes_before, errors);
    }
    ["podAffinity", "podAntiAffinity"].iter().all(|field| same(affinity.get(field).value, before.get(field).value))
}

fn node_affinity(new: &Node<'_>, old: &Node<'_>, errors: &mut Errors) {
    const TERMS: [&str; 2] = ["requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms"];
    let (terms, before) = (new.at(&TERMS), old.at(&TERMS));
    let (items, items_before) = (terms.items(), before.items());
    if items_before.is_empty() {
        return;
    }
    if items.len() != items_before.len() {
        let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        return errors.invalid(&terms, detail);
    }
    for (term, before) in items.iter().zip(&items_before) {
        let lists = ["matchExpressions", "matchFields"].map(|field| (term.get(field), before.get(field)));
        let was_empty = lists.iter().all(|(_, before)| is_none(before.value));
        let added = lists.iter().any(|(new, before)| new.items().len() > before.items().len());
        let kept = lists.iter().all(|(new, before)| {
            let (new, before) = (new.items(), before.items());
            new.len() >= before.len() && before.iter().zip(&new).all(|(old, new)| same(old.value, new.value))
        });
        if !kept || was_empty && added {
            errors.invalid_struct(
                term,
                structs::NODE_SELECTOR_TERM,
                "only additions are allowed (no mutations or deletions)",
            );
        }
    }
}
