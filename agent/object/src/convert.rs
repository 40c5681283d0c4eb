//! Conversion between two versions of one kind.
//!
//! Stub.
use crate::Kind;
use serde_json::Value;
pub fn convert(_from: &Kind, _to: &Kind, object: Value) -> Value {
    object
}
