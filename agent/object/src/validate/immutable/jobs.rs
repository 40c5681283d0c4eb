//! Changes of jobs.
//!
//! Owns what a job may still choose anew before it has started.

use super::super::errors::Errors;
use super::super::node::Node;
use super::{same, unchanged, without};
use serde_json::{Value, json};

pub fn job(new: &Node<'_>, old: &Node<'_>, errors: &mut Errors) {
    // Only of a suspended job that never ran may the pods' place be chosen anew.
    let open = old.at(&["spec", "suspend"]).is_true() && !old.get("status").has("startTime");
    let (new, old) = (new.get("spec"), old.get("spec"));
    completions(&new, &old, errors);
    let template =
        |spec: &Node<'_>| if open { without_place(&spec.get("template")) } else { spec.get("template").value.clone() };
    if !same(&template(&new), &template(&old)) {
        errors.invalid(&new.get("template"), "field is immutable");
    }
}

/// A template but for what says where its pods run, and for labels and annotations.
fn without_place(template: &Node<'_>) -> Value {
    let (metadata, spec) = (template.get("metadata"), template.get("spec"));
    let affinity = without(&spec.get("affinity"), &["nodeAffinity"]);
    json!({
        "metadata": without(&metadata, &["labels", "annotations"]),
        "spec": without(&spec, &["affinity", "nodeSelector", "tolerations", "schedulingGates"]),
        "affinity": affinity,
    })
}

fn completions(new: &Node<'_>, old: &Node<'_>, errors: &mut Errors) {
    let (after, before) = (new.get("completions"), old.get("completions"));
    if new.get("completionMode").text() != "Indexed" {
        return unchanged(&after, &before, errors);
    }
    if !after.is_missing() && after.value != before.value && after.value != new.get("parallelism").value {
        errors.invalid(&after, "can only be modified in tandem with spec.parallelism");
    }
}
