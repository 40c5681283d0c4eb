//! The smallest merge patch that turns one status into another; none when they are the same, which is what keeps an
//! idle box from writing.

use serde_json::{Map, Value};

/// `None` when nothing differs. Keys that only the old value has are removed if they are among `owned`.
pub fn diff(old: &Value, new: &Value, owned: &[&str]) -> Option<Value> {
    let empty = Map::new();
    let old = old.as_object().unwrap_or(&empty);
    let new = new.as_object().unwrap_or(&empty);
    let mut patch = Map::new();
    for (key, value) in new {
        if old.get(key).is_none_or(|before| before != value) {
            patch.insert(key.clone(), replacement(old.get(key), value));
        }
    }
    for key in old.keys().filter(|key| owned.contains(&key.as_str()) && !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// Objects are merged by the server, so that what is gone must be named.
fn replacement(old: Option<&Value>, new: &Value) -> Value {
    match (old, new) {
        (Some(Value::Object(before)), Value::Object(after)) => {
            let mut merged = after.clone();
            for key in before.keys().filter(|key| !after.contains_key(*key)) {
                merged.insert(key.clone(), Value::Null);
            }
            Value::Object(merged)
        }
        _ => new.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_differences_are_sent() {
        let old = json!({"phase": "Running", "reason": "x", "other": 1, "map": {"a": 1, "b": 2}});
        assert_eq!(diff(&old, &old, &["reason"]), None);
        let new = json!({"phase": "Failed", "map": {"a": 1}});
        let patch = json!({"phase": "Failed", "reason": null, "map": {"a": 1, "b": null}});
        assert_eq!(diff(&old, &new, &["reason"]), Some(patch));
    }
}
