//! Where pods go, and what is said when they fit nowhere.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use super::fit::{Placed, choose};

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

fn check(pod: &Pod, nodes: &[Arc<Node>], pods: &[Arc<Pod>], expected: Result<&str, &str>) {
    let chosen = choose(pod, &Placed::new(nodes, pods, &HashMap::new()));
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
