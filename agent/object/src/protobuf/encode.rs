//! From JSON to Kubernetes' protobuf, by the schema's field numbers.
//!
//! It reads JSON as text or as a value, and writes while it reads: there is no object in between. What is absent in JSON
//! is not written; Go's clients take that for its zero value. Fields that protobuf has no number for are left out.
//! Which client gets protobuf is the API server's affair.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::MAGIC;
use super::schemas::{self, OneOf};
use super::wire::{self, Open};
use crate::kinds::Kind;
use crate::schema::{self, Named, Ty};
use crate::{base64, meta};

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

/// Writes the fields of a message.
pub fn fields<'de, A: MapAccess<'de>>(ty: Named, mut entries: A, out: &mut Vec<u8>) -> Result<(), A::Error> {
    let mut held = Held::default();
    while let Some(field) = entries.next_key_seed(Name(ty))? {
        let Some(field) = field.filter(|field| field.tag.1 != 0) else {
            entries.next_value::<IgnoredAny>()?;
            continue;
        };
        let (out, number) = (held.place(field.tag.0, out), u32::from(field.tag.1));
        match OneOf::of(ty, field.name) {
            Some(one_of) => entries.next_value_seed(schemas::Node { one_of, schema: ty, field: number, out })?,
            None => entries.next_value_seed(Node::field(number, field.ty, out))?,
        }
    }
    held.write(out);
    Ok(())
}

/// What is in messages that JSON has inline, by the path to them as the table has it. Most objects have none.
#[derive(Default)]
struct Held(Vec<(u16, Vec<u8>)>);

impl Held {
    /// Where a field is written that is in such a message, or in none.
    fn place<'a>(&'a mut self, path: u16, out: &'a mut Vec<u8>) -> &'a mut Vec<u8> {
        if path == 0 {
            return out;
        }
        let index = self.0.iter().position(|(known, _)| *known == path).unwrap_or_else(|| {
            self.0.push((path, Vec::new()));
            self.0.len() - 1
        });
        &mut self.0[index].1
    }

    fn write(mut self, out: &mut Vec<u8>) {
        // The inner ones have the larger paths: they come first, into the outer ones.
        while let Some(index) = (0..self.0.len()).max_by_key(|index| self.0[*index].0) {
            let (path, content) = self.0.swap_remove(index);
            let [outer, inner] = path.to_le_bytes();
            match inner {
                0 => wire::bytes(out, outer.into(), &content),
                inner => wire::bytes(self.place(outer.into(), out), inner.into(), &content),
            }
        }
    }
}

/// Where a value is.
#[derive(Clone, Copy)]
enum Place {
    /// In a field of its own: null is the same as none.
    Field,
    /// In a list: null stands for the zero value.
    Item,
    /// In a map: the same, and a list is in a message of its own.
    Entry,
}

/// One value to write, with the number of its field.
struct Node<'o> {
    number: u32,
    ty: Ty,
    place: Place,
    out: &'o mut Vec<u8>,
}

impl<'o> Node<'o> {
    fn field(number: u32, ty: Ty, out: &'o mut Vec<u8>) -> Self {
        Node { number, ty, place: Place::Field, out }
    }

    fn bytes(self, bytes: &[u8]) {
        wire::bytes(self.out, self.number, bytes);
    }

