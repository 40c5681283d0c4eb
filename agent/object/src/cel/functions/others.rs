//! Functions of optional values, times, quantities and addresses.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::super::macros::INSERT;
use super::super::values::Val;
use super::{Outcome, wrong};
use crate::quantity::{Format, Quantity};

pub fn call<'a>(space: &str, name: &str, arguments: &[Val<'a>]) -> Option<Outcome<'a>> {
    match (name, arguments) {
        ("of", [value]) if space == "optional" => Some(Ok(Val::Optional(Some(Arc::new(value.clone()))))),
        ("none", []) if space == "optional" => Some(Ok(Val::Optional(None))),
        ("ofNonZeroValue", [value]) if space == "optional" => {
            let is_zero =
                value.size() == Some(0) || value.number() == Some(0.0) || matches!(value, Val::Null | Val::Bool(false));
            Some(Ok(Val::Optional((!is_zero).then(|| Arc::new(value.clone())))))
        }
        ("hasValue", [Val::Optional(value)]) => Some(Ok(Val::Bool(value.is_some()))),
        ("value", [Val::Optional(Some(value))]) => Some(Ok((**value).clone())),
        ("value", [Val::Optional(None)]) => Some(wrong("optional.none() dereference")),
        ("orValue", [Val::Optional(value), other]) => {
            Some(Ok(value.as_ref().map_or_else(|| other.clone(), |value| (**value).clone())))
        }
        ("or", [Val::Optional(value), other]) => {
            Some(Ok(if value.is_some() { Val::Optional(value.clone()) } else { other.clone() }))
        }
        (INSERT, [Val::Map(entries), key, value]) => {
            let mut entries = entries.to_vec();
            entries.push((key.clone(), value.clone()));
            Some(Ok(Val::Map(Arc::new(entries))))
        }
        ("escapeKey", [Val::Text(key)]) if space == "jsonpatch" => {
            Some(Ok(Val::text(key.replace('~', "~0").replace('/', "~1"))))
        }
        (_, [Val::Time(time), zone @ ..]) => of_time(name, *time, zone),
        (_, [Val::Span(span)]) => of_span(name, *span),
        ("quantity" | "isQuantity", [Val::Text(text)]) => {
            let parsed = Quantity::parse(text);
            Some(match (name, parsed) {
                ("isQuantity", parsed) => Ok(Val::Bool(parsed.is_ok())),
                (_, Ok(quantity)) => Ok(Val::Quantity(quantity)),
                (_, Err(error)) => wrong(error.to_string()),
            })
        }
        (_, [Val::Quantity(quantity), rest @ ..]) => of_quantity(name, quantity, rest),
        _ => addresses(name, arguments),
    }
}

fn of_time<'a>(name: &str, time: Timestamp, zone: &[Val<'a>]) -> Option<Outcome<'a>> {
    let zone = match zone {
        [Val::Text(zone)] => TimeZone::get(zone).ok()?,
        [] => TimeZone::UTC,
        _ => return None,
    };
    let zoned = time.to_zoned(zone);
    Some(Ok(Val::Int(match name {
        "getFullYear" => zoned.year().into(),
        "getMonth" => i64::from(zoned.month()) - 1,
        "getDate" => zoned.day().into(),
        "getDayOfMonth" => i64::from(zoned.day()) - 1,
        "getDayOfYear" => i64::from(zoned.day_of_year()) - 1,
        "getDayOfWeek" => zoned.weekday().to_sunday_zero_offset().into(),
        "getHours" => zoned.hour().into(),
        "getMinutes" => zoned.minute().into(),
        "getSeconds" => zoned.second().into(),
        "getMilliseconds" => zoned.millisecond().into(),
        _ => return None,
    })))
}

fn of_span<'a>(name: &str, span: SignedDuration) -> Option<Outcome<'a>> {
    Some(Ok(Val::Int(match name {
        "getHours" => span.as_hours(),
        "getMinutes" => span.as_mins(),
        "getSeconds" => span.as_secs(),
        "getMilliseconds" => span.subsec_millis().into(),
        _ => return None,
    })))
}

