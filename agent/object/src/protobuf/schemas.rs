//! The fields of a definition's schema that JSON has in one of two forms, and protobuf as a message with one field for
//! each (`JSONSchemaPropsOrArray` and its like). The table has them free of form.
//!
//! Owns both directions for these; everything else is the decoder's and the encoder's.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Unexpected, Visitor};
use serde_json::{Map, Value};

use super::encode::{self, Key};
use super::{Fields, ProtobufError, Wire, message, string, wire};
use crate::schema::Named;

const SCHEMA: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

/// The two forms that a field may have.
#[derive(Clone, Copy)]
pub enum OneOf {
    /// `{schema = 1, jsonSchemas = 2}`
    SchemaOrList,
    /// `{allows = 1, schema = 2}`
    BoolOrSchema,
    /// A map of `{schema = 1, property = 2}`
    SchemasOrTexts,
}

impl OneOf {
    pub fn of(ty: Named, field: &str) -> Option<Self> {
        if ty.name() != SCHEMA {
            return None;
        }
        match field {
            "items" => Some(OneOf::SchemaOrList),
            "additionalItems" | "additionalProperties" => Some(OneOf::BoolOrSchema),
            "dependencies" => Some(OneOf::SchemasOrTexts),
            _ => None,
        }
    }

    /// Reads the field of a schema into it.
    pub fn read(
        self,
        object: &mut Map<String, Value>,
        name: &str,
        schema: Named,
        bytes: &[u8],
        depth: usize,
    ) -> Result<(), ProtobufError> {
        let value = match self {
            OneOf::SchemaOrList => {
                schema_or(schema, bytes, depth, |inner| message(schema, inner, depth + 1).map(Value::Object))?
            }
            OneOf::BoolOrSchema => bool_or_schema(schema, bytes, depth)?,
            OneOf::SchemasOrTexts => {
                let (key, bytes) = entry(bytes)?;
                let value = schema_or(schema, bytes, depth + 1, |inner| string(inner).map(Value::String))?;
                if let Value::Object(map) = object.entry(name).or_insert_with(|| Value::Object(Map::new())) {
                    map.insert(key, value);
                }
                return Ok(());
            }
        };
        object.insert(name.to_owned(), value);
        Ok(())
    }
}

/// A schema in field 1, or a list in field 2.
fn schema_or(
    schema: Named,
    bytes: &[u8],
    depth: usize,
    item: impl Fn(&[u8]) -> Result<Value, ProtobufError>,
) -> Result<Value, ProtobufError> {
    let mut items = Vec::new();
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Bytes(inner)) => return message(schema, inner, depth + 1).map(Value::Object),
            (2, Wire::Bytes(inner)) => items.push(item(inner)?),
            _ => {}
        }
    }
    Ok(Value::Array(items))
}

fn bool_or_schema(schema: Named, bytes: &[u8], depth: usize) -> Result<Value, ProtobufError> {
    let mut allows = false;
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Number(number)) => allows = number != 0,
            (2, Wire::Bytes(inner)) => return message(schema, inner, depth + 1).map(Value::Object),
            _ => {}
        }
    }
    Ok(Value::Bool(allows))
}

fn entry(bytes: &[u8]) -> Result<(String, &[u8]), ProtobufError> {
    let (mut key, mut value) = (String::new(), &[][..]);
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Bytes(text)) => key = string(text)?,
            (2, Wire::Bytes(bytes)) => value = bytes,
            _ => {}
        }
    }
    Ok((key, value))
}

/// Writes such a field.
pub struct Node<'o> {
    pub one_of: OneOf,
    pub schema: Named,
    pub field: u32,
    pub out: &'o mut Vec<u8>,
}

impl Node<'_> {
    fn write_schema<'de, A: MapAccess<'de>>(self, field: u32, entries: A) -> Result<(), A::Error> {
        let open = wire::open(self.out, self.field);
        if let OneOf::BoolOrSchema = self.one_of {
            // Go takes a schema for a permission, too.
            wire::number(self.out, 1, 1);
        }
        let schema = wire::open(self.out, field);
        encode::fields(self.schema, entries, self.out)?;
        schema.close(self.out);
        open.close(self.out);
        Ok(())
    }

    /// Each of these is a message of its own, beside its name.
    fn write_dependencies<'de, A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let schema = self.schema;
        while let Some(entry) = entries.next_key_seed(Key { field: self.field, out: &mut *self.out })? {
            // Apart from its name it is like a schema or a list; the list's items are texts.
            let one_of = OneOf::SchemaOrList;
            entries.next_value_seed(Node { one_of, schema, field: 2, out: &mut *self.out })?;
            entry.close(self.out);
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.one_of {
            OneOf::SchemaOrList => "a schema or a list",
            OneOf::BoolOrSchema => "true, false or a schema",
            OneOf::SchemasOrTexts => "schemas or lists of names",
        })
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        match self.one_of {
            OneOf::BoolOrSchema => {
                let open = wire::open(self.out, self.field);
                wire::number(self.out, 1, value.into());
                open.close(self.out);
                Ok(())
            }
            OneOf::SchemaOrList | OneOf::SchemasOrTexts => Err(E::invalid_type(Unexpected::Bool(value), &self)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<(), A::Error> {
        match self.one_of {
            OneOf::SchemaOrList => self.write_schema(1, entries),
            OneOf::BoolOrSchema => self.write_schema(2, entries),
            OneOf::SchemasOrTexts => self.write_dependencies(entries),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        match self.one_of {
            OneOf::SchemaOrList => {}
            OneOf::BoolOrSchema | OneOf::SchemasOrTexts => {
                return Err(A::Error::invalid_type(Unexpected::Seq, &self));
            }
        }
        let open = wire::open(self.out, self.field);
        while items.next_element_seed(Item { schema: self.schema, out: &mut *self.out })?.is_some() {}
        open.close(self.out);
        Ok(())
    }
}

/// One of a list: a schema or a name.
struct Item<'o> {
    schema: Named,
    out: &'o mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Item<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Item<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a schema or a name")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        wire::bytes(self.out, 2, text.as_bytes());
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<(), A::Error> {
        let open = wire::open(self.out, 2);
        encode::fields(self.schema, entries, self.out)?;
        open.close(self.out);
        Ok(())
    }
}
