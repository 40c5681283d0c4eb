//! Which range each node gets. Pure.

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use skiff_object::addresses::Network;

use crate::objects;

/// As upstream: what is taken is marked one by one.
const BITS_MAX: u8 = 16;

/// The cluster's range of pod addresses, and how large a node's part of it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeRanges {
    cluster: Network,
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
        let Some(network) = Network::new(base, cluster).filter(|_| (cluster..=32).contains(&node)) else {
            return Err(NodeRangesError::Larger { cluster, node });
        };
        if node - cluster > BITS_MAX {
            return Err(NodeRangesError::TooMany { cluster, node });
        }
        Ok(Self { cluster: network, node_prefix_len })
    }

    fn count(&self) -> usize {
        1 << (self.node_prefix_len - self.cluster.prefix_len())
    }

    /// How many addresses one part has.
    fn part(&self) -> u64 {
        1 << (32 - self.node_prefix_len)
    }

    fn nth(&self, n: usize) -> String {
        // Below the end of the cluster's range, which ends within 32 bits.
        let base = self.cluster.bounds().start + n as u64 * self.part();
        format!("{}/{}", Ipv4Addr::from_bits(base as u32), self.node_prefix_len)
    }

    /// The parts that a range overlaps.
    fn parts(&self, range: Network) -> std::ops::Range<usize> {
        let (cluster, range) = (self.cluster.bounds(), range.bounds());
        let offset = |address: u64| address.clamp(cluster.start, cluster.end) - cluster.start;
        let index = |part: u64| usize::try_from(part).unwrap_or(usize::MAX);
        index(offset(range.start) / self.part())..index(offset(range.end).div_ceil(self.part()))
    }
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

/// The nodes that wait, oldest first, with what they get: the lowest ranges that no node has.
pub fn plan<'a>(ranges: &NodeRanges, nodes: &'a [Node]) -> Vec<(&'a Node, Option<String>)> {
    let mut used = vec![false; ranges.count()];
    // One of IPv6 takes nothing from ours.
    for range in nodes.iter().flat_map(taken).filter_map(|range| range.parse().ok()) {
        used[ranges.parts(range)].fill(true);
    }
    let mut free = used.iter().enumerate().filter(|(_, used)| !**used).map(|(n, _)| ranges.nth(n));
    let mut waiting: Vec<&Node> = nodes.iter().filter(|node| waits(node)).collect();
    waiting.sort_by_cached_key(|node| (node.creation_timestamp().map(|t| t.0), node.name_any()));
    waiting.into_iter().map(|node| (node, free.next())).collect()
}
