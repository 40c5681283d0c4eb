//! Field selectors.
//!
//! Stub.
use crate::Kind;
use serde_json::Value;
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSelector {}
/// Display is upstream's message.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct FieldSelectorError(String);
impl FieldSelector {
    pub fn parse(_text: &str) -> Result<FieldSelector, FieldSelectorError> {
        Ok(FieldSelector {})
    }
    pub fn is_empty(&self) -> bool {
        true
    }
    pub fn check(&self, _kind: &Kind) -> Result<(), FieldSelectorError> {
        Ok(())
    }
    pub fn matches(&self, _kind: &Kind, _object: &Value) -> bool {
        true
    }
}
