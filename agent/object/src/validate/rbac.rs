//! Roles and bindings.
//!
//! Owns the form of rules, subjects and references; whether the writer may grant them is the authorizer's.

use super::errors::Errors;
use super::node::Node;
use super::{names, selectors};

const GROUP: &str = "rbac.authorization.k8s.io";

pub fn role(role: &Node<'_>, errors: &mut Errors) {
    for rule in role.get("rules").items() {
        let urls = rule.get("nonResourceURLs");
        if !urls.is_empty() {
            errors.invalid(&urls, "namespaced rules cannot apply to non-resource URLs");
        }
        self::rule(&rule, errors);
    }
}

pub fn cluster_role(role: &Node<'_>, errors: &mut Errors) {
    for rule in role.get("rules").items() {
        self::rule(&rule, errors);
    }
    let aggregation = role.get("aggregationRule");
    if !aggregation.is_missing() {
        let selectors = aggregation.get("clusterRoleSelectors");
        if selectors.is_empty() {
            errors.required(&selectors, "at least one clusterRoleSelector required if aggregationRule is non-nil");
        }
        for selector in selectors.items() {
            selectors::label_selector(&selector, errors);
        }
    }
}

fn rule(rule: &Node<'_>, errors: &mut Errors) {
    let (verbs, groups, resources) = (rule.get("verbs"), rule.get("apiGroups"), rule.get("resources"));
    let (urls, names) = (rule.get("nonResourceURLs"), rule.get("resourceNames"));
    if verbs.is_empty() {
        errors.required(&verbs, "verbs must contain at least one value");
    }
    if !urls.is_empty() {
        if !groups.is_empty() || !resources.is_empty() || !names.is_empty() {
            errors.invalid(&urls, "rules cannot apply to both regular resources and non-resource URLs");
        }
        return;
    }
    if groups.is_empty() {
        errors.required(&groups, "resource rules must supply at least one api group");
    }
    if resources.is_empty() {
        errors.required(&resources, "resource rules must supply at least one resource");
    }
}

pub fn binding(binding: &Node<'_>, errors: &mut Errors) {
    let reference = binding.get("roleRef");
    let group = reference.get("apiGroup");
    if group.text() != GROUP {
        errors.not_supported(&group, &[GROUP]);
    }
    let kinds: &[&str] =
        if binding.at(&["metadata", "namespace"]).is_empty() { &["ClusterRole"] } else { &["Role", "ClusterRole"] };
    let kind = reference.get("kind");
    if !kinds.contains(&kind.text()) {
        errors.not_supported(&kind, kinds);
    }
    errors.named(&reference.get("name"), names::path_segment);
    for subject in binding.get("subjects").items() {
        self::subject(&subject, binding.at(&["metadata", "namespace"]).text(), errors);
    }
}

/// An account without a namespace is of the binding's own.
fn subject(subject: &Node<'_>, binding_namespace: &str, errors: &mut Errors) {
    let (kind, name, group) = (subject.get("kind"), subject.get("name"), subject.get("apiGroup"));
    if name.is_empty() {
        errors.required(&name, "");
    }
    match kind.text() {
        "ServiceAccount" => {
            errors.optional_named(&name, names::dns_subdomain);
            if !group.is_empty() {
                errors.not_supported(&group, &[""]);
            }
            if binding_namespace.is_empty() && subject.get("namespace").is_empty() {
                errors.required(&subject.get("namespace"), "");
            }
        }
        "User" | "Group" => {
            if group.text() != GROUP {
                errors.not_supported(&group, &[GROUP]);
            }
        }
        _ => errors.not_supported(&kind, &["ServiceAccount", "User", "Group"]),
    }
}
