//! The scale subresource: replicas and selector of a workload, as `autoscaling/v1` Scale.
//!
//! Owns the mapping in both directions; conflicts and permissions are the API server's.

use crate::labels::Selector;
use crate::{Kind, custom, meta};
use serde_json::{Map, Value, json};

/// The metadata that a Scale shares with its object.
const SHARED: &[&str] = &["name", "namespace", "uid", "resourceVersion", "creationTimestamp"];

/// The Scale of an object.
pub fn read(kind: &Kind, object: &Value) -> Value {
    let shared = SHARED.iter().filter_map(|name| Some(((*name).to_owned(), meta::field(object, name)?.clone())));
    let metadata: Map<String, Value> = shared.collect();
    let replicas = |part: &str| match custom(kind) {
        Some(scale) if part == "spec" => scale.spec_replicas.find(object),
        Some(scale) => scale.status_replicas.find(object),
        None => meta::at(object, &[part, "replicas"]),
    };
    let replicas = |part: &str| replicas(part).and_then(Value::as_i64).unwrap_or(0);
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
    if let Some(scale) = custom(kind) {
        let found = scale.selector.as_ref().and_then(|path| path.find(object));
        return found.and_then(Value::as_str).unwrap_or_default().to_owned();
    }
    let selector = meta::at(object, &["spec", "selector"]).unwrap_or(&Value::Null);
    let parsed = match (&*kind.kind, selector.as_object()) {
        ("ReplicationController", Some(labels)) => Ok(Selector::from_map(labels)),
        (_, _) => Selector::from_label_selector(selector),
    };
    parsed.map(|selector| selector.to_string()).unwrap_or_default()
}

/// Writes the `spec.replicas` of a Scale into its object.
pub fn write(kind: &Kind, object: &mut Value, scale: &Value) {
    let replicas = meta::at(scale, &["spec", "replicas"]).and_then(Value::as_i64).unwrap_or(0);
    let path = custom(kind).and_then(|scale| scale.spec_replicas.fields()).unwrap_or_else(|| vec!["spec", "replicas"]);
    let place = path.into_iter().fold(object, |value, name| meta::map_mut(value).entry(name).or_insert(Value::Null));
    *place = replicas.into();
}

/// Where a definition has it.
fn custom(kind: &Kind) -> Option<&custom::Scale> {
    kind.custom.as_ref().and_then(|custom| custom.scale.as_ref())
}

#[cfg(test)]
mod tests;
