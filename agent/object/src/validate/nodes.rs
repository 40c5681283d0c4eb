//! What nodes may say.
//!
//! Owns taints, ranges of pod addresses and resources by themselves.

use super::errors::{Errors, FieldErrorKind};
use super::node::Node;
use super::{names, pods, resources, structs};
use std::collections::BTreeSet;

pub fn node(node: &Node<'_>, errors: &mut Errors) {
    // Upstream calls the field so.
    let taints = Node { path: node.at(&["metadata", "taints"]).path, ..node.at(&["spec", "taints"]) };
    self::taints(&taints, errors);
    for list in ["capacity", "allocatable"].map(|field| node.get("status").get(field)) {
        for (name, quantity) in list.entries() {
            resources::amount(name, &Node { path: list.get(name).path, ..quantity }, errors);
        }
    }
    ranges(&node.get("spec"), errors);
}

fn taints(taints: &Node<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for taint in taints.items() {
        let (key, value, effect) = (taint.get("key"), taint.get("value"), taint.get("effect"));
        errors.formed(&key, names::qualified_name);
        let problems = names::label_value(value.text());
        if !problems.is_empty() {
            errors.invalid(&value, &problems.join(";"));
        }
        pods::taint_effect(&effect, errors);
        if !seen.insert((effect.text(), key.text())) {
            let detail = "taints must be unique by key and effect pair";
            errors.about_struct(FieldErrorKind::Duplicate, &taint, structs::TAINT, detail);
        }
    }
}

/// The networks of a node's pods: one of each family.
fn ranges(spec: &Node<'_>, errors: &mut Errors) {
    let (first, ranges) = (spec.get("podCIDR"), spec.get("podCIDRs"));
    let items = ranges.items();
    for range in &items {
        errors.invalid_all(range, names::canonical_cidr(range.text()));
    }
    let families: BTreeSet<bool> = items.iter().map(|range| range.text().contains(':')).collect();
    if families.len() < items.len() {
        errors.invalid(&ranges, "may specify no more than one CIDR for each IP family");
    }
    if items.first().is_some_and(|range| range.value != first.value) {
        errors.invalid(&first, "must be the first of podCIDRs");
    }
}
