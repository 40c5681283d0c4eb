//! Conversion between two served versions of one kind that share their storage.
//!
//! Owns the two pairs there are: `v1` and `events.k8s.io/v1` events, and the two versions of autoscalers. What the
//! other version cannot say is kept in annotations, so that converting there and back loses nothing.

use crate::{Kind, meta};
use serde_json::{Map, Value, json};

/// Field names: in `v1`, in `events.k8s.io/v1`.
const EVENT_FIELDS: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// What `autoscaling/v1` cannot say: where it is in `v2`, and the annotation that keeps it.
const AUTOSCALER_ANNOTATIONS: &[(&str, &str, &str)] = &[
    ("spec", "metrics", "autoscaling.alpha.kubernetes.io/metrics"),
    ("spec", "behavior", "autoscaling.alpha.kubernetes.io/behavior"),
    ("status", "conditions", "autoscaling.alpha.kubernetes.io/conditions"),
    ("status", "currentMetrics", "autoscaling.alpha.kubernetes.io/current-metrics"),
];

/// Converts an object to another version of its kind. Any other pair only changes `apiVersion` and `kind`.
pub fn convert(from: &Kind, to: &Kind, mut object: Value) -> Value {
    if let Some(custom) = &to.custom {
        return custom.convert(to, object);
    }
    if from == to {
        return object;
    }
    match (&*from.kind, &*from.group, &*from.version, &*to.group, &*to.version) {
        ("Event", "", _, "events.k8s.io", _) => rename(&mut object, |(core, new)| (core, new)),
        ("Event", "events.k8s.io", _, "", _) => rename(&mut object, |(core, new)| (new, core)),
        ("HorizontalPodAutoscaler", _, "v2", _, "v1") => autoscaler_to_v1(&mut object),
        ("HorizontalPodAutoscaler", _, "v1", _, "v2") => autoscaler_to_v2(&mut object),
        (_, _, _, _, _) => {}
    }
    let map = meta::map_mut(&mut object);
    map.insert("apiVersion".to_owned(), to.api_version().into());
    map.insert("kind".to_owned(), (*to.kind).into());
    object
}

fn rename(object: &mut Value, direction: fn((&'static str, &'static str)) -> (&'static str, &'static str)) {
    let map = meta::map_mut(object);
    for pair in EVENT_FIELDS {
        let (from, to) = direction(*pair);
        if let Some(value) = map.remove(from) {
            map.insert(to.to_owned(), value);
        }
    }
}

fn part<'a>(object: &'a mut Value, name: &str) -> Option<&'a mut Map<String, Value>> {
    object.get_mut(name).and_then(Value::as_object_mut)
}

fn autoscaler_to_v1(object: &mut Value) {
    let target = take_cpu(object, "spec", "metrics", &["resource", "target", "averageUtilization"]);
    let current = take_cpu(object, "status", "currentMetrics", &["resource", "current", "averageUtilization"]);
    for (outer, inner, annotation) in AUTOSCALER_ANNOTATIONS {
        let Some(value) = part(object, outer).and_then(|part| part.remove(*inner)) else {
            continue;
        };
        if !value.as_array().is_some_and(Vec::is_empty) {
            let annotations = meta::metadata_mut(object).entry("annotations").or_insert(Value::Null);
            meta::map_mut(annotations).insert((*annotation).to_owned(), value.to_string().into());
        }
    }
    let moved =
        [("spec", "targetCPUUtilizationPercentage", target), ("status", "currentCPUUtilizationPercentage", current)];
    for (outer, inner, value) in moved {
        if let (Some(part), Some(value)) = (part(object, outer), value) {
            part.insert(inner.to_owned(), value);
        }
    }
}

/// Removes the first metric that is the CPU's utilization, and gives its value.
fn take_cpu(object: &mut Value, outer: &str, list: &str, path: &[&str]) -> Option<Value> {
    let metrics = part(object, outer)?.get_mut(list)?.as_array_mut()?;
    let is_cpu = |metric: &Value| {
        meta::text_at(metric, &["type"]) == "Resource"
            && meta::text_at(metric, &["resource", "name"]) == "cpu"
            && meta::at(metric, path).is_some()
    };
    let index = metrics.iter().position(is_cpu)?;
    meta::at(&metrics.remove(index), path).cloned()
}

fn autoscaler_to_v2(object: &mut Value) {
    for (outer, inner, annotation) in AUTOSCALER_ANNOTATIONS {
        let kept = take_annotation(object, annotation);
        if let (Some(value), Some(part)) = (kept, part(object, outer)) {
            part.insert((*inner).to_owned(), value);
        }
    }
    let cpu = |key: &str, value: Value| json!({"type": "Resource", "resource": {"name": "cpu", key: value}});
    if let Some(spec) = part(object, "spec")
        && let Some(target) = spec.remove("targetCPUUtilizationPercentage")
    {
        put_first(spec, "metrics", cpu("target", json!({"type": "Utilization", "averageUtilization": target})));
    }
    if let Some(status) = part(object, "status")
        && let Some(current) = status.remove("currentCPUUtilizationPercentage")
    {
        put_first(status, "currentMetrics", cpu("current", json!({"averageUtilization": current})));
    }
}

fn put_first(part: &mut Map<String, Value>, list: &str, metric: Value) {
    let list = part.entry(list).or_insert_with(|| Value::Array(Vec::new()));
    if let Some(list) = list.as_array_mut() {
        list.insert(0, metric);
    }
}

fn take_annotation(object: &mut Value, name: &str) -> Option<Value> {
    let annotations = object.get_mut("metadata")?.get_mut("annotations")?.as_object_mut()?;
    let value = serde_json::from_str(annotations.get(name)?.as_str()?).ok()?;
    annotations.remove(name);
    if annotations.is_empty() {
        meta::unset(object, "annotations");
    }
    Some(value)
}

#[cfg(test)]
mod tests;
