//! Merging of lists: objects by their key, primitives as a set, and the order that a patch asks for.
//!
//! Owns lists only; maps are the parent module's.

use super::{Directive, PATCH, PatchError, clean, directive, malformed, merge_maps};
use crate::schema::Ty;
use serde_json::{Map, Value};

/// An atomic list: the patch's elements as they are, but for directives.
pub fn replace(change: &[Value]) -> Vec<Value> {
    let is_marker = |item: &Value| item.as_object().is_some_and(|map| map.len() == 1 && map.contains_key(PATCH));
    change.iter().filter(|item| !is_marker(item)).map(clean).collect()
}

/// Merges a list by key, or as a set where the key is empty.
pub fn merge(
    ty: Ty<'_>,
    key: &str,
    current: Vec<Value>,
    change: &[Value],
    order: Option<&Value>,
) -> Result<Vec<Value>, PatchError> {
    let (before, changes) = (current.clone(), change);
    let mut merged = if key.is_empty() { union(current, changes) } else { by_key(ty, key, current, changes)? };
    if let Some(order) = order {
        let order = order.as_array().ok_or_else(|| malformed("$setElementOrder must be a list"))?;
        sort(&mut merged, key, order, &before);
    }
    Ok(merged)
}

/// Adds what is not there yet.
fn union(mut current: Vec<Value>, change: &[Value]) -> Vec<Value> {
    for item in change {
        if !current.contains(item) {
            current.push(item.clone());
        }
    }
    current
}

fn by_key(ty: Ty<'_>, key: &str, mut current: Vec<Value>, change: &[Value]) -> Result<Vec<Value>, PatchError> {
    if change.iter().any(|item| replaces_all(item, key)) {
        return Ok(replace(change));
    }
    for item in change {
        let item = item.as_object().ok_or_else(|| malformed("expected a list of maps"))?;
        let id = item.get(key).ok_or_else(|| missing_key(item, key))?;
        let at = current.iter().position(|existing| existing.get(key) == Some(id));
        match (directive(item)?, at) {
            (Directive::Delete, _) => current.retain(|existing| existing.get(key) != Some(id)),
            (Directive::Replace, Some(at)) => current[at] = clean(&Value::Object(item.clone())),
            (Directive::Merge, Some(at)) => {
                let existing = current[at].as_object().cloned().unwrap_or_default();
                current[at] = Value::Object(merge_maps(ty, existing, item)?);
            }
            (Directive::Merge | Directive::Replace, None) => {
                current.push(Value::Object(merge_maps(ty, Map::new(), item)?))
            }
        }
    }
    Ok(current)
}

/// `{"$patch": "replace"}` as an element replaces the whole list.
fn replaces_all(item: &Value, key: &str) -> bool {
    item.get(PATCH).and_then(Value::as_str) == Some("replace") && item.get(key).is_none()
}

fn missing_key(item: &Map<String, Value>, key: &str) -> PatchError {
    malformed(format!("map: {} does not contain declared merge key: {key}", Value::Object(item.clone())))
}

/// `$deleteFromPrimitiveList/…`
pub fn delete_primitives(current: &mut Map<String, Value>, field: &str, change: &Value) -> Result<(), PatchError> {
    let deleted = change.as_array().ok_or_else(|| malformed("$deleteFromPrimitiveList must be a list"))?;
    if let Some(list) = current.get_mut(field).and_then(Value::as_array_mut) {
        list.retain(|item| !deleted.contains(item));
    }
    Ok(())
}

/// `$setElementOrder/…` for a list that the patch does not otherwise change.
pub fn reorder(current: &mut Map<String, Value>, field: &str, key: &str, order: &Value) -> Result<(), PatchError> {
    let order = order.as_array().ok_or_else(|| malformed("$setElementOrder must be a list"))?;
    if let Some(list) = current.get_mut(field).and_then(Value::as_array_mut) {
        let before = list.clone();
        sort(list, key, order, &before);
    }
    Ok(())
}

/// Puts the listed elements into the asked order; the others (which only the server has) keep their place relative to
/// the listed element that was before them.
fn sort(list: &mut Vec<Value>, key: &str, order: &[Value], before: &[Value]) {
    let id = |item: &Value| {
        if key.is_empty() { item.clone() } else { item.get(key).cloned().unwrap_or(Value::Null) }
    };
    let order: Vec<Value> = order.iter().map(id).collect();
    let (mut listed, others): (Vec<Value>, Vec<Value>) = list.drain(..).partition(|item| order.contains(&id(item)));
    listed.sort_by_key(|item| order.iter().position(|wanted| *wanted == id(item)));
    for other in others {
        let index = before.iter().position(|item| id(item) == id(&other)).unwrap_or(before.len());
        let follows = before[..index].iter().rev().find_map(|item| listed.iter().position(|l| id(l) == id(item)));
        listed.insert(follows.map_or(0, |at| at + 1), other);
    }
    *list = listed;
}
