//! Values by their types: messages, lists, maps and scalars.
//!
//! Owns Go's form of times, quantities and the like, and messages that JSON has inline.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};
use serde_json::value::RawValue;

use super::keys::{Key, Name};
use crate::base64;
use crate::protobuf::schemas::{self, OneOf};
use crate::protobuf::wire;
use crate::schema::{Named, Ty};

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
pub struct Node<'o> {
    number: u32,
    ty: Ty,
    place: Place,
    out: &'o mut Vec<u8>,
}

impl<'o> Node<'o> {
    pub fn field(number: u32, ty: Ty, out: &'o mut Vec<u8>) -> Self {
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
