//! The variables of containers, and references to fields of their pod, which volumes have, too.
//!
//! Owns what can be referred to.

use super::super::errors::Errors;
use super::super::names;
use super::super::node::Node;

/// The fields of a pod that a variable can take its value from.
const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// All fields that can be named at all; which of them can be had depends on where.
const FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

pub fn environment(container: &Node<'_>, errors: &mut Errors) {
    for variable in container.get("env").items() {
        errors.named(&variable.get("name"), names::env_name);
        let source = variable.get("valueFrom");
        if !source.is_missing() {
            variable_source(&variable, &source, errors);
        }
    }
    let sources = container.get("envFrom");
    for source in sources.items() {
        errors.optional_named(&source.get("prefix"), names::env_name);
        let references = ["configMapRef", "secretRef"].map(|field| source.get(field));
        let set = || references.iter().filter(|reference| !reference.is_missing());
        set().for_each(|reference| errors.named(&reference.get("name"), names::dns_subdomain));
        match set().count() {
            0 => errors.invalid_value(&sources, &"".into(), "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => errors.invalid_value(&sources, &"".into(), "may not have more than one field specified at a time"),
        }
    }
}

const SOURCES: &[&str] = &["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];

fn variable_source(variable: &Node<'_>, source: &Node<'_>, errors: &mut Errors) {
    let field = source.get("fieldRef");
    if !field.is_missing() {
        field_reference(&field, ENV_FIELDS, errors);
    }
    let resource = source.get("resourceFieldRef");
    if !resource.is_missing() {
        resource_reference(&resource, ResourceOf::Itself, errors);
    }
    for reference in ["configMapKeyRef", "secretKeyRef"].map(|name| source.get(name)) {
        if !reference.is_missing() {
            errors.formed(&reference.get("name"), names::dns_subdomain);
            errors.named(&reference.get("key"), names::config_key);
        }
    }
    let detail = match SOURCES.iter().filter(|name| source.has(name)).count() {
        0 => "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        _ if !variable.get("value").is_empty() => "may not be specified when `value` is not empty",
        1 => return,
        _ => "may not have more than one field specified at a time",
    };
    errors.invalid_value(source, &"".into(), detail);
}

/// Checks a reference to a field of the pod: one of `supported`, or one label or annotation.
pub fn field_reference(reference: &Node<'_>, supported: &[&str], errors: &mut Errors) {
    let (version, path) = (reference.get("apiVersion"), reference.get("fieldPath"));
    if version.is_empty() {
        return errors.required(&version, "");
    }
    if path.is_empty() {
        return errors.required(&path, "");
    }
    // Its name long ago, still taken.
    let whole = if path.text() == "spec.host" { "spec.nodeName" } else { path.text() };
    let (name, subscript) = match whole.strip_suffix("']").and_then(|text| text.split_once("['")) {
        Some((name, subscript)) if !name.is_empty() => (name, Some(subscript)),
        Some(_) | None => (whole, None),
    };
    let refused = match (version.text(), name, subscript) {
        ("v1", "metadata.annotations" | "metadata.labels", Some(_)) => None,
        ("v1", _, Some(_)) => Some(format!("field label does not support subscript: {whole}")),
        ("v1", name, None) if FIELDS.contains(&name) => None,
        ("v1", _, None) => Some(format!("field label not supported: {whole}")),
        (version, _, _) => Some(format!("unsupported pod version: {version}")),
    };
    match (refused, subscript) {
        (Some(why), _) => errors.invalid(&path, &format!("error converting fieldPath: {why}")),
        (None, Some(key)) => {
            let key = if name == "metadata.annotations" { key.to_lowercase() } else { key.to_owned() };
            for problem in names::qualified_name(&key) {
                errors.invalid_value(reference, &key.as_str().into(), &problem);
            }
        }
        (None, None) if !supported.contains(&whole) => errors.not_supported(&path, supported),
        (None, None) => {}
    }
}

/// Of which container a resource is: the one that refers to it, or one that is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResourceOf {
    Itself,
    Named,
}

/// Checks a reference to a request or limit.
pub fn resource_reference(reference: &Node<'_>, of: ResourceOf, errors: &mut Errors) {
    let (container, resource) = (reference.get("containerName"), reference.get("resource"));
    let huge_pages = ["limits.hugepages-", "requests.hugepages-"].iter().any(|p| resource.text().starts_with(p));
    if of == ResourceOf::Named && container.is_empty() {
        errors.required(&container, "");
    } else if resource.is_empty() {
        errors.required(&resource, "");
    } else if !huge_pages && !RESOURCES.contains(&resource.text()) {
        errors.not_supported(&resource, RESOURCES);
    }
    divisor(reference, resource.text(), errors);
}

const SIZES: &[&str] = &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

fn divisor(reference: &Node<'_>, resource: &str, errors: &mut Errors) {
    let divisor = reference.get("divisor");
    let Some(quantity) = divisor.quantity().filter(|quantity| !quantity.is_zero()) else {
        return;
    };
    let name = resource.split_once('.').map_or("", |(_, name)| name);
    let what = match name {
        "cpu" => "cpu",
        "memory" => "memory",
        "ephemeral-storage" => "local ephemeral storage",
        name if name.starts_with("hugepages-") => "hugepages",
        _ => return,
    };
    let written = quantity.to_string();
    let detail = match what {
        "cpu" if ["1m", "1"].contains(&written.as_str()) => return,
        "cpu" => "only divisor's values 1m and 1 are supported with the cpu resource".to_owned(),
        _ if SIZES.contains(&written.as_str()) => return,
        what => format!("only divisor's values {} are supported with the {what} resource", SIZES.join(", ")),
    };
    errors.invalid_value(&divisor, &resource.into(), &detail);
}
