//! Fields that are taken and have no effect, and what is said about them in a `Warning`. What looks like protection and is
//! none must not be silent.
//!
//! Owns the lists; that each field is in one of them is tested against the types themselves.

mod rows;

use serde_json::Value;

use crate::Kind;
use crate::schema::Ty;
use rows::{KINDS, ROWS, Row, When};

/// More than these would be read by nobody.
const WARNINGS_MAX: usize = 16;

/// Warnings about an object; about a changed one only of what is new in it.
pub fn warnings(kind: &Kind, new: &Value, old: Option<&Value>) -> Vec<String> {
    let known = old.map(|old| all(kind, old)).unwrap_or_default();
    all(kind, new).into_iter().filter(|warning| !known.contains(warning)).collect()
}

fn all(kind: &Kind, object: &Value) -> Vec<String> {
    let of_kind = KINDS.iter().find(|(group, name, _)| kind.is(group, name));
    if let Some((_, name, said)) = of_kind {
        return vec![format!("{name}: {said}")];
    }
    let mut found = Vec::new();
    walk(kind.ty(), object, "", &mut found);
    found
}

fn walk(ty: Ty, value: &Value, path: &str, found: &mut Vec<String>) {
    match (ty, value) {
        (Ty::List(item), Value::Array(items)) => {
            for (index, value) in items.iter().enumerate() {
                walk(item.ty(), value, &format!("{path}[{index}]"), found);
            }
        }
        (Ty::Map(item), Value::Object(map)) if matches!(item.ty(), Ty::Ref(_)) => {
            for (key, value) in map {
                walk(item.ty(), value, &format!("{path}[{key}]"), found);
            }
        }
        (Ty::Ref(named), Value::Object(map)) => {
            let name = short(named.name());
            for (key, value) in map {
                let Some(field) = named.field(key) else { continue };
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match ROWS.iter().find(|row| row.ty == name && row.field == key) {
                    Some(row) if row.applies(value) && found.len() < WARNINGS_MAX => {
                        found.push(format!("{path}: {}", row.said));
                    }
                    Some(_) | None => walk(field.ty, value, &path, found),
                }
            }
        }
        (
            _,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_),
        ) => {}
    }
}

/// `core.v1.PodSpec`.
fn short(name: &str) -> &str {
    name.strip_prefix("io.k8s.api.").unwrap_or(name)
}

impl Row {
    fn applies(&self, value: &Value) -> bool {
        match self.when {
            When::Set => !value.is_null() && value != &Value::Bool(false),
            When::False => value == &Value::Bool(false),
            When::Is(texts) => value.as_str().is_some_and(|text| texts.contains(&text)),
            When::Not(texts) => value.as_str().is_some_and(|text| !text.is_empty() && !texts.contains(&text)),
            When::HasKey(keys) => keys.iter().any(|key| value.get(key).is_some()),
        }
    }
}

#[cfg(test)]
mod tests;
