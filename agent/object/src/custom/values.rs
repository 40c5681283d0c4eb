//! Whether the values of a custom object are right by its schema, in upstream's words.

use std::collections::HashSet;

use serde_json::Value;

use super::formats;
use super::schema::{Bound, Schema, Topology, Type};
use crate::validate::{FieldError, FieldErrorKind};

/// More errors than these help nobody.
const ERRORS_MAX: usize = 100;
/// Of a long enumeration only so many values are said.
const SHOWN_MAX: usize = 100;

/// What is wrong with an object. Its `apiVersion`, `kind` and `metadata` are looked at elsewhere.
pub fn validate(schema: &Schema, object: &Value) -> Vec<FieldError> {
    validate_at(schema, object, "")
}

/// Of a value that stands somewhere.
pub fn validate_at(schema: &Schema, value: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    judge(schema, value, path, &mut errors);
    lists(schema, value, path, &mut errors);
    errors.truncate(ERRORS_MAX);
    errors
}

fn error(kind: FieldErrorKind, path: &str, value: Option<&Value>, detail: &str) -> FieldError {
    let path = if path.is_empty() { "<nil>" } else { path };
    FieldError::new(kind, path, value, detail)
}

fn invalid(path: &str, value: &Value, detail: &str) -> FieldError {
    let detail = format!("{path} in body {detail}");
    error(FieldErrorKind::Invalid, path, Some(value), detail.trim_start())
}

