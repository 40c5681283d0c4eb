//! The formats that a schema may ask of a text, those that upstream knows. What it does not know fits everything.

use std::net::{Ipv4Addr, Ipv6Addr};

use jiff::Timestamp;

use super::pattern::compile;
use crate::{base64, validate::names};

pub fn fits(format: &str, text: &str) -> bool {
    match format {
        "date-time" | "datetime" => is_date_time(text),
        "date" => text.parse::<jiff::civil::Date>().is_ok() && text.len() == 10,
        "duration" => is_duration(text),
        "byte" => base64::canonical(text).is_ok(),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => names::cidr(text).is_empty(),
        "uuid" | "uuid3" | "uuid4" | "uuid5" => is_uuid(text),
        "hostname" => names::dns_subdomain(&text.to_ascii_lowercase()).is_empty(),
        "email" => text.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty()),
        "uri" => text.split_once(':').is_some_and(|(scheme, rest)| is_scheme(scheme) && !rest.is_empty()),
        "mac" => is_mac(text),
        "regex" => compile(text).is_some(),
        "k8s-short-name" => names::dns_label(text).is_empty(),
        "k8s-long-name" => names::dns_subdomain(text).is_empty(),
        _ => true,
    }
}

/// RFC 3339.
pub fn is_date_time(text: &str) -> bool {
    text.parse::<Timestamp>().is_ok() && text.contains(['T', 't', ' '])
}

/// Go's `1h30m`, or ISO 8601's `P1D`.
fn is_duration(text: &str) -> bool {
    text.parse::<jiff::SignedDuration>().is_ok() || text.parse::<jiff::Span>().is_ok()
}

fn is_uuid(text: &str) -> bool {
    let text = text.replace('-', "");
    text.len() == 32 && text.chars().all(|c| c.is_ascii_hexdigit())
}

fn is_mac(text: &str) -> bool {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    matches!(parts.len(), 6 | 8) && parts.iter().all(|part| part.len() == 2 && u8::from_str_radix(part, 16).is_ok())
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}
