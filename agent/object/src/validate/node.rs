//! A place in an object: a path and the value there.
//!
//! Owns reading without caring whether a value is there: what is missing reads as null, empty or none.

use crate::quantity::Quantity;
use serde_json::Value;

const NULL: &Value = &Value::Null;

#[derive(Debug, Clone)]
pub struct Node<'a> {
    pub path: String,
    pub value: &'a Value,
}

impl<'a> Node<'a> {
    pub fn root(value: &'a Value) -> Node<'a> {
        Node { path: String::new(), value }
    }

    /// A field, by name.
    pub fn get(&self, name: &str) -> Node<'a> {
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        Node { path, value: self.value.get(name).unwrap_or(NULL) }
    }

    /// A field of a field.
    pub fn at(&self, path: &[&str]) -> Node<'a> {
        path.iter().fold(self.clone(), |node, name| node.get(name))
    }

    /// The value of a map: `data[key]`.
    pub fn key(&self, key: &str) -> Node<'a> {
        Node { path: format!("{}[{key}]", self.path), value: self.value.get(key).unwrap_or(NULL) }
    }

    pub fn items(&self) -> Vec<Node<'a>> {
        let list = crate::meta::items(Some(self.value));
        let items = list.iter().enumerate();
        items.map(|(index, value)| Node { path: format!("{}[{index}]", self.path), value }).collect()
    }

    /// The entries of a map.
    pub fn entries(&self) -> Vec<(&'a str, Node<'a>)> {
        let map = self.value.as_object().into_iter().flatten();
        map.map(|(key, value)| (key.as_str(), Node { path: format!("{}[{key}]", self.path), value })).collect()
    }

    pub fn text(&self) -> &'a str {
        self.value.as_str().unwrap_or_default()
    }

    pub fn int(&self) -> Option<i64> {
        self.value.as_i64()
    }

    pub fn is_true(&self) -> bool {
        self.value.as_bool() == Some(true)
    }

    pub fn quantity(&self) -> Option<Quantity> {
        Quantity::parse(self.text()).ok()
    }

    pub fn is_missing(&self) -> bool {
        self.value.is_null()
    }

    /// Missing, or an empty text, list or map.
    pub fn is_empty(&self) -> bool {
        match self.value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            Value::Bool(_) | Value::Number(_) => false,
        }
    }

    pub fn has(&self, name: &str) -> bool {
        !self.get(name).is_missing()
    }
}
