//! The types of objects.
//!
//! Owns the shape of an arena of types and the look-up in it. The built-in kinds' arena is generated (tests/schemagen)
//! from k8s-openapi; a kind that comes at run time brings its own. Nothing here knows which kinds there are.

#[rustfmt::skip] // generated
mod table;
mod tags;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// A text of the program's own, or one that came at run time.
pub type Text = Cow<'static, str>;

/// Types that refer to each other by their place.
#[derive(Debug, Clone)]
pub enum Arena {
    /// The generated table.
    BuiltIn,
    /// What came at run time: types sorted by name, and what lists and maps hold.
    Own { types: Vec<Type>, elements: Vec<Form> },
}

static BUILT_IN: Arena = Arena::BuiltIn;

/// An arena that is shared by the kinds whose types are in it.
#[derive(Debug, Clone)]
pub enum Types {
    BuiltIn,
    Own(Arc<Arena>),
}

impl std::ops::Deref for Types {
    type Target = Arena;

    fn deref(&self) -> &Arena {
        match self {
            Types::BuiltIn => &BUILT_IN,
            Types::Own(arena) => arena,
        }
    }
}

/// A named type that came at run time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Type {
    pub name: String,
    pub fields: Vec<StoredField<String>>,
}

/// A field of a type, as it is in the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredField<N> {
    pub name: N,
    pub form: Form,
    pub required: bool,
}

/// A row of the generated table.
struct Row {
    /// The full name: `io.k8s.api.core.v1.PodSpec`.
    name: &'static str,
    /// Sorted by name.
    fields: &'static [StoredField<&'static str>],
}

/// A type as it is in the arena: what it is made of by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
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
pub enum Ty<'a> {
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
    Map(Element<'a>),
    List(Element<'a>),
    Ref(Named<'a>),
}

/// What a list or a map holds.
#[derive(Clone, Copy)]
pub struct Element<'a> {
    arena: &'a Arena,
    index: u16,
}

/// A named type in its arena.
#[derive(Clone, Copy)]
pub struct Named<'a> {
    arena: &'a Arena,
    name: &'a str,
    fields: Fields<'a>,
    tags: &'static [(u16, u16)],
}

#[derive(Clone, Copy)]
enum Fields<'a> {
    Rows(&'static [StoredField<&'static str>]),
    Own(&'a [StoredField<String>]),
}

/// A field of a named type.
#[derive(Clone, Copy)]
pub struct Field<'a> {
    pub name: &'a str,
    pub ty: Ty<'a>,
    pub required: bool,
    /// The number of the message that holds it where JSON has it inline (else 0), and its own (0: protobuf has it not).
    pub tag: (u16, u16),
}

impl Arena {
    /// An arena of types that came at run time. `None` where a type refers to none that is there, or two have one name.
    pub fn new(mut types: Vec<Type>, elements: Vec<Form>) -> Option<Self> {
        let closed = |form: Form| match form {
            Form::Map(index) | Form::List(index) => usize::from(index) < elements.len(),
            Form::Ref(index) => usize::from(index) < types.len(),
            Form::String | Form::Int32 | Form::Int64 | Form::Bool | Form::Double | Form::IntOrString => true,
            Form::Quantity | Form::DateTime | Form::MicroTime | Form::Bytes | Form::Any => true,
        };
        let fields = types.iter().flat_map(|ty| ty.fields.iter().map(|field| field.form));
        let all_closed = fields.chain(elements.iter().copied()).all(closed);
        if !all_closed || !types.is_sorted_by(|a, b| a.name < b.name) {
            return None;
        }
        for ty in &mut types {
            ty.fields.sort_by(|a, b| a.name.cmp(&b.name));
        }
        Some(Arena::Own { types, elements })
    }

