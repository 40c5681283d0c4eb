//! The types of the built-in kinds.
//!
//! Owns the shape of the table and the look-up in it; the table is generated (tests/schemagen) from k8s-openapi. Nothing
//! here knows which kinds there are. Custom kinds have schemas of their own ([`crate::custom`]).

#[rustfmt::skip] // generated
mod table;
mod tags;

use std::borrow::Cow;
use std::fmt;

/// A text of the program's own, or one that came at run time.
pub type Text = Cow<'static, str>;

/// A row of the table.
struct Row {
    /// The full name: `io.k8s.api.core.v1.PodSpec`.
    name: &'static str,
    /// Sorted by name.
    fields: &'static [StoredField],
}

/// A field of a type, as it is in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct StoredField {
    name: &'static str,
    form: Form,
    required: bool,
}

/// A type as it is in the table: what it is made of by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    String,
    Int32,
    Int64,
    Bool,
    Double,
    IntOrString,
    Quantity,
    DateTime,
    MicroTime,
    Bytes,
    Any,
    /// The place of what it holds among the elements.
    Map(u16),
    List(u16),
    /// The place among the named types.
    Ref(u16),
}

/// The type of a field, of a list's elements or of a map's values.
#[derive(Clone, Copy)]
pub enum Ty {
    String,
    Int32,
    Int64,
    Bool,
    Double,
    IntOrString,
    Quantity,
    /// RFC 3339 with seconds.
    DateTime,
    /// RFC 3339 with microseconds.
    MicroTime,
    /// Base64.
    Bytes,
    /// Free-form: kept as it is.
    Any,
    Map(Element),
    List(Element),
    Ref(Named),
}

/// What a list or a map holds.
#[derive(Clone, Copy)]
pub struct Element(u16);

/// A named type.
#[derive(Clone, Copy)]
pub struct Named {
    row: &'static Row,
    tags: &'static [(u16, u16)],
}

/// A field of a named type.
#[derive(Clone, Copy)]
pub struct Field {
    pub name: &'static str,
    pub ty: Ty,
    pub required: bool,
    /// The number of the message that holds it where JSON has it inline (else 0; of two messages the outer one is the
    /// lower byte), and its own (0: protobuf has it not).
    pub tag: (u16, u16),
}

/// The type of a full name; free-form if there is none.
pub fn find(name: &str) -> Ty {
    let index = table::TYPES.binary_search_by(|row| row.name.cmp(name));
    index.ok().and_then(named).map_or(Ty::Any, Ty::Ref)
}

fn named(index: usize) -> Option<Named> {
    let row = table::TYPES.get(index)?;
    Some(Named { row, tags: tags::TAGS.get(index).copied().unwrap_or_default() })
}

impl Form {
    fn ty(self) -> Ty {
        match self {
            Form::String => Ty::String,
            Form::Int32 => Ty::Int32,
            Form::Int64 => Ty::Int64,
            Form::Bool => Ty::Bool,
            Form::Double => Ty::Double,
            Form::IntOrString => Ty::IntOrString,
            Form::Quantity => Ty::Quantity,
            Form::DateTime => Ty::DateTime,
            Form::MicroTime => Ty::MicroTime,
            Form::Bytes => Ty::Bytes,
            Form::Any => Ty::Any,
            Form::Map(index) => Ty::Map(Element(index)),
            Form::List(index) => Ty::List(Element(index)),
            Form::Ref(index) => named(usize::from(index)).map_or(Ty::Any, Ty::Ref),
        }
    }
}

impl Element {
    pub fn ty(self) -> Ty {
        table::ELEMENTS.get(usize::from(self.0)).map_or(Ty::Any, |form| form.ty())
    }
}

impl Named {
    pub fn name(self) -> &'static str {
        self.row.name
    }

    /// The field of that name; names are case-sensitive.
    pub fn field(self, name: &str) -> Option<Field> {
        let found = self.row.fields.binary_search_by(|field| field.name.cmp(name));
        found.ok().and_then(|index| self.field_at(index))
    }

    pub fn fields(self) -> impl Iterator<Item = Field> {
        (0..self.row.fields.len()).filter_map(move |index| self.field_at(index))
    }

    fn field_at(self, index: usize) -> Option<Field> {
        let field = self.row.fields.get(index)?;
        let tag = self.tags.get(index).copied().unwrap_or_default();
        Some(Field { name: field.name, ty: field.form.ty(), required: field.required, tag })
    }

    /// The name of the Go type without its package: `PodSpec`.
    pub fn go_name(self) -> &'static str {
        self.name().rsplit('.').next().unwrap_or(self.name())
    }

    /// The name of the Go type with its package, as Go's error messages write it: `v1.PodSpec`.
    pub fn go_path(self) -> &'static str {
        let start = self.name().rmatch_indices('.').nth(1).map_or(0, |(at, _)| at + 1);
        &self.name()[start..]
    }
}

impl Ty {
    /// The named type behind a reference.
    pub fn named(self) -> Option<Named> {
        match self {
            Ty::Ref(named) => Some(named),
            Ty::String | Ty::Int32 | Ty::Int64 | Ty::Bool | Ty::Double | Ty::IntOrString | Ty::Quantity => None,
            Ty::DateTime | Ty::MicroTime | Ty::Bytes | Ty::Any | Ty::Map(_) | Ty::List(_) => None,
        }
    }

    /// The type as Go writes it: `map[string]string`, `[]v1.Container`.
    pub fn go(self) -> String {
        match self {
            Ty::String => "string".to_owned(),
            Ty::Int32 => "int32".to_owned(),
            Ty::Int64 => "int64".to_owned(),
            Ty::Bool => "bool".to_owned(),
            Ty::Double => "float64".to_owned(),
            Ty::IntOrString => "intstr.IntOrString".to_owned(),
            Ty::Quantity => "resource.Quantity".to_owned(),
            Ty::DateTime => "v1.Time".to_owned(),
            Ty::MicroTime => "v1.MicroTime".to_owned(),
            Ty::Bytes => "[]uint8".to_owned(),
            Ty::Any => "interface {}".to_owned(),
            Ty::Map(value) => format!("map[string]{}", value.ty().go()),
            Ty::List(item) => format!("[]{}", item.ty().go()),
            Ty::Ref(named) => named.go_path().to_owned(),
        }
    }
}

impl fmt::Debug for Ty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.go())
    }
}

const fn t(name: &'static str, fields: &'static [StoredField]) -> Row {
    Row { name, fields }
}

const fn f(name: &'static str, form: Form) -> StoredField {
    StoredField { name, form, required: false }
}

const fn q(name: &'static str, form: Form) -> StoredField {
    StoredField { name, form, required: true }
}

#[cfg(test)]
mod tests;
