//! Autoscalers, disruption budgets, priorities, leases and runtime classes.
//!
//! Owns the checks of these kinds by themselves.

use super::errors::Errors;
use super::names;
use super::node::Node;
use super::selectors;

pub fn autoscaler(autoscaler: &Node<'_>, errors: &mut Errors) {
    let spec = autoscaler.get("spec");
    let (min, max) = (spec.get("minReplicas"), spec.get("maxReplicas"));
    if min.int().is_some_and(|min| min < 1) {
        errors.invalid(&min, "must be greater than or equal to 1");
    }
    match max.int() {
        None | Some(..=0) => errors.invalid_value(&max, &max.int().unwrap_or(0).into(), "must be greater than 0"),
        Some(number) if min.int().is_some_and(|min| number < min) => {
            errors.invalid(&max, "must be greater than or equal to `minReplicas`");
        }
        Some(_) => {}
    }
    let target = spec.get("scaleTargetRef");
    errors.named(&target.get("kind"), names::path_segment);
    errors.named(&target.get("name"), names::path_segment);
    for metric in spec.get("metrics").items() {
        errors.one_of(&metric.get("type"), &["ContainerResource", "External", "Object", "Pods", "Resource"]);
    }
}

pub fn disruption_budget(budget: &Node<'_>, errors: &mut Errors) {
    let spec = budget.get("spec");
    let (min, max) = (spec.get("minAvailable"), spec.get("maxUnavailable"));
    if !min.is_missing() && !max.is_missing() {
        errors.invalid(&spec, "minAvailable and maxUnavailable cannot be both set");
    }
    for node in [&min, &max] {
        count_or_percent(node, errors);
    }
    selectors::label_selector(&spec.get("selector"), errors);
    errors.optional_one_of(&spec.get("unhealthyPodEvictionPolicy"), &["AlwaysAllow", "IfHealthyBudget"]);
}

/// A count that is not negative, or a percentage of at most 100.
pub fn count_or_percent(node: &Node<'_>, errors: &mut Errors) {
    errors.non_negative(node);
    if node.value.is_string() {
        let problems = names::percent(node.text());
        let number = node.text().trim_end_matches('%').parse::<u64>();
        if problems.is_empty() && number.map_or(true, |number| number > 100) {
            errors.invalid(node, "must not be greater than 100%");
        }
        errors.invalid_all(node, problems);
    }
}

/// Users' priorities end here; higher ones are the system's.
const PRIORITY_MAX: i64 = 1_000_000_000;
const SYSTEM_CLASSES: &[(&str, i64)] =
    &[("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];

pub fn priority_class(class: &Node<'_>, errors: &mut Errors) {
    let (name, value) = (class.at(&["metadata", "name"]), class.get("value"));
    let system = SYSTEM_CLASSES.iter().any(|(system, number)| *system == name.text() && Some(*number) == value.int());
    if !system && name.text().starts_with("system-") {
        errors.forbidden(&name, "priority class names with 'system-' prefix are reserved for system use only");
    }
    if !system && value.int().is_some_and(|value| value > PRIORITY_MAX) {
        errors.forbidden(&value, &format!("maximum allowed value of a user defined priority is {PRIORITY_MAX}"));
    }
    errors.optional_one_of(&class.get("preemptionPolicy"), &["Never", "PreemptLowerPriority"]);
}

pub fn lease(lease: &Node<'_>, errors: &mut Errors) {
    let spec = lease.get("spec");
    errors.positive(&spec.get("leaseDurationSeconds"));
    errors.non_negative(&spec.get("leaseTransitions"));
}

pub fn runtime_class(class: &Node<'_>, errors: &mut Errors) {
    let handler = class.get("handler");
    errors.invalid_all(&handler, names::dns_label(handler.text()));
    for (name, quantity) in class.at(&["overhead", "podFixed"]).entries() {
        super::resources::amount(name, &quantity, errors);
    }
}
