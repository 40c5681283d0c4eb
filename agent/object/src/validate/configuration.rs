//! Config maps, secrets, quotas, limits and events.
//!
//! Owns the checks of these kinds by themselves.

use super::errors::Errors;
use super::names;
use super::node::Node;
use super::resources;
use crate::base64;

/// All data of one config map or secret, in bytes.
const DATA_SIZE_MAX: usize = 1024 * 1024;

pub fn config_map(map: &Node<'_>, errors: &mut Errors) {
    let (data, binary) = (map.get("data"), map.get("binaryData"));
    let mut size = 0;
    for (key, value) in data.entries() {
        for problem in names::config_key(key) {
            errors.invalid_value(&value, &key.into(), &problem);
        }
        if !binary.key(key).is_missing() {
            errors.invalid_value(&value, &key.into(), "duplicate of key present in binaryData");
        }
        size += value.text().len();
    }
    for (key, value) in binary.entries() {
        for problem in names::config_key(key) {
            errors.invalid_value(&value, &key.into(), &problem);
        }
        size += base64::decoded_len(value.text());
    }
    if size > DATA_SIZE_MAX {
        errors.too_long("[]", DATA_SIZE_MAX);
    }
}

/// The keys that each type of secret must have.
const SECRET_KEYS: &[(&str, &[&str])] = &[
    ("kubernetes.io/tls", &["tls.crt", "tls.key"]),
    ("kubernetes.io/dockerconfigjson", &[".dockerconfigjson"]),
    ("kubernetes.io/dockercfg", &[".dockercfg"]),
    ("kubernetes.io/ssh-auth", &["ssh-privatekey"]),
];

pub fn secret(secret: &Node<'_>, errors: &mut Errors) {
    let (data, ty) = (secret.get("data"), secret.get("type"));
    let mut size = 0;
    for (key, value) in data.entries() {
        for problem in names::config_key(key) {
            errors.invalid_value(&value, &key.into(), &problem);
        }
        size += base64::decoded_len(value.text());
    }
    if size > DATA_SIZE_MAX {
        errors.too_long("data", DATA_SIZE_MAX);
    }
    for (_, keys) in SECRET_KEYS.iter().filter(|(name, _)| *name == ty.text()) {
        for key in keys.iter().map(|key| data.key(key)).filter(Node::is_missing) {
            errors.required(&key, "");
        }
    }
    match ty.text() {
        "kubernetes.io/basic-auth" if data.key("username").is_missing() && data.key("password").is_missing() => {
            errors.required(&data.key("username"), "");
            errors.required(&data.key("password"), "");
        }
        "kubernetes.io/service-account-token" => {
            let account = secret.at(&["metadata", "annotations"]).key("kubernetes.io/service-account.name");
            if account.is_empty() {
                errors.required(&account, "");
            }
        }
        _ => {}
    }
}

pub fn resource_quota(quota: &Node<'_>, errors: &mut Errors) {
    let hard = quota.at(&["spec", "hard"]);
    for (name, quantity) in hard.entries() {
        for problem in names::qualified_name(name) {
            errors.invalid_value(&quantity, &name.into(), &problem);
        }
        resources::amount(name, &quantity, errors);
    }
}

pub fn limit_range(range: &Node<'_>, errors: &mut Errors) {
    let mut types = Vec::new();
    for item in range.at(&["spec", "limits"]).items() {
        let ty = item.get("type");
        errors.named(&ty, names::qualified_name);
        if types.contains(&ty.text()) {
            errors.duplicate(&ty);
        }
        types.push(ty.text());
        let lists = ["max", "min", "default", "defaultRequest"];
        for (name, quantity) in lists.iter().flat_map(|list| item.get(list).entries()) {
            resources::amount(name, &quantity, errors);
        }
        limit_range_order(&item, errors);
    }
}

/// Smaller list, larger list: the first may not exceed the second.
const LIMIT_ORDER: &[(&str, &str)] = &[
    ("min", "max"),
    ("min", "defaultRequest"),
    ("defaultRequest", "max"),
    ("defaultRequest", "default"),
    ("default", "max"),
];

fn limit_range_order(item: &Node<'_>, errors: &mut Errors) {
    for (smaller, larger) in LIMIT_ORDER {
        for (name, node) in item.get(smaller).entries() {
            let bound = item.get(larger).key(name);
            let (Some(value), Some(max)) = (node.quantity(), bound.quantity()) else {
                continue;
            };
            if value > max {
                let words = |list: &str| {
                    if list == "defaultRequest" { "default request".to_owned() } else { list.to_owned() }
                };
                let detail = format!(
                    "{} value {} is greater than {} value {}",
                    words(smaller),
                    node.text(),
                    words(larger),
                    bound.text()
                );
                errors.invalid(&node, &detail);
            }
        }
    }
}

pub fn event(event: &Node<'_>, errors: &mut Errors) {
    let involved = event.at(&["involvedObject", "namespace"]);
    let namespace = event.at(&["metadata", "namespace"]);
    // Events about objects without a namespace are kept in the default one.
    let expected = if involved.is_empty() { "default" } else { involved.text() };
    if namespace.text() != expected && !(involved.is_empty() && namespace.text() == "kube-system") {
        errors.invalid(&involved, "does not match event.namespace");
    }
}
