//! The addresses of the pods on one node: an IPv4 network, as `spec.podCIDR` of its Node says it.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use skiff_object::addresses::Network;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    pub base: Ipv4Addr,
    pub prefix_len: u8,
}

/// How large the range of one node is, of a network that has room for several: 254 addresses.
const NODE_PREFIX: u8 = 24;

impl Range {
    /// The first node's of a network; the whole one where it is no larger.
    pub fn first_of(network: (Ipv4Addr, u8)) -> Self {
        Self { base: network.0, prefix_len: network.1.max(NODE_PREFIX) }
    }

    pub fn is_in(&self, network: (Ipv4Addr, u8)) -> bool {
        let pair = Network::new(network.0, network.1).zip(Network::new(self.base, self.prefix_len));
        pair.is_some_and(|(network, own)| network.covers(&own))
    }

    pub fn overlaps(&self, other: &Self) -> bool {
        self.is_in((other.base, other.prefix_len)) || other.is_in((self.base, self.prefix_len))
    }
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is not an IPv4 network such as 10.42.1.0/24");
        let (base, length) = text.split_once('/').ok_or_else(bad)?;
        let base: Ipv4Addr = base.parse().map_err(|_| bad())?;
        // Smaller ones have no room for the bridge and a pod.
        let prefix_len: u8 = length.parse().ok().filter(|length| (8..=30).contains(length)).ok_or_else(bad)?;
        let host = u32::MAX >> prefix_len;
        if base.to_bits() & host == 0 { Ok(Self { base, prefix_len }) } else { Err(bad()) }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix_len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_range_of_a_small_network_is_the_whole() {
        for (network, expected) in
            [(16, "10.42.0.0/24"), (24, "10.42.0.0/24"), (26, "10.42.0.0/26"), (8, "10.42.0.0/24")]
        {
            assert_eq!(Range::first_of(([10, 42, 0, 0].into(), network)).to_string(), expected);
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "10.42.0.0", "10.42.0.1/24", "10.42.0.0/31", "10.42.0.0/x", "::/64", "0.0.0.0/0"] {
            assert!(text.parse::<Range>().is_err(), "{text}");
        }
        let range: Range = "10.42.7.0/24".parse().expect("a network");
        let is_in = |base: [u8; 4], length| range.is_in((base.into(), length));
        assert!(is_in([10, 42, 0, 0], 16) && is_in([10, 42, 7, 0], 24));
        assert!(!is_in([10, 43, 0, 0], 16) && !is_in([10, 42, 7, 0], 25));
        let overlaps = |text: &str| range.overlaps(&text.parse().expect("a network"));
        assert!(overlaps("10.42.7.0/25") && overlaps("10.42.0.0/16") && overlaps("10.42.7.0/24"));
        assert!(!overlaps("10.42.6.0/24") && !overlaps("10.43.0.0/16"));
    }
}
