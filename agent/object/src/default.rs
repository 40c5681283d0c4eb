//! Upstream's defaults.
//!
//! Stub.
use crate::Kind;
use serde_json::Value;
pub fn apply(_kind: &Kind, _object: &mut Value) {}
