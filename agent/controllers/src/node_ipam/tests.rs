//! The plan's laws, and nodes of a real API.

use proptest::prelude::*;
use skiff_reconcile::Wake;

use super::plan::plan;
use super::*;
use crate::testing::World;

const NODES: &str = "/api/v1/nodes";

fn node(name: &str, range: &str) -> Node {
    let spec = if range.is_empty() { json!({}) } else { json!({"podCIDR": range, "podCIDRs": [range]}) };
    serde_json::from_value(json!({"metadata": {"name": name, "uid": name}, "spec": spec})).expect("a Node")
}

fn ranges(prefix_len: u8, node_prefix_len: u8) -> NodeRanges {
    NodeRanges::new([10, 42, 0, 0].into(), prefix_len, node_prefix_len).expect("ranges")
}

fn check(ranges: NodeRanges, nodes: &[Node], expected: &[(&str, Option<&str>)]) {
    let planned = plan(&ranges, nodes);
    let planned: Vec<_> = planned.iter().map(|(node, range)| (node.name_any(), range.clone())).collect();
    let expected: Vec<_> = expected.iter().map(|(n, r)| ((*n).to_owned(), r.map(str::to_owned))).collect();
    assert_eq!(planned, expected);
}

#[test]
fn the_lowest_free_range_is_given() {
    let nodes = [node("a", "10.42.1.0/24"), node("b", ""), node("c", "10.42.0.0/24"), node("d", "")];
    check(ranges(16, 24), &nodes, &[("b", Some("10.42.2.0/24")), ("d", Some("10.42.3.0/24"))]);
    // One box has the whole range.
    check(ranges(24, 24), &[node("a", "10.42.0.0/24"), node("b", "")], &[("b", None)]);
    check(ranges(24, 24), &[node("a", "")], &[("a", Some("10.42.0.0/24"))]);
    // What is larger, smaller, elsewhere or of another family.
    let odd =
        [node("a", "10.42.0.0/23"), node("b", "10.42.2.128/30"), node("c", "192.168.0.0/16"), node("d", "fd00::/64")];
    let nodes: Vec<_> = odd.into_iter().chain([node("new", "")]).collect();
    check(ranges(16, 24), &nodes, &[("new", Some("10.42.3.0/24"))]);
    check(ranges(16, 24), &[node("all", "0.0.0.0/0"), node("new", "")], &[("new", None)]);
    let top = NodeRanges::new([255, 255, 0, 0].into(), 16, 32).expect("ranges");
    check(top, &[node("a", "255.255.0.0/17"), node("new", "")], &[("new", Some("255.255.128.0/32"))]);
}

#[test]
fn ranges_that_cannot_be_shared_out_are_refused() {
    let base = [10, 0, 0, 0].into();
    assert_eq!(NodeRanges::new(base, 24, 16), Err(NodeRangesError::Larger { cluster: 24, node: 16 }));
    assert_eq!(NodeRanges::new(base, 8, 33), Err(NodeRangesError::Larger { cluster: 8, node: 33 }));
    assert_eq!(NodeRanges::new(base, 8, 28), Err(NodeRangesError::TooMany { cluster: 8, node: 28 }));
}

proptest! {
    #[test]
    fn no_range_is_given_twice(taken in prop::collection::vec(0_u8..64, 0..40), new in 0_usize..80) {
        let mut nodes: Vec<Node> =
            taken.iter().enumerate().map(|(n, third)| node(&format!("old{n}"), &format!("10.42.{third}.0/24"))).collect();
        nodes.extend((0..new).map(|n| node(&format!("new{n}"), "")));
        let planned = plan(&ranges(18, 24), &nodes);
        let given: Vec<_> = planned.iter().filter_map(|(_, range)| range.clone()).collect();
        let old: HashSet<String> = taken.iter().map(|third| format!("10.42.{third}.0/24")).collect();
        let all: HashSet<&String> = given.iter().chain(&old).collect();
        prop_assert_eq!(all.len(), given.len() + old.len());
        prop_assert_eq!(given.len(), new.min(64 - old.len()));
    }
}

#[tokio::test]
async fn nodes_get_ranges_and_a_range_that_is_given_back_is_used_again() {
    let world = World::start().await;
    let caches = Caches::new(world.client.clone(), world.shutdown.clone());
    let recorder = Recorder::new(world.client.clone(), "node-ipam-controller", "");
    let controller = Controller::new(world.client.clone(), recorder, ranges(23, 24), &caches);
    let wake = Wake::on(controller.wakes());
    world.drive(controller, wake);
    let own = json!({"podCIDR": "10.42.0.0/24", "podCIDRs": ["10.42.0.0/24"]});
    world.post(NODES, json!({"metadata": {"name": "own"}, "spec": own})).await;
    world.post(NODES, json!({"metadata": {"name": "b"}})).await;
    let has = |range: &'static str| {
        move |o: &serde_json::Value| o["spec"]["podCIDR"] == range && o["spec"]["podCIDRs"] == json!([range])
    };
    world.until(&format!("{NODES}/b"), has("10.42.1.0/24")).await;
    world.post(NODES, json!({"metadata": {"name": "c"}})).await;
    let told = |events: &serde_json::Value| {
        events["items"].as_array().is_some_and(|all| all.iter().any(|e| e["reason"] == "CIDRNotAvailable"))
    };
    world.until("/api/v1/namespaces/default/events", told).await;
    world.delete(&format!("{NODES}/own"), "Background").await;
    world.until(&format!("{NODES}/c"), has("10.42.0.0/24")).await;
}
