//! The values that settings may have, checked where they are parsed, so that an error carries line and key.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An IPv4 network: base address and prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    pub base: Ipv4Addr,
    pub prefix_len: u8,
}

impl Cidr {
    pub(crate) const fn constant(base: [u8; 4], prefix_len: u8) -> Self {
        Self { base: Ipv4Addr::new(base[0], base[1], base[2], base[3]), prefix_len }
    }

    fn mask(&self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix_len)).unwrap_or(0)
    }

    pub fn overlaps(&self, other: &Cidr) -> bool {
        let mask = self.mask() & other.mask();
        self.base.to_bits() & mask == other.base.to_bits() & mask
    }

    /// The n-th address of the network.
    pub fn nth(&self, n: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base.to_bits().wrapping_add(n))
    }
}

impl TryFrom<String> for Cidr {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bad = || format!("\"{text}\" is not an IPv4 network such as \"10.42.0.0/24\"");
        let (base, length) = text.split_once('/').ok_or_else(bad)?;
        let base = Ipv4Addr::from_str(base).map_err(|_| bad())?;
        let prefix_len = length.parse().ok().filter(|l| *l <= 32).ok_or_else(bad)?;
        let cidr = Self { base, prefix_len };
        let first = Ipv4Addr::from_bits(base.to_bits() & cidr.mask());
        if first != base {
            return Err(format!(
                "\"{text}\" does not start at the network's first address: write \"{first}/{length}\""
            ));
        }
        Ok(cidr)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix_len)
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.to_string()
    }
}

/// An inclusive range of ports, written `FIRST-LAST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortRange {
    pub first: u16,
    pub last: u16,
}

impl TryFrom<String> for PortRange {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bad = || format!("\"{text}\" is not a range of ports such as \"30000-32767\"");
        let (first, last) = text.split_once('-').ok_or_else(bad)?;
        let (first, last) = (first.parse().map_err(|_| bad())?, last.parse().map_err(|_| bad())?);
        if first == 0 || first > last { Err(bad()) } else { Ok(Self { first, last }) }
    }
}

impl From<PortRange> for String {
    fn from(range: PortRange) -> Self {
        format!("{}-{}", range.first, range.last)
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $is_valid:expr, $allowed:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            #[allow(dead_code)]
            pub(crate) fn constant(text: &str) -> Self {
                Self(text.to_owned())
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                let is_valid: fn(&str) -> bool = $is_valid;
                if is_valid(&text) { Ok(Self(text)) } else { Err(format!(concat!("\"{}\" is not ", $allowed), text)) }
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A node's name: RFC 1123.
    NodeName,
    is_dns_name,
    "a node name: lower-case letters, digits, '-' and '.', at most 253, starting and ending with a letter or digit"
);
name!(
    /// A DNS name without a final dot.
    DnsName,
    is_dns_name,
    "a DNS name: lower-case letters, digits, '-' and '.', at most 253, starting and ending with a letter or digit"
);
name!(
    /// A name the kernel takes for an interface; also used for tables and cgroups, which then never need quoting.
    InterfaceName,
    |text| {
        let start = text.starts_with(|c: char| c.is_ascii_lowercase());
        start && text.len() <= 15 && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    },
    "a name of at most 15 lower-case letters, digits and '-', starting with a letter"
);

name!(
    /// A machine's name: one label of a DNS name.
    HostName,
    |text| is_dns_label(text) && text != "localhost",
    "a host name: at most 63 lower-case letters, digits and '-', without a dot (the domain is host.domain)"
);
name!(
    /// An interface of this machine, as the kernel calls it.
    HostInterface,
    |text| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.len() <= 15 && text.chars().all(allowed)
    },
    "the name of an interface such as \"enp1s0\""
);

name!(
    /// A label's key: `[prefix/]name`.
    #[derive(PartialOrd, Ord)]
    LabelKey,
    |text| {
        let (prefix, name) = text.split_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
        prefix.is_none_or(is_dns_name) && !name.is_empty() && is_label_text(name)
    },
    "the key of a label: at most 63 letters, digits, '-', '_' and '.', starting and ending with a letter or digit; \
     a DNS name and '/' may stand before it"
);
name!(
    /// A label's value.
    LabelValue,
    |text| text.is_empty() || is_label_text(text),
    "the value of a label: at most 63 letters, digits, '-', '_' and '.', starting and ending with a letter or digit, or \
     nothing"
);

/// As the API has it for labels.
fn is_label_text(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && edge(text.chars().next())
        && edge(text.chars().next_back())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

fn is_dns_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_label)
}

fn is_dns_label(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    text.len() <= 63
        && edge(text.chars().next())
        && edge(text.chars().next_back())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}
