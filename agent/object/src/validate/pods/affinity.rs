//! Where pods may run: affinity, tolerations, spreading.
//!
//! Owns the form of these rules; what they mean is the scheduler's.

use super::super::errors::Errors;
use super::super::node::Node;
use super::super::{names, selectors, structs};
use std::collections::{BTreeSet, HashMap};

const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Whether values of labels have to have their form: a preference for what cannot be is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strength {
    Required,
    Preferred,
}

pub fn taint_effect(effect: &Node<'_>, errors: &mut Errors) {
    errors.one_of(effect, EFFECTS);
}

pub fn tolerations(tolerations: &Node<'_>, errors: &mut Errors) {
    for toleration in tolerations.items() {
        let (key, operator, value) = (toleration.get("key"), toleration.get("operator"), toleration.get("value"));
        let effect = toleration.get("effect");
        errors.optional_named(&key, names::qualified_name);
        if key.is_empty() && operator.text() != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.invalid_text(&operator, detail);
        }
        if toleration.has("tolerationSeconds") && effect.text() != "NoExecute" {
            errors.invalid_text(&effect, "effect must be 'NoExecute' when `tolerationSeconds` is set");
        }
        match operator.text() {
            "" | "Equal" => {
                let problems = names::label_value(value.text());
                if !problems.is_empty() {
                    errors.invalid_value(&operator, value.value, &problems.join(";"));
                }
            }
            "Exists" if !value.is_empty() => {
                let whole = Node { path: operator.path, ..toleration };
                errors.invalid_struct(&whole, structs::TOLERATION, "value must be empty when `operator` is 'Exists'");
            }
            "Exists" => {}
            _ => errors.not_supported(&operator, &["Equal", "Exists"]),
        }
        errors.optional_one_of(&effect, EFFECTS);
    }
}

pub fn affinity(affinity: &Node<'_>, errors: &mut Errors) {
    let node = affinity.get("nodeAffinity");
    let required = node.get("requiredDuringSchedulingIgnoredDuringExecution");
    if !required.is_missing() {
        node_selector(&required, errors);
    }
    for preferred in node.get("preferredDuringSchedulingIgnoredDuringExecution").items() {
        weight(&preferred.get("weight"), errors);
        node_term(&preferred.get("preference"), Strength::Preferred, errors);
    }
    for pods in ["podAffinity", "podAntiAffinity"].map(|name| affinity.get(name)) {
        for term in pods.get("requiredDuringSchedulingIgnoredDuringExecution").items() {
            pod_term(&term, errors);
        }
        for preferred in pods.get("preferredDuringSchedulingIgnoredDuringExecution").items() {
            weight(&preferred.get("weight"), errors);
            pod_term(&preferred.get("podAffinityTerm"), errors);
        }
    }
}

fn weight(weight: &Node<'_>, errors: &mut Errors) {
    let number = weight.int().unwrap_or(0);
    if !(1..=100).contains(&number) {
        errors.invalid_value(weight, &number.into(), "must be in the range 1-100");
    }
}

/// Which nodes are required, by a pod or by a volume.
pub fn node_selector(selector: &Node<'_>, errors: &mut Errors) {
    let terms = selector.get("nodeSelectorTerms");
    if terms.is_empty() {
        errors.required(&terms, "must have at least one node selector term");
    }
    for term in terms.items() {
        node_term(&term, Strength::Required, errors);
    }
}

fn node_term(term: &Node<'_>, strength: Strength, errors: &mut Errors) {
    for expression in term.get("matchExpressions").items() {
        node_expression(&expression, strength, errors);
    }
    for field in term.get("matchFields").items() {
        node_field(&field, errors);
    }
}

