//! IP addresses and networks as fields of objects have them: which addresses lead to no other machine, how a network is
//! written, and what is in one.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Why an address is none to send traffic to, as upstream's `ValidateNonSpecialIP` says it. An IPv4 address in the form of
/// IPv6 is that IPv4 address.
pub fn special(address: IpAddr) -> Option<&'static str> {
    let address = address.to_canonical();
    let (link_local, group) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments()[0] & 0xff0f == 0xff02),
    };
    if address.is_unspecified() {
        Some("may not be unspecified (0.0.0.0 or ::)")
    } else if address.is_loopback() {
        Some("may not be in the loopback range (127.0.0.0/8, ::1/128)")
    } else if link_local {
        Some("may not be in the link-local range (169.254.0.0/16, fe80::/10)")
    } else if group {
        Some("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")
    } else {
        None
    }
}

/// Why an address is none that one machine, and another than the reader, can have.
pub fn unowned(address: IpAddr) -> Option<&'static str> {
    let address = address.to_canonical();
    let many = address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST);
    special(address).or(many.then_some("may not be a multicast or broadcast address"))
}

/// The one form in which a network is written, of either family; `None` for what is no network.
pub fn canonical_network(text: &str) -> Option<String> {
    let (address, length) = text.split_once('/')?;
    let length: u8 = length.parse().ok()?;
    let base = match address.parse().ok()? {
        IpAddr::V4(v4) => IpAddr::V4(Network::new(v4, length)?.base),
        IpAddr::V6(v6) => {
            let host = u128::from(128_u8.checked_sub(length)?);
            let mask = u32::try_from(host).ok().and_then(|host| u128::MAX.checked_shl(host)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    };
    Some(format!("{base}/{length}"))
}

/// Whether an address is in a network, of either family.
pub fn is_in(address: IpAddr, network: &str) -> bool {
    let length = network.split_once('/').map_or("", |(_, length)| length);
    let own = canonical_network(&format!("{address}/{length}"));
    own.is_some() && own == canonical_network(network)
}

/// An IPv4 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    base: Ipv4Addr,
    prefix_len: u8,
}

impl Network {
    /// The network that an address is in; `None` where no prefix is as long.
    pub fn new(address: Ipv4Addr, prefix_len: u8) -> Option<Self> {
        let mask = u32::MAX.checked_shl(u32::from(32_u8.checked_sub(prefix_len)?)).unwrap_or(0);
        Some(Self { base: Ipv4Addr::from_bits(address.to_bits() & mask), prefix_len })
    }

    pub fn prefix_len(&self) -> u8 {
        self.prefix_len
    }

    /// Its first address, and the first behind it, which may be behind the last that there is.
    pub fn bounds(&self) -> std::ops::Range<u64> {
        let start = u64::from(self.base.to_bits());
        start..start + (1 << (32 - self.prefix_len))
    }

    pub fn contains(&self, address: Ipv4Addr) -> bool {
        self.bounds().contains(&u64::from(address.to_bits()))
    }

    /// Whether all of another is in this one.
    pub fn covers(&self, other: &Self) -> bool {
        other.prefix_len >= self.prefix_len && self.contains(other.base)
    }
}

impl FromStr for Network {
    type Err = String;

    /// Bits behind the prefix are taken for none.
    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (address, length) = text.split_once('/')?;
            Self::new(address.parse().ok()?, length.parse().ok()?)
        };
        read().ok_or_else(|| format!("{text:?} is not an IPv4 network such as 10.42.1.0/24"))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix_len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_addresses_are_told() {
        let ranges = [
            ("unspecified", &["0.0.0.0", "::", "::ffff:0.0.0.0"] as &[&str]),
            ("loopback range", &["127.0.0.1", "127.255.0.1", "::1", "::ffff:127.0.0.1"]),
            ("link-local range", &["169.254.169.254", "fe80::1", "febf::1"]),
            ("link-local multicast", &["224.0.0.251", "ff02::fb"]),
        ];
        for (range, addresses) in ranges {
            for text in addresses {
                let address = text.parse().expect("an address");
                assert!(special(address).is_some_and(|why| why.contains(range)), "{text} is {range}");
                assert_eq!(unowned(address), special(address));
            }
        }
        for text in ["10.0.0.1", "8.8.8.8", "fd00::1", "2001:db8::1", "::ffff:10.0.0.1"] {
            assert_eq!(unowned(text.parse().expect("an address")), None, "{text}");
        }
        for text in ["239.1.1.1", "255.255.255.255", "ff0e::1"] {
            let address = text.parse().expect("an address");
            assert!(special(address).is_none() && unowned(address).is_some(), "{text}");
        }
    }

    #[test]
    fn networks_have_one_form() {
        for (text, form) in [
            ("10.42.0.0/24", Some("10.42.0.0/24")),
            ("10.42.0.7/24", Some("10.42.0.0/24")),
            ("10.42.0.0/024", Some("10.42.0.0/24")),
            ("10.42.0.7/32", Some("10.42.0.7/32")),
            ("10.42.0.7/0", Some("0.0.0.0/0")),
            ("fd00::1/64", Some("fd00::/64")),
            ("FD00:0:0::/48", Some("fd00::/48")),
            ("fd00::1/128", Some("fd00::1/128")),
            ("::1/0", Some("::/0")),
            ("10.42.0.0/33", None),
            ("fd00::/129", None),
            ("10.42.0.0", None),
            ("x/8", None),
        ] {
            assert_eq!(canonical_network(text).as_deref(), form, "{text}");
        }
    }

    #[test]
    fn an_address_is_in_its_network() {
        for (address, network, inside) in [
            ("10.42.7.9", "10.42.7.0/24", true),
            ("10.42.8.9", "10.42.7.0/24", false),
            ("10.42.7.9", "10.42.7.0", false),
            ("10.42.7.9", "", false),
            ("fd00::7", "fd00::/64", true),
            ("fd00:0:0:1::7", "fd00::/64", false),
            ("10.42.7.9", "::/0", false),
            ("fd00::7", "0.0.0.0/0", false),
        ] {
            assert_eq!(is_in(address.parse().expect("an address"), network), inside, "{address} in {network}");
        }
    }

    #[test]
    fn a_network_holds_its_own_addresses() {
        let network: Network = "10.42.7.9/24".parse().expect("a network");
        assert_eq!(network.to_string(), "10.42.7.0/24");
        for (other, covered) in
            [("10.42.7.0/24", true), ("10.42.7.128/25", true), ("10.42.0.0/16", false), ("10.42.6.0/24", false)]
        {
            assert_eq!(network.covers(&other.parse().expect("a network")), covered, "{other}");
        }
        for (address, inside) in [([10, 42, 7, 0], true), ([10, 42, 7, 255], true), ([10, 42, 8, 0], false)] {
            assert_eq!(network.contains(address.into()), inside);
        }
        let all: Network = "1.2.3.4/0".parse().expect("a network");
        assert!(all.contains(Ipv4Addr::UNSPECIFIED) && all.contains(Ipv4Addr::BROADCAST));
        assert_eq!(Network::new(Ipv4Addr::BROADCAST, 32).expect("one").bounds().end, 1 << 32);
        assert!("10.0.0.0/33".parse::<Network>().is_err() && "fd00::/8".parse::<Network>().is_err());
    }
}
