//! Decoding of request bodies by the table of types.
//!
//! Owns wrong types, unknown and duplicate fields, and the canonical form of scalars, with Go's messages. It does not
//! judge values ([`crate::validate`]) and sets no defaults ([`crate::default`]).
//!
//! As upstream's typed storage does, unknown fields, nulls and empty optional lists and maps are dropped.

mod scalars;
mod walk;

use crate::{Kind, meta, schema};
use serde::Deserializer;
use serde::de::DeserializeSeed;
use serde_json::Value;
use walk::{Node, Walk};

/// What to do with unknown and duplicate fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

/// A decoded object: pruned, with `apiVersion` and `kind` set.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    pub value: Value,
    pub warnings: Vec<String>,
}

/// Why a body is refused. Display is the message of the `BadRequest` status.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error(
        "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse error: {message}"
    )]
    Unrecognized { kind: String, message: String },
    #[error("the API version in the data ({found}) does not match the expected API version ({expected})")]
    ApiVersion { found: String, expected: String },
    #[error("{found} in version \"{version}\" cannot be handled as a {kind}: {message}")]
    Unhandled { found: String, version: String, kind: String, message: String },
}

/// Decodes the bytes of a body. A kind or version that the body lacks is taken from `kind`.
pub fn decode(kind: &Kind, body: &[u8], validation: FieldValidation) -> Result<Decoded, DecodeError> {
    let unrecognized = |message: String| DecodeError::Unrecognized { kind: kind.kind.to_string(), message };
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(unrecognized("unexpected end of JSON input (<empty>)".to_owned()));
    }
    let mut walk = Walk::new();
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = decode_with(kind, &mut walk, &mut deserializer).map_err(|e| unrecognized(e.to_string()))?;
    deserializer.end().map_err(|e| unrecognized(e.to_string()))?;
    finish(kind, value, walk, validation)
}

/// Decodes an object that is JSON already, such as the result of a patch. Whole numbers may be floats here.
pub fn decode_value(kind: &Kind, value: Value, validation: FieldValidation) -> Result<Decoded, DecodeError> {
    let mut walk = Walk::after_patch();
    let decoded = decode_with(kind, &mut walk, &value)
        .map_err(|e| DecodeError::Unrecognized { kind: kind.kind.to_string(), message: e.to_string() })?;
    finish(kind, decoded, walk, validation)
}

fn decode_with<'de, D: Deserializer<'de>>(
    kind: &Kind,
    walk: &mut Walk,
    deserializer: D,
) -> Result<Option<Value>, D::Error> {
    Node { ty: kind.ty(), walk }.deserialize(deserializer)
}

fn finish(kind: &Kind, value: Option<Value>, walk: Walk, validation: FieldValidation) -> Result<Decoded, DecodeError> {
    let (mut value, mut walk) = (value, walk);
    if let Some(object) = value.as_mut().filter(|_| kind.custom.is_some()) {
        read_metadata(object, &mut walk);
    }
    let Some(mut value) = value.filter(Value::is_object) else {
        let message = walk.error.unwrap_or_else(|| "json: cannot unmarshal null into Go value".to_owned());
        return Err(DecodeError::Unrecognized { kind: kind.kind.to_string(), message });
    };
    let found = check_type(kind, &value)?;
    let unhandled = |message: String| DecodeError::Unhandled {
        found,
        version: kind.version.to_string(),
        kind: kind.kind.to_string(),
        message,
    };
    if let Some(message) = walk.error {
        return Err(unhandled(message));
    }
    let warnings = match validation {
        FieldValidation::Ignore => Vec::new(),
        FieldValidation::Warn => walk.strict,
        FieldValidation::Strict if walk.strict.is_empty() => Vec::new(),
        FieldValidation::Strict => return Err(strict(kind, &walk.strict)),
    };
    let map = meta::map_mut(&mut value);
    map.insert("apiVersion".to_owned(), kind.api_version().into());
    map.insert("kind".to_owned(), (&*kind.kind).into());
    let decoded = Decoded { value, warnings };
    match &kind.custom {
        Some(custom) => custom.decode(kind, decoded, validation),
        None => Ok(decoded),
    }
}

/// What a definition does not describe is as with every kind.
fn read_metadata(object: &mut Value, walk: &mut Walk) {
    if let Some(metadata) = object.get_mut("metadata") {
        let ty = schema::find(meta::TYPE);
        let read = walk.below("metadata", |walk| Node { ty, walk }.deserialize(&*metadata));
        *metadata = read.ok().flatten().unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    }
}

/// Why unknown fields are refused.
pub(crate) fn strict(kind: &Kind, unknown: &[String]) -> DecodeError {
    DecodeError::Unhandled {
        found: kind.kind.to_string(),
        version: kind.version.to_string(),
        kind: kind.kind.to_string(),
        message: format!("strict decoding error: {}", unknown.join(", ")),
    }
}

/// Checks `apiVersion` and `kind`, and gives the kind that the data claims.
fn check_type(kind: &Kind, value: &Value) -> Result<String, DecodeError> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let expected = kind.api_version();
    let found = text("kind").unwrap_or(&kind.kind);
    let api_version = text("apiVersion").unwrap_or(&expected);
    if api_version != expected {
        return Err(DecodeError::ApiVersion { found: api_version.to_owned(), expected });
    }
    if found != kind.kind {
        let message = format!("the kind in the data ({found}) does not match the expected kind ({})", kind.kind);
        return Err(DecodeError::Unhandled {
            found: found.to_owned(),
            version: kind.version.to_string(),
            kind: kind.kind.to_string(),
            message,
        });
    }
    Ok(found.to_owned())
}

#[cfg(test)]
mod tests;
