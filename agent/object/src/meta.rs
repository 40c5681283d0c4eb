//! Reading and writing the metadata every object has.
//!
//! Owns accessors only; it decides nothing about what the values may be (see [`crate::validate`]).

use serde_json::{Map, Value};

/// The type of every object's metadata.
pub const TYPE: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// A reference to an owner, borrowed from the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnerReference<'a> {
    pub api_version: &'a str,
    pub kind: &'a str,
    pub name: &'a str,
    pub uid: &'a str,
    pub controller: bool,
    pub block_owner_deletion: bool,
}

/// A field of `metadata`, if there is one.
pub fn field<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    object.get("metadata")?.get(name)
}

fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    field(object, name).and_then(Value::as_str).unwrap_or_default()
}

/// `metadata.name`, or the empty string.
pub fn name(object: &Value) -> &str {
    text(object, "name")
}

pub fn generate_name(object: &Value) -> &str {
    text(object, "generateName")
}

/// `metadata.namespace`; `None` when absent or empty.
pub fn namespace(object: &Value) -> Option<&str> {
    Some(text(object, "namespace")).filter(|n| !n.is_empty())
}

pub fn uid(object: &Value) -> &str {
    text(object, "uid")
}

pub fn resource_version(object: &Value) -> &str {
    text(object, "resourceVersion")
}

pub fn creation_timestamp(object: &Value) -> Option<&str> {
    field(object, "creationTimestamp").and_then(Value::as_str)
}

/// Set once the object is being deleted.
pub fn deletion_timestamp(object: &Value) -> Option<&str> {
    field(object, "deletionTimestamp").and_then(Value::as_str)
}

pub fn deletion_grace_period_seconds(object: &Value) -> Option<i64> {
    field(object, "deletionGracePeriodSeconds").and_then(Value::as_i64)
}

/// `metadata.generation`, 0 when absent.
pub fn generation(object: &Value) -> i64 {
    field(object, "generation").and_then(Value::as_i64).unwrap_or(0)
}

pub fn labels(object: &Value) -> Option<&Map<String, Value>> {
    field(object, "labels").and_then(Value::as_object)
}

pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    labels(object)?.get(key)?.as_str()
}

pub fn annotations(object: &Value) -> Option<&Map<String, Value>> {
    field(object, "annotations").and_then(Value::as_object)
}

pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    annotations(object)?.get(key)?.as_str()
}

pub fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    items(field(object, "finalizers")).iter().filter_map(Value::as_str)
}

pub fn owner_references(object: &Value) -> impl Iterator<Item = OwnerReference<'_>> {
    items(field(object, "ownerReferences")).iter().map(owner_reference)
}

/// The owner that controls the object, of which there is at most one.
pub fn controller(object: &Value) -> Option<OwnerReference<'_>> {
    owner_references(object).find(|owner| owner.controller)
}

fn owner_reference(value: &Value) -> OwnerReference<'_> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
    let flag = |name: &str| value.get(name).and_then(Value::as_bool).unwrap_or(false);
    OwnerReference {
        api_version: text("apiVersion"),
        kind: text("kind"),
        name: text("name"),
        uid: text("uid"),
        controller: flag("controller"),
        block_owner_deletion: flag("blockOwnerDeletion"),
    }
}

/// The elements of a list, none when it is absent or of another type.
pub fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The value at a path of field names.
pub fn at<'a>(object: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, name| value.get(name))
}

/// The text at a path of field names, or the empty string.
pub fn text_at<'a>(object: &'a Value, path: &[&str]) -> &'a str {
    at(object, path).and_then(Value::as_str).unwrap_or_default()
}

/// The metadata to write to. Makes the object and its metadata maps if they are not.
pub fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    map_mut(map_mut(object).entry("metadata").or_insert(Value::Null))
}

/// Makes the value a map if it is not, and gives it to write to.
pub fn map_mut(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            unreachable!("made a map above")
        }
    }
}

/// Sets a field of `metadata`.
pub fn set(object: &mut Value, name: &str, value: impl Into<Value>) {
    metadata_mut(object).insert(name.to_owned(), value.into());
}

/// Removes a field of `metadata`.
pub fn unset(object: &mut Value, name: &str) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove(name);
    }
}

#[cfg(test)]
mod tests;