fn of_quantity<'a>(name: &str, quantity: &Quantity, rest: &[Val<'a>]) -> Option<Outcome<'a>> {
    let other = match rest {
        [Val::Quantity(other)] => Some(*other),
        [Val::Int(value)] => Some(Quantity::from_value(*value, Format::DecimalSi)),
        _ => None,
    };
    let sum = |value: Quantity| Ok(Val::Quantity(value));
    Some(match (name, other) {
        ("isInteger", None) => Ok(Val::Bool(quantity.is_integer())),
        ("asInteger", None) if quantity.is_integer() => Ok(Val::Int(quantity.value())),
        ("asInteger", None) => wrong("cannot convert value to integer"),
        ("asApproximateFloat", None) => Ok(Val::Double(quantity.as_f64())),
        ("sign", None) => Ok(Val::Int(if quantity.is_zero() { 0 } else { 1 - 2 * i64::from(quantity.is_negative()) })),
        ("compareTo", Some(other)) => Ok(Val::Int(quantity.cmp(&other) as i64)),
        ("isGreaterThan", Some(other)) => Ok(Val::Bool(*quantity > other)),
        ("isLessThan", Some(other)) => Ok(Val::Bool(*quantity < other)),
        ("add", Some(other)) => sum(*quantity + other),
        ("sub", Some(other)) => sum(*quantity - other),
        _ => return None,
    })
}

fn addresses<'a>(name: &str, arguments: &[Val<'a>]) -> Option<Outcome<'a>> {
    let parse = |text: &str| text.parse::<IpAddr>().ok();
    Some(match (name, arguments) {
        ("isIP", [Val::Text(text)]) => Ok(Val::Bool(parse(text).is_some())),
        ("isCIDR", [Val::Text(text)]) => Ok(Val::Bool(network(text).is_some())),
        ("ip", [Val::Text(text)]) => match parse(text) {
            Some(ip) => Ok(Val::Address(ip, None)),
            None => wrong(format!("IP Address {text:?} parse error during conversion from string")),
        },
        ("cidr", [Val::Text(text)]) => match network(text) {
            Some((ip, length)) => Ok(Val::Address(ip, Some(length))),
            None => wrong(format!("network address parse error during conversion from string: {text:?}")),
        },
        ("ip", [Val::Address(ip, Some(_))]) => Ok(Val::Address(*ip, None)),
        ("family", [Val::Address(ip, None)]) => Ok(Val::Int(if ip.is_ipv4() { 4 } else { 6 })),
        ("isLoopback", [Val::Address(ip, None)]) => Ok(Val::Bool(ip.is_loopback())),
        ("isUnspecified", [Val::Address(ip, None)]) => Ok(Val::Bool(ip.is_unspecified())),
        ("prefixLength", [Val::Address(_, Some(length))]) => Ok(Val::Int((*length).into())),
        ("containsIP", [Val::Address(base, Some(length)), ip]) => match as_address(ip) {
            Some((ip, None)) => Ok(Val::Bool(holds(*base, *length, ip))),
            _ => return None,
        },
        ("containsCIDR", [Val::Address(base, Some(length)), other]) => match as_address(other) {
            Some((ip, Some(inner))) => Ok(Val::Bool(inner >= *length && holds(*base, *length, ip))),
            _ => return None,
        },
        _ => return None,
    })
}

fn as_address(value: &Val<'_>) -> Option<(IpAddr, Option<u8>)> {
    match value {
        Val::Address(ip, length) => Some((*ip, *length)),
        Val::Text(text) => match network(text) {
            Some((ip, length)) => Some((ip, Some(length))),
            None => text.parse().ok().map(|ip| (ip, None)),
        },
        _ => None,
    }
}

fn network(text: &str) -> Option<(IpAddr, u8)> {
    let (ip, length) = text.split_once('/')?;
    let (ip, length): (IpAddr, u8) = (ip.parse().ok()?, length.parse().ok()?);
    (length <= if ip.is_ipv4() { 32 } else { 128 }).then_some((ip, length))
}

fn holds(base: IpAddr, length: u8, ip: IpAddr) -> bool {
    let bits = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => (u128::from(u32::from(ip)) << 96, 4),
        IpAddr::V6(ip) => (u128::from(ip), 6),
    };
    let ((a, family), (b, other)) = (bits(base), bits(ip));
    let shift = 128 - u32::from(length);
    family == other && (length == 0 || a.checked_shr(shift) == b.checked_shr(shift))
}
