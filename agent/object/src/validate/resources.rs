//! Resource lists: names, quantities, requests against limits.
//!
//! Owns the rules for compute resources and the names of resources; storage requests of claims are in
//! [`super::storage`].

use super::errors::Errors;
use super::names;
use super::node::Node;
use crate::quantity::Quantity;
use crate::requests;
use std::collections::BTreeSet;

const OF_CONTAINERS: &[&str] = &["cpu", "memory", "ephemeral-storage"];

/// What quotas count as whole things.
const COUNTED: &[&str] = &[
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

const OF_QUOTAS: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
];

fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// A name of Kubernetes' own.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// A name of somebody else's, such as of a device.
fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && names::qualified_name(&format!("requests.{name}")).is_empty()
}

/// Whether limits may be above requests.
pub fn may_overcommit(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

fn is_of_containers(name: &str) -> bool {
    OF_CONTAINERS.contains(&name) || is_huge_page(name)
}

/// Whether a quota may have it without a domain.
pub fn is_of_quotas(name: &str) -> bool {
    let pages = is_huge_page(name) || name.starts_with("requests.hugepages-");
    OF_QUOTAS.contains(&name) || COUNTED.contains(&name) || pages
}

fn is_standard(name: &str) -> bool {
    is_of_quotas(name) || name == "storage"
}

/// Checks the `resources` of a container.
pub fn container(resources: &Node<'_>, claims: &BTreeSet<&str>, errors: &mut Errors) {
    lists(resources, container_name, errors);
    claim_names(&resources.get("claims"), claims, errors);
}

/// What a pod has besides what its runtime needs.
pub fn overhead(overhead: &Node<'_>, errors: &mut Errors) {
    for (name, quantity) in overhead.entries() {
        let node = Node { path: format!("{}.limits[{name}]", overhead.path), ..quantity };
        container_name(name, &node, errors);
        amount(name, &node, errors);
    }
}

/// Checks the name of a resource and the amount; errors are about the entry.
type Name = fn(&str, &Node<'_>, &mut Errors);

fn lists(resources: &Node<'_>, check_name: Name, errors: &mut Errors) {
    let (limits, requests) = (resources.get("limits"), resources.get("requests"));
    for (name, limit) in limits.entries() {
        check_name(name, &limit, errors);
        amount(name, &limit, errors);
        huge_pages(name, &limit, errors);
    }
    for (name, request) in requests.entries() {
        check_name(name, &request, errors);
        amount(name, &request, errors);
        against_limit(name, &request, &limits, &requests, errors);
        huge_pages(name, &request, errors);
    }
    let has =
        |wanted: fn(&str) -> bool| limits.entries().iter().chain(&requests.entries()).any(|(name, _)| wanted(name));
    if has(is_huge_page) && !has(|name| matches!(name, "cpu" | "memory")) {
        errors.forbidden(resources, "HugePages require cpu or memory");
    }
}

fn against_limit(name: &str, request: &Node<'_>, limits: &Node<'_>, requests: &Node<'_>, errors: &mut Errors) {
    let limit = limits.key(name);
    if limit.is_missing() {
        if !may_overcommit(name) {
            errors.required(limits, "Limit must be set for non overcommitable resources");
        }
        return;
    }
    let (Some(request_amount), Some(limit_amount)) = (request.quantity(), limit.quantity()) else {
        return;
    };
    let said = request_amount.to_string().into();
    if request_amount != limit_amount && !may_overcommit(name) {
        errors.invalid_value(requests, &said, &format!("must be equal to {name} limit of {limit_amount}"));
    } else if request_amount > limit_amount {
        errors.invalid_value(requests, &said, &format!("must be less than or equal to {name} limit of {limit_amount}"));
    }
}

fn huge_pages(name: &str, node: &Node<'_>, errors: &mut Errors) {
    let size = name.strip_prefix("hugepages-").and_then(|size| Quantity::parse(size).ok());
    if let (Some(size), Some(quantity)) = (size, node.quantity()) {
        let size = size.value();
        if size <= 0 || quantity.is_negative() || !quantity.is_integer() || quantity.value() % size != 0 {
            errors.invalid(node, &format!("{quantity} is not positive integer multiple of {name}"));
        }
    }
}

/// A name that must be qualified unless it is one of the standard ones.
pub fn resource_name(name: &str, node: &Node<'_>, errors: &mut Errors) {
    let problems = names::qualified_name(name);
    if problems.is_empty() && !name.contains('/') && !is_standard(name) {
        errors.invalid_value(node, &name.into(), "must be a standard resource type or fully qualified");
    }
    problems.iter().for_each(|problem| errors.invalid_value(node, &name.into(), problem));
}

pub fn container_name(name: &str, node: &Node<'_>, errors: &mut Errors) {
    resource_name(name, node, errors);
    if !name.contains('/') {
        if !is_of_containers(name) {
            errors.invalid_value(node, &name.into(), "must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.invalid_value(node, &name.into(), "doesn't follow extended resource name standard");
    }
}

/// Checks that a quantity is not negative, and whole where the resource cannot be divided.
pub fn amount(name: &str, node: &Node<'_>, errors: &mut Errors) {
    let Some(quantity) = node.quantity() else {
        errors.invalid(node, "must be a quantity");
        return;
    };
    if quantity.is_negative() {
        errors.invalid(node, "must be greater than or equal to 0");
    }
    if (COUNTED.contains(&name) || is_extended(name)) && !quantity.is_integer() {
        errors.invalid(node, "must be an integer");
    }
}

/// The resource claims that a container uses have to be its pod's.
fn claim_names(claims: &Node<'_>, of_pod: &BTreeSet<&str>, errors: &mut Errors) {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for claim in claims.items() {
        let (name, request) = (claim.get("name").text(), claim.get("request"));
        if name.is_empty() {
            errors.required(&claim, "");
            continue;
        }
        if seen.contains(&(name, "")) || request.is_empty() && seen.iter().any(|(other, _)| *other == name) {
            errors.duplicate_value(&claim, &name.into());
        } else {
            errors.optional_named(&request, names::dns_label);
            if seen.contains(&(name, request.text())) {
                errors.duplicate_value(&claim, &format!("{name}/{}", request.text()).into());
            }
        }
        seen.push((name, request.text()));
        if !of_pod.contains(name) {
            let known: Vec<&str> = of_pod.iter().copied().collect();
            let known = if known.is_empty() { " which is empty".to_owned() } else { format!(": {}", known.join(", ")) };
            let detail = format!("must be one of the names in pod.spec.resourceClaims{known}");
            errors.not_found_because(&claim, &name.into(), &detail);
        }
    }
}

const OF_PODS: &[&str] = &["cpu", "hugepages-", "memory"];

fn pod_name(name: &str, node: &Node<'_>, errors: &mut Errors) {
    let before = errors.len();
    resource_name(name, node, errors);
    if errors.len() == before && !OF_PODS.contains(&name) && !is_huge_page(name) {
        errors.not_supported_value(node, &name.into(), OF_PODS);
    }
}

/// Checks what a pod requests as a whole against what its containers do.
pub fn pod(spec: &Node<'_>, claims: &BTreeSet<&str>, errors: &mut Errors) {
    let resources = spec.get("resources");
    if resources.is_missing() {
        return;
    }
    if resources.has("claims") {
        errors.forbidden(&resources.get("claims"), "claims cannot be set for Resources at pod-level");
    }
    lists(&resources, pod_name, errors);
    claim_names(&resources.get("claims"), claims, errors);
    let sums = requests::of_containers(spec.value);
    for (name, request) in resources.get("requests").entries() {
        if let Some(sum) = sums.get(name).filter(|sum| request.quantity().is_some_and(|request| **sum > request)) {
            let detail = format!("must be greater than or equal to aggregate container requests of {sum}");
            errors.invalid(&request, &detail);
        }
    }
    let containers = spec.get("containers").items();
    for (index, container) in containers.iter().enumerate() {
        for (name, limit) in container.at(&["resources", "limits"]).entries() {
            let whole = resources.get("limits").key(name);
            if let (Some(own), Some(max)) = (limit.quantity(), whole.quantity())
                && own > max
            {
                let path = format!("{}.containers[{index}][{name}].limits", resources.path);
                let detail = format!("must be less than or equal to pod limits of {max}");
                errors.invalid(&Node { path, ..limit }, &detail);
            }
        }
    }
}