fn node_expression(expression: &Node<'_>, strength: Strength, errors: &mut Errors) {
    let (key, operator, values) = (expression.get("key"), expression.get("operator"), expression.get("values"));
    let items = values.items();
    match (operator.text(), items.len()) {
        ("In" | "NotIn", 0) => errors.required(&values, "must be specified when `operator` is 'In' or 'NotIn'"),
        ("Exists" | "DoesNotExist", 1..) => {
            errors.forbidden(&values, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
        }
        ("Gt" | "Lt", 0 | 2..) => {
            errors.required(&values, "must be specified single value when `operator` is 'Lt' or 'Gt'")
        }
        ("In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt", _) => {}
        (_, _) => errors.invalid_text(&operator, "not a valid selector operator"),
    }
    errors.formed(&key, names::qualified_name);
    if strength == Strength::Required {
        items.iter().for_each(|value| errors.formed(value, names::label_value));
    }
}

fn node_field(field: &Node<'_>, errors: &mut Errors) {
    let (key, operator, values) = (field.get("key"), field.get("operator"), field.get("values"));
    match (operator.text(), values.items().len()) {
        ("In" | "NotIn", 1) => {}
        ("In" | "NotIn", _) => {
            errors
                .required(&values, "must be only one value when `operator` is 'In' or 'NotIn' for node field selector");
        }
        (_, _) => errors.invalid_text(&operator, "not a valid selector operator"),
    }
    if key.text() == "metadata.name" {
        values.items().iter().for_each(|value| errors.formed(value, names::dns_subdomain));
    } else {
        errors.invalid_text(&key, "not a valid field selector key");
    }
}

fn pod_term(term: &Node<'_>, errors: &mut Errors) {
    let selector = term.get("labelSelector");
    selectors::label_selector(&selector, errors);
    selectors::label_selector(&term.get("namespaceSelector"), errors);
    for namespace in term.get("namespaces").items() {
        // Upstream calls the field so.
        let node = Node { path: term.get("namespace").path, ..namespace };
        errors.formed(&node, names::dns_label);
    }
    let (matched, mismatched) = (term.get("matchLabelKeys"), term.get("mismatchLabelKeys"));
    for keys in [&matched, &mismatched].into_iter().filter(|keys| !keys.is_empty()) {
        if selector.is_missing() {
            errors.forbidden(keys, "must not be specified when labelSelector is not set");
            continue;
        }
        keys.items().iter().for_each(|key| errors.formed(key, names::qualified_name));
    }
    for key in matched.items() {
        if mismatched.items().iter().any(|other| other.value == key.value) {
            errors.invalid(&key, "exists in both matchLabelKeys and mismatchLabelKeys");
        }
    }
    let topology = term.get("topologyKey");
    if topology.is_empty() {
        errors.required(&topology, "can not be empty");
    }
    errors.formed(&topology, names::qualified_name);
}

const ACTIONS: &[&str] = &["DoNotSchedule", "ScheduleAnyway"];

pub fn spread(constraints: &Node<'_>, errors: &mut Errors) {
    let items = constraints.items();
    let pair = |constraint: &Node<'_>| {
        format!("{{{}, {}}}", constraint.get("topologyKey").text(), constraint.get("whenUnsatisfiable").text())
    };
    let mut left: HashMap<String, usize> = HashMap::new();
    items.iter().for_each(|constraint| *left.entry(pair(constraint)).or_default() += 1);
    for constraint in &items {
        let skew = constraint.get("maxSkew");
        if skew.int().unwrap_or(0) <= 0 {
            errors.invalid_value(&skew, &skew.int().unwrap_or(0).into(), "must be greater than zero");
        }
        let topology = constraint.get("topologyKey");
        if topology.is_empty() {
            errors.required(&topology, "can not be empty");
        }
        errors.supported(&constraint.get("whenUnsatisfiable"), ACTIONS);
        let own = pair(constraint);
        // Of several the last is the one that stands.
        let others = left.get_mut(&own).map_or(0, |left| {
            *left -= 1;
            *left
        });
        if others > 0 {
            errors.duplicate_value(&constraint.get("{topologyKey, whenUnsatisfiable}"), &own.into());
        }
        min_domains(constraint, errors);
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            errors.optional_supported(&constraint.get(field), &["Honor", "Ignore"]);
        }
        spread_labels(constraint, errors);
        selectors::label_selector(&constraint.get("labelSelector"), errors);
    }
}

fn min_domains(constraint: &Node<'_>, errors: &mut Errors) {
    let (domains, action) = (constraint.get("minDomains"), constraint.get("whenUnsatisfiable").text());
    let Some(number) = domains.int() else {
        return;
    };
    if number <= 0 {
        errors.invalid(&domains, "must be greater than zero");
    }
    if action != "DoNotSchedule" {
        let detail = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
        errors.invalid(&domains, &detail);
    }
}

fn spread_labels(constraint: &Node<'_>, errors: &mut Errors) {
    let (keys, selector) = (constraint.get("matchLabelKeys"), constraint.get("labelSelector"));
    if !keys.is_empty() && selector.is_missing() {
        errors.forbidden(&keys, "must not be specified when labelSelector is not set");
    }
    let labels = selector.get("matchLabels").entries().into_iter().map(|(key, _)| key);
    let expressions = selector.get("matchExpressions").items();
    let selected: BTreeSet<&str> = labels.chain(expressions.iter().map(|item| item.get("key").text())).collect();
    for key in keys.items() {
        errors.formed(&key, names::qualified_name);
        if selected.contains(key.text()) {
            errors.invalid(&key, "exists in both matchLabelKeys and labelSelector");
        }
    }
}
