//! From JSON to Kubernetes' protobuf, by the schema's field numbers.
//!
//! It reads JSON as text or as a value, and writes while it reads: there is no object in between. What is absent in JSON
//! is not written; Go's clients take that for its zero value. Fields that protobuf has no number for are left out.
//! Which client gets protobuf is the API server's affair.

mod keys;
mod values;

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::MAGIC;
use super::wire::{self, Open};
use crate::kinds::Kind;
use crate::meta;
use crate::schema::{self, Named};
use keys::Is;
pub(super) use keys::Key;
use values::Node;
pub(super) use values::fields;

const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
const META_VERSION: &str = "meta.k8s.io/v1";

#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    #[error("the objects of {0} have no form in protobuf")]
    NoForm(String),
    #[error("the object is not what its type says")]
    Json(#[from] serde_json::Error),
}

/// JSON to be written as protobuf.
#[derive(Clone, Copy)]
pub enum Json<'a> {
    Text(&'a [u8]),
    Value(&'a Value),
}

/// What of an object is written.
#[derive(Clone, Copy)]
pub enum Shape<'k> {
    /// All of it, by its kind.
    Whole(&'k Kind),
    /// A `PartialObjectMetadata`, whatever the kind.
    Metadata,
}

impl Shape<'_> {
    fn api_version(self) -> String {
        match self {
            Shape::Whole(kind) => kind.api_version(),
            Shape::Metadata => META_VERSION.to_owned(),
        }
    }

    fn kind(self) -> String {
        match self {
            Shape::Whole(kind) => kind.kind.to_string(),
            Shape::Metadata => "PartialObjectMetadata".to_owned(),
        }
    }

    fn list_kind(self) -> String {
        match self {
            Shape::Whole(kind) => kind.list_kind(),
            Shape::Metadata => "PartialObjectMetadataList".to_owned(),
        }
    }

    /// Appends the message, without what says its kind.
    fn write(self, out: &mut Vec<u8>, json: Json<'_>) -> Result<(), EncodeError> {
        let message = match self {
            Shape::Metadata => Message::Metadata(out),
            Shape::Whole(kind) => match kind.ty().named() {
                Some(ty) => Message::Whole(ty, out),
                None => return Err(EncodeError::NoForm(kind.group_resource())),
            },
        };
        match json {
            Json::Value(value) => message.deserialize(value)?,
            Json::Text(text) => message.deserialize(&mut serde_json::Deserializer::from_slice(text))?,
        }
        Ok(())
    }
}

/// Appends an object, with what says its kind.
pub fn object(out: &mut Vec<u8>, shape: Shape<'_>, json: Json<'_>) -> Result<(), EncodeError> {
    let raw = begin(out, &shape.api_version(), &shape.kind());
    shape.write(out, json)?;
    end(out, raw);
    Ok(())
}

/// Appends an event of a watch as it is framed: four bytes of length, the most significant first, and a `WatchEvent`.
/// Where it cannot be written, nothing is.
pub fn event(out: &mut Vec<u8>, event: &str, shape: Shape<'_>, json: Json<'_>) -> Result<(), EncodeError> {
    let start = out.len();
    let written = try_event(out, event, shape, json);
    if written.is_err() {
        out.truncate(start);
    }
    written
}

fn try_event(out: &mut Vec<u8>, event: &str, shape: Shape<'_>, json: Json<'_>) -> Result<(), EncodeError> {
    let frame = out.len();
    out.extend_from_slice(&[0; 4]);
    wire::bytes(out, 1, event.as_bytes());
    let extension = wire::open(out, 2);
    let raw = wire::open(out, 1);
    object(out, shape, json)?;
    raw.close(out);
    extension.close(out);
    // An object is never that large: the store's limit is far below.
    let length = u32::try_from(out.len() - frame - 4).unwrap_or(u32::MAX);
    out[frame..frame + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// A list that is being written, item by item.
pub struct List<'k> {
    shape: Shape<'k>,
    out: Vec<u8>,
    raw: Open,
}

impl<'k> List<'k> {
    /// A list with its metadata, and room for so many bytes.
    pub fn new(shape: Shape<'k>, metadata: &Value, size_bytes: usize) -> Result<Self, EncodeError> {
        let mut out = Vec::with_capacity(size_bytes);
        let raw = begin(&mut out, &shape.api_version(), &shape.list_kind());
        Node::field(1, schema::find(LIST_META), &mut out).deserialize(metadata)?;
        Ok(Self { shape, out, raw })
    }

    pub fn push(&mut self, json: Json<'_>) -> Result<(), EncodeError> {
        let item = wire::open(&mut self.out, 2);
        self.shape.write(&mut self.out, json)?;
        item.close(&mut self.out);
        Ok(())
    }

    pub fn finish(mut self) -> Vec<u8> {
        end(&mut self.out, self.raw);
        self.out
    }
}

/// Begins the envelope around every object, `runtime.Unknown`: `{typeMeta = 1, raw = 2, contentEncoding = 3,
/// contentType = 4}`.
fn begin(out: &mut Vec<u8>, api_version: &str, kind: &str) -> Open {
    out.extend_from_slice(MAGIC);
    let type_meta = wire::open(out, 1);
    wire::bytes(out, 1, api_version.as_bytes());
    wire::bytes(out, 2, kind.as_bytes());
    type_meta.close(out);
    wire::open(out, 2)
}

fn end(out: &mut Vec<u8>, raw: Open) {
    raw.close(out);
    wire::bytes(out, 3, b"");
    wire::bytes(out, 4, b"");
}

/// An object without a field around it.
enum Message<'o> {
    Whole(Named, &'o mut Vec<u8>),
    Metadata(&'o mut Vec<u8>),
}

impl<'de> DeserializeSeed<'de> for Message<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Message<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let out = match self {
            Message::Whole(ty, out) => return fields(ty, entries, out),
            Message::Metadata(out) => out,
        };
        while let Some(is_metadata) = entries.next_key_seed(Is("metadata"))? {
            if is_metadata {
                entries.next_value_seed(Node::field(1, schema::find(meta::TYPE), &mut *out))?;
            } else {
                entries.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}
