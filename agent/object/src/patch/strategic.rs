//! The strategic merge patch: a merge patch that merges lists by key.
//!
//! Owns the directives (`$patch`, `$retainKeys`, `$deleteFromPrimitiveList/…`, `$setElementOrder/…`) and the merge.
//! Which lists are merged, and by which key, is in [`super::merge_keys`].

mod lists;

use super::PatchError;
use super::merge_keys::{self, Strategy};
use crate::schema::Ty;
use serde_json::{Map, Value};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const SET_ORDER: &str = "$setElementOrder/";

/// What a `$patch` directive says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Directive {
    Merge,
    Replace,
    Delete,
}

/// Applies a patch to an object of a type.
pub fn apply(ty: Ty, current: &Value, patch: &Value) -> Result<Value, PatchError> {
    let patch = patch.as_object().ok_or_else(|| malformed("a strategic merge patch must be an object"))?;
    let current = current.as_object().cloned().unwrap_or_default();
    merge_maps(ty, current, patch).map(Value::Object)
}

fn malformed(message: impl Into<String>) -> PatchError {
    PatchError::Malformed(message.into())
}

fn directive(patch: &Map<String, Value>) -> Result<Directive, PatchError> {
    match patch.get(PATCH) {
        None => Ok(Directive::Merge),
        Some(Value::String(text)) => match text.as_str() {
            "merge" => Ok(Directive::Merge),
            "replace" => Ok(Directive::Replace),
            "delete" => Ok(Directive::Delete),
            other => Err(malformed(format!("unknown patch type found: {other}"))),
        },
        Some(_) => Err(malformed("invalid patch directive: $patch must be a string")),
    }
}

/// The type of a field of a struct, or of a value of a map.
fn field_type(ty: Ty, name: &str) -> Ty {
    match ty {
        Ty::Map(value) => value.ty(),
        Ty::Ref(named) => named.field(name).map_or(Ty::Any, |field| field.ty),
        Ty::String
        | Ty::Int32
        | Ty::Int64
        | Ty::Bool
        | Ty::Double
        | Ty::IntOrString
        | Ty::Quantity
        | Ty::DateTime
        | Ty::MicroTime
        | Ty::Bytes
        | Ty::Any
        | Ty::List(_) => Ty::Any,
    }
}

fn rule(ty: Ty, field: &str) -> Option<&'static merge_keys::Rule> {
    merge_keys::rule(ty.named()?.name(), field)
}

fn merge_maps(
    ty: Ty,
    mut current: Map<String, Value>,
    patch: &Map<String, Value>,
) -> Result<Map<String, Value>, PatchError> {
    match directive(patch)? {
        Directive::Merge => {}
        Directive::Replace => return Ok(without_directives(patch)),
        Directive::Delete => return Ok(Map::new()),
    }
    retain_keys(&mut current, patch)?;
    for (name, change) in patch {
        if name == PATCH || name == RETAIN_KEYS {
            continue;
        }
        if let Some(field) = name.strip_prefix(DELETE_FROM) {
            lists::delete_primitives(&mut current, field, change)?;
        } else if let Some(field) = name.strip_prefix(SET_ORDER) {
            if !patch.contains_key(field) {
                lists::reorder(&mut current, field, merge_key(ty, field), change)?;
            }
        } else if change.is_null() {
            current.remove(name);
        } else {
            let order = patch.get(&format!("{SET_ORDER}{name}"));
            let merged = merge_field(ty, name, current.remove(name), change, order)?;
            current.insert(name.clone(), merged);
        }
    }
    Ok(current)
}

fn merge_key(ty: Ty, field: &str) -> &'static str {
    rule(ty, field).map_or("", |rule| rule.merge_key)
}

fn merge_field(
    ty: Ty,
    name: &str,
    current: Option<Value>,
    change: &Value,
    order: Option<&Value>,
) -> Result<Value, PatchError> {
    let inner = field_type(ty, name);
    match (current, change) {
        (Some(Value::Object(current)), Value::Object(change)) => merge_maps(inner, current, change).map(Value::Object),
        (_, Value::Object(change)) => merge_maps(inner, Map::new(), change).map(Value::Object),
        (current, Value::Array(change)) => {
            let current = match current {
                Some(Value::Array(list)) => list,
                Some(_) | None => Vec::new(),
            };
            let rule = rule(ty, name);
            match rule.map_or(Strategy::Replace, |rule| rule.strategy) {
                Strategy::Merge | Strategy::MergeRetainKeys => {
                    let key = rule.map_or("", |rule| rule.merge_key);
                    lists::merge(item_type(inner), key, current, change, order).map(Value::Array)
                }
                Strategy::Replace | Strategy::RetainKeys => Ok(Value::Array(lists::replace(change))),
            }
        }
        (_, change) => Ok(change.clone()),
    }
}

fn item_type(ty: Ty) -> Ty {
    match ty {
        Ty::List(item) => item.ty(),
        Ty::String
        | Ty::Int32
        | Ty::Int64
        | Ty::Bool
        | Ty::Double
        | Ty::IntOrString
        | Ty::Quantity
        | Ty::DateTime
        | Ty::MicroTime
        | Ty::Bytes
        | Ty::Any
        | Ty::Map(_)
        | Ty::Ref(_) => Ty::Any,
    }
}

/// `$retainKeys` removes every key that it does not list; the patch may not set any other.
fn retain_keys(current: &mut Map<String, Value>, patch: &Map<String, Value>) -> Result<(), PatchError> {
    let Some(retained) = patch.get(RETAIN_KEYS) else {
        return Ok(());
    };
    let retained = retained.as_array().ok_or_else(|| malformed("invalid patch format of $retainKeys"))?;
    let listed = |name: &str| retained.iter().any(|key| key.as_str() == Some(name));
    let set = patch.iter().filter(|(name, change)| !name.starts_with('$') && !change.is_null());
    if let Some((name, _)) = set.into_iter().find(|(name, _)| !listed(name)) {
        return Err(malformed(format!("the key {name} is not in the $retainKeys list")));
    }
    current.retain(|name, _| listed(name));
    Ok(())
}

/// The values of a patch, without its directives and nulls, at every depth.
fn without_directives(patch: &Map<String, Value>) -> Map<String, Value> {
    let values = patch.iter().filter(|(name, value)| !is_directive(name) && !value.is_null());
    values.map(|(name, value)| (name.clone(), clean(value))).collect()
}

fn clean(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(without_directives(map)),
        Value::Array(list) => Value::Array(lists::replace(list)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

fn is_directive(name: &str) -> bool {
    name == PATCH || name == RETAIN_KEYS || name.starts_with(DELETE_FROM) || name.starts_with(SET_ORDER)
}
