//! Quotas and limits of namespaces.
//!
//! Owns which resources, scopes and amounts they may name; what they are compared with is admission's.

use super::errors::Errors;
use super::names;
use super::node::Node;
use super::resources;
use crate::quantity::Quantity;
use std::collections::BTreeSet;

pub fn resource_quota(quota: &Node<'_>, errors: &mut Errors) {
    let (spec, status) = (quota.get("spec"), quota.get("status"));
    for list in [spec.get("hard"), status.get("hard"), status.get("used")] {
        for (name, quantity) in list.entries() {
            resources::resource_name(name, &quantity, errors);
            if !name.contains('/') && !resources::is_of_quotas(name) {
                errors.invalid_value(&quantity, &name.into(), "must be a standard resource for quota");
            }
            resources::amount(name, &quantity, errors);
        }
    }
    scopes(&spec, errors);
    scope_selector(&spec, errors);
}

const SCOPES: &[&str] = &[
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];
/// Scopes that a pod is in or is not.
const OF_PODS: &[&str] = &["BestEffort", "CrossNamespacePodAffinity", "NotBestEffort", "NotTerminating", "Terminating"];
const OPPOSITES: &[[&str; 2]] = &[["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];
const COMPUTE: &[&str] = &["pods", "cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];
const CLAIMS: &[&str] = &["persistentvolumeclaims", "requests.storage"];

/// Whether a resource can be counted within a scope.
fn is_within(scope: &str, resource: &str) -> bool {
    match scope {
        "BestEffort" => resource == "pods",
        "Terminating" | "NotTerminating" | "NotBestEffort" | "PriorityClass" | "CrossNamespacePodAffinity" => {
            COMPUTE.contains(&resource)
        }
        "VolumeAttributesClass" => CLAIMS.contains(&resource),
        _ => true,
    }
}

/// The resources of a quota that its scopes have to fit.
fn limited<'a>(spec: &Node<'a>) -> Vec<&'a str> {
    let names = spec.get("hard").entries().into_iter().map(|(name, _)| name);
    names.filter(|name| resources::is_of_quotas(name)).collect()
}

fn scopes(spec: &Node<'_>, errors: &mut Errors) {
    let list = spec.get("scopes");
    let items = list.items();
    for scope in &items {
        if !SCOPES.contains(&scope.text()) {
            errors.invalid(&list, "unsupported scope");
        }
        for _ in limited(spec).iter().filter(|resource| !is_within(scope.text(), resource)) {
            errors.invalid(&list, "unsupported scope applied to resource");
        }
    }
    opposites(&list, &items.iter().map(Node::text).collect(), errors);
}

fn opposites(list: &Node<'_>, scopes: &BTreeSet<&str>, errors: &mut Errors) {
    for pair in OPPOSITES {
        if pair.iter().all(|scope| scopes.contains(scope)) {
            errors.invalid(list, "conflicting scopes");
        }
    }
}

/// The errors are about the whole list: upstream's name no entry.
fn scope_selector(spec: &Node<'_>, errors: &mut Errors) {
    const POD_SCOPE: &str = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
    let list = spec.at(&["scopeSelector", "matchExpressions"]);
    let selector = Node { path: list.path.clone(), ..spec.get("scopeSelector") };
    let mut seen = BTreeSet::new();
    for expression in list.items() {
        let field = |name: &str| Node { path: list.get(name).path, ..expression.get(name) };
        let (scope, operator, values) = (field("scopeName"), field("operator"), field("values"));
        if !SCOPES.contains(&scope.text()) {
            errors.invalid_text(&scope, "unsupported scope");
        }
        for _ in limited(spec).iter().filter(|resource| !is_within(scope.text(), resource)) {
            errors.invalid(&selector, "unsupported scope applied to resource");
        }
        if OF_PODS.contains(&scope.text()) && operator.text() != "Exists" {
            errors.invalid_text(&operator, POD_SCOPE);
        }
        match operator.text() {
            "In" | "NotIn" if values.is_empty() => {
                let detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.required(&values, detail);
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.invalid(&values, detail);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => errors.invalid_text(&operator, "not a valid selector operator"),
        }
        seen.insert(scope.text());
    }
    opposites(&Node { path: list.path.clone(), ..spec.get("scopes") }, &seen, errors);
}

const LIMIT_TYPES: &[&str] = &["Container", "PersistentVolumeClaim", "Pod"];
const DEFAULTS: &[&str] = &["default", "defaultRequest"];

pub fn limit_range(range: &Node<'_>, errors: &mut Errors) {
    let mut types = BTreeSet::new();
    for item in range.at(&["spec", "limits"]).items() {
        let ty = item.get("type");
        let problems = names::qualified_name(ty.text());
        if problems.is_empty() && !ty.text().contains('/') && !LIMIT_TYPES.contains(&ty.text()) {
            errors.invalid(&ty, "must be a standard limit type or fully qualified");
        }
        errors.invalid_all(&ty, problems);
        if !types.insert(ty.text()) {
            errors.duplicate(&ty);
        }
        limit_names(&item, errors);
        if ty.text() == "PersistentVolumeClaim" && !["min", "max"].iter().any(|list| item.get(list).has("storage")) {
            let detail = "either minimum or maximum storage value is required, but neither was provided";
            errors.required(&item.get("limits"), detail);
        }
        limit_amounts(&item, errors);
    }
}

fn limit_names(item: &Node<'_>, errors: &mut Errors) {
    let ty = item.get("type").text();
    for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"].map(|list| item.get(list)) {
        if ty == "Pod" && !list.is_empty() && DEFAULTS.iter().any(|name| list.path.ends_with(&format!(".{name}"))) {
            errors.forbidden(&list, "may not be specified when `type` is 'Pod'");
            continue;
        }
        for (name, quantity) in list.entries() {
            match ty {
                "Pod" | "Container" => resources::container_name(name, &quantity, errors),
                _ => resources::resource_name(name, &quantity, errors),
            }
        }
    }
}

/// Of two lists, which may not exceed which; whose field upstream names, and whose value it shows.
struct Order {
    smaller: (&'static str, &'static str),
    larger: (&'static str, &'static str),
    field: &'static str,
    shown: &'static str,
}

const MIN: (&str, &str) = ("min", "min");
const MAX: (&str, &str) = ("max", "max");
const DEFAULT: (&str, &str) = ("default", "default");
const REQUEST: (&str, &str) = ("defaultRequest", "default request");

const ORDERS: &[Order] = &[
    Order { smaller: MIN, larger: MAX, field: "min", shown: "min" },
    Order { smaller: MIN, larger: REQUEST, field: "defaultRequest", shown: "defaultRequest" },
    Order { smaller: REQUEST, larger: MAX, field: "defaultRequest", shown: "defaultRequest" },
    Order { smaller: REQUEST, larger: ("default", "default limit"), field: "defaultRequest", shown: "defaultRequest" },
    Order { smaller: MIN, larger: DEFAULT, field: "default", shown: "min" },
    Order { smaller: DEFAULT, larger: MAX, field: "default", shown: "max" },
];

fn limit_amounts(item: &Node<'_>, errors: &mut Errors) {
    let lists = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"].map(|list| item.get(list));
    let keys: BTreeSet<&str> = lists.iter().flat_map(Node::entries).map(|(name, _)| name).collect();
    for name in keys {
        let amount = |list: &str| item.get(list).key(name).quantity();
        for order in ORDERS {
            let (Some(smaller), Some(larger)) = (amount(order.smaller.0), amount(order.larger.0)) else {
                continue;
            };
            if smaller > larger {
                let (small, large) = (order.smaller.1, order.larger.1);
                let detail = format!("{small} value {smaller} is greater than {large} value {larger}");
                let shown = item.get(order.shown).key(name).value;
                errors.invalid_value(&item.get(order.field).key(name), shown, &detail);
            }
        }
        ratio(item, name, errors);
        if let (Some(limit), Some(request)) = (amount("default"), amount("defaultRequest"))
            && limit != request
            && !resources::may_overcommit(name)
        {
            let detail = format!("default value {limit} must equal to defaultRequest value {request} in {name}");
            errors.invalid(&item.get("defaultRequest").key(name), &detail);
        }
    }
}

fn ratio(item: &Node<'_>, name: &str, errors: &mut Errors) {
    let node = item.get("maxLimitRequestRatio").key(name);
    let Some(ratio) = node.quantity() else {
        return;
    };
    if ratio < Quantity::from_value(1, ratio.format()) {
        errors.invalid(&node, &format!("ratio {ratio} is less than 1"));
    }
    let bound = |list: &str| item.get(list).key(name).quantity().map(|quantity| quantity.as_f64());
    if let (Some(min), Some(max)) = (bound("min"), bound("max"))
        && ratio.as_f64() > max / min
    {
        errors.invalid(&node, &format!("ratio {ratio} is greater than max/min = {:.6}", max / min));
    }
}
