//! Patches: RFC 6902, RFC 7386 and the strategic merge patch.
//!
//! Owns applying a patch to an object in memory. Decoding the result ([`crate::decode`]), validation and conflicts are
//! the caller's.

pub mod merge_keys;
pub mod strategic;

use crate::{Kind, schema};
use serde_json::Value;

/// How a patch is to be read, from the request's content type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchKind {
    /// `application/json-patch+json`
    Json,
    /// `application/merge-patch+json`
    Merge,
    /// `application/strategic-merge-patch+json`
    Strategic,
}

/// More operations than these in one JSON patch are refused, as upstream does: a `copy` can double the object.
const OPERATIONS_MAX: usize = 10_000;
/// The `copy` operations of one patch may not copy more than this, in bytes of JSON.
const COPIED_MAX: usize = 3 * 1024 * 1024;

/// Why a patch cannot be applied.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// The patch itself is malformed: a bad request.
    #[error("{0}")]
    Malformed(String),
    /// The patch does not fit the object: unprocessable.
    #[error("the server rejected our request due to an error in our request: {0}")]
    Inapplicable(String),
    #[error("the allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {0}")]
    TooManyOperations(usize),
    #[error("the copy operations of a JSON patch may copy at most {COPIED_MAX} bytes")]
    TooLarge,
}

/// Applies a patch to an object of a kind.
pub fn apply(kind: &Kind, current: &Value, patch_kind: PatchKind, patch: &Value) -> Result<Value, PatchError> {
    match patch_kind {
        PatchKind::Json => json(current, patch),
        PatchKind::Merge => merge(current, patch),
        PatchKind::Strategic => {
            let ty = schema::find(kind.schema).map_or(schema::Ty::Any, schema::Type::as_ty);
            strategic::apply(ty, current, patch)
        }
    }
}

fn json(current: &Value, patch: &Value) -> Result<Value, PatchError> {
    let operations: json_patch::Patch =
        serde_json::from_value(patch.clone()).map_err(|e| PatchError::Malformed(format!("json patch: {e}")))?;
    if operations.len() > OPERATIONS_MAX {
        return Err(PatchError::TooManyOperations(operations.len()));
    }
    // One at a time: a few hundred `copy`s, each doubling the object, would otherwise exhaust memory.
    let (mut patched, mut copied) = (current.clone(), 0);
    for operation in operations.0 {
        if let json_patch::PatchOperation::Copy(copy) = &operation {
            copied += patched.pointer(copy.from.as_str()).map_or(0, size);
            if copied > COPIED_MAX {
                return Err(PatchError::TooLarge);
            }
        }
        json_patch::patch(&mut patched, &[operation]).map_err(|e| PatchError::Inapplicable(e.to_string()))?;
    }
    Ok(patched)
}

fn size(value: &Value) -> usize {
    value.to_string().len()
}

fn merge(current: &Value, patch: &Value) -> Result<Value, PatchError> {
    if !patch.is_object() {
        return Err(PatchError::Malformed("a merge patch must be an object".to_owned()));
    }
    let mut patched = current.clone();
    json_patch::merge(&mut patched, patch);
    Ok(patched)
}

#[cfg(test)]
mod tests;
