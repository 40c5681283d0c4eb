//! The keys of JSON's objects, read for what they are to a message.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Visitor};

use crate::protobuf::wire::{self, Open};
use crate::schema::{self, Named};

/// A key that is the name of a field, if there is one of that name.
pub struct Name(pub Named);

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
pub struct Is(pub &'static str);

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
