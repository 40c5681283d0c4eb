//! Disruption budgets, priorities, leases and runtime classes.
//!
//! Owns the checks of these kinds by themselves.

use super::errors::Errors;
use super::node::Node;
use super::pods::{self, PREEMPTION_POLICIES};
use super::{metadata, names, resources, selectors, structs};

pub fn disruption_budget(budget: &Node<'_>, errors: &mut Errors) {
    let spec = budget.get("spec");
    let (min, max) = (spec.get("minAvailable"), spec.get("maxUnavailable"));
    if !min.is_missing() && !max.is_missing() {
        errors.invalid_struct(&spec, structs::BUDGET, "minAvailable and maxUnavailable cannot be both set");
    }
    for node in [&min, &max] {
        count_or_percent(node, errors);
        not_above_all(node, errors);
    }
    selectors::label_selector(&spec.get("selector"), errors);
    errors.optional_supported(&spec.get("unhealthyPodEvictionPolicy"), &["AlwaysAllow", "IfHealthyBudget"]);
}

/// A count that is not negative, or a percentage.
pub fn count_or_percent(node: &Node<'_>, errors: &mut Errors) {
    errors.non_negative(node);
    if node.value.is_string() {
        errors.formed(node, names::percent);
    }
}

/// A percentage of at most 100.
pub fn not_above_all(node: &Node<'_>, errors: &mut Errors) {
    let number = node.text().strip_suffix('%').map(str::parse::<u64>);
    let is_percent = names::percent(node.text()).is_empty();
    if is_percent && number.is_some_and(|number| number.map_or(true, |number| number > 100)) {
        errors.invalid(node, "must not be greater than 100%");
    }
}

/// Users' priorities end here; higher ones are the system's.
const PRIORITY_MAX: i64 = 1_000_000_000;
const SYSTEM_CLASSES: &[(&str, i64)] =
    &[("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];

pub fn priority_class(class: &Node<'_>, errors: &mut Errors) {
    let (name, value) = (class.at(&["metadata", "name"]), class.get("value"));
    if name.text().starts_with("system-") {
        if let Some(why) = not_of_system(name.text(), value.int().unwrap_or(0), class.get("globalDefault").is_true()) {
            let detail =
                format!("priority class names with 'system-' prefix are reserved for system use only. error: {why}");
            errors.forbidden(&name, &detail);
        }
    } else if value.int().is_some_and(|value| value > PRIORITY_MAX) {
        errors.forbidden(&value, &format!("maximum allowed value of a user defined priority is {PRIORITY_MAX}"));
    }
    let preemption = class.get("preemptionPolicy");
    if !preemption.is_missing() {
        errors.one_of(&preemption, PREEMPTION_POLICIES);
    }
}

/// Why a class is none of the system's own.
fn not_of_system(name: &str, value: i64, is_default: bool) -> Option<String> {
    match SYSTEM_CLASSES.iter().find(|(system, _)| *system == name) {
        None => Some(format!("{name} is not a known system priority class")),
        Some((_, number)) if *number != value => Some(format!("value of {name} PriorityClass must be {number}")),
        Some(_) if is_default => Some(format!("globalDefault of {name} PriorityClass must be false")),
        Some(_) => None,
    }
}

pub fn lease(lease: &Node<'_>, errors: &mut Errors) {
    let spec = lease.get("spec");
    errors.positive(&spec.get("leaseDurationSeconds"));
    errors.non_negative(&spec.get("leaseTransitions"));
}

pub fn runtime_class(class: &Node<'_>, errors: &mut Errors) {
    errors.formed(&class.get("handler"), names::dns_label);
    // Upstream leaves the name of the list out of the path.
    let fixed = Node { path: class.get("overhead").path, ..class.at(&["overhead", "podFixed"]) };
    resources::overhead(&fixed, errors);
    let scheduling = class.get("scheduling");
    metadata::labels(&scheduling.get("nodeSelector"), errors);
    pods::tolerations(&scheduling.get("tolerations"), errors);
}
