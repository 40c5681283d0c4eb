//! Metadata: names, labels, annotations, owners, finalizers.
//!
//! Owns which form the name of each kind has, and what may not change.

use super::errors::Errors;
use super::names::{self, Form};
use super::node::Node;
use crate::Kind;
use crate::custom::definition;
use crate::kinds::{Scope, split_api_version};

/// All annotations together, in bytes.
const ANNOTATIONS_SIZE_MAX: usize = 256 * 1024;

/// Kinds whose names are not subdomains: group, kind, form.
const NAME_FORMS: &[(&str, &str, Form)] = &[
    ("", "Namespace", names::dns_label),
    ("", "Service", names::dns1035_label),
    ("rbac.authorization.k8s.io", "ClusterRole", names::path_segment),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding", names::path_segment),
    ("rbac.authorization.k8s.io", "Role", names::path_segment),
    ("rbac.authorization.k8s.io", "RoleBinding", names::path_segment),
    ("networking.k8s.io", "IPAddress", names::ip),
];

/// Finalizers that need no domain.
const STANDARD_FINALIZERS: &[&str] = &["kubernetes", "orphan", "foregroundDeletion"];

fn name_form(kind: &Kind) -> Form {
    let row = NAME_FORMS.iter().find(|(group, name, _)| *group == kind.group && *name == kind.kind);
    row.map_or(names::dns_subdomain, |(_, _, form)| *form)
}

/// Checks the metadata of an object by itself.
pub fn create(kind: &Kind, metadata: &Node<'_>, errors: &mut Errors) {
    let form = name_form(kind);
    let (name, prefix) = (metadata.get("name"), metadata.get("generateName"));
    if !prefix.text().is_empty() {
        // The dash before the random part is no end of the name.
        let masked = prefix.text().strip_suffix('-').map(|text| format!("{text}a"));
        errors.invalid_all(&prefix, form(masked.as_deref().unwrap_or(prefix.text())));
    }
    match name.text() {
        "" if prefix.text().is_empty() => errors.required(&name, "name or generateName is required"),
        "" => {}
        text => errors.invalid_all(&name, form(text)),
    }
    let namespace = metadata.get("namespace");
    match (kind.scope, namespace.text()) {
        (Scope::Namespaced, _) => errors.named(&namespace, names::dns_label),
        (Scope::Cluster, "") => {}
        (Scope::Cluster, _) => errors.forbidden(&namespace, "not allowed on this type"),
    }
    errors.non_negative(&metadata.get("generation"));
    labels(&metadata.get("labels"), errors);
    annotations(&metadata.get("annotations"), errors);
    owners(&metadata.get("ownerReferences"), errors);
    let of_definitions = kind.custom.is_some() || kind.is(definition::GROUP, definition::KIND);
    finalizers(&metadata.get("finalizers"), of_definitions, errors);
}

/// Checks the keys and values of labels.
pub fn labels(labels: &Node<'_>, errors: &mut Errors) {
    for (key, value) in labels.entries() {
        for problem in names::qualified_name(key) {
            errors.invalid_value(labels, &key.into(), &problem);
        }
        for problem in names::label_value(value.text()) {
            errors.invalid_value(labels, value.value, &problem);
        }
    }
}

/// Checks the keys and the size of annotations.
pub fn annotations(annotations: &Node<'_>, errors: &mut Errors) {
    let mut size = 0;
    for (key, value) in annotations.entries() {
        for problem in names::qualified_name(&key.to_lowercase()) {
            errors.invalid_value(annotations, &key.into(), &problem);
        }
        size += key.len() + value.text().len();
    }
    if size > ANNOTATIONS_SIZE_MAX {
        errors.too_long(&annotations.path, ANNOTATIONS_SIZE_MAX);
    }
}

fn owners(owners: &Node<'_>, errors: &mut Errors) {
    let mut controller: Option<String> = None;
    for owner in owners.items() {
        let api_version = owner.get("apiVersion");
        let (group, version) = split_api_version(api_version.text());
        if version.is_empty() {
            errors.invalid(&api_version, "version must not be empty");
        }
        for field in ["kind", "name", "uid"] {
            let node = owner.get(field);
            if node.text().is_empty() {
                errors.invalid_value(&node, &"".into(), &format!("{field} must not be empty"));
            }
        }
        let kind = owner.get("kind");
        if kind.text() == "Event" && group.is_empty() {
            errors.invalid_value(
                &owner,
                &format!("{}, Kind=Event", api_version.text()).into(),
                "is disallowed from being an owner",
            );
        }
        if owner.get("controller").is_true() {
            let name = format!("{}/{}", kind.text(), owner.get("name").text());
            if let Some(first) = &controller {
                let detail = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {name}"
                );
                errors.invalid(owners, &detail);
            }
            controller.get_or_insert(name);
        }
    }
}

pub fn finalizer(finalizer: &Node<'_>, errors: &mut Errors) {
    errors.formed(finalizer, names::qualified_name);
    if !finalizer.text().contains('/') && !STANDARD_FINALIZERS.contains(&finalizer.text()) {
        errors.invalid_text(finalizer, "name is neither a standard finalizer name nor is it fully qualified");
    }
}

/// Names without a domain are the built-in kinds' own; definitions and what they make are free of that.
fn finalizers(finalizers: &Node<'_>, of_definitions: bool, errors: &mut Errors) {
    let items = finalizers.items();
    for item in &items {
        match of_definitions {
            true => errors.formed(item, names::qualified_name),
            false => finalizer(item, errors),
        }
    }
    let has = |name: &str| items.iter().any(|finalizer| finalizer.text() == name);
    if has("orphan") && has("foregroundDeletion") {
        errors.invalid(finalizers, "finalizer orphan and foregroundDeletion cannot be both set");
    }
}

/// Checks what may not change. A field that the new object leaves out counts as unchanged.
pub fn update(new: &Node<'_>, old: &Node<'_>, errors: &mut Errors) {
    const IMMUTABLE: &[&str] =
        &["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"];
    for field in IMMUTABLE {
        let (new, old) = (new.get(field), old.get(field));
        if !new.is_empty() && new.value != old.value {
            errors.invalid(&new, "field is immutable");
        }
    }
    let (generation, before) = (new.get("generation"), old.get("generation"));
    if generation.int().is_some_and(|new| before.int().is_some_and(|old| new < old)) {
        errors.invalid(&generation, "must not be decremented");
    }
    if old.has("deletionTimestamp") {
        let known = old.get("finalizers").items();
        let finalizers = new.get("finalizers");
        let added: Vec<String> = finalizers
            .items()
            .iter()
            .filter(|finalizer| !known.iter().any(|known| known.value == finalizer.value))
            .map(|finalizer| format!("{:?}", finalizer.text()))
            .collect();
        if !added.is_empty() {
            let added = added.join(", ");
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{added}}}"
            );
            errors.forbidden(&finalizers, &detail);
        }
    }
}
