//! Routes from objects, the script from routes, and the kernel taking it.

use std::net::Ipv4Addr;
use std::sync::Arc;

use expect_test::expect;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::observe::{Route, routes};
use super::render::{render, transaction};
use crate::reserved::{Ground, OwnPort};
use crate::routes::Peer;
use crate::{Config, Range, load_balancers};

fn object<T: serde::de::DeserializeOwned>(value: Value) -> Arc<T> {
    Arc::new(serde_json::from_value(value).expect("an object"))
}

pub(crate) fn config() -> Config {
    Config {
        node_name: "box".to_owned(),
        node_address: [192, 168, 1, 10].into(),
        bridge: "skiff0".to_owned(),
        table: "skiff-test".to_owned(),
        mtu: 1500,
        pod_network: ([10, 42, 0, 0].into(), 24),
        node_range: Range { base: [10, 42, 0, 0].into(), prefix_len: 24 },
        service_network: ([10, 43, 0, 0].into(), 16),
        cluster_domain: "cluster.local".to_owned(),
        dns_address: [10, 43, 0, 10].into(),
        upstream_dns: Vec::new(),
        cni_conf_dir: "/tmp".into(),
        cni_state_dir: "/tmp".into(),
        own_ports: vec![OwnPort::tcp(443, "the ingress"), OwnPort::tcp(6443, "the API")],
    }
}

fn ground(config: &Config) -> Ground<'_> {
    const ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 168, 1, 10), Ipv4Addr::new(172, 16, 0, 1)];
    Ground { config, addresses: &ADDRESSES }
}

fn service(spec: Value) -> Arc<Service> {
    object(json!({"metadata": {"name": "web", "namespace": "default", "uid": "s"}, "spec": spec}))
}

fn slice(endpoints: Value) -> Arc<EndpointSlice> {
    object(json!({"metadata": {"name": "web-1", "namespace": "default",
        "labels": {"kubernetes.io/service-name": "web"}}, "addressType": "IPv4",
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}], "endpoints": endpoints}))
}

fn of(spec: Value, endpoints: Value, balanced: bool) -> Vec<Route> {
    let services = [service(spec)];
    let balanced = if balanced { services.to_vec() } else { Vec::new() };
    routes(&ground(&config()), &services, &balanced, &[slice(endpoints)], &[])
}

fn ports() -> Value {
    json!([{"port": 80, "targetPort": 8080, "nodePort": 30080, "protocol": "TCP"}])
}

#[test]
fn only_ready_endpoints_receive_until_all_are_going() {
    let ready = json!({"addresses": ["10.42.0.2"], "conditions": {"ready": true}});
    let going = json!({"addresses": ["10.42.0.3"],
        "conditions": {"ready": false, "serving": true, "terminating": true}});
    let broken = json!({"addresses": ["10.42.0.4"], "conditions": {"ready": false, "serving": false}});
    let spec = json!({"clusterIP": "10.43.0.7", "ports": ports()});
    let chosen = |endpoints: Value| -> Vec<String> {
        of(spec.clone(), endpoints, false)[0].endpoints.iter().map(|(ip, port)| format!("{ip}:{port}")).collect()
    };
    assert_eq!(chosen(json!([ready, going, broken])), ["10.42.0.2:8080"]);
    assert_eq!(chosen(json!([going, broken])), ["10.42.0.3:8080"]);
    assert!(chosen(json!([broken])).is_empty());
}

#[test]
fn a_load_balancer_has_the_address_of_the_box() {
    let spec = json!({"type": "LoadBalancer", "clusterIP": "10.43.0.7", "ports": ports()});
    let addresses: Vec<String> =
        of(spec, json!([]), true)[0].addresses.iter().map(|(ip, port)| format!("{ip}:{port}")).collect();
    assert_eq!(addresses, ["10.43.0.7:80", "192.168.1.10:80"]);
}

#[test]
fn host_ports_are_for_pods_on_this_machine() {
    let pod = |node: &str| -> Arc<Pod> {
        object(json!({"metadata": {"name": "p", "namespace": "default", "uid": node}, "spec": {"nodeName": node,
            "containers": [{"name": "c", "ports": [{"containerPort": 8080, "hostPort": 80, "protocol": "TCP"}]}]},
            "status": {"podIP": "10.42.0.2"}}))
    };
    let routes = routes(&ground(&config()), &[], &[], &[], &[pod("box"), pod("other")]);
    assert_eq!(routes.len(), 1);
    assert_eq!(routes[0].node_port, Some(80));
}

