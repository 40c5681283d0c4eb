//! Custom resources: kinds that come at run time with a `CustomResourceDefinition`.
//!
//! Owns what a definition means: its schema, what an object of it becomes and which is right, its columns, its scale, and
//! the document that describes it. Who serves them, and when, is the API server's affair.

pub mod definition;
mod formats;
mod jsonpath;
pub mod names;
pub mod openapi;
mod pattern;
mod printed;
mod rules;
mod schema;
mod shape;
mod structural;
mod values;

use std::io::{Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use serde_json::Value;

pub use jsonpath::{JsonPath, JsonPathError};
pub(crate) use pattern::compile as compile_pattern;
pub use printed::PrinterColumn;
pub(crate) use schema::{Schema, Topology, Type};

use crate::decode::{DecodeError, Decoded, FieldValidation};
use crate::validate::FieldError;
use crate::{Kind, decode, meta};

/// Schemas that are unpacked at once: an operator works on few kinds, and each may be large.
const UNPACKED_MAX: usize = 16;

/// What a custom kind is beside its names. Small: there may be thousands.
#[derive(Debug)]
pub struct Custom {
    pub columns: Vec<PrinterColumn>,
    pub scale: Option<Scale>,
    /// What field selectors may ask of it.
    pub selectable: Vec<(String, JsonPath)>,
    /// Whether an object may be stored in another form than the one that is asked for.
    pub has_versions: bool,
    /// Who makes an object of one version of it into one of another, if that needs more than another `apiVersion`.
    pub webhook: Option<Value>,
    pub has_defaults: bool,
    /// It is on its way out: nothing new is made.
    pub is_going: bool,
    /// What is said to who uses it.
    pub deprecation: Option<String>,
    /// Names what it was made of, for caches.
    pub stamp: String,
    schema: Packed,
}

/// Where the numbers of its scale are.
#[derive(Debug, Clone)]
pub struct Scale {
    pub spec_replicas: JsonPath,
    pub status_replicas: JsonPath,
    pub selector: Option<JsonPath>,
}

/// A schema that is unpacked when it is needed.
#[derive(Debug)]
struct Packed {
    id: u64,
    deflated: Box<[u8]>,
}

static NEXT: AtomicU64 = AtomicU64::new(0);
/// The newest last.
static UNPACKED: Mutex<Vec<(u64, Arc<Schema>)>> = Mutex::new(Vec::new());

impl Packed {
    fn new(schema: &Value) -> Self {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        // Into memory: it cannot fail.
        let written = encoder.write_all(bare(schema).to_string().as_bytes()).and_then(|()| encoder.finish());
        Self { id: NEXT.fetch_add(1, Ordering::Relaxed), deflated: written.unwrap_or_default().into_boxed_slice() }
    }

    fn schema(&self) -> Arc<Schema> {
        let mut unpacked = UNPACKED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = unpacked.iter().position(|(id, _)| *id == self.id) {
            let found = unpacked.remove(at);
            let schema = Arc::clone(&found.1);
            unpacked.push(found);
            return schema;
        }
        let mut json = Vec::new();
        let read = DeflateDecoder::new(&*self.deflated).read_to_end(&mut json);
        let json = read.ok().and_then(|_| serde_json::from_slice(&json).ok()).unwrap_or(Value::Null);
        let schema = Arc::new(Schema::read(&json));
        if unpacked.len() == UNPACKED_MAX {
            unpacked.remove(0);
        }
        unpacked.push((self.id, Arc::clone(&schema)));
        schema
    }
}

/// Without what is said to people only: most of a schema.
fn bare(schema: &Value) -> Value {
    match schema {
        Value::Object(map) => {
            let said = |name: &str, value: &Value| matches!(name, "description" | "title") && value.is_string();
            let kept = map.iter().filter(|(name, value)| !said(name, value));
            Value::Object(kept.map(|(name, value)| (name.clone(), bare(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(bare).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => schema.clone(),
    }
}

impl Custom {
    pub(crate) fn schema(&self) -> Arc<Schema> {
        self.schema.schema()
    }

    /// An object as this kind has it: nothing that its schema does not know.
    pub(crate) fn decode(
        &self,
        kind: &Kind,
        object: Decoded,
        validation: FieldValidation,
    ) -> Result<Decoded, DecodeError> {
        let Decoded { mut value, mut warnings } = object;
        let schema = self.schema();
        let unknown: Vec<String> =
            shape::prune(&schema, &mut value).iter().map(|path| format!("unknown field {path:?}")).collect();
        if validation == FieldValidation::Strict && !unknown.is_empty() {
            return Err(decode::strict(kind, &unknown));
        }
        if validation == FieldValidation::Warn {
            warnings.extend(unknown);
        }
        Ok(Decoded { value, warnings })
    }

    pub(crate) fn set_defaults(&self, object: &mut Value) {
        if self.has_defaults {
            shape::set_defaults(&self.schema(), object);
        }
    }

    /// What is wrong with an object, and with its change. Rules may rely on values being of their types.
    pub(crate) fn validate(&self, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let schema = self.schema();
        let errors = values::validate(&schema, object);
        if errors.is_empty() { rules::validate(&schema, object, old) } else { errors }
    }

    /// An object that is stored in the form of another version; its webhook was asked.
    pub fn convert(&self, kind: &Kind, mut object: Value) -> Value {
        if self.has_versions && meta::text_at(&object, &["apiVersion"]) != kind.api_version() {
            meta::map_mut(&mut object).insert("apiVersion".to_owned(), kind.api_version().into());
            shape::prune(&self.schema(), &mut object);
        }
        self.set_defaults(&mut object);
        object
    }

    /// Whether what is stored may be another than what is served.
    pub fn is_verbatim(&self) -> bool {
        !self.has_versions && !self.has_defaults
    }
}

#[cfg(test)]
mod tests;
