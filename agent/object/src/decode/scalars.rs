//! Scalars: which JSON values a type accepts, and how they are written canonically.
//!
//! Owns Go's messages for scalars; containers are the walk's.

use super::walk::{Walk, WholeFloats};
use crate::base64;
use crate::quantity::Quantity;
use crate::schema::Ty;
use jiff::Timestamp;
use serde_json::{Map, Number, Value};

/// A scalar of the input.
#[derive(Debug, Clone)]
pub enum Scalar<'a> {
    Bool(bool),
    Number(Number),
    Text(&'a str),
}

impl Scalar<'_> {
    fn name(&self) -> &'static str {
        match self {
            Scalar::Bool(_) => "bool",
            Scalar::Number(_) => "number",
            Scalar::Text(_) => "string",
        }
    }

    fn value(self) -> Value {
        match self {
            Scalar::Bool(value) => Value::Bool(value),
            Scalar::Number(value) => Value::Number(value),
            Scalar::Text(value) => Value::String(value.to_owned()),
        }
    }
}

/// Reads a scalar as a type. A wrong one is noted, and null stands in for it.
pub fn read(ty: Ty, scalar: Scalar<'_>, walk: &mut Walk) -> Option<Value> {
    match (ty, scalar) {
        (Ty::Any, scalar) => Some(scalar.value()),
        (Ty::String, Scalar::Text(text)) => Some(text.into()),
        (Ty::Bool, Scalar::Bool(value)) => Some(value.into()),
        (Ty::Double, Scalar::Number(number)) => Some(Value::Number(number)),
        (Ty::Int32, Scalar::Number(number)) => integer(number, i64::from(i32::MIN)..=i64::from(i32::MAX), ty, walk),
        (Ty::Int64, Scalar::Number(number)) => integer(number, i64::MIN..=i64::MAX, ty, walk),
        (Ty::IntOrString, Scalar::Text(text)) => Some(text.into()),
        (Ty::IntOrString, Scalar::Number(number)) => {
            integer(number, i64::from(i32::MIN)..=i64::from(i32::MAX), Ty::IntOrString, walk)
        }
        (Ty::Quantity, Scalar::Text(text)) => quantity(text, walk),
        (Ty::Quantity, Scalar::Number(number)) => quantity(&number.to_string(), walk),
        (Ty::DateTime, Scalar::Text(text)) => time(text, "2006-01-02T15:04:05Z07:00", 0, walk),
        (Ty::MicroTime, Scalar::Text(text)) => time(text, "2006-01-02T15:04:05.000000Z07:00", 6, walk),
        (Ty::Bytes, Scalar::Text(text)) => bytes(text, walk),
        (ty, scalar) => {
            refuse(scalar.name(), ty, walk);
            None
        }
    }
}

/// Notes a value of the wrong type, in the words of the type's own decoder.
pub fn refuse(found: &str, ty: Ty, walk: &mut Walk) {
    match ty {
        Ty::Quantity => walk.fail(crate::quantity::QuantityError::Format.to_string()),
        Ty::IntOrString => walk.fail(format!("json: cannot unmarshal {found} into Go value of type int32")),
        Ty::DateTime | Ty::MicroTime => {
            walk.fail(format!("json: cannot unmarshal {found} into Go value of type string"))
        }
        Ty::String
        | Ty::Int32
        | Ty::Int64
        | Ty::Bool
        | Ty::Double
        | Ty::Bytes
        | Ty::Any
        | Ty::Map(_)
        | Ty::List(_)
        | Ty::Ref(_) => walk.mismatch(found, ty),
    }
}

/// What null means where there must be a value: Go's zero value.
pub fn zero(ty: Ty) -> Value {
    match ty {
        Ty::String | Ty::Bytes => "".into(),
        Ty::Int32 | Ty::Int64 | Ty::Double | Ty::IntOrString => 0.into(),
        Ty::Quantity => "0".into(),
        Ty::Bool => false.into(),
        Ty::DateTime | Ty::MicroTime | Ty::Any => Value::Null,
        Ty::Map(_) | Ty::Ref(_) => Value::Object(Map::new()),
        Ty::List(_) => Value::Array(Vec::new()),
    }
}

fn integer(number: Number, range: std::ops::RangeInclusive<i64>, ty: Ty, walk: &mut Walk) -> Option<Value> {
    let whole = match walk.whole_floats {
        WholeFloats::Accepted => number.as_i64().or_else(|| whole(number.as_f64()?)),
        WholeFloats::Refused => number.as_i64(),
    };
    match whole {
        Some(value) if range.contains(&value) => Some(value.into()),
        Some(_) | None => {
            refuse(&format!("number {number}"), ty, walk);
            None
        }
    }
}

fn whole(number: f64) -> Option<i64> {
    /// Beyond this a double no longer holds every integer.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    (number.fract() == 0.0 && number.abs() <= EXACT_MAX).then_some(number as i64)
}

fn quantity(text: &str, walk: &mut Walk) -> Option<Value> {
    match Quantity::parse(text) {
        Ok(quantity) => Some(quantity.to_string().into()),
        Err(error) => {
            walk.fail(error.to_string());
            None
        }
    }
}

fn time(text: &str, layout: &str, decimals: usize, walk: &mut Walk) -> Option<Value> {
    let parsed = Some(text)
        .filter(|text| text.as_bytes().get(10) == Some(&b'T'))
        .and_then(|text| text.parse::<Timestamp>().ok());
    match parsed {
        Some(time) => Some(format!("{time:.decimals$}").into()),
        None => {
            walk.fail(format!("parsing time \"{text}\" as \"{layout}\": cannot parse \"{text}\" as \"2006\""));
            None
        }
    }
}

fn bytes(text: &str, walk: &mut Walk) -> Option<Value> {
    match base64::canonical(text) {
        Ok(text) => Some(text.into()),
        Err(at) => {
            walk.fail(format!("illegal base64 data at input byte {at}"));
            None
        }
    }
}
