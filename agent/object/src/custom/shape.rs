//! What is kept of a custom object and what it is given: pruning and defaults by its schema.

use serde_json::{Map, Value};

use super::schema::Schema;

/// Fields that every object has, also one within another.
const OF_OBJECTS: &[&str] = &["apiVersion", "kind", "metadata"];
/// More unknown fields than these are not listed: they would only fill a response.
const UNKNOWN_MAX: usize = 100;
/// What defaults may add to an object: no object may be as large.
const DEFAULTED_BYTES_MAX: usize = 2 << 20;

/// Removes what the schema does not name; answers with the paths of it.
pub fn prune(schema: &Schema, object: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    if let Value::Object(map) = object {
        prune_map(schema, map, true, "", &mut unknown);
    }
    unknown
}

/// The same of a value that is no object of its own.
pub fn prune_part(schema: &Schema, value: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    prune_value(schema, value, "", &mut unknown);
    unknown
}

fn prune_value(schema: &Schema, value: &mut Value, path: &str, unknown: &mut Vec<String>) {
    match value {
        Value::Object(map) => prune_map(schema, map, schema.embedded, path, unknown),
        Value::Array(items) => {
            let Some(of_items) = &schema.items else { return };
            for (index, item) in items.iter_mut().enumerate() {
                prune_value(of_items, item, &format!("{path}[{index}]"), unknown);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn prune_map(schema: &Schema, map: &mut Map<String, Value>, is_object: bool, path: &str, unknown: &mut Vec<String>) {
    map.retain(|name, value| {
        let at = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match schema.field(name) {
            _ if is_object && OF_OBJECTS.contains(&name.as_str()) => true,
            Some(field) => {
                prune_value(field, value, &at, unknown);
                true
            }
            None if schema.preserve => true,
            None => {
                if unknown.len() < UNKNOWN_MAX {
                    unknown.push(at);
                }
                false
            }
        }
    });
}

/// Gives a value what it lacks. Doing so again changes nothing. An object that would be larger than any may be for that is
/// left as it is, and is refused for what it lacks or for its size.
pub fn set_defaults(schema: &Schema, value: &mut Value) {
    let mut left = DEFAULTED_BYTES_MAX;
    fill(schema, value, &mut left);
}

fn fill(schema: &Schema, value: &mut Value, left: &mut usize) {
    match value {
        Value::Object(map) => {
            for (name, property) in &schema.properties {
                let Some(default) = &property.default else { continue };
                // Null is a value only where it may be one.
                if map.get(name).is_none_or(|value| value.is_null() && !property.nullable) {
                    let Some(rest) = left.checked_sub(name.len() + bytes(default)) else { return };
                    *left = rest;
                    map.insert(name.clone(), default.clone());
                }
            }
            for (name, value) in map {
                if let Some(field) = schema.field(name) {
                    fill(field, value, left);
                }
            }
        }
        Value::Array(items) => {
            let Some(of_items) = &schema.items else { return };
            items.iter_mut().for_each(|item| fill(of_items, item, left));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// About what it takes as JSON.
fn bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(items) => 2 + items.iter().map(bytes).sum::<usize>(),
        Value::Object(map) => 2 + map.iter().map(|(name, value)| name.len() + 4 + bytes(value)).sum::<usize>(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 4,
    }
}
