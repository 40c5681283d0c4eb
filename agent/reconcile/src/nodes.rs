//! The addresses at which nodes are reached, from their objects.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;

/// Its `InternalIP`, the first of them.
pub fn node_address(node: &Node) -> Option<&str> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    addresses.iter().find(|address| address.type_ == "InternalIP").map(|address| address.address.as_str())
}

/// The addresses of all nodes that are ready, in order. Where none is, those of all: what is sent to one of them may still
/// arrive, and a box that begins does not take its address back for a moment.
pub fn node_addresses(nodes: &[Arc<Node>]) -> Vec<String> {
    let ready: Vec<_> = nodes.iter().filter(|node| is_ready(node)).collect();
    let chosen = if ready.is_empty() { nodes.iter().collect() } else { ready };
    let mut addresses: Vec<_> = chosen.into_iter().filter_map(|node| node_address(node)).map(str::to_owned).collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn those_that_are_ready_count_and_all_where_none_is() {
        let node = |address: &str, ready: &str| -> Arc<Node> {
            let node = json!({"status": {"conditions": [{"type": "Ready", "status": ready}], "addresses": [
                {"type": "Hostname", "address": "x"}, {"type": "InternalIP", "address": address}]}});
            Arc::new(serde_json::from_value(node).expect("a node"))
        };
        let bare = Arc::new(Node::default());
        assert_eq!(node_addresses(&[node("b", "True"), node("a", "True"), node("c", "Unknown")]), ["a", "b"]);
        assert_eq!(node_addresses(&[node("b", "False"), node("a", "False"), bare]), ["a", "b"]);
        assert!(node_addresses(&[]).is_empty());
    }
}
