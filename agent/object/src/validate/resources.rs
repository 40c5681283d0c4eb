//! Resource lists: names, quantities, requests against limits.
//!
//! Owns the rules for compute resources; storage requests of claims are in [`super::storage`].

use super::errors::Errors;
use super::names;
use super::node::Node;

const STANDARD: &[&str] = &["cpu", "memory", "ephemeral-storage"];

fn is_standard(name: &str) -> bool {
    STANDARD.contains(&name) || is_huge_page(name)
}

fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// Checks the `resources` of a container.
pub fn container(resources: &Node<'_>, errors: &mut Errors) {
    let (limits, requests) = (resources.get("limits"), resources.get("requests"));
    for list in [&limits, &requests] {
        for (name, quantity) in list.entries() {
            resource_name(name, list, &quantity, errors);
            amount(name, &quantity, errors);
        }
    }
    for (name, request) in requests.entries() {
        let limit = limits.key(name);
        let (Some(request_amount), Some(limit_amount)) = (request.quantity(), limit.quantity()) else {
            continue;
        };
        let fixed = is_huge_page(name) || !is_standard(name);
        if fixed && request_amount != limit_amount {
            let detail = format!("must be equal to {name} limit of {}", limit.text());
            errors.invalid_value(&requests, request.value, &detail);
        } else if request_amount > limit_amount {
            let detail = format!("must be less than or equal to {name} limit of {}", limit.text());
            errors.invalid_value(&requests, request.value, &detail);
        }
    }
}

fn resource_name(name: &str, list: &Node<'_>, quantity: &Node<'_>, errors: &mut Errors) {
    let problems = names::qualified_name(name);
    if problems.is_empty() && !name.contains('/') && !is_standard(name) {
        errors.invalid_value(quantity, &name.into(), "must be a standard resource type or fully qualified");
        errors.invalid_value(quantity, &name.into(), "must be a standard resource for containers");
    }
    problems.iter().for_each(|problem| errors.invalid_value(list, &name.into(), problem));
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
    if name.contains('/') && !quantity.is_integer() {
        errors.invalid(node, "must be an integer");
    }
}
