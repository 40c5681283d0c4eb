//! Where pods go, and what is said when they fit nowhere.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::ResourceExt;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::fit::{Placed, choose};
use super::preemption::{preempt, priority as priority_of};

fn node(name: &str, spec: Value) -> Arc<Node> {
    let node = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}, "spec": spec,
        "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "3"}}});
    Arc::new(serde_json::from_value(node).expect("a Node"))
}

fn pod(name: &str, spec: Value) -> Arc<Pod> {
    let pod = json!({"metadata": {"name": name, "namespace": "default", "uid": name}, "spec": spec});
    Arc::new(serde_json::from_value(pod).expect("a Pod"))
}

fn asking(cpu: &str) -> Value {
    json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": cpu}}}]})
}

fn namespaces() -> Vec<Arc<Namespace>> {
    let namespace = |name: &str| {
        let object = json!({"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}}});
        Arc::new(serde_json::from_value(object).expect("a Namespace"))
    };
    ["default", "other"].map(namespace).into()
}

fn check(pod: &Pod, nodes: &[Arc<Node>], pods: &[Arc<Pod>], expected: Result<&str, &str>) {
    let chosen = choose(pod, &Placed::new(nodes, namespaces(), pods, &HashMap::new()));
    let chosen = chosen.map_err(|unfit| unfit.to_string());
    assert_eq!(chosen.as_deref().map_err(String::as_str), expected);
}

#[test]
fn takes_the_node_with_more_room() {
    let nodes = [node("a", json!({})), node("b", json!({}))];
    let mut busy = asking("1500m");
    busy["nodeName"] = json!("a");
    let pods = [pod("busy", busy)];
    check(&pod("p", asking("100m")), &nodes, &pods, Ok("b"));
    check(&pod("p", asking("1")), &nodes, &pods, Ok("b"));
    check(&pod("p", asking("3")), &nodes, &pods, Err("0/2 nodes are available: 2 Insufficient cpu."));
}

#[test]
fn honours_selectors_taints_and_cordons() {
    let plain = [node("a", json!({}))];
    let mut picky = asking("1m");
    picky["nodeSelector"] = json!({"disk": "ssd"});
    let message = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.";
    check(&pod("p", picky), &plain, &[], Err(message));

    let tainted = [node("a", json!({"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]}))];
    let message = "0/1 nodes are available: 1 node(s) had untolerated taint {gpu: yes}.";
    check(&pod("p", asking("1m")), &tainted, &[], Err(message));
    let mut tolerant = asking("1m");
    tolerant["tolerations"] = json!([{"key": "gpu", "operator": "Exists"}]);
    check(&pod("p", tolerant), &tainted, &[], Ok("a"));

    let cordoned = [node("a", json!({"unschedulable": true}))];
    check(&pod("p", asking("1m")), &cordoned, &[], Err("0/1 nodes are available: 1 node(s) were unschedulable."));
}

#[test]
fn counts_pods_and_host_ports() {
    let nodes = [node("a", json!({}))];
    let on_a = |name: &str| {
        pod(
            name,
            json!({"nodeName": "a", "containers": [{"name": "c",
        "ports": [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}]}]}),
        )
    };
    let wants_port = pod(
        "p",
        json!({"containers": [{"name": "c",
        "ports": [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}]}]}),
    );
    let message = "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.";
    check(&wants_port, &nodes, &[on_a("x")], Err(message));
    let full = [on_a("x"), on_a("y"), on_a("z")];
    check(&pod("p", asking("0")), &nodes, &full, Err("0/1 nodes are available: 1 Too many pods."));
}

#[test]
fn an_init_container_counts_at_its_peak() {
    let nodes = [node("a", json!({}))];
    let spec = json!({
        "initContainers": [{"name": "i", "resources": {"requests": {"cpu": "3"}}}],
        "containers": [{"name": "a", "resources": {"requests": {"cpu": "1"}}}]});
    check(&pod("p", spec), &nodes, &[], Err("0/1 nodes are available: 1 Insufficient cpu."));
}

#[test]
fn without_nodes_it_says_so() {
    check(&pod("p", asking("1")), &[], &[], Err("no nodes available to schedule pods"));
}

/// Nodes of zones.
fn zoned(zones: &[(&str, &str)]) -> Vec<Arc<Node>> {
    let node = |(name, zone): &(&str, &str)| {
        let mut labels = json!({"kubernetes.io/hostname": name});
        if !zone.is_empty() {
            labels["zone"] = json!(zone);
        }
        let object = json!({"metadata": {"name": name, "labels": labels},
            "status": {"allocatable": {"cpu": "8", "memory": "8Gi", "pods": "50"}}});
        Arc::new(serde_json::from_value(object).expect("a Node"))
    };
    zones.iter().map(node).collect()
}

fn web(name: &str, node: &str, more: Value) -> Arc<Pod> {
    let mut pod = json!({"metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "a"}]}});
    if !node.is_empty() {
        pod["spec"]["nodeName"] = json!(node);
    }
    for (field, value) in more.as_object().into_iter().flatten() {
        pod[field] = match field.as_str() {
            "metadata" => {
                let mut metadata = pod["metadata"].clone();
                metadata.as_object_mut().expect("a map").extend(value.as_object().expect("a map").clone());
                metadata
            }
            _ => {
                let mut spec = pod["spec"].clone();
                spec.as_object_mut().expect("a map").extend(value.as_object().expect("a map").clone());
                spec
            }
        };
    }
    Arc::new(serde_json::from_value(pod).expect("a Pod"))
}

fn affinity(kind: &str, term: Value) -> Value {
    json!({"spec": {"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}})
}

fn of_web(key: &str) -> Value {
    json!({"topologyKey": key, "labelSelector": {"matchLabels": {"app": "web"}}})
}

#[test]
fn pods_keep_near_and_away() {
    let nodes = zoned(&[("a", "east"), ("b", "east"), ("c", "west")]);
    let there = [web("one", "c", json!({}))];
    check(&web("p", "", affinity("podAffinity", of_web("zone"))), &nodes, &there, Ok("c"));
    check(&web("p", "", affinity("podAntiAffinity", of_web("zone"))), &nodes, &there, Ok("a"));
    // The first of its kind has nobody to be near to; who is like nobody waits.
    check(&web("p", "", affinity("podAffinity", of_web("zone"))), &nodes, &[], Ok("a"));
    let lonely = json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "db"}}});
    let message = "0/3 nodes are available: 3 node(s) didn't match pod affinity rules.";
    check(&web("p", "", affinity("podAffinity", lonely)), &nodes, &[], Err(message));
    let one = zoned(&[("a", "")]);
    let message = "0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules.";
    let there = [web("one", "a", json!({}))];
    let apart = affinity("podAntiAffinity", of_web("kubernetes.io/hostname"));
    check(&web("p", "", apart.clone()), &one, &there, Err(message));
    // Also where only those who are there say it.
    let there = [web("one", "a", apart)];
    let message = "0/1 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules.";
    check(&web("p", "", json!({})), &one, &there, Err(message));
}

#[test]
fn namespaces_bound_who_is_meant() {
    let nodes = zoned(&[("a", ""), ("b", "")]);
    let there = [web("one", "a", json!({"metadata": {"namespace": "other"}}))];
    let key = "kubernetes.io/hostname";
    check(&web("p", "", affinity("podAntiAffinity", of_web(key))), &nodes[..1], &there, Ok("a"));
    let mut named = of_web(key);
    named["namespaces"] = json!(["other"]);
    check(&web("p", "", affinity("podAntiAffinity", named)), &nodes, &there, Ok("b"));
    let mut selected = of_web(key);
    selected["namespaceSelector"] = json!({"matchLabels": {"kubernetes.io/metadata.name": "other"}});
    check(&web("p", "", affinity("podAntiAffinity", selected)), &nodes, &there, Ok("b"));
    let mut same = of_web(key);
    same["namespaceSelector"] = json!({});
    same["matchLabelKeys"] = json!(["version"]);
    let versioned = |version: &str, node: &str, more: Value| {
        let mut all = json!({"metadata": {"labels": {"app": "web", "version": version}}});
        all.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
        web(version, node, all)
    };
    let there = [versioned("1", "a", json!({})), versioned("2", "b", json!({}))];
    check(&versioned("2", "", affinity("podAntiAffinity", same)), &nodes, &there, Ok("a"));
}

#[test]
fn pods_spread_evenly() {
    let nodes = zoned(&[("a", "east"), ("b", "east"), ("c", "west"), ("d", "")]);
    let spread = |when: &str, more: Value| {
        let mut constraint = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": when,
            "labelSelector": {"matchLabels": {"app": "web"}}});
        constraint.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
        json!({"spec": {"topologySpreadConstraints": [constraint]}})
    };
    let there = [web("1", "a", json!({})), web("2", "b", json!({}))];
    check(&web("p", "", spread("DoNotSchedule", json!({}))), &nodes, &there, Ok("c"));
    check(&web("p", "", spread("ScheduleAnyway", json!({}))), &nodes[..3], &there, Ok("c"));
    let message = "0/3 nodes are available: 1 node(s) didn't match pod topology spread constraints (missing required label), 2 node(s) didn't match pod topology spread constraints.";
    let without_west = [nodes[0].clone(), nodes[1].clone(), nodes[3].clone()];
    check(&web("p", "", spread("DoNotSchedule", json!({"minDomains": 2}))), &without_west, &there, Err(message));
    check(&web("p", "", spread("DoNotSchedule", json!({}))), &without_west, &there, Ok("a"));
}

#[test]
fn wishes_count() {
    let nodes = zoned(&[("a", "east"), ("b", "west")]);
    let wish = json!({"spec": {"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 10, "preference": {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["west"]}]}}]}}}});
    check(&web("p", "", wish), &nodes, &[], Ok("b"));
    let near = |kind: &str| {
        json!({"spec": {"affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 10, "podAffinityTerm": of_web("zone")}]}}}})
    };
    let there = [web("one", "b", json!({}))];
    check(&web("p", "", near("podAffinity")), &nodes, &there, Ok("b"));
    check(&web("p", "", near("podAntiAffinity")), &nodes, &there, Ok("a"));
    let there = [web("one", "b", near("podAffinity"))];
    check(&web("p", "", json!({})), &nodes, &there, Ok("b"));
    let soft = [node("a", json!({"taints": [{"key": "slow", "effect": "PreferNoSchedule"}]})), node("b", json!({}))];
    let mut busy = asking("1500m");
    busy["nodeName"] = json!("b");
    check(&pod("p", asking("100m")), &soft, &[pod("busy", busy)], Ok("b"));
}

fn important(name: &str, node: &str, priority: i32, cpu: &str) -> Arc<Pod> {
    let spec = json!({"priority": priority, "containers": [{"name": "a", "resources": {"requests": {"cpu": cpu}}}]});
    web(name, node, json!({"spec": spec}))
}

fn victims(pod: &Arc<Pod>, nodes: &[Arc<Node>], pods: &[Arc<Pod>]) -> Option<String> {
    let preemption = preempt(pod, &Placed::new(nodes, namespaces(), pods, &HashMap::new()))?;
    let names: Vec<_> = preemption.victims.iter().map(|victim| victim.name_any()).collect();
    Some(format!("{}: {}", preemption.node, names.join(" ")))
}

#[test]
fn who_is_less_important_makes_room() {
    let nodes = zoned(&[("a", ""), ("b", "")]);
    let pods = [
        important("small", "a", 1, "2"),
        important("large", "a", 1, "6"),
        important("equal", "b", 10, "4"),
        important("middle", "b", 5, "4"),
    ];
    let said = |priority, cpu| victims(&important("p", "", priority, cpu), &nodes, &pods);
    assert_eq!(said(10, "3").as_deref(), Some("a: large"), "the one that has to go, of the least important");
    assert_eq!(said(10, "1").as_deref(), Some("a: small"), "and no more than that");
    assert_eq!(said(10, "8").as_deref(), Some("a: large small"));
    assert_eq!(said(1, "1"), None, "nobody goes for his equal");
    assert_eq!(said(20, "9"), None, "it would not help");
    let mut polite = (*important("p", "", 10, "3")).clone();
    polite.spec.as_mut().expect("a spec").preemption_policy = Some("Never".to_owned());
    assert_eq!(victims(&Arc::new(polite), &nodes, &pods), None);
}

#[test]
fn who_is_on_the_way_out_is_waited_for() {
    let nodes = zoned(&[("a", "")]);
    let mut going = (*important("low", "a", 1, "8")).clone();
    going.metadata.deletion_timestamp = Some(crate::objects::time(crate::objects::now()));
    let mut pod = (*important("p", "", 10, "3")).clone();
    pod.status = serde_json::from_value(json!({"nominatedNodeName": "a"})).ok();
    assert_eq!(victims(&Arc::new(pod), &nodes, &[Arc::new(going)]), None);
}

proptest! {
    #[test]
    fn nothing_is_placed_twice_and_nobody_equal_goes(
        pods in proptest::collection::vec((0i32..3, 1u32..6), 1..40),
        count in 1usize..4,
    ) {
        let names: Vec<String> = (0..count).map(|n| format!("n{n}")).collect();
        let nodes = zoned(&names.iter().map(|name| (name.as_str(), "")).collect::<Vec<_>>());
        let mut placed = Placed::new(&nodes, namespaces(), &[], &HashMap::new());
        let mut used: HashMap<String, u32> = HashMap::new();
        for (n, (priority, cpu)) in pods.iter().enumerate() {
            let pod = important(&format!("p{n}"), "", *priority, &cpu.to_string());
            match choose(&pod, &placed) {
                Ok(node) => {
                    placed.add(&node, &pod);
                    *used.entry(node).or_default() += cpu;
                }
                Err(_) => {
                    prop_assert!(names.iter().all(|name| used.get(name).copied().unwrap_or(0) + cpu > 8), "it would have fitted");
                    if let Some(preemption) = preempt(&pod, &placed) {
                        prop_assert!(!preemption.victims.is_empty());
                        prop_assert!(preemption.victims.iter().all(|victim| priority_of(victim) < *priority));
                    }
                }
            }
            prop_assert!(used.values().all(|cpu| *cpu <= 8), "{used:?}");
        }
    }
}