fn judge(schema: &Schema, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if errors.len() >= ERRORS_MAX {
        return;
    }
    if value.is_null() && schema.nullable {
        return;
    }
    if let Some(wanted) = wrong_type(schema, value) {
        let shown = go_type(value);
        let detail = format!("{path} in body must be of type {wanted}: {shown:?}");
        errors.push(error(FieldErrorKind::TypeInvalid, path, Some(&Value::from(shown)), &detail));
        return;
    }
    scalars(schema, value, path, errors);
    sizes(schema, value, path, errors);
    combinations(schema, value, path, errors);
    match value {
        Value::Object(map) => {
            for name in schema.values.required.iter().filter(|name| !map.contains_key(*name)) {
                errors.push(error(FieldErrorKind::Required, &join(path, name), None, ""));
            }
            for (name, value) in map {
                if let Some(field) = schema.field(name) {
                    judge(field, value, &join(path, name), errors);
                }
            }
        }
        Value::Array(items) => {
            if let Some(of_items) = &schema.items {
                let each = items.iter().enumerate();
                each.for_each(|(index, item)| judge(of_items, item, &format!("{path}[{index}]"), errors));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn wrong_type(schema: &Schema, value: &Value) -> Option<&'static str> {
    if schema.int_or_string {
        let fits = value.is_string() || is_integer(value);
        return (!fits).then_some("integer,string");
    }
    let ty = schema.ty?;
    let fits = match ty {
        Type::Object => value.is_object(),
        Type::Array => value.is_array(),
        Type::String => value.is_string(),
        Type::Integer => is_integer(value),
        Type::Number => value.is_number(),
        Type::Boolean => value.is_boolean(),
    };
    (!fits).then(|| ty.as_str())
}

fn is_integer(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) if is_integer(value) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn scalars(schema: &Schema, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let values = &schema.values;
    if !values.enumeration.is_empty() && !values.enumeration.iter().any(|allowed| same(allowed, value)) {
        let quoted = |value: &Value| match value {
            Value::String(text) => format!("{text:?}"),
            other => format!("{:?}", other.to_string()),
        };
        let mut supported: Vec<String> = values.enumeration.iter().take(SHOWN_MAX).map(quoted).collect();
        supported.sort();
        let detail = format!("supported values: {}", supported.join(", "));
        errors.push(error(FieldErrorKind::NotSupported, path, Some(value), &detail));
    }
    if let Some(number) = value.as_f64() {
        numbers(schema, number, value, path, errors);
    }
    let Some(text) = value.as_str() else { return };
    if let Some(pattern) = &values.pattern
        && pattern.matches(text) != Some(true)
    {
        errors.push(invalid(path, value, &format!("should match '{}'", pattern.text)));
    }
    if !formats::fits(&values.format, text) {
        let detail = format!("must be of type {}: {text:?}", values.format);
        errors.push(invalid(path, value, &detail));
    }
    let length = u64::try_from(text.chars().count()).unwrap_or(u64::MAX);
    if let Some(min) = values.length.0.filter(|min| length < *min) {
        errors.push(invalid(path, value, &format!("should be at least {min} chars long")));
    }
    if let Some(max) = values.length.1.filter(|max| length > *max) {
        let detail = format!("may not be more than {max} bytes");
        errors.push(error(FieldErrorKind::TooLong, path, None, &detail));
    }
}

fn numbers(schema: &Schema, number: f64, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let values = &schema.values;
    if let Some(Bound { number: least, exclusive }) = values.minimum
        && (number < least || exclusive && number <= least)
    {
        let words = if exclusive { "greater than" } else { "greater than or equal to" };
        errors.push(invalid(path, value, &format!("should be {words} {least}")));
    }
    if let Some(Bound { number: most, exclusive }) = values.maximum
        && (number > most || exclusive && number >= most)
    {
        let words = if exclusive { "less than" } else { "less than or equal to" };
        errors.push(invalid(path, value, &format!("should be {words} {most}")));
    }
    if let Some(factor) = values.multiple_of.filter(|factor| *factor > 0.0)
        && (number / factor).fract() != 0.0
    {
        errors.push(invalid(path, value, &format!("should be a multiple of {factor}")));
    }
}

fn sizes(schema: &Schema, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let (size, bounds, what) = match value {
        Value::Array(items) => (items.len(), schema.values.items, "items"),
        Value::Object(map) => (map.len(), schema.values.properties, "properties"),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return,
    };
    let size = u64::try_from(size).unwrap_or(u64::MAX);
    let counted = Value::from(size);
    if let Some(min) = bounds.0.filter(|min| size < *min) {
        errors.push(invalid(path, &counted, &format!("should have at least {min} {what}")));
    }
    if let Some(max) = bounds.1.filter(|max| size > *max) {
        let detail = format!("must have at most {max} items");
        errors.push(error(FieldErrorKind::TooMany, path, Some(&counted), &detail));
    }
}

fn is_right(schema: &Schema, value: &Value) -> bool {
    let mut errors = Vec::new();
    judge(schema, value, "", &mut errors);
    errors.is_empty()
}

fn combinations(schema: &Schema, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let values = &schema.values;
    let shown = Value::from("");
    let mut refuse = |words: &str| {
        let detail = format!("{path:?} must {words}");
        errors.push(error(FieldErrorKind::Invalid, path, Some(&shown), &detail));
    };
    if !values.any_of.is_empty() && !values.any_of.iter().any(|one| is_right(one, value)) {
        refuse("validate at least one schema (anyOf)");
    }
    if !values.one_of.is_empty() {
        match values.one_of.iter().filter(|one| is_right(one, value)).count() {
            1 => {}
            0 => refuse("validate one and only one schema (oneOf). Found none valid"),
            many => refuse(&format!("validate one and only one schema (oneOf). Found {many} valid alternatives")),
        }
    }
    if values.not.as_deref().is_some_and(|not| is_right(not, value)) {
        refuse("not validate the schema (not)");
    }
    let before = errors.len();
    values.all_of.iter().for_each(|one| judge(one, value, path, errors));
    if errors.len() > before {
        let detail = format!("{path:?} must validate all the schemas (allOf)");
        errors.insert(before, error(FieldErrorKind::Invalid, path, Some(&shown), &detail));
    }
}

/// Items that are their own key, or have keys, are there once.
fn lists(schema: &Schema, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                if let Some(field) = schema.field(name) {
                    lists(field, value, &join(path, name), errors);
                }
            }
        }
        Value::Array(items) => {
            let mut seen = HashSet::new();
            for (index, item) in items.iter().enumerate() {
                let at = format!("{path}[{index}]");
                if let Some(key) = key_of(schema, item)
                    && !seen.insert(key.to_string())
                {
                    errors.push(error(FieldErrorKind::Duplicate, &at, Some(&key), ""));
                }
                if let Some(of_items) = &schema.items {
                    lists(of_items, item, &at, errors);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What tells an item from the others of its list.
fn key_of(schema: &Schema, item: &Value) -> Option<Value> {
    match &schema.topology {
        Topology::Set => Some(item.clone()),
        Topology::Keyed(keys) => {
            let pairs = keys.iter().filter_map(|key| Some((key.clone(), item.get(key)?.clone())));
            Some(Value::Object(pairs.collect()))
        }
        Topology::Whole | Topology::Granular => None,
    }
}

/// Numbers are the same whatever they are written as.
fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}
