//! The scale subresource.
//!
//! Stub.
use crate::Kind;
use serde_json::Value;
/// The `autoscaling/v1` Scale of an object.
pub fn read(_kind: &Kind, _object: &Value) -> Value {
    Value::Null
}
/// Writes `spec.replicas` of a Scale into the object.
pub fn write(_kind: &Kind, _object: &mut Value, _scale: &Value) {}
