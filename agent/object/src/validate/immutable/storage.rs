//! Changes of claims, volumes and drivers.
//!
//! Owns what a change may not replace: only sizes and classes of what is bound.

use super::super::errors::Errors;
use super::super::node::Node;
use super::super::structs;
use super::{same, unchanged, without};
use crate::quantity::Quantity;
use serde_json::Value;

const CLAIM: &str =
    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

pub fn claim(new: &Node<'_>, old: &Node<'_>, errors: &mut Errors) {
    let (spec, before) = (new.get("spec"), old.get("spec"));
    class_annotation(new, old, errors);
    let mut mutable = vec!["resources"];
    // The binder names the volume; a class may be set once, where there was none.
    mutable.extend(["volumeName", "storageClassName"].iter().filter(|name| before.get(name).is_empty()));
    let class = spec.get("volumeAttributesClassName");
    let bound = new.at(&["status", "phase"]).text() == "Bound";
    if bound && !class.is_missing() {
        mutable.push("volumeAttributesClassName");
    }
    let resources = |spec: &Node<'_>| without(&spec.get("resources"), &["requests"]);
    let others = |spec: &Node<'_>| without(&spec.at(&["resources", "requests"]), &["storage"]);
    let (size, size_before) = (requested(&spec), requested(&before));
    let same_size = bound || size == size_before;
    let same_rest = same(&without(&spec, &mutable), &without(&before, &mutable))
        && same(&resources(&spec), &resources(&before))
        && same(&others(&spec), &others(&before));
    if !same_size || !same_rest {
        errors.forbidden(&spec, CLAIM);
    }
    let has = new.at(&["status", "capacity"]).key("storage").quantity().unwrap_or(Quantity::ZERO);
    if size < size_before && size <= has {
        let path = format!("{}.resources.requests.storage", spec.path);
        errors.forbidden(&Node { path, ..spec.clone() }, "field can not be less than status.capacity");
    }
    let mode = spec.get("volumeMode");
    unchanged(&Node { path: "volumeMode".to_owned(), ..mode }, &before.get("volumeMode"), errors);
    if before.has("volumeAttributesClassName") {
        match class.value.as_str() {
            None => errors.forbidden(&class, "update from non-nil value to nil is forbidden"),
            Some("") => errors.forbidden(&class, "update from non-nil value to an empty string is forbidden"),
            Some(_) => {}
        }
    }
}

/// The class by the old annotation stays, unless it becomes the field.
fn class_annotation(new: &Node<'_>, old: &Node<'_>, errors: &mut Errors) {
    let of = |claim: &Node<'_>| claim.at(&["metadata", "annotations"]).value.get(CLASS_ANNOTATION).cloned();
    let (after, before) = (of(new), of(old));
    let class = new.at(&["spec", "storageClassName"]);
    let moved = before.is_some() && after.is_none() && before.as_ref() == Some(class.value);
    if after != before && !moved {
        let path = format!("metadata.annotations.{CLASS_ANNOTATION}");
        let said = after.unwrap_or_else(|| "".into());
        errors.invalid_value(&Node { path, ..class }, &said, "field is immutable");
    }
}

fn requested(spec: &Node<'_>) -> Quantity {
    spec.at(&["resources", "requests"]).key("storage").quantity().unwrap_or(Quantity::ZERO)
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

pub fn volume(new: &Node<'_>, old: &Node<'_>, errors: &mut Errors) {
    let source = |spec: &Node<'_>| {
        let mut source = without(spec, VOLUME_MUTABLE);
        // A secret to grow the volume with may be named once.
        if !old.get("csi").has("controllerExpandSecretRef")
            && let Some(csi) = source.get_mut("csi").and_then(Value::as_object_mut)
        {
            csi.remove("controllerExpandSecretRef");
        }
        source
    };
    if !same(&source(new), &source(old)) {
        let node = Node { path: format!("{}.persistentvolumesource", new.path), ..new.clone() };
        errors.forbidden(&node, "spec.persistentvolumesource is immutable after creation");
    }
    let mode = Node { path: "volumeMode".to_owned(), ..new.get("volumeMode") };
    unchanged(&mode, &old.get("volumeMode"), errors);
    let (after, before) = (new.get("nodeAffinity"), old.get("nodeAffinity"));
    let renamed = stable_labels(before.value);
    if !before.is_missing() && !same(after.value, before.value) && !same(after.value, &renamed) {
        let node = Node { path: "nodeAffinity".to_owned(), ..after };
        errors.invalid_struct(
            &node,
            structs::VOLUME_AFFINITY,
            "field is immutable, except for updating from beta label to GA",
        );
    }
    let class = new.get("volumeAttributesClassName");
    if old.has("volumeAttributesClassName") && class.is_missing() {
        errors.forbidden(&class, "update from non-nil value to nil is forbidden");
    }
}

/// Labels of nodes by their first names and by those they have now.
const STABLE: &[(&str, &str)] = &[
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("beta.kubernetes.io/os", "kubernetes.io/os"),
    ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
    ("beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type"),
];

fn stable_labels(affinity: &Value) -> Value {
    let mut affinity = affinity.clone();
    let terms = affinity.pointer_mut("/required/nodeSelectorTerms").and_then(Value::as_array_mut);
    for term in terms.into_iter().flatten() {
        let expressions = term.get_mut("matchExpressions").and_then(Value::as_array_mut);
        for key in expressions.into_iter().flatten().filter_map(|expression| expression.get_mut("key")) {
            if let Some((_, now)) = STABLE.iter().find(|(first, _)| key.as_str() == Some(first)) {
                *key = (*now).into();
            }
        }
    }
    affinity
}

/// A driver that a node has stays as it is, but for how many volumes it takes.
pub fn node_drivers(new: &Node<'_>, old: &Node<'_>, errors: &mut Errors) {
    let list = new.get("drivers");
    for before in old.get("drivers").items() {
        let named = |driver: &&Node<'_>| driver.get("name").text() == before.get("name").text();
        if let Some(after) = list.items().iter().find(named)
            && !same(&without(after, &["allocatable"]), &without(&before, &["allocatable"]))
        {
            errors.invalid(&Node { path: list.path.clone(), ..after.clone() }, "field is immutable");
        }
    }
}
