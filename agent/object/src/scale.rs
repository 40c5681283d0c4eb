//! The scale subresource: replicas and selector of a workload, as `autoscaling/v1` Scale.
//!
//! Owns the mapping in both directions; conflicts and permissions are the API server's.

use crate::labels::Selector;
use crate::{Kind, meta};
use serde_json::{Map, Value, json};

/// The metadata that a Scale shares with its object.
const SHARED: &[&str] = &["name", "namespace", "uid", "resourceVersion", "creationTimestamp"];

/// The Scale of an object.
pub fn read(kind: &Kind, object: &Value) -> Value {
    let shared = SHARED.iter().filter_map(|name| Some(((*name).to_owned(), meta::field(object, name)?.clone())));
    let metadata: Map<String, Value> = shared.collect();
    let replicas = |part: &str| meta::at(object, &[part, "replicas"]).and_then(Value::as_i64).unwrap_or(0);
    let mut scale = json!({
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": metadata,
        "spec": {"replicas": replicas("spec")},
        "status": {"replicas": replicas("status")},
    });
    let selector = selector(kind, object);
    if !selector.is_empty() {
        scale["status"]["selector"] = selector.into();
    }
    scale
}

/// The selector as text; replication controllers have a plain map, all others a `LabelSelector`.
fn selector(kind: &Kind, object: &Value) -> String {
    let selector = meta::at(object, &["spec", "selector"]).unwrap_or(&Value::Null);
    let parsed = match (&*kind.kind, selector.as_object()) {
        ("ReplicationController", Some(labels)) => Ok(Selector::from_map(labels)),
        (_, _) => Selector::from_label_selector(selector),
    };
    parsed.map(|selector| selector.to_string()).unwrap_or_default()
}

/// Writes the `spec.replicas` of a Scale into its object.
pub fn write(_kind: &Kind, object: &mut Value, scale: &Value) {
    let replicas = meta::at(scale, &["spec", "replicas"]).and_then(Value::as_i64).unwrap_or(0);
    let spec = meta::map_mut(object).entry("spec").or_insert(Value::Null);
    meta::map_mut(spec).insert("replicas".to_owned(), replicas.into());
}

#[cfg(test)]
mod tests;
