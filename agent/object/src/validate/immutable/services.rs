//! Changes of Services: addresses, and what is given once.
//!
//! Owns what a change may not take away or replace.

use super::super::errors::Errors;
use super::super::node::Node;
use super::super::services::is_headless;
use serde_json::{Value, json};

const CHANGED: &str = "may not change once set";

pub fn service(new: &Node<'_>, old: &Node<'_>, errors: &mut Errors) {
    let is = |spec: &Node<'_>, ty: &str| spec.get("type").text() == ty;
    if !is(new, "ExternalName") && !is(old, "ExternalName") {
        addresses(new, old, errors);
        families(new, old, errors);
    }
    if is(new, "LoadBalancer") && is(old, "LoadBalancer") {
        let class = new.get("loadBalancerClass");
        if class.value != old.get("loadBalancerClass").value {
            errors.invalid(&class, CHANGED);
        }
        let (port, before) = (new.get("healthCheckNodePort"), old.get("healthCheckNodePort"));
        let local = |spec: &Node<'_>| spec.get("externalTrafficPolicy").text() == "Local";
        if local(new) && local(old) && before.int().unwrap_or(0) != 0 && port.value != before.value {
            errors.forbidden(&port, "field is immutable");
        }
    }
}

/// The addresses that a Service has or asks for; one that is left out counts as unchanged.
fn list(spec: &Node<'_>) -> Vec<Value> {
    let items: Vec<Value> = spec.get("clusterIPs").items().iter().map(|node| node.value.clone()).collect();
    match spec.get("clusterIP").text() {
        "" => items,
        single if items.is_empty() => vec![single.into()],
        _ => items,
    }
}

fn addresses(new: &Node<'_>, old: &Node<'_>, errors: &mut Errors) {
    let (after, before) = (list(new), list(old));
    if after.is_empty() || is_headless(new) && is_headless(old) {
        return;
    }
    let at = |index: usize| Node { path: format!("{}.clusterIPs[{index}]", new.path), ..new.clone() };
    let compared = if after.len() == before.len() { after.len() } else { 1 };
    for (index, (after_one, before_one)) in after.iter().zip(&before).take(compared).enumerate() {
        if after_one != before_one {
            errors.invalid_value(&at(index), &json!(after), CHANGED);
        }
    }
    single_stack(new, after.len() < before.len() && after.len() == 1, "clusterIP", errors);
}

fn families(new: &Node<'_>, old: &Node<'_>, errors: &mut Errors) {
    let (list, before) = (new.get("ipFamilies"), old.get("ipFamilies"));
    let (after, before) = (list.items(), before.items());
    if after.is_empty() || is_headless(new) || is_headless(old) {
        return;
    }
    let compared = if after.len() == before.len() { after.len() } else { 1 };
    if after.iter().zip(&before).take(compared).any(|(after, before)| after.value != before.value) {
        errors.invalid(&Node { path: format!("{}[0]", list.path), ..list }, CHANGED);
    }
    single_stack(new, after.len() < before.len() && after.len() == 1, "ipFamily", errors);
}

/// Who gives the second of two back says that one is enough.
fn single_stack(new: &Node<'_>, released: bool, what: &str, errors: &mut Errors) {
    let policy = new.get("ipFamilyPolicy");
    if released && policy.text() != "SingleStack" {
        errors.invalid(&policy, &format!("must be set to 'SingleStack' when releasing the secondary {what}"));
    }
}
