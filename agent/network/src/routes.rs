//! Routes to the pods of other nodes: each node's range by its address. Owned are those that carry our protocol number and
//! lead into the pods' network; they are removed when their node goes.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use serde::Deserialize;
use skiff_host::command::{self, CommandError};
use skiff_reconcile::{BoxError, Informer, Next, Reconciler, Scope, node_address};

use crate::{Config, Range};

/// Who set a route, as the kernel keeps it with each: none of those in iproute2's list.
const PROTOCOL: &str = "83";
/// Routes are looked at so often although no node changed: somebody may have removed one.
const CHECK_INTERVAL: Duration = Duration::from_secs(600);

/// Another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub range: Range,
    pub address: Ipv4Addr,
}

/// The other nodes that have a range and an address, in the order of their ranges. Of two whose ranges overlap, the older
/// has it.
pub(crate) fn peers(own_name: &str, nodes: &[Arc<Node>]) -> Vec<Peer> {
    let peer = |node: &Arc<Node>| {
        let range = node.spec.as_ref()?.pod_cidr.as_deref()?.parse().ok()?;
        Some(Peer { range, address: node_address(node)?.parse().ok()? })
    };
    let mut others: Vec<&Arc<Node>> = nodes.iter().filter(|node| node.name_any() != own_name).collect();
    others.sort_by_key(|node| node.metadata.creation_timestamp.as_ref().map(|time| time.0));
    let mut peers: Vec<Peer> = Vec::new();
    for peer in others.into_iter().filter_map(peer) {
        if !peers.iter().any(|older| older.range.overlaps(&peer.range)) {
            peers.push(peer);
        }
    }
    peers.sort_by_key(|peer| peer.range);
    peers
}

/// Ranges and by which address they are reached.
type Table = BTreeMap<Range, Ipv4Addr>;

#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    remove: Vec<Range>,
    set: Vec<(Range, Ipv4Addr)>,
}

/// Pure.
fn plan(wanted: &Table, observed: &Table) -> Plan {
    let remove = observed.keys().filter(|range| !wanted.contains_key(range)).copied().collect();
    let is_new = |(range, address): &(&Range, &Ipv4Addr)| observed.get(range) != Some(address);
    let set = wanted.iter().filter(is_new).map(|(range, address)| (*range, *address)).collect();
    Plan { remove, set }
}

/// What is to be: only ranges of the pods' network, and nothing of this node's own.
fn wanted(config: &Config, nodes: &[Arc<Node>]) -> Table {
    let peers = peers(&config.node_name, nodes).into_iter();
    let routed = peers.filter(|peer| peer.range.is_in(config.pod_network) && !peer.range.overlaps(&config.node_range));
    routed.map(|peer| (peer.range, peer.address)).collect()
}

pub(crate) struct Routes {
    config: Config,
    nodes: Informer<Node>,
}

impl Routes {
    pub(crate) fn new(config: Config, nodes: Informer<Node>) -> Self {
        Self { config, nodes }
    }
}

impl Reconciler for Routes {
    const NAME: &'static str = "node-routes";
    const SCOPE: Scope = Scope::Node;

    async fn reconcile(&mut self) -> Result<Next, BoxError> {
        apply(plan(&wanted(&self.config, &self.nodes.list()), &observe(&self.config).await?)).await?;
        Ok(Next::After(CHECK_INTERVAL))
    }
}

/// Removes all that were made here.
pub(crate) async fn remove(config: &Config) -> Result<(), CommandError> {
    apply(plan(&Table::new(), &observe(config).await?)).await
}

#[derive(Deserialize)]
struct Listed {
    dst: String,
    gateway: Option<Ipv4Addr>,
}

async fn observe(config: &Config) -> Result<Table, CommandError> {
    let listed = command::run("ip", &["-json", "-4", "route", "show", "protocol", PROTOCOL], "").await?;
    Ok(read(config, &listed))
}

