//! Autoscalers.
//!
//! Owns bounds, metrics and behaviour of both versions; the older one has a single metric.

use super::errors::Errors;
use super::node::Node;
use super::{names, resources, selectors};

pub fn autoscaler(autoscaler: &Node<'_>, errors: &mut Errors) {
    let spec = autoscaler.get("spec");
    let (min, max) = (spec.get("minReplicas"), spec.get("maxReplicas"));
    if min.int().is_some_and(|min| min < 1) {
        errors.invalid(&min, "must be greater than or equal to 1");
    }
    let number = max.int().unwrap_or(0);
    if number < 1 {
        errors.invalid_value(&max, &number.into(), "must be greater than 0");
    }
    if min.int().is_some_and(|min| number < min) {
        errors.invalid_value(&max, &number.into(), "must be greater than or equal to `minReplicas`");
    }
    object_reference(&spec.get("scaleTargetRef"), errors);
    let percent = spec.get("targetCPUUtilizationPercentage");
    if percent.int().is_some_and(|percent| percent < 1) {
        // The newer version's name for it.
        let path = format!("{}.metrics[0].resource.target.averageUtilization", spec.path);
        errors.invalid(&Node { path, ..percent }, "must be greater than 0");
    }
    spec.get("metrics").items().iter().for_each(|metric| self::metric(metric, errors));
    for direction in ["scaleUp", "scaleDown"].map(|name| spec.get("behavior").get(name)) {
        scaling_rules(&direction, errors);
    }
}

fn object_reference(reference: &Node<'_>, errors: &mut Errors) {
    errors.named(&reference.get("kind"), names::path_segment);
    errors.named(&reference.get("name"), names::path_segment);
}

const TYPES: &[&str] = &["ContainerResource", "External", "Object", "Pods", "Resource"];

/// The field of each type, in the order in which upstream looks for them.
const SOURCES: &[(&str, &str)] = &[
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];

fn metric(metric: &Node<'_>, errors: &mut Errors) {
    let ty = metric.get("type");
    if ty.is_empty() {
        errors.required(&ty, "must specify a metric source type");
    }
    errors.supported(&ty, TYPES);
    let present: Vec<&str> = SOURCES.iter().map(|(_, field)| *field).filter(|field| metric.has(field)).collect();
    if let Some(first) = present.first() {
        source(first, &metric.get(first), errors);
    }
    let expected = SOURCES.iter().find(|(name, _)| *name == ty.text()).map(|(_, field)| *field);
    match expected {
        Some(field) if !metric.has(field) => {
            errors.required(&metric.get(field), "must populate information for the given metric source");
        }
        Some(_) | None => {}
    }
    if present.len() > 1 {
        for field in present.iter().filter(|field| Some(**field) != expected) {
            errors.forbidden(&metric.get(field), "must populate the given metric source only");
        }
    }
}

fn source(name: &str, source: &Node<'_>, errors: &mut Errors) {
    let target = source.get("target");
    match name {
        "object" => {
            object_reference(&source.get("describedObject"), errors);
            identifier(&source.get("metric"), errors);
        }
        "external" | "pods" => identifier(&source.get("metric"), errors),
        "containerResource" => {
            let (resource, container) = (source.get("name"), source.get("container"));
            if resource.is_empty() {
                errors.required(&resource, "must specify a resource name");
            } else {
                resources::container_name(resource.text(), &resource, errors);
            }
            if container.is_empty() {
                errors.required(&container, "must specify a container");
            } else {
                errors.formed(&container, names::dns_label);
            }
        }
        _ if source.get("name").is_empty() => errors.required(&source.get("name"), "must specify a resource name"),
        _ => {}
    }
    self::target(&target, errors);
    let [value, average, utilization] = ["value", "averageValue", "averageUtilization"].map(|field| target.get(field));
    match name {
        "object" if value.is_missing() && average.is_missing() => {
            errors.required(&average, "must set either a target value or averageValue");
        }
        "external" if value.is_missing() && average.is_missing() => {
            errors.required(&average, "must set either a target value for metric or a per-pod target");
        }
        "external" if !value.is_missing() && !average.is_missing() => {
            errors.forbidden(&value, "may not set both a target value for metric and a per-pod target");
        }
        "pods" if average.is_missing() => errors.required(&average, "must specify a positive target averageValue"),
        "resource" | "containerResource" if utilization.is_missing() && average.is_missing() => {
            errors.required(&utilization, "must set either a target raw value or a target utilization");
        }
        "resource" | "containerResource" if !utilization.is_missing() && !average.is_missing() => {
            errors.forbidden(&average, "may not set both a target raw value and a target utilization");
        }
        _ => {}
    }
}

fn identifier(metric: &Node<'_>, errors: &mut Errors) {
    let name = metric.get("name");
    if name.is_empty() {
        errors.required(&name, "must specify a metric name");
    } else {
        errors.formed(&name, names::path_segment);
    }
    selectors::label_selector(&metric.get("selector"), errors);
}

fn target(target: &Node<'_>, errors: &mut Errors) {
    let ty = target.get("type");
    if ty.is_empty() {
        errors.required(&ty, "must specify a metric target type");
    }
    if !["Utilization", "Value", "AverageValue"].contains(&ty.text()) {
        errors.invalid_text(&ty, "must be either Utilization, Value, or AverageValue");
    }
    for amount in ["value", "averageValue"].map(|field| target.get(field)) {
        if amount.quantity().is_some_and(|quantity| quantity.is_zero() || quantity.is_negative()) {
            errors.invalid(&amount, "must be positive");
        }
    }
    let utilization = target.get("averageUtilization");
    if utilization.int().is_some_and(|percent| percent < 1) {
        errors.invalid(&utilization, "must be greater than 0");
    }
}

const WINDOW_SECONDS_MAX: i64 = 3600;
const PERIOD_SECONDS_MAX: i64 = 1800;

fn scaling_rules(rules: &Node<'_>, errors: &mut Errors) {
    if rules.is_missing() {
        return;
    }
    let (window, policies) = (rules.get("stabilizationWindowSeconds"), rules.get("policies"));
    match window.int() {
        Some(..0) => errors.invalid(&window, "must be greater than or equal to zero"),
        Some(seconds) if seconds > WINDOW_SECONDS_MAX => {
            errors.invalid(&window, &format!("must be less than or equal to {WINDOW_SECONDS_MAX}"));
        }
        Some(_) | None => {}
    }
    errors.optional_supported(&rules.get("selectPolicy"), &["Disabled", "Max", "Min"]);
    if policies.is_empty() {
        errors.required(&policies, "must specify at least one Policy");
    }
    for policy in policies.items() {
        errors.supported(&policy.get("type"), &["Percent", "Pods"]);
        for node in ["value", "periodSeconds"].map(|field| policy.get(field)) {
            let number = node.int().unwrap_or(0);
            if number <= 0 {
                errors.invalid_value(&node, &number.into(), "must be greater than zero");
            }
        }
        let period = policy.get("periodSeconds");
        if period.int().is_some_and(|seconds| seconds > PERIOD_SECONDS_MAX) {
            errors.invalid(&period, &format!("must be less than or equal to {PERIOD_SECONDS_MAX}"));
        }
    }
}