    fn integer<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        match self.ty {
            Ty::Int32 | Ty::Int64 => wire::number(self.out, self.number, value),
            Ty::Double => wire::double(self.out, self.number, value as f64),
            Ty::IntOrString => int_or_string(self.out, self.number, 0, value, ""),
            Ty::Quantity => quantity(self.out, self.number, &value.to_string()),
            Ty::String | Ty::Bool | Ty::DateTime | Ty::MicroTime | Ty::Bytes => {
                return Err(E::invalid_type(Unexpected::Signed(value), &self));
            }
            Ty::Any | Ty::Map(_) | Ty::List(_) | Ty::Ref(_) => {
                return Err(E::invalid_type(Unexpected::Signed(value), &self));
            }
        }
        Ok(())
    }

    /// Free-form JSON as it is, in a message.
    fn raw<'de, D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let raw = <Box<RawValue> as serde::Deserialize>::deserialize(deserializer)?;
        match (self.place, raw.get()) {
            (Place::Field, "null") => {}
            (Place::Field | Place::Item | Place::Entry, text) => {
                let open = wire::open(self.out, self.number);
                wire::bytes(self.out, 1, text.as_bytes());
                open.close(self.out);
            }
        }
        Ok(())
    }

    fn zero(self) {
        match self.ty {
            Ty::Int32 | Ty::Int64 | Ty::Bool => wire::number(self.out, self.number, 0),
            Ty::Double => wire::double(self.out, self.number, 0.0),
            Ty::IntOrString => int_or_string(self.out, self.number, 0, 0, ""),
            Ty::String | Ty::Bytes | Ty::Quantity | Ty::DateTime | Ty::MicroTime => self.bytes(b""),
            Ty::Any | Ty::Map(_) | Ty::List(_) | Ty::Ref(_) => self.bytes(b""),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.ty {
            Ty::Any => self.raw(deserializer),
            Ty::String
            | Ty::Int32
            | Ty::Int64
            | Ty::Bool
            | Ty::Double
            | Ty::IntOrString
            | Ty::Quantity
            | Ty::DateTime
            | Ty::MicroTime
            | Ty::Bytes
            | Ty::Map(_)
            | Ty::List(_)
            | Ty::Ref(_) => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value of type {:?}", self.ty)
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        match self.place {
            Place::Field => {}
            Place::Item | Place::Entry => self.zero(),
        }
        Ok(())
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        if let Ty::Bool = self.ty {
            wire::number(self.out, self.number, value.into());
            return Ok(());
        }
        Err(E::invalid_type(Unexpected::Bool(value), &self))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        self.integer(value)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        match i64::try_from(value) {
            Ok(value) => self.integer(value),
            Err(_) => self.visit_f64(value as f64),
        }
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        if let Ty::Double = self.ty {
            wire::double(self.out, self.number, value);
            return Ok(());
        }
        Err(E::invalid_type(Unexpected::Float(value), &self))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        match self.ty {
            Ty::String => self.bytes(text.as_bytes()),
            Ty::IntOrString => int_or_string(self.out, self.number, 1, 0, text),
            Ty::Quantity => quantity(self.out, self.number, text),
            Ty::DateTime => return time(self.out, self.number, text, Precision::Seconds),
            Ty::MicroTime => return time(self.out, self.number, text, Precision::Micros),
            Ty::Bytes => {
                let open = wire::open(self.out, self.number);
                base64::decode_into(self.out, text).map_err(|at| E::custom(format!("no base64 at byte {at}")))?;
                open.close(self.out);
            }
            Ty::Int32 | Ty::Int64 | Ty::Bool | Ty::Double | Ty::Any | Ty::Map(_) | Ty::List(_) | Ty::Ref(_) => {
                return Err(E::invalid_type(Unexpected::Str(text), &self));
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Ty::List(item) = self.ty else { return Err(A::Error::invalid_type(Unexpected::Seq, &self)) };
        let (open, number) = match self.place {
            Place::Field | Place::Item => (None, self.number),
            Place::Entry => (Some(wire::open(self.out, self.number)), 1),
        };
        let ty = item.ty();
        while items.next_element_seed(Node { number, ty, place: Place::Item, out: &mut *self.out })?.is_some() {}
        if let Some(open) = open {
            open.close(self.out);
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        match self.ty {
            Ty::Ref(named) => {
                let open = wire::open(self.out, self.number);
                fields(named, entries, self.out)?;
                open.close(self.out);
                Ok(())
            }
            Ty::Map(value) => {
                let ty = value.ty();
                while let Some(entry) = entries.next_key_seed(Key { field: self.number, out: &mut *self.out })? {
                    entries.next_value_seed(Node { number: 2, ty, place: Place::Entry, out: &mut *self.out })?;
                    entry.close(self.out);
                }
                Ok(())
            }
            Ty::String | Ty::Int32 | Ty::Int64 | Ty::Bool | Ty::Double | Ty::IntOrString | Ty::Quantity => {
                Err(A::Error::invalid_type(Unexpected::Map, &self))
            }
            Ty::DateTime | Ty::MicroTime | Ty::Bytes | Ty::Any | Ty::List(_) => {
                Err(A::Error::invalid_type(Unexpected::Map, &self))
            }
        }
    }
}

/// As Go writes it, which always sends all three.
fn int_or_string(out: &mut Vec<u8>, number: u32, is_text: i64, value: i64, text: &str) {
    let open = wire::open(out, number);
    wire::number(out, 1, is_text);
    wire::number(out, 2, value);
    wire::bytes(out, 3, text.as_bytes());
    open.close(out);
}

fn quantity(out: &mut Vec<u8>, number: u32, text: &str) {
    let open = wire::open(out, number);
    wire::bytes(out, 1, text.as_bytes());
    open.close(out);
}

#[derive(Clone, Copy)]
enum Precision {
    Seconds,
    Micros,
}

/// `{seconds = 1, nanos = 2}`; what is finer than the type is cut off.
fn time<E: serde::de::Error>(out: &mut Vec<u8>, number: u32, text: &str, precision: Precision) -> Result<(), E> {
    let at: jiff::Timestamp = text.parse().map_err(E::custom)?;
    let mut nanos = i64::from(at.subsec_nanosecond());
    let mut seconds = at.as_second();
    // Before 1970 both count backwards here; protobuf's nanoseconds never do.
    if nanos < 0 {
        (seconds, nanos) = (seconds - 1, nanos + 1_000_000_000);
    }
    let nanos = match precision {
        Precision::Seconds => 0,
        Precision::Micros => nanos - nanos % 1000,
    };
    let open = wire::open(out, number);
    wire::number(out, 1, seconds);
    wire::number(out, 2, nanos);
    open.close(out);
    Ok(())
}

/// A key that is the name of a field, if there is one of that name.
struct Name(Named);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Option<schema::Field>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Option<schema::Field>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(self.0.field(text))
    }
}

/// A key that is this name, or another.
struct Is(&'static str);

impl<'de> DeserializeSeed<'de> for Is {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Is {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E>(self, text: &str) -> Result<bool, E> {
        Ok(text == self.0)
    }
}

/// The key of a map: it begins an entry, `{key = 1, value = 2}`.
pub struct Key<'o> {
    pub field: u32,
    pub out: &'o mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Open;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Open, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key<'_> {
    type Value = Open;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, text: &str) -> Result<Open, E> {
        let entry = wire::open(self.out, self.field);
        wire::bytes(self.out, 1, text.as_bytes());
        Ok(entry)
    }
}
