//! Printer columns.
//!
//! Stub.
use crate::Kind;
use serde_json::Value;
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    pub type_: &'static str,
    pub format: &'static str,
    pub description: &'static str,
    pub priority: i32,
}
pub fn columns(_kind: &Kind) -> &'static [Column] {
    &[]
}
/// The cells of the object's row.
pub fn rows(_kind: &Kind, _object: &Value, _now: jiff::Timestamp) -> Vec<Value> {
    Vec::new()
}
