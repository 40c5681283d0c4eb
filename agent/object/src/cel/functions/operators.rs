//! Operators, conversions and sizes.

use std::sync::Arc;

use super::super::EvalError;
use super::super::eval::Evaluation;
use super::super::values::Val;
use super::{Outcome, int, wrong};

pub fn call<'a>(evaluation: &mut Evaluation<'_, 'a>, name: &str, arguments: &[Val<'a>]) -> Option<Outcome<'a>> {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let ordered = |wanted: &[std::cmp::Ordering]| {
        let [a, b] = arguments else { return None };
        Some(a.compare(b).map(|order| Val::Bool(order.is_some_and(|order| wanted.contains(&order)))))
    };
    match (name, arguments) {
        ("_==_", [a, b]) => Some(Ok(Val::Bool(a.equals(b)))),
        ("_!=_", [a, b]) => Some(Ok(Val::Bool(!a.equals(b)))),
        ("_<_", _) => ordered(&[Less]),
        ("_<=_", _) => ordered(&[Less, Equal]),
        ("_>_", _) => ordered(&[Greater]),
        ("_>=_", _) => ordered(&[Greater, Equal]),
        ("!_", [Val::Bool(value)]) => Some(Ok(Val::Bool(!value))),
        ("-_", [Val::Int(value)]) => Some(value.checked_neg().map(Val::Int).ok_or_else(overflow)),
        ("-_", [Val::Double(value)]) => Some(Ok(Val::Double(-value))),
        ("_+_" | "_-_" | "_*_" | "_/_" | "_%_", [a, b]) => arithmetic(name, a, b),
        ("@in", [item, list]) => is_in(item, list),
        ("_[_]", [of, key]) => Some(index(of, key)),
        ("_[?_]" | "_?._", [of, key]) => Some(Ok(Val::Optional(find(of, key).map(Arc::new)))),
        ("size", [of]) => of.size().map(|size| evaluation.spend(1).map(|()| int(size))),
        ("type", [of]) => Some(Ok(Val::Type(of.type_name()))),
        ("dyn", [of]) => Some(Ok(of.clone())),
        ("int" | "uint" | "double" | "string" | "bool" | "bytes" | "timestamp" | "duration", [of]) => {
            Some(convert(name, of))
        }
        _ => None,
    }
}

fn overflow() -> EvalError {
    EvalError::Value("integer overflow".to_owned())
}

fn arithmetic<'a>(name: &str, a: &Val<'a>, b: &Val<'a>) -> Option<Outcome<'a>> {
    let checked = |result: Option<i64>| result.map(Val::Int).ok_or_else(overflow);
    Some(match (a, b) {
        (Val::Int(_), Val::Int(0)) if matches!(name, "_/_" | "_%_") => wrong("division by zero"),
        (Val::Int(a), Val::Int(b)) => checked(match name {
            "_+_" => a.checked_add(*b),
            "_-_" => a.checked_sub(*b),
            "_*_" => a.checked_mul(*b),
            "_/_" => a.checked_div(*b),
            _ => a.checked_rem(*b),
        }),
        (Val::Uint(_), Val::Uint(0)) if matches!(name, "_/_" | "_%_") => wrong("division by zero"),
        (Val::Uint(a), Val::Uint(b)) => match name {
            "_+_" => a.checked_add(*b),
            "_-_" => a.checked_sub(*b),
            "_*_" => a.checked_mul(*b),
            "_/_" => a.checked_div(*b),
            _ => a.checked_rem(*b),
        }
        .map(Val::Uint)
        .ok_or_else(overflow),
        (Val::Double(a), Val::Double(b)) => match name {
            "_+_" => Ok(Val::Double(a + b)),
            "_-_" => Ok(Val::Double(a - b)),
            "_*_" => Ok(Val::Double(a * b)),
            "_/_" => Ok(Val::Double(a / b)),
            _ => return None,
        },
        (Val::Text(a), Val::Text(b)) if name == "_+_" => Ok(Val::text(format!("{a}{b}"))),
        (Val::Bytes(a), Val::Bytes(b)) if name == "_+_" => Ok(Val::Bytes([&**a, &**b].concat().into())),
        (Val::Time(a), Val::Time(b)) if name == "_-_" => Ok(Val::Span(a.duration_since(*b))),
        (Val::Time(a), Val::Span(b)) => {
            let moved = if name == "_+_" { a.checked_add(*b) } else { a.checked_sub(*b) };
            moved.map(Val::Time).map_err(|_| EvalError::Value("timestamp overflow".to_owned()))
        }
        (Val::Span(a), Val::Time(b)) if name == "_+_" => {
            b.checked_add(*a).map(Val::Time).map_err(|_| EvalError::Value("timestamp overflow".to_owned()))
        }
        (Val::Span(a), Val::Span(b)) => {
            let sum = if name == "_+_" { a.checked_add(*b) } else { a.checked_sub(*b) };
            sum.map(Val::Span).ok_or_else(overflow)
        }
        (a, b) if name == "_+_" => match (a.items(), b.items()) {
            (Some(mut left), Some(right)) => {
                left.extend(right);
                Ok(Val::List(Arc::new(left)))
            }
            _ => return None,
        },
        _ => return None,
    })
}

