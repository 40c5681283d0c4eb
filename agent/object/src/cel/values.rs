//! Values of expressions: JSON of the object as it is, read by its schema, and what an expression makes of it.

use std::cmp::Ordering;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::EvalError;
use crate::custom::{Schema, Type};
use crate::quantity::Quantity;

#[derive(Debug, Clone)]
pub enum Val<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Arc<str>),
    Bytes(Arc<[u8]>),
    /// A list or a map of the object, with what its schema says.
    Json(&'a Value, Option<&'a Schema>),
    List(Arc<Vec<Val<'a>>>),
    Map(Arc<Vec<(Val<'a>, Val<'a>)>>),
    Time(Timestamp),
    Span(SignedDuration),
    Optional(Option<Arc<Val<'a>>>),
    Quantity(Quantity),
    /// An address or, with a length, a network.
    Address(std::net::IpAddr, Option<u8>),
    Type(&'static str),
}

const WORDS: &[&str] = &[
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// A property's name as an expression writes it: what is no identifier is spelled out.
pub fn escaped(name: &str) -> String {
    if WORDS.contains(&name) {
        return format!("__{name}__");
    }
    let spelled = name.replace("__", "__underscores__").replace('.', "__dot__");
    spelled.replace('-', "__dash__").replace('/', "__slash__")
}

/// The property that an expression names so.
pub fn unescaped(name: &str) -> String {
    if let Some(word) = name.strip_prefix("__").and_then(|name| name.strip_suffix("__")).filter(|w| WORDS.contains(w)) {
        return word.to_owned();
    }
    let spelled = name.replace("__dot__", ".").replace("__dash__", "-").replace("__slash__", "/");
    spelled.replace("__underscores__", "__")
}

impl<'a> Val<'a> {
    pub fn text(text: impl Into<Arc<str>>) -> Self {
        Val::Text(text.into())
    }

    /// A value of the object.
    pub fn of(value: &'a Value, schema: Option<&'a Schema>) -> Self {
        match value {
            Value::Null => Val::Null,
            Value::Bool(value) => Val::Bool(*value),
            Value::Number(number) => {
                let is_number = schema.is_some_and(|schema| schema.ty == Some(Type::Number));
                match number.as_i64().filter(|_| !is_number) {
                    Some(int) => Val::Int(int),
                    None => Val::Double(number.as_f64().unwrap_or(f64::NAN)),
                }
            }
            Value::String(text) => Self::of_text(text, schema),
            Value::Array(_) | Value::Object(_) => Val::Json(value, schema),
        }
    }

    /// Upstream's types of formats.
    fn of_text(text: &str, schema: Option<&Schema>) -> Self {
        let format = schema.map(|schema| schema.values.format.as_str()).unwrap_or_default();
        let read = match format {
            "date-time" => text.parse().ok().map(Val::Time),
            "date" => format!("{text}T00:00:00Z").parse().ok().map(Val::Time),
            "duration" => text.parse().ok().map(Val::Span),
            _ => None,
        };
        read.unwrap_or_else(|| Val::text(text))
    }

    /// What it is as a part of an object; what is nothing there is an error.
    pub(super) fn to_json(&self) -> Result<Value, EvalError> {
        let none = || EvalError::Value(format!("{} cannot be part of an object", self.type_name()));
        Ok(match self {
            Val::Null => Value::Null,
            Val::Bool(value) => (*value).into(),
            Val::Int(value) => (*value).into(),
            Val::Uint(value) => (*value).into(),
            Val::Double(value) => serde_json::Number::from_f64(*value).map(Value::Number).ok_or_else(none)?,
            Val::Text(text) => (**text).into(),
            Val::Bytes(bytes) => crate::base64::encode(bytes).into(),
            Val::Json(value, _) => (*value).clone(),
            Val::List(items) => Value::Array(items.iter().map(Val::to_json).collect::<Result<_, _>>()?),
            Val::Map(entries) => {
                let entry = |(key, value): &(Val<'_>, Val<'_>)| match key {
                    Val::Text(key) => Ok((key.to_string(), value.to_json()?)),
                    other => Err(EvalError::Value(format!("{} cannot be a key of an object", other.type_name()))),
                };
                Value::Object(entries.iter().map(entry).collect::<Result<_, _>>()?)
            }
            Val::Time(_) | Val::Span(_) | Val::Quantity(_) | Val::Address(..) => self.show().into(),
            Val::Optional(_) | Val::Type(_) => return Err(none()),
        })
    }

    pub fn type_name(&self) -> &'static str {
        match self {
            Val::Null => "null_type",
            Val::Bool(_) => "bool",
            Val::Int(_) => "int",
            Val::Uint(_) => "uint",
            Val::Double(_) => "double",
            Val::Text(_) => "string",
            Val::Bytes(_) => "bytes",
            Val::Json(Value::Array(_), _) | Val::List(_) => "list",
            Val::Json(..) | Val::Map(_) => "map",
            Val::Time(_) => "timestamp",
            Val::Span(_) => "duration",
            Val::Optional(_) => "optional_type",
            Val::Quantity(_) => "kubernetes.Quantity",
            Val::Address(_, None) => "net.IP",
            Val::Address(_, Some(_)) => "net.CIDR",
            Val::Type(_) => "type",
        }
    }

    /// `None`: it is none.
    pub fn items(&self) -> Option<Vec<Val<'a>>> {
        match self {
            Val::Json(Value::Array(items), schema) => {
                let of_items = schema.and_then(|schema| schema.items.as_deref());
                Some(items.iter().map(|item| Val::of(item, of_items)).collect())
            }
            Val::List(items) => Some(items.to_vec()),
            _ => None,
        }
    }

    /// One of a list.
    pub fn item(&self, index: usize) -> Option<Val<'a>> {
        match self {
            Val::Json(Value::Array(items), schema) => {
                Some(Val::of(items.get(index)?, schema.and_then(|schema| schema.items.as_deref())))
            }
            Val::List(items) => items.get(index).cloned(),
            _ => None,
        }
    }

    pub fn entries(&self) -> Option<Vec<(Val<'a>, Val<'a>)>> {
        match self {
            Val::Json(Value::Object(map), schema) => {
                let entry = |(name, value): (&String, &'a Value)| {
                    let field = schema.and_then(|schema| schema.field(name));
                    (Val::text(spelled(*schema, name)), Val::of(value, field))
                };
                Some(map.iter().map(entry).collect())
            }
            Val::Map(entries) => Some(entries.to_vec()),
            _ => None,
        }
    }

    /// How many items, entries, characters or bytes it has.
    pub fn size(&self) -> Option<usize> {
        match self {
            Val::Json(Value::Array(items), _) => Some(items.len()),
            Val::Json(Value::Object(map), _) => Some(map.len()),
            Val::List(items) => Some(items.len()),
            Val::Map(entries) => Some(entries.len()),
            Val::Text(text) => Some(text.chars().count()),
            Val::Bytes(bytes) => Some(bytes.len()),
            _ => None,
        }
    }

    /// What is at a key of a map.
    pub fn get(&self, key: &Val<'_>) -> Option<Val<'a>> {
        match (self, key) {
            (Val::Json(Value::Object(map), schema), Val::Text(name)) => {
                let found = map.get_key_value(&**name).filter(|(own, _)| spelled(*schema, own) == **name);
                let found = found.or_else(|| map.iter().find(|(own, _)| spelled(*schema, own) == **name))?;
                Some(Val::of(found.1, schema.and_then(|schema| schema.field(found.0))))
            }
            (Val::Map(entries), key) => entries.iter().find(|(own, _)| own.equals(key)).map(|(_, value)| value.clone()),
            _ => None,
        }
    }

    pub fn equals(&self, other: &Val<'_>) -> bool {
        match (self, other) {
            (Val::Null, Val::Null) => true,
            (Val::Bool(a), Val::Bool(b)) => a == b,
            (Val::Text(a), Val::Text(b)) => a == b,
            (Val::Bytes(a), Val::Bytes(b)) => a == b,
            (Val::Type(a), Val::Type(b)) => a == b,
            (Val::Optional(a), Val::Optional(b)) => match (a, b) {
                (Some(a), Some(b)) => a.equals(b),
                (a, b) => a.is_none() && b.is_none(),
            },
            (Val::Address(a, x), Val::Address(b, y)) => a == b && x == y,
            (a, b) => match (a.items(), b.items(), a.entries(), b.entries()) {
                (Some(a), Some(b), ..) => a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a.equals(b)),
                (None, None, Some(a), Some(b)) => {
                    let same = |(key, value): &(Val<'_>, Val<'_>)| {
                        b.iter().any(|(other, theirs)| other.equals(key) && theirs.equals(value))
                    };
                    a.len() == b.len() && a.iter().all(same)
                }
                _ => matches!(a.compare(b), Ok(Some(Ordering::Equal))),
            },
        }
    }

    /// `None`: neither is more, as with what is no number.
    pub fn compare(&self, other: &Val<'_>) -> Result<Option<Ordering>, EvalError> {
        Ok(match (self, other) {
            (Val::Bool(a), Val::Bool(b)) => Some(a.cmp(b)),
            (Val::Text(a), Val::Text(b)) => Some(a.cmp(b)),
            (Val::Bytes(a), Val::Bytes(b)) => Some(a.cmp(b)),
            (Val::Time(a), Val::Time(b)) => Some(a.cmp(b)),
            (Val::Span(a), Val::Span(b)) => Some(a.cmp(b)),
            (Val::Quantity(a), Val::Quantity(b)) => Some(a.cmp(b)),
            (Val::Int(a), Val::Int(b)) => Some(a.cmp(b)),
            (Val::Uint(a), Val::Uint(b)) => Some(a.cmp(b)),
            (Val::Int(a), Val::Uint(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
            (Val::Uint(a), Val::Int(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
            (a, b) => match (a.number(), b.number()) {
                (Some(a), Some(b)) => a.partial_cmp(&b),
                _ => return Err(EvalError::Overload(format!("{} and {}", a.type_name(), b.type_name()))),
            },
        })
    }

    pub fn number(&self) -> Option<f64> {
        match self {
            Val::Int(int) => Some(*int as f64),
            Val::Uint(uint) => Some(*uint as f64),
            Val::Double(double) => Some(*double),
            _ => None,
        }
    }

    /// As JSON, for messages.
    pub fn show(&self) -> String {
        match self {
            Val::Null => "null".to_owned(),
            Val::Bool(value) => value.to_string(),
            Val::Int(value) => value.to_string(),
            Val::Uint(value) => value.to_string(),
            Val::Double(value) => value.to_string(),
            Val::Text(text) => text.to_string(),
            Val::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Val::Json(value, _) => value.to_string(),
            Val::Time(time) => time.to_string(),
            Val::Span(span) => format!("{}s", span.as_secs_f64()),
            Val::Quantity(quantity) => quantity.to_string(),
            Val::Address(ip, None) => ip.to_string(),
            Val::Address(ip, Some(length)) => format!("{ip}/{length}"),
            Val::Type(name) => (*name).to_owned(),
            Val::Optional(None) => "optional.none()".to_owned(),
            Val::Optional(Some(value)) => value.show(),
            Val::List(items) => {
                format!("[{}]", items.iter().map(Val::show).collect::<Vec<_>>().join(", "))
            }
            Val::Map(entries) => {
                let pairs = entries.iter().map(|(key, value)| format!("{}: {}", key.show(), value.show()));
                format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// Properties have names that are identifiers; the keys of a map are as they are.
fn spelled(schema: Option<&Schema>, name: &str) -> String {
    match schema {
        Some(schema) if schema.properties.contains_key(name) => escaped(name),
        Some(_) | None => name.to_owned(),
    }
}
