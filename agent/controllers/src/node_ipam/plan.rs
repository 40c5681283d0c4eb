//! Which range each node gets. Pure.

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;

use crate::objects;

/// As upstream: what is taken is marked one by one.
const BITS_MAX: u8 = 16;

/// The cluster's range of pod addresses, and how large a node's part of it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeRanges {
    base: u32,
    prefix_len: u8,
    node_prefix_len: u8,
}

/// Why a range cannot be shared out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeRangesError {
    #[error("a node's range, /{node}, is no part of the cluster's, /{cluster}")]
    Larger { cluster: u8, node: u8 },
    #[error("the cluster's range, /{cluster}, has too many parts of /{node}: 65536 at the most")]
    TooMany { cluster: u8, node: u8 },
}

impl NodeRanges {
    pub fn new(base: Ipv4Addr, prefix_len: u8, node_prefix_len: u8) -> Result<Self, NodeRangesError> {
        let (cluster, node) = (prefix_len, node_prefix_len);
        if node < cluster || node > 32 {
            return Err(NodeRangesError::Larger { cluster, node });
        }
        if node - cluster > BITS_MAX {
            return Err(NodeRangesError::TooMany { cluster, node });
        }
        Ok(Self { base: base.to_bits() & mask(prefix_len), prefix_len, node_prefix_len })
    }

    fn count(&self) -> usize {
        1 << (self.node_prefix_len - self.prefix_len)
    }

    fn nth(&self, n: usize) -> String {
        let offset = (n as u64) << (32 - self.node_prefix_len);
        // Below the end of the cluster's range, which ends within 32 bits.
        let base = u64::from(self.base) + offset;
        format!("{}/{}", Ipv4Addr::from_bits(base as u32), self.node_prefix_len)
    }

    /// The parts that a range overlaps.
    fn parts(&self, range: (u32, u8)) -> std::ops::Range<usize> {
        let size = |prefix_len: u8| 1_u64 << (32 - prefix_len);
        let (start, end) = (u64::from(self.base), u64::from(self.base) + size(self.prefix_len));
        let first = u64::from(range.0 & mask(range.1)).clamp(start, end);
        let last = (u64::from(range.0 & mask(range.1)) + size(range.1)).clamp(start, end);
        let part = size(self.node_prefix_len);
        let index = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
        index((first - start) / part)..index((last - start).div_ceil(part))
    }
}

fn mask(prefix_len: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix_len)).unwrap_or(0)
}

/// Whether a node is still to get a range.
pub fn waits(node: &Node) -> bool {
    !objects::is_deleted(node) && taken(node).next().is_none()
}

/// The ranges a node has.
fn taken(node: &Node) -> impl Iterator<Item = &str> {
    let spec = node.spec.iter();
    spec.flat_map(|spec| spec.pod_cidr.iter().chain(spec.pod_cidrs.iter().flatten())).map(String::as_str)
}

/// A range of IPv4; one of IPv6 takes nothing from ours.
fn parse(text: &str) -> Option<(u32, u8)> {
    let (address, prefix_len) = text.split_once('/')?;
    let address: Ipv4Addr = address.parse().ok()?;
    Some((address.to_bits(), prefix_len.parse().ok().filter(|len| *len <= 32)?))
}

/// The nodes that wait, oldest first, with what they get: the lowest ranges that no node has.
pub fn plan<'a>(ranges: &NodeRanges, nodes: &'a [Node]) -> Vec<(&'a Node, Option<String>)> {
    let mut used = vec![false; ranges.count()];
    for range in nodes.iter().flat_map(taken).filter_map(parse) {
        used[ranges.parts(range)].fill(true);
    }
    let mut free = used.iter().enumerate().filter(|(_, used)| !**used).map(|(n, _)| ranges.nth(n));
    let mut waiting: Vec<&Node> = nodes.iter().filter(|node| waits(node)).collect();
    waiting.sort_by_cached_key(|node| (node.creation_timestamp().map(|t| t.0), node.name_any()));
    waiting.into_iter().map(|node| (node, free.next())).collect()
}
