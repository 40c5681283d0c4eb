//! The types of all objects, as a table.
//!
//! Owns the shape of the table and the look-up in it. The rows are generated (tests/schemagen) from k8s-openapi;
//! nothing is built at run time.

#[rustfmt::skip] // generated
mod table;
mod tags;

pub use table::TYPES;
pub use tags::TAGS;

/// The type of a field, of a list's elements or of a map's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    Map(&'static Ty),
    List(&'static Ty),
    /// An index into [`TYPES`].
    Ref(u16),
}

/// A named type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Type {
    /// The full name: `io.k8s.api.core.v1.PodSpec`.
    pub name: &'static str,
    /// Sorted by name.
    pub fields: &'static [Field],
}

/// A field of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    pub name: &'static str,
    pub ty: Ty,
    pub required: bool,
}

impl Type {
    /// The field of that name; names are case-sensitive.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        let index = self.fields.binary_search_by(|field| field.name.cmp(name)).ok()?;
        self.fields.get(index)
    }

    /// The reference to this type; free-form if it is not in the table.
    pub fn as_ty(&self) -> Ty {
        let index = TYPES.binary_search_by(|ty| ty.name.cmp(self.name)).ok();
        index.and_then(|index| u16::try_from(index).ok()).map_or(Ty::Any, Ty::Ref)
    }

    /// The name of the Go type without its package: `PodSpec`.
    pub fn go_name(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }

    /// The name of the Go type with its package, as Go's error messages write it: `v1.PodSpec`.
    pub fn go_path(&self) -> &'static str {
        let start = self.name.rmatch_indices('.').nth(1).map_or(0, |(at, _)| at + 1);
        &self.name[start..]
    }
}

impl Ty {
    /// The named type behind a reference.
    pub fn named(self) -> Option<&'static Type> {
        match self {
            Ty::Ref(index) => TYPES.get(usize::from(index)),
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
            Ty::Map(value) => format!("map[string]{}", value.go()),
            Ty::List(item) => format!("[]{}", item.go()),
            Ty::Ref(_) => self.named().map_or("struct", Type::go_path).to_owned(),
        }
    }
}

/// The type of a full name.
pub fn find(name: &str) -> Option<&'static Type> {
    let index = TYPES.binary_search_by(|ty| ty.name.cmp(name)).ok()?;
    TYPES.get(index)
}

const fn f(name: &'static str, ty: Ty) -> Field {
    Field { name, ty, required: false }
}

const fn q(name: &'static str, ty: Ty) -> Field {
    Field { name, ty, required: true }
}

#[cfg(test)]
mod tests;
