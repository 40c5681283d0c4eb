//! Patches.
//!
//! Stub.
pub mod merge_keys;
use crate::Kind;
use serde_json::Value;
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchKind {
    Json,
    Merge,
    Strategic,
}
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PatchError(String);
pub fn apply(
    _kind: &Kind,
    current: &Value,
    _patch_kind: PatchKind,
    _patch: &Value,
) -> Result<Value, PatchError> {
    Ok(current.clone())
}
