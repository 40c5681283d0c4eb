//! Upstream's defaults for the kinds that are served.
//!
//! Owns what an object means by leaving a field out. Most defaults are rows of a table by type and field and so hold
//! wherever the type occurs; the rest are in [`rules`]. What depends on the cluster (addresses, service accounts,
//! limits of a namespace) is admission's, not ours.

mod outdated;
mod rows;
mod rules;

pub use outdated::drop_outdated;

use crate::custom::definition;
use crate::schema::{Named, Ty};
use crate::{Kind, meta};
use rows::{Default, ROWS};
use serde_json::{Map, Value, json};

/// Sets the defaults. Doing so again changes nothing.
pub fn apply(kind: &Kind, object: &mut Value) {
    match &kind.custom {
        _ if !object.is_object() => {}
        Some(custom) => custom.set_defaults(object),
        None if kind.is(definition::GROUP, definition::KIND) => definition::set_defaults(object),
        None => walk(kind.ty(), object),
    }
}

/// The selector and the labels of a job without a manual selector: its pods are told by its uid, which must be set.
pub fn generate_job_selector(job: &mut Value) {
    const LABELS: &[&str] =
        &["batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name", "controller-uid", "job-name"];
    if meta::at(job, &["spec", "manualSelector"]).and_then(Value::as_bool) == Some(true) {
        return;
    }
    let (uid, name) = (meta::uid(job).to_owned(), meta::name(job).to_owned());
    let spec = meta::map_mut(meta::map_mut(job).entry("spec").or_insert(Value::Null));
    let selector = spec.entry("selector").or_insert(Value::Null);
    if selector.is_null() {
        *selector = json!({"matchLabels": {LABELS[0]: uid}});
    }
    let template = spec.entry("template").or_insert(Value::Null);
    let labels = meta::map_mut(meta::metadata_mut(template).entry("labels").or_insert(Value::Null));
    for (label, value) in LABELS.iter().zip([&uid, &name, &uid, &name]) {
        labels.insert((*label).to_owned(), value.clone().into());
    }
}

fn walk(ty: Ty, value: &mut Value) {
    match (ty, value) {
        (Ty::Ref(named), Value::Object(map)) => walk_struct(named, map),
        (Ty::List(item), Value::Array(list)) => list.iter_mut().for_each(|value| walk(item.ty(), value)),
        (Ty::Map(inner), Value::Object(map)) => map.values_mut().for_each(|value| walk(inner.ty(), value)),
        (
            _,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_),
        ) => {}
    }
}

fn walk_struct(named: Named, map: &mut Map<String, Value>) {
    let name = named.name().strip_prefix("io.k8s.api.").unwrap_or(named.name());
    for (_, field, default) in ROWS.iter().filter(|(row, _, _)| *row == name) {
        set(map, field, default);
    }
    rules::apply(name, map);
    for (field, value) in map.iter_mut() {
        if let Some(field) = named.field(field) {
            walk(field.ty, value);
        }
    }
}

fn set(map: &mut Map<String, Value>, field: &str, default: &Default) {
    let current = map.get(field).unwrap_or(&Value::Null);
    let missing = match default {
        Default::Text(_) => current.is_null() || current.as_str() == Some(""),
        Default::NonZero(_) => current.is_null() || current.as_i64() == Some(0),
        Default::Int(_) | Default::Bool(_) | Default::EmptyText | Default::Map => current.is_null(),
    };
    if missing {
        map.insert(field.to_owned(), default.value());
    }
}

#[cfg(test)]
mod tests;
