//! Label selectors.
//!
//! Stub.
use serde_json::{Map, Value};
use std::collections::BTreeMap;
pub trait Labels {
    fn label(&self, key: &str) -> Option<&str>;
}
impl Labels for BTreeMap<String, String> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}
impl Labels for Map<String, Value> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }
}
impl<T: Labels> Labels for Option<T> {
    fn label(&self, key: &str) -> Option<&str> {
        self.as_ref().and_then(|l| l.label(key))
    }
}
impl<T: Labels + ?Sized> Labels for &T {
    fn label(&self, key: &str) -> Option<&str> {
        (**self).label(key)
    }
}
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {}
/// Display is upstream's message.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(String);
impl Selector {
    pub fn everything() -> Selector {
        Selector {}
    }
    pub fn nothing() -> Selector {
        Selector {}
    }
    pub fn parse(_text: &str) -> Result<Selector, SelectorError> {
        Ok(Selector {})
    }
    pub fn from_label_selector(_selector: &Value) -> Result<Selector, SelectorError> {
        Ok(Selector {})
    }
    pub fn from_map(_labels: &Map<String, Value>) -> Selector {
        Selector {}
    }
    pub fn is_empty(&self) -> bool {
        true
    }
    pub fn matches(&self, _labels: &impl Labels) -> bool {
        true
    }
}
impl std::fmt::Display for Selector {
    fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Ok(())
    }
}