    /// The type of a full name; free-form if there is none.
    pub fn find(&self, name: &str) -> Ty<'_> {
        let index = match self {
            Arena::BuiltIn => table::TYPES.binary_search_by(|row| row.name.cmp(name)),
            Arena::Own { types, .. } => types.binary_search_by(|ty| ty.name.as_str().cmp(name)),
        };
        index.ok().and_then(|index| self.named(index)).map_or(Ty::Any, Ty::Ref)
    }

    fn named(&self, index: usize) -> Option<Named<'_>> {
        match self {
            Arena::BuiltIn => table::TYPES.get(index).map(|row| Named {
                arena: self,
                name: row.name,
                fields: Fields::Rows(row.fields),
                tags: tags::TAGS.get(index).copied().unwrap_or_default(),
            }),
            Arena::Own { types, .. } => types.get(index).map(|ty| Named {
                arena: self,
                name: &ty.name,
                fields: Fields::Own(&ty.fields),
                tags: &[],
            }),
        }
    }

    fn element(&self, index: u16) -> Ty<'_> {
        let elements = match self {
            Arena::BuiltIn => table::ELEMENTS,
            Arena::Own { elements, .. } => elements,
        };
        elements.get(usize::from(index)).map_or(Ty::Any, |form| self.resolve(*form))
    }

    fn resolve(&self, form: Form) -> Ty<'_> {
        match form {
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
            Form::Map(index) => Ty::Map(Element { arena: self, index }),
            Form::List(index) => Ty::List(Element { arena: self, index }),
            Form::Ref(index) => self.named(usize::from(index)).map_or(Ty::Any, Ty::Ref),
        }
    }
}

impl<'a> Element<'a> {
    pub fn ty(self) -> Ty<'a> {
        self.arena.element(self.index)
    }
}

impl<'a> Fields<'a> {
    fn len(self) -> usize {
        match self {
            Fields::Rows(rows) => rows.len(),
            Fields::Own(own) => own.len(),
        }
    }

    fn find(self, name: &str) -> Option<usize> {
        match self {
            Fields::Rows(rows) => rows.binary_search_by(|field| field.name.cmp(name)).ok(),
            Fields::Own(own) => own.binary_search_by(|field| field.name.as_str().cmp(name)).ok(),
        }
    }

    fn get(self, index: usize) -> Option<StoredField<&'a str>> {
        match self {
            Fields::Rows(rows) => rows.get(index).copied(),
            Fields::Own(own) => own.get(index).map(|field| StoredField {
                name: field.name.as_str(),
                form: field.form,
                required: field.required,
            }),
        }
    }
}

impl<'a> Named<'a> {
    pub fn name(self) -> &'a str {
        self.name
    }

    /// The field of that name; names are case-sensitive.
    pub fn field(self, name: &str) -> Option<Field<'a>> {
        self.fields.find(name).and_then(|index| self.field_at(index))
    }

    pub fn fields(self) -> impl Iterator<Item = Field<'a>> {
        (0..self.fields.len()).filter_map(move |index| self.field_at(index))
    }

    fn field_at(self, index: usize) -> Option<Field<'a>> {
        let field = self.fields.get(index)?;
        let tag = self.tags.get(index).copied().unwrap_or_default();
        Some(Field { name: field.name, ty: self.arena.resolve(field.form), required: field.required, tag })
    }

    /// The name of the Go type without its package: `PodSpec`.
    pub fn go_name(self) -> &'a str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }

    /// The name of the Go type with its package, as Go's error messages write it: `v1.PodSpec`.
    pub fn go_path(self) -> &'a str {
        let start = self.name.rmatch_indices('.').nth(1).map_or(0, |(at, _)| at + 1);
        &self.name[start..]
    }
}

impl<'a> Ty<'a> {
    /// The named type behind a reference.
    pub fn named(self) -> Option<Named<'a>> {
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

impl fmt::Debug for Ty<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.go())
    }
}

const fn t(name: &'static str, fields: &'static [StoredField<&'static str>]) -> Row {
    Row { name, fields }
}

const fn f(name: &'static str, form: Form) -> StoredField<&'static str> {
    StoredField { name, form, required: false }
}

const fn q(name: &'static str, form: Form) -> StoredField<&'static str> {
    StoredField { name, form, required: true }
}

#[cfg(test)]
mod tests;
