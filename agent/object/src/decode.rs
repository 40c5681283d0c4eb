//! Decoding request bodies.
//!
//! Stub.
use crate::Kind;
use serde_json::Value;
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    pub value: Value,
    pub warnings: Vec<String>,
}
/// Display is the message of the `BadRequest` status.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DecodeError(String);
pub fn decode(kind: &Kind, body: &[u8], v: FieldValidation) -> Result<Decoded, DecodeError> {
    let value = serde_json::from_slice(body).map_err(|e| DecodeError(e.to_string()))?;
    decode_value(kind, value, v)
}
pub fn decode_value(
    _kind: &Kind,
    value: Value,
    _v: FieldValidation,
) -> Result<Decoded, DecodeError> {
    Ok(Decoded {
        value,
        warnings: Vec::new(),
    })
}