fn read(config: &Config, listed: &str) -> Table {
    // Where there is none, some versions print nothing at all.
    let listed: Vec<Listed> = serde_json::from_str(listed).unwrap_or_default();
    let ours = |route: Listed| {
        let range: Range = route.dst.parse().ok()?;
        range.is_in(config.pod_network).then_some((range, route.gateway?))
    };
    listed.into_iter().filter_map(ours).collect()
}

/// Goes on after a failure, and answers with the first.
async fn apply(plan: Plan) -> Result<(), CommandError> {
    let mut result = Ok(());
    for range in plan.remove {
        let range = range.to_string();
        let done = command::run("ip", &["route", "delete", &range, "protocol", PROTOCOL], "").await;
        tracing::info!(range, "route to a node removed");
        result = result.and(done.map(drop));
    }
    for (range, address) in plan.set {
        let (range, address) = (range.to_string(), address.to_string());
        let done = command::run("ip", &["route", "replace", &range, "via", &address, "protocol", PROTOCOL], "").await;
        tracing::info!(range, address, "route to a node set");
        result = result.and(done.map(drop));
    }
    result
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::services::tests::config;

    fn node(name: &str, range: Value, address: &str) -> Arc<Node> {
        let node = json!({"metadata": {"name": name}, "spec": {"podCIDR": range},
            "status": {"addresses": [{"type": "InternalIP", "address": address}]}});
        Arc::new(serde_json::from_value(node).expect("a node"))
    }

    fn table(rows: &[(&str, [u8; 4])]) -> Table {
        rows.iter().map(|(range, address)| (range.parse().expect("a range"), (*address).into())).collect()
    }

    #[test]
    fn each_other_node_has_a_route() {
        let config = Config { pod_network: ([10, 42, 0, 0].into(), 16), ..config() };
        let nodes = [
            node("box", json!("10.42.0.0/24"), "192.168.1.10"),
            node("b", json!("10.42.1.0/24"), "192.168.1.11"),
            node("c", json!("10.42.2.0/24"), "192.168.1.12"),
            node("without a range", Value::Null, "192.168.1.13"),
            node("elsewhere", json!("10.99.0.0/24"), "192.168.1.14"),
            node("of ours", json!("10.42.0.0/24"), "192.168.1.15"),
        ];
        let expected = table(&[("10.42.1.0/24", [192, 168, 1, 11]), ("10.42.2.0/24", [192, 168, 1, 12])]);
        assert_eq!(wanted(&config, &nodes), expected);
    }

    #[test]
    fn a_plan_leads_to_what_is_wanted_and_then_to_nothing() {
        let a = table(&[("10.42.1.0/24", [10, 0, 0, 1]), ("10.42.2.0/24", [10, 0, 0, 2])]);
        let b = table(&[("10.42.2.0/24", [10, 0, 0, 9]), ("10.42.3.0/24", [10, 0, 0, 3])]);
        for (wanted, observed) in [(&a, &b), (&b, &a), (&a, &Table::new()), (&Table::new(), &b)] {
            let Plan { remove, set } = plan(wanted, observed);
            let mut after = observed.clone();
            after.retain(|range, _| !remove.contains(range));
            after.extend(set);
            assert_eq!(&after, wanted);
            assert_eq!(plan(wanted, wanted), Plan::default());
        }
    }

    #[test]
    fn routes_of_others_are_not_seen() {
        let listed = r#"[{"dst":"10.42.1.0/24","gateway":"10.0.0.1","dev":"eth0","flags":[]},
            {"dst":"10.99.1.0/24","gateway":"10.0.0.1"},{"dst":"default","gateway":"10.0.0.1"},{"dst":"10.42.2.0/24"}]"#;
        let config = Config { pod_network: ([10, 42, 0, 0].into(), 16), ..config() };
        assert_eq!(read(&config, listed), table(&[("10.42.1.0/24", [10, 0, 0, 1])]));
        assert_eq!(read(&config, ""), Table::new());
    }
}
