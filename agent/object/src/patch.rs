//! Patches: RFC 6902, RFC 7386 and the strategic merge patch.
//!
//! Owns applying a patch to an object in memory. Decoding the result ([`crate::decode`]), validation and conflicts are
//! the caller's.

pub mod merge_keys;
pub mod strategic;

use crate::Kind;
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
/// As deep as an object may be.
const DEPTH_MAX: usize = 100;
/// Values that the operations of one patch may put somewhere, all that is in them counted: a bound on the time it takes.
const VISITED_MAX: usize = 2_000_000;

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
    #[error("the result of a JSON patch may not be nested deeper than {DEPTH_MAX} levels")]
    TooDeep,
    #[error("the operations of a JSON patch move too much: use a merge patch, or several")]
    TooMuch,
}

/// Applies a patch to an object of a kind.
pub fn apply(kind: &Kind, current: &Value, patch_kind: PatchKind, patch: &Value) -> Result<Value, PatchError> {
    match patch_kind {
        PatchKind::Json => json(current, patch),
        PatchKind::Merge => merge(current, patch),
        PatchKind::Strategic => strategic::apply(kind.ty(), current, patch),
    }
}

/// Applies a JSON patch to a document of any kind.
pub fn json(current: &Value, patch: &Value) -> Result<Value, PatchError> {
    let operations: json_patch::Patch =
        serde_json::from_value(patch.clone()).map_err(|e| PatchError::Malformed(format!("json patch: {e}")))?;
    if operations.len() > OPERATIONS_MAX {
        return Err(PatchError::TooManyOperations(operations.len()));
    }
    // One at a time: a few hundred `copy`s, each doubling the object, would otherwise exhaust memory.
    let (mut patched, mut copied, mut visited) = (current.clone(), 0, 0);
    for operation in operations.0 {
        if let json_patch::PatchOperation::Copy(copy) = &operation {
            copied += patched.pointer(copy.from.as_str()).map_or(0, size);
            if copied > COPIED_MAX {
                return Err(PatchError::TooLarge);
            }
        }
        let target = target(&operation).to_owned();
        if is_absence(&operation, &patched) {
            continue;
        }
        json_patch::patch(&mut patched, &[operation]).map_err(|e| PatchError::Inapplicable(e.to_string()))?;
        // An element that was appended is looked at with its list.
        let target = target.strip_suffix("/-").unwrap_or(&target);
        let depth = target.split('/').count();
        if let Some(value) = patched.pointer(target) {
            check_depth(value, depth, &mut visited)?;
        } else if depth > DEPTH_MAX {
            return Err(PatchError::TooDeep);
        }
    }
    Ok(patched)
}

/// A test for null of what is not there: upstream takes both for the same, and controllers ask so before they add a list.
fn is_absence(operation: &json_patch::PatchOperation, object: &Value) -> bool {
    match operation {
        json_patch::PatchOperation::Test(test) => test.value.is_null() && object.pointer(test.path.as_str()).is_none(),
        _ => false,
    }
}

/// Where an operation puts something, or takes something away.
fn target(operation: &json_patch::PatchOperation) -> &str {
    use json_patch::PatchOperation::{Add, Copy, Move, Remove, Replace, Test};
    match operation {
        Add(operation) => operation.path.as_str(),
        Remove(operation) => operation.path.as_str(),
        Replace(operation) => operation.path.as_str(),
        Move(operation) => operation.path.as_str(),
        Copy(operation) => operation.path.as_str(),
        Test(operation) => operation.path.as_str(),
    }
}

/// Each `move` may put all there is one level down: what walks the result, cloning and dropping too, goes as deep.
fn check_depth(value: &Value, depth: usize, visited: &mut usize) -> Result<(), PatchError> {
    *visited += 1;
    if depth > DEPTH_MAX {
        return Err(PatchError::TooDeep);
    }
    if *visited > VISITED_MAX {
        return Err(PatchError::TooMuch);
    }
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| check_depth(item, depth + 1, visited)),
        Value::Object(map) => map.values().try_for_each(|item| check_depth(item, depth + 1, visited)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
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