fn is_in<'a>(item: &Val<'a>, of: &Val<'a>) -> Option<Outcome<'a>> {
    let found = match (of.items(), of.entries()) {
        (Some(items), _) => items.iter().any(|other| other.equals(item)),
        (None, Some(_)) => of.get(item).is_some(),
        (None, None) => return None,
    };
    Some(Ok(Val::Bool(found)))
}

fn find<'a>(of: &Val<'a>, key: &Val<'a>) -> Option<Val<'a>> {
    match (of, key) {
        (Val::Optional(inner), key) => find(inner.as_deref()?, key),
        (of, Val::Int(index)) if of.type_name() == "list" => of.item(usize::try_from(*index).ok()?),
        (of, key) => of.get(key),
    }
}

fn index<'a>(of: &Val<'a>, key: &Val<'a>) -> Outcome<'a> {
    if let Val::Optional(_) = of {
        return Ok(Val::Optional(find(of, key).map(Arc::new)));
    }
    find(of, key).ok_or_else(|| match key {
        Val::Int(index) => EvalError::Value(format!("index out of bounds: {index}")),
        key => EvalError::Key(key.show()),
    })
}

fn convert<'a>(name: &str, of: &Val<'a>) -> Outcome<'a> {
    let cannot = || EvalError::Value(format!("type conversion error from '{}' to '{name}'", of.type_name()));
    let truncated = |double: f64| (double.abs() < 9.2e18).then_some(double as i64);
    let converted = match (name, of) {
        ("int", Val::Int(_))
        | ("uint", Val::Uint(_))
        | ("double", Val::Double(_))
        | ("string", Val::Text(_))
        | ("bool", Val::Bool(_))
        | ("bytes", Val::Bytes(_))
        | ("timestamp", Val::Time(_))
        | ("duration", Val::Span(_)) => Some(of.clone()),
        ("int", Val::Uint(value)) => i64::try_from(*value).ok().map(Val::Int),
        ("int", Val::Double(value)) => truncated(*value).map(Val::Int),
        ("int", Val::Text(text)) => text.parse().ok().map(Val::Int),
        ("int", Val::Time(time)) => Some(Val::Int(time.as_second())),
        ("uint", Val::Int(value)) => u64::try_from(*value).ok().map(Val::Uint),
        ("uint", Val::Double(value)) => truncated(*value).and_then(|v| u64::try_from(v).ok()).map(Val::Uint),
        ("uint", Val::Text(text)) => text.parse().ok().map(Val::Uint),
        ("double", Val::Text(text)) => text.parse().ok().map(Val::Double),
        ("double", value) => value.number().map(Val::Double),
        (
            "string",
            value @ (Val::Bool(_)
            | Val::Int(_)
            | Val::Uint(_)
            | Val::Double(_)
            | Val::Time(_)
            | Val::Span(_)
            | Val::Address(..)),
        ) => Some(Val::text(value.show())),
        ("string", Val::Bytes(bytes)) => std::str::from_utf8(bytes).ok().map(Val::text),
        ("bool", Val::Text(text)) => text.parse().ok().map(Val::Bool),
        ("bytes", Val::Text(text)) => Some(Val::Bytes(text.as_bytes().into())),
        ("timestamp", Val::Text(text)) => text.parse().ok().map(Val::Time),
        ("timestamp", Val::Int(seconds)) => jiff::Timestamp::from_second(*seconds).ok().map(Val::Time),
        ("duration", Val::Text(text)) => text.parse().ok().map(Val::Span),
        _ => None,
    };
    converted.ok_or_else(cannot)
}
