//! Merging of lists: objects by their key, primitives as a set, and the order that a patch asks for.
//!
//! Owns lists only; maps are the parent module's. Each takes time in proportion to its lists: an editor sends long ones.

use std::collections::{HashMap, HashSet};

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
    ty: Ty,
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
    let mut seen: HashSet<Value> = current.iter().cloned().collect();
    current.extend(change.iter().filter(|item| seen.insert((*item).clone())).cloned());
    current
}

fn by_key(ty: Ty, key: &str, current: Vec<Value>, change: &[Value]) -> Result<Vec<Value>, PatchError> {
    if change.iter().any(|item| replaces_all(item, key)) {
        return Ok(replace(change));
    }
    let mut places: HashMap<Value, Vec<usize>> = HashMap::new();
    for (at, id) in current.iter().enumerate().filter_map(|(at, item)| Some((at, item.get(key)?))) {
        places.entry(id.clone()).or_default().push(at);
    }
    let mut merged: Vec<Option<Value>> = current.into_iter().map(Some).collect();
    for item in change {
        let item = item.as_object().ok_or_else(|| malformed("expected a list of maps"))?;
        let id = item.get(key).ok_or_else(|| missing_key(item, key))?;
        let at = places.get(id).and_then(|places| places.first().copied());
        match (directive(item)?, at) {
            (Directive::Delete, _) => {
                places.remove(id).into_iter().flatten().for_each(|at| merged[at] = None);
            }
            (Directive::Replace, Some(at)) => merged[at] = Some(clean(&Value::Object(item.clone()))),
            (Directive::Merge, Some(at)) => {
                let existing = match merged[at].take() {
                    Some(Value::Object(existing)) => existing,
                    _ => Map::new(),
                };
                merged[at] = Some(Value::Object(merge_maps(ty, existing, item)?));
            }
            (Directive::Merge | Directive::Replace, None) => {
                places.insert(id.clone(), vec![merged.len()]);
                merged.push(Some(Value::Object(merge_maps(ty, Map::new(), item)?)));
            }
        }
    }
    Ok(merged.into_iter().flatten().collect())
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
        let deleted: HashSet<&Value> = deleted.iter().collect();
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
    let mut ranks: HashMap<Value, usize> = HashMap::new();
    for (rank, item) in order.iter().enumerate() {
        ranks.entry(id(item)).or_insert(rank);
    }
    let (mut listed, others): (Vec<Value>, Vec<Value>) = list.drain(..).partition(|item| ranks.contains_key(&id(item)));
    listed.sort_by_cached_key(|item| ranks.get(&id(item)).copied());
    // Which listed element each was behind; none: in front of all.
    let ids: HashSet<Value> = listed.iter().map(id).collect();
    let (mut last, mut was_behind) = (None, HashMap::new());
    for item in before {
        let id = id(item);
        if ids.contains(&id) {
            last = Some(id.clone());
        }
        was_behind.entry(id).or_insert_with(|| last.clone());
    }
    let (mut behind, mut new): (HashMap<Option<Value>, Vec<Value>>, Vec<Value>) = Default::default();
    for other in others {
        match was_behind.get(&id(&other)) {
            Some(listed) => behind.entry(listed.clone()).or_default().push(other),
            None => new.push(other),
        }
    }
    // As upstream's, each comes in front of the one before it.
    behind.entry(last).or_default().extend(new.into_iter().rev());
    list.extend(behind.remove(&None).into_iter().flatten());
    for item in listed {
        let behind = behind.remove(&Some(id(&item)));
        list.push(item);
        list.extend(behind.into_iter().flatten());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// As `sort`, element by element.
    fn sort_slowly(list: &mut Vec<Value>, key: &str, order: &[Value], before: &[Value]) {
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

    fn values(numbers: impl IntoIterator<Item = u8>) -> Vec<Value> {
        let mut seen = HashSet::new();
        numbers.into_iter().filter(|n| seen.insert(*n)).map(|n| json!({"name": n})).collect()
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_the_slow_one(before: Vec<u8>, gone: Vec<u8>, new: Vec<u8>, order: Vec<u8>) {
            let [before, gone, new, order] =
                [before, gone, new, order].map(|numbers| values(numbers.into_iter().map(|n| n % 16)));
            let added = new.iter().filter(|item| !before.contains(item));
            let list: Vec<Value> = before.iter().filter(|item| !gone.contains(item)).chain(added).cloned().collect();
            let (mut fast, mut slow) = (list.clone(), list);
            sort(&mut fast, "name", &order, &before);
            sort_slowly(&mut slow, "name", &order, &before);
            prop_assert_eq!(fast, slow);
        }
    }

    #[test]
    fn long_lists_take_no_time() {
        let named = |prefix: &str| (0..100_000).map(|n| json!(format!("{prefix}{n}"))).collect::<Vec<_>>();
        let (mut list, before) = (named("a"), named("a"));
        list = union(list, &named("b"));
        list.reverse();
        let started = std::time::Instant::now();
        sort(&mut list, "", &named("b"), &before);
        delete_primitives(&mut Map::from_iter([("x".to_owned(), json!(before))]), "x", &json!(named("a"))).unwrap();
        assert_eq!(list.len(), 200_000);
        assert!(started.elapsed() < std::time::Duration::from_secs(20), "{:?}", started.elapsed());
    }
}
