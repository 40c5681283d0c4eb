//! What cells of several kinds share.
//!
//! Owns the texts for lists, selectors and missing values.

use crate::labels::Selector;
use crate::meta;
use serde_json::Value;

pub const NONE: &str = "<none>";
pub const UNSET: &str = "<unset>";
pub const UNKNOWN: &str = "<unknown>";

/// The text at a path, or `<none>`.
pub fn text_or_none(object: &Value, path: &[&str]) -> Value {
    or_none(meta::text_at(object, path).to_owned())
}

/// The text, or `<none>` for an empty one.
pub fn or_none(text: String) -> Value {
    if text.is_empty() { NONE.into() } else { text.into() }
}

/// The number at a path, 0 when missing.
pub fn int(object: &Value, path: &[&str]) -> i64 {
    meta::at(object, path).and_then(Value::as_i64).unwrap_or(0)
}

/// A scalar at a path as text, or the given one.
pub fn scalar_or(object: &Value, path: &[&str], missing: &str) -> String {
    match meta::at(object, path) {
        Some(Value::String(text)) => text.clone(),
        Some(value @ (Value::Bool(_) | Value::Number(_))) => value.to_string(),
        Some(Value::Null | Value::Array(_) | Value::Object(_)) | None => missing.to_owned(),
    }
}

pub fn list<'a>(object: &'a Value, path: &[&str]) -> &'a [Value] {
    meta::items(meta::at(object, path))
}

/// The texts of a list, joined by commas.
pub fn joined(object: &Value, path: &[&str]) -> String {
    list(object, path).iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
}

/// How many entries a map or a list has.
pub fn count(object: &Value, path: &[&str]) -> usize {
    match meta::at(object, path) {
        Some(Value::Object(map)) => map.len(),
        Some(Value::Array(list)) => list.len(),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) | None => 0,
    }
}

/// At most `max` of the texts, and how many more there are.
pub fn at_most(texts: &[String], max: usize) -> String {
    match texts.len().checked_sub(max) {
        None | Some(0) => texts.join(","),
        Some(more) => format!("{} + {more} more...", texts[..max].join(",")),
    }
}

/// A `LabelSelector` as text.
pub fn selector(object: &Value, path: &[&str]) -> Value {
    let selector = meta::at(object, path).unwrap_or(&Value::Null);
    match Selector::from_label_selector(selector) {
        Ok(selector) => or_none(selector.to_string()),
        Err(_) => "<error>".into(),
    }
}

/// A plain map of labels as text.
pub fn labels(object: &Value, path: &[&str]) -> Value {
    let labels = meta::at(object, path).and_then(Value::as_object);
    or_none(labels.map(|labels| Selector::from_map(labels).to_string()).unwrap_or_default())
}

/// The names of the containers of a pod's spec, and their images.
pub fn containers(object: &Value, spec: &[&str]) -> [Value; 2] {
    let path: Vec<&str> = spec.iter().copied().chain(["containers"]).collect();
    let all = list(object, &path);
    let field = |name: &str| all.iter().map(|c| meta::text_at(c, &[name])).collect::<Vec<_>>().join(",");
    [field("name").into(), field("image").into()]
}

/// `True` or `False`, as upstream prints pointers to booleans.
pub fn flag(object: &Value, path: &[&str]) -> Value {
    match meta::at(object, path).and_then(Value::as_bool) {
        Some(true) => "True".into(),
        Some(false) => "False".into(),
        None => UNSET.into(),
    }
}

/// The condition of a type.
pub fn condition<'a>(object: &'a Value, ty: &str) -> Option<&'a Value> {
    list(object, &["status", "conditions"]).iter().find(|condition| meta::text_at(condition, &["type"]) == ty)
}

pub fn is_condition_true(object: &Value, ty: &str) -> bool {
    condition(object, ty).is_some_and(|condition| meta::text_at(condition, &["status"]) == "True")
}

/// The addresses of a load balancer's status.
pub fn load_balancer(object: &Value) -> Vec<String> {
    let entries = list(object, &["status", "loadBalancer", "ingress"]).iter();
    let address = |entry: &Value| match meta::text_at(entry, &["ip"]) {
        "" => meta::text_at(entry, &["hostname"]).to_owned(),
        ip => ip.to_owned(),
    };
    entries.map(address).filter(|address| !address.is_empty()).collect()
}

const ACCESS_MODES: &[(&str, &str)] =
    &[("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];

/// Access modes, abbreviated.
pub fn access_modes(object: &Value, path: &[&str]) -> String {
    let modes = list(object, path);
    let present = ACCESS_MODES.iter().filter(|(mode, _)| modes.iter().any(|m| m.as_str() == Some(mode)));
    present.map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}
