//! The walk over a body, guided by the types.
//!
//! Owns paths, unknown and duplicate fields and Go's type errors. It works on any serde input: on raw bytes it sees
//! every key, so that duplicates are found; on a `Value` there are none.

use super::scalars::{self, Scalar};
use crate::schema::{Named, Ty};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt::{self, Write};

/// Deeper nesting is refused: it serves nothing and would exhaust the stack.
const DEPTH_MAX: usize = 100;
/// More strict errors than these are not listed: they would only fill a response.
const STRICT_MAX: usize = 100;

/// What the walk has found out.
#[derive(Debug)]
pub struct Walk {
    path: Vec<Segment>,
    /// The named type whose field is being read, for Go's messages.
    owner: Option<&'static str>,
    /// The first wrong type.
    pub error: Option<String>,
    /// Unknown and duplicate fields.
    pub strict: Vec<String>,
    pub whole_floats: WholeFloats,
}

/// Whether `1.0` is an integer: not in a body, as in Go, but in the result of a patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WholeFloats {
    Refused,
    Accepted,
}

#[derive(Debug)]
enum Segment {
    Field(&'static str),
    Key(String),
    Index(usize),
}

impl Walk {
    pub fn new() -> Self {
        Walk { path: Vec::new(), owner: None, error: None, strict: Vec::new(), whole_floats: WholeFloats::Refused }
    }

    pub fn after_patch() -> Self {
        Walk { whole_floats: WholeFloats::Accepted, ..Walk::new() }
    }

    /// Keeps the first error, as Go does.
    pub fn fail(&mut self, message: String) {
        self.error.get_or_insert(message);
    }

    /// Go's message about a value of the wrong type.
    pub fn mismatch(&mut self, found: &str, ty: Ty) {
        let message = match self.owner {
            Some(owner) => {
                let fields: Vec<&str> = self.path.iter().filter_map(Segment::field).collect();
                let fields = fields.join(".");
                format!("json: cannot unmarshal {found} into Go struct field {owner}.{fields} of type {}", ty.go())
            }
            None => format!("json: cannot unmarshal {found} into Go value of type {}", ty.go()),
        };
        self.fail(message);
    }

    /// Reads what is at a field.
    pub fn below<T>(&mut self, field: &'static str, read: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(Segment::Field(field));
        let result = read(self);
        self.path.pop();
        result
    }

    fn note(&mut self, what: &str, key: &str) {
        if self.strict.len() < STRICT_MAX {
            let path = self.render(key);
            self.strict.push(format!("{what} field \"{path}\""));
        }
    }

    fn render(&self, key: &str) -> String {
        let mut out = String::new();
        let dot = |out: &mut String, name: &str| {
            if !out.is_empty() {
                out.push('.');
            }
            out.push_str(name);
        };
        for segment in &self.path {
            match segment {
                Segment::Field(name) => dot(&mut out, name),
                Segment::Key(name) => dot(&mut out, name),
                Segment::Index(index) => {
                    let _ = write!(out, "[{index}]");
                }
            }
        }
        dot(&mut out, key);
        out
    }
}

impl Segment {
    fn field(&self) -> Option<&str> {
        match self {
            Segment::Field(name) => Some(name),
            Segment::Key(_) | Segment::Index(_) => None,
        }
    }
}

/// One value to read as a type. `None` stands for null.
pub struct Node<'w> {
    pub ty: Ty,
    pub walk: &'w mut Walk,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Value>, D::Error> {
        if self.walk.path.len() > DEPTH_MAX {
            return Err(D::Error::custom("exceeded max depth"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Option<Value>, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Option<Value>, E> {
        Ok(scalars::read(self.ty, Scalar::Bool(value), self.walk))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Option<Value>, E> {
        Ok(scalars::read(self.ty, Scalar::Number(value.into()), self.walk))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Option<Value>, E> {
        Ok(scalars::read(self.ty, Scalar::Number(value.into()), self.walk))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Option<Value>, E> {
        let number = serde_json::Number::from_f64(value).unwrap_or_else(|| 0.into());
        Ok(scalars::read(self.ty, Scalar::Number(number), self.walk))
    }

    fn visit_str<E>(self, value: &str) -> Result<Option<Value>, E> {
        Ok(scalars::read(self.ty, Scalar::Text(value), self.walk))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Option<Value>, A::Error> {
        match self.ty {
            Ty::List(item) => read_list(item.ty(), self.walk, items).map(Some),
            Ty::Any => read_list(Ty::Any, self.walk, items).map(Some),
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
            | Ty::Ref(_) => {
                scalars::refuse("array", self.ty, self.walk);
                let mut items = items;
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(None)
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Option<Value>, A::Error> {
        match self.ty {
            Ty::Map(value) => read_map(value.ty(), self.walk, entries).map(Some),
            Ty::Any => read_map(Ty::Any, self.walk, entries).map(Some),
            Ty::Ref(named) => read_struct(named, self.walk, entries).map(Some),
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
            | Ty::List(_) => {
                scalars::refuse("object", self.ty, self.walk);
                let mut entries = entries;
                while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(None)
            }
        }
    }
}

fn read_list<'de, A: SeqAccess<'de>>(ty: Ty, walk: &mut Walk, mut items: A) -> Result<Value, A::Error> {
    let mut list = Vec::new();
    loop {
        walk.path.push(Segment::Index(list.len()));
        let item = items.next_element_seed(Node { ty, walk: &mut *walk });
        walk.path.pop();
        match item? {
            Some(item) => list.push(item.unwrap_or_else(|| scalars::zero(ty))),
            None => return Ok(Value::Array(list)),
        }
    }
}

fn read_map<'de, A: MapAccess<'de>>(ty: Ty, walk: &mut Walk, mut entries: A) -> Result<Value, A::Error> {
    let mut map = Map::new();
    while let Some(key) = entries.next_key::<String>()? {
        if map.contains_key(&key) {
            walk.note("duplicate", &key);
        }
        walk.path.push(Segment::Key(key.clone()));
        let value = entries.next_value_seed(Node { ty, walk: &mut *walk });
        walk.path.pop();
        map.insert(key, value?.unwrap_or_else(|| scalars::zero(ty)));
    }
    Ok(Value::Object(map))
}

fn read_struct<'de, A: MapAccess<'de>>(ty: Named, walk: &mut Walk, mut entries: A) -> Result<Value, A::Error> {
    let (mut map, mut seen) = (Map::new(), Vec::new());
    while let Some(key) = entries.next_key::<String>()? {
        let Some(field) = ty.field(&key) else {
            walk.note("unknown", &key);
            entries.next_value::<IgnoredAny>()?;
            continue;
        };
        if seen.contains(&field.name) {
            walk.note("duplicate", &key);
        }
        seen.push(field.name);
        let owner = walk.owner.replace(ty.go_name());
        let value = walk.below(field.name, |walk| entries.next_value_seed(Node { ty: field.ty, walk }));
        walk.owner = owner;
        match value?.filter(|value| field.required || !is_empty(field.ty, value)) {
            Some(value) => map.insert(key, value),
            None => map.remove(&key),
        };
    }
    Ok(Value::Object(map))
}

/// Empty lists and maps mean the same as none.
fn is_empty(ty: Ty, value: &Value) -> bool {
    match (ty, value) {
        (Ty::List(_), Value::Array(list)) => list.is_empty(),
        (Ty::Map(_), Value::Object(map)) => map.is_empty(),
        (
            _,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_),
        ) => false,
    }
}