#[test]
fn nobody_takes_what_is_the_boxs_own() {
    let config = config();
    let ground = ground(&config);
    let pod = |name: &str, port: Value| -> Arc<Pod> {
        object(json!({"metadata": {"name": name, "namespace": "default", "uid": name}, "spec": {"nodeName": "box",
            "containers": [{"name": "c", "ports": [port]}]}, "status": {"podIP": "10.42.0.2"}}))
    };
    let pods = [
        pod("ssh", json!({"containerPort": 22, "hostPort": 22})),
        pod("dns", json!({"containerPort": 53, "hostPort": 53, "protocol": "UDP"})),
        pod("api", json!({"containerPort": 80, "hostPort": 6443, "hostIP": "192.168.1.10"})),
        pod("service", json!({"containerPort": 80, "hostPort": 8080, "hostIP": "10.43.0.1"})),
        pod("elsewhere", json!({"containerPort": 80, "hostPort": 8080, "hostIP": "192.0.2.7"})),
        pod("quic", json!({"containerPort": 443, "hostPort": 443, "protocol": "UDP"})),
        pod("good", json!({"containerPort": 80, "hostPort": 8080, "hostIP": "172.16.0.1"})),
    ];
    let external = [
        "127.0.0.2",
        "169.254.169.254",
        "192.168.1.10",
        "172.16.0.1",
        "10.42.0.9",
        "10.43.0.1",
        "0.0.0.0",
        "198.51.100.7",
    ];
    let services = [
        service(json!({"clusterIP": "10.43.0.7", "ports": ports(), "externalIPs": external})),
        service(json!({"type": "LoadBalancer", "clusterIP": "10.43.0.8", "ports": [{"port": 80}, {"port": 443}]})),
        service(json!({"type": "LoadBalancer", "clusterIP": "10.43.0.9", "ports": [{"port": 443, "protocol": "UDP"}]})),
    ];
    let (balanced, late) = load_balancers::share(&ground, &services);
    assert_eq!((balanced.len(), late.len()), (1, 0));
    assert!(Arc::ptr_eq(&balanced[0], &services[2]));
    let made = routes(&ground, &services[..1], &[], &[], &pods);
    let made: Vec<String> = made
        .iter()
        .flat_map(|route| {
            let on = route.addresses.iter().map(|(address, port)| format!("{address}:{port}"));
            on.chain(route.node_port.map(|port| format!("*:{port}/{}", route.protocol.as_str())))
        })
        .collect();
    let mut sorted = made.clone();
    sorted.sort();
    assert_eq!(sorted, ["*:30080/tcp", "*:443/udp", "10.43.0.7:80", "172.16.0.1:8080", "198.51.100.7:80"]);
    let said: Vec<String> =
        ground.refusals(&services, &pods).iter().map(|r| format!("{}: {}", r.reason, r.message)).collect();
    expect![[r#"
        ExternalIPRefused: external IP 127.0.0.2 is not served: it is a loopback address
        ExternalIPRefused: external IP 169.254.169.254 is not served: it is a link-local address
        ExternalIPRefused: external IP 192.168.1.10 is not served: it is an address of the box itself: type LoadBalancer shares that
        ExternalIPRefused: external IP 172.16.0.1 is not served: it is an address of the box itself: type LoadBalancer shares that
        ExternalIPRefused: external IP 10.42.0.9 is not served: it is of the pods' or the Services' own network
        ExternalIPRefused: external IP 10.43.0.1 is not served: it is of the pods' or the Services' own network
        ExternalIPRefused: external IP 0.0.0.0 is not served: it is no address of one machine
        PortReserved: port 443 of the box's address is its own (the ingress): choose another
        HostPortRefused: host port 22 is not served: it is the box's own (SSH)
        HostPortRefused: host port 53 is not served: it is the box's own (DNS)
        HostPortRefused: host port 6443 is not served: it is the box's own (the API)
        HostPortRefused: host port 8080 is not served: hostIP 10.43.0.1 is no IPv4 address of this machine
        HostPortRefused: host port 8080 is not served: hostIP 192.0.2.7 is no IPv4 address of this machine"#]].assert_eq(&said.join("\n"));
}

#[test]
fn the_script_of_a_service() {
    let spec = json!({"clusterIP": "10.43.0.7", "ports": ports(), "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}});
    let endpoints = json!([{"addresses": ["10.42.0.2"]}, {"addresses": ["10.42.0.3"]}]);
    let script = render(&config(), &[], &of(spec, endpoints, false)).script;
    let own: Vec<&str> = script.lines().skip_while(|l| !l.contains("endpoint-")).collect();
    expect![[r#"
        add chain ip skiff-test endpoint-63e623cc36b1a9b0-0a2a0002-8080
        add set ip skiff-test clients-63e623cc36b1a9b0-0a2a0002-8080 { type ipv4_addr; flags dynamic,timeout; size 65535; timeout 60s; }
        add rule ip skiff-test endpoint-63e623cc36b1a9b0-0a2a0002-8080 update @clients-63e623cc36b1a9b0-0a2a0002-8080 { ip saddr }
        add rule ip skiff-test endpoint-63e623cc36b1a9b0-0a2a0002-8080 ip saddr 10.42.0.2 meta mark set meta mark | 0x4000
        add rule ip skiff-test endpoint-63e623cc36b1a9b0-0a2a0002-8080 meta l4proto tcp dnat to 10.42.0.2:8080
        add chain ip skiff-test endpoint-63e623cc36b1a9b0-0a2a0003-8080
        add set ip skiff-test clients-63e623cc36b1a9b0-0a2a0003-8080 { type ipv4_addr; flags dynamic,timeout; size 65535; timeout 60s; }
        add rule ip skiff-test endpoint-63e623cc36b1a9b0-0a2a0003-8080 update @clients-63e623cc36b1a9b0-0a2a0003-8080 { ip saddr }
        add rule ip skiff-test endpoint-63e623cc36b1a9b0-0a2a0003-8080 ip saddr 10.42.0.3 meta mark set meta mark | 0x4000
        add rule ip skiff-test endpoint-63e623cc36b1a9b0-0a2a0003-8080 meta l4proto tcp dnat to 10.42.0.3:8080
        add chain ip skiff-test service-63e623cc36b1a9b0
        add rule ip skiff-test service-63e623cc36b1a9b0 ip saddr @clients-63e623cc36b1a9b0-0a2a0002-8080 goto endpoint-63e623cc36b1a9b0-0a2a0002-8080
        add rule ip skiff-test service-63e623cc36b1a9b0 ip saddr @clients-63e623cc36b1a9b0-0a2a0003-8080 goto endpoint-63e623cc36b1a9b0-0a2a0003-8080
        add rule ip skiff-test service-63e623cc36b1a9b0 numgen random mod 2 vmap { 0 : goto endpoint-63e623cc36b1a9b0-0a2a0002-8080, 1 : goto endpoint-63e623cc36b1a9b0-0a2a0003-8080 }
        add element ip skiff-test addresses { 10.43.0.7 . tcp . 80 : goto service-63e623cc36b1a9b0 }
        add element ip skiff-test node-ports { tcp . 30080 : goto service-63e623cc36b1a9b0 }"#]].assert_eq(&own.join("\n"));
}

/// Runs `nft -f -` in a network namespace of its own, so that this machine's tables are not touched.
fn nft_accepts(scripts: &[String]) -> Result<String, String> {
    let mut list = scripts.iter().enumerate().map(|(n, script)| format!("nft -f - <<'END{n}'\n{script}\nEND{n}\n"));
    let program = format!("set -e\n{}nft list ruleset\n", list.by_ref().collect::<String>());
    let output = std::process::Command::new("unshare").args(["--net", "sh", "-c", &program]).output();
    let output = output.map_err(|e| e.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[test]
fn the_kernel_takes_the_script_and_its_changes() {
    let config = config();
    let spec = json!({"clusterIP": "10.43.0.7", "ports": ports(), "sessionAffinity": "ClientIP"});
    let two = of(spec.clone(), json!([{"addresses": ["10.42.0.2"]}, {"addresses": ["10.42.0.3"]}]), false);
    let one = of(spec.clone(), json!([{"addresses": ["10.42.0.3"]}]), false);
    let none = of(spec, json!([]), false);
    let mut scripts = Vec::new();
    let mut before = None;
    for routes in [&two, &one, &none, &two, &Vec::new()] {
        let rendered = render(&config, &[], routes);
        scripts.push(transaction(&config.table, &rendered, before.as_ref()));
        before = Some(rendered.objects);
    }
    let after_two = nft_accepts(&scripts[..1]).expect("accepted");
    assert!(after_two.contains("10.43.0.7 . tcp . 80 : goto service-"), "{after_two}");
    let refused = nft_accepts(&scripts[..3]).expect("accepted");
    assert!(refused.contains("10.43.0.7 . tcp . 80 : goto reject-all") && !refused.contains("dnat to"), "{refused}");
    let empty = nft_accepts(&scripts).expect("accepted");
    assert!(!empty.contains("service-") && !empty.contains("clients-"), "{empty}");
}

#[test]
fn who_comes_from_another_node_is_let_in_to_pods_and_nobody_else() {
    let peer = Peer { range: "10.42.1.0/24".parse().expect("a range"), address: [192, 168, 1, 11].into() };
    let admitted = |peers: &[Peer]| -> Vec<String> {
        let script = render(&config(), peers, &[]).script;
        script.lines().filter(|line| line.contains(" outside ip ")).map(str::to_owned).collect()
    };
    let alone = admitted(&[]);
    assert_eq!(alone.len(), 2, "one box lets nobody in: {alone:?}");
    let two = admitted(&[peer]);
    assert_eq!(
        two[0],
        "add rule ip skiff-test outside ip saddr { 10.42.1.0/24, 192.168.1.11 } ip daddr { 10.42.0.0/24, 192.168.1.10 } \
         fib saddr . iif oif exists accept"
    );
    assert_eq!(two[1..], alone[..], "before the others are dropped");
}
