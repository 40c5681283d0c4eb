//! Which pods become endpoints, and how.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};
use serde_json::{Value, json};

use super::plan::{endpoints, mirror, select, slices};

fn service(spec: Value) -> Service {
    serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "default", "uid": "s"}, "spec": spec}))
        .expect("a Service")
}

fn pod(name: &str, ip: &str, ready: bool, change: impl FnOnce(&mut Value)) -> Arc<Pod> {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"app": "web"}},
        "spec": {"nodeName": "box", "containers": [{"name": "a", "ports": [{"name": "http", "containerPort": 8080}]}]},
        "status": {"phase": "Running", "podIP": ip,
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
    });
    change(&mut pod);
    Arc::new(serde_json::from_value(pod).expect("a Pod"))
}

fn web() -> Service {
    service(json!({"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http", "protocol": "TCP"}]}))
}

#[test]
fn ready_pods_are_addresses_and_others_wait() {
    let pods = [pod("a", "10.0.0.1", true, |_| {}), pod("b", "10.0.0.2", false, |_| {})];
    let service = web();
    let subsets = endpoints(&service, &select(&service, &pods)).subsets.expect("subsets");
    assert_eq!(subsets.len(), 1);
    assert_eq!(subsets[0].addresses.as_ref().expect("ready")[0].ip, "10.0.0.1");
    assert_eq!(subsets[0].not_ready_addresses.as_ref().expect("waiting")[0].ip, "10.0.0.2");
    assert_eq!(subsets[0].ports.as_ref().expect("ports")[0].port, 8080);
}

#[test]
fn a_terminating_pod_drains() {
    let deleted = |p: &mut Value| p["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let pods = [pod("a", "10.0.0.1", true, deleted)];
    let service = web();
    let slices = slices(&service, &select(&service, &pods));
    let conditions = slices[0].endpoints.as_ref().expect("endpoints")[0].conditions.clone().expect("conditions");
    assert_eq!((conditions.ready, conditions.serving, conditions.terminating), (Some(false), Some(true), Some(true)));
    assert_eq!(endpoints(&service, &select(&service, &pods)).subsets, None);
}

#[test]
fn finished_pods_and_strangers_are_left_out() {
    let pods = [
        pod("done", "10.0.0.1", false, |p| p["status"]["phase"] = json!("Succeeded")),
        pod("other", "10.0.0.2", true, |p| p["metadata"]["labels"] = json!({"app": "db"})),
        pod("new", "", false, |_| {}),
        pod("loopback", "127.0.0.1", true, |_| {}),
        pod("link-local", "169.254.169.254", true, |_| {}),
        pod("nonsense", "x", true, |_| {}),
    ];
    assert!(select(&web(), &pods).is_empty());
}

#[test]
fn a_mirror_shows_no_address_of_the_machine_itself() {
    let by_hand = json!({"metadata": {"name": "web", "namespace": "default"}, "subsets": [{
        "addresses": [{"ip": "127.0.0.1"}, {"ip": "10.0.0.1"}], "notReadyAddresses": [{"ip": "fe80::1"}],
        "ports": [{"port": 80}]}]});
    let slices = mirror(&web(), &serde_json::from_value(by_hand).expect("Endpoints"));
    let shown: Vec<_> = slices.iter().flat_map(|s| s.endpoints.iter().flatten()).flat_map(|e| &e.addresses).collect();
    assert_eq!(shown, ["10.0.0.1"]);
}

#[test]
fn pods_that_give_a_port_name_different_numbers_are_in_different_slices() {
    let other = |p: &mut Value| p["spec"]["containers"][0]["ports"][0]["containerPort"] = json!(9090);
    let pods = [pod("a", "10.0.0.1", true, |_| {}), pod("b", "10.0.0.2", true, other)];
    let service = web();
    let ports: Vec<_> = slices(&service, &select(&service, &pods))
        .iter()
        .map(|s| s.ports.as_ref().expect("ports")[0].port.expect("number"))
        .collect();
    assert_eq!(ports, [8080, 9090]);
}

#[test]
fn large_services_are_cut_into_slices() {
    let pods: Vec<_> = (0..250).map(|n| pod(&format!("p{n:03}"), "10.0.0.1", true, |_| {})).collect();
    let service = web();
    let sizes: Vec<_> =
        slices(&service, &select(&service, &pods)).iter().map(|s| s.endpoints.as_ref().map_or(0, Vec::len)).collect();
    assert_eq!(sizes, [100, 100, 50]);
}
