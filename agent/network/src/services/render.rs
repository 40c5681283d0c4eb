//! From routes to an nftables script. Pure.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};

use super::observe::Route;
use crate::Config;
use crate::routes::Peer;

/// Marks what has to come back through this machine: a pod that reaches itself through a Service.
const MARK: &str = "0x4000";

/// A chain or set of a single Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Object {
    // The order is that of removal: chains refer to sets and to each other.
    ServiceChain(String),
    EndpointChain(String),
    Set(String),
}

pub struct Rendered {
    pub script: String,
    pub objects: BTreeSet<Object>,
}

/// The whole table's content, onto empty chains and maps.
pub fn render(config: &Config, peers: &[Peer], routes: &[Route]) -> Rendered {
    let table = format!("ip {}", config.table);
    let mut script = String::new();
    let mut objects = BTreeSet::new();
    base(&mut script, &table, config, peers);
    for route in routes {
        chains(&mut script, &table, route, &mut objects);
    }
    let mut taken = BTreeSet::new();
    for route in routes {
        elements(&mut script, &table, route, &mut taken);
    }
    Rendered { script, objects }
}

/// The script that takes the table from what it was to what is rendered, at once. Sets keep their elements, so that
/// clients stay with their endpoints.
pub fn transaction(table: &str, rendered: &Rendered, before: Option<&BTreeSet<Object>>) -> String {
    let mut script = String::new();
    match before {
        // Whatever an earlier run left: start over.
        None => {
            line(&mut script, format_args!("table ip {table} {{}}\ndelete table ip {table}\ntable ip {table} {{}}"))
        }
        Some(before) => {
            for map in ["addresses", "node-ports", "refused-addresses", "refused-ports"] {
                line(&mut script, format_args!("flush map ip {table} {map}"));
            }
            line(&mut script, format_args!("flush table ip {table}"));
            for object in before.difference(&rendered.objects) {
                match object {
                    Object::ServiceChain(name) | Object::EndpointChain(name) => {
                        line(&mut script, format_args!("delete chain ip {table} {name}"));
                    }
                    Object::Set(name) => line(&mut script, format_args!("delete set ip {table} {name}")),
                }
            }
        }
    }
    script.push_str(&rendered.script);
    script
}

fn line(script: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(script, "{text}").expect("writing to a string cannot fail");
}

fn base(script: &mut String, table: &str, config: &Config, peers: &[Peer]) {
    let (pods, services, bridge) = (config.pod_cidr(), config.service_cidr(), &config.bridge);
    // Who comes from another node comes the way that an answer to it takes, to a pod here or as an answer to this node.
    let own = match config.node_address {
        IpAddr::V4(address) => format!("{}, {address}", config.node_range),
        IpAddr::V6(_) => config.node_range.to_string(),
    };
    let admitted = peers.iter().map(|Peer { range, address }| {
        let from = format!("ip saddr {{ {range}, {address} }} ip daddr {{ {own} }} fib saddr . iif oif exists");
        format!("add rule {table} outside {from} accept")
    });
    let first = [
        format!("add map {table} addresses {{ type ipv4_addr . inet_proto . inet_service : verdict; }}"),
        format!("add map {table} node-ports {{ type inet_proto . inet_service : verdict; }}"),
        format!("add map {table} refused-addresses {{ type ipv4_addr . inet_proto . inet_service : verdict; }}"),
        format!("add map {table} refused-ports {{ type inet_proto . inet_service : verdict; }}"),
        // Before addresses are translated: what is for the box itself does not name these networks then.
        format!("add chain {table} outside {{ type filter hook prerouting priority mangle; }}"),
        format!("add rule {table} outside iifname {{ \"lo\", \"{bridge}\" }} accept"),
    ];
    let rest = [
        format!("add rule {table} outside ip daddr {{ {pods}, {services} }} drop"),
        format!("add rule {table} outside ip saddr {{ {pods}, {services} }} drop"),
        format!("add chain {table} services"),
        format!("add chain {table} prerouting {{ type nat hook prerouting priority dstnat; }}"),
        format!("add chain {table} output {{ type nat hook output priority -100; }}"),
        format!("add chain {table} postrouting {{ type nat hook postrouting priority srcnat; }}"),
        format!("add chain {table} refuse"),
        format!("add chain {table} input-filter {{ type filter hook input priority filter; }}"),
        format!("add chain {table} forward-filter {{ type filter hook forward priority filter; }}"),
        format!("add chain {table} output-filter {{ type filter hook output priority filter; }}"),
        format!("add chain {table} reject-all"),
        format!("add rule {table} prerouting jump services"),
        format!("add rule {table} output jump services"),
        format!("add rule {table} services ip daddr . meta l4proto . th dport vmap @addresses"),
        format!(
            "add rule {table} services fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @node-ports"
        ),
        format!("add rule {table} postrouting meta mark & {MARK} == {MARK} masquerade"),
        format!("add rule {table} postrouting ip saddr {pods} ip daddr != {pods} oifname != \"{bridge}\" masquerade"),
        format!("add rule {table} reject-all meta l4proto tcp reject with tcp reset"),
        format!("add rule {table} reject-all reject with icmp port-unreachable"),
        format!("add rule {table} refuse ip daddr . meta l4proto . th dport vmap @refused-addresses"),
        format!("add rule {table} refuse fib daddr type local meta l4proto . th dport vmap @refused-ports"),
        format!("add rule {table} input-filter ct state new jump refuse"),
        format!("add rule {table} forward-filter ct state new jump refuse"),
        format!("add rule {table} output-filter ct state new jump refuse"),
    ];
    for text in first.into_iter().chain(admitted).chain(rest) {
        line(script, format_args!("{text}"));
    }
}

fn endpoint_chain(route: &Route, endpoint: &(Ipv4Addr, u16)) -> String {
    let (address, port) = endpoint;
    format!("endpoint-{}-{:08x}-{port}", route.name, address.to_bits())
}

fn affinity_set(route: &Route, endpoint: &(Ipv4Addr, u16)) -> String {
    endpoint_chain(route, endpoint).replace("endpoint-", "clients-")
}

fn chains(script: &mut String, table: &str, route: &Route, objects: &mut BTreeSet<Object>) {
    if route.endpoints.is_empty() {
        return;
    }
    let protocol = route.protocol.as_str();
    for endpoint @ (address, port) in &route.endpoints {
        let chain = endpoint_chain(route, endpoint);
        line(script, format_args!("add chain {table} {chain}"));
        if let Some(seconds) = route.affinity_seconds {
            let set = affinity_set(route, endpoint);
            line(
                script,
                format_args!(
                    "add set {table} {set} {{ type ipv4_addr; flags dynamic,timeout; size 65535; timeout {seconds}s; }}"
                ),
            );
            line(script, format_args!("add rule {table} {chain} update @{set} {{ ip saddr }}"));
            objects.insert(Object::Set(set));
        }
        line(script, format_args!("add rule {table} {chain} ip saddr {address} meta mark set meta mark | {MARK}"));
        line(script, format_args!("add rule {table} {chain} meta l4proto {protocol} dnat to {address}:{port}"));
        objects.insert(Object::EndpointChain(chain));
    }
    let chain = format!("service-{}", route.name);
    line(script, format_args!("add chain {table} {chain}"));
    if route.affinity_seconds.is_some() {
        for endpoint in &route.endpoints {
            let (set, goal) = (affinity_set(route, endpoint), endpoint_chain(route, endpoint));
            line(script, format_args!("add rule {table} {chain} ip saddr @{set} goto {goal}"));
        }
    }
    let goals: Vec<String> = route
        .endpoints
        .iter()
        .enumerate()
        .map(|(index, endpoint)| format!("{index} : goto {}", endpoint_chain(route, endpoint)))
        .collect();
    let rule = match route.endpoints.first() {
        Some(only) if goals.len() == 1 => format!("goto {}", endpoint_chain(route, only)),
        Some(_) | None => format!("numgen random mod {} vmap {{ {} }}", goals.len(), goals.join(", ")),
    };
    line(script, format_args!("add rule {table} {chain} {rule}"));
    objects.insert(Object::ServiceChain(chain));
}

/// A Service without endpoints refuses at once instead of letting its clients wait. An address that two routes claim
/// is the first one's: twice in a map, it would make the whole transaction fail.
fn elements(script: &mut String, table: &str, route: &Route, taken: &mut BTreeSet<String>) {
    let protocol = route.protocol.as_str();
    let served = !route.endpoints.is_empty();
    let goal = if served { format!("goto service-{}", route.name) } else { "goto reject-all".to_owned() };
    let (addresses, ports) = if served { ("addresses", "node-ports") } else { ("refused-addresses", "refused-ports") };
    let on_addresses =
        route.addresses.iter().map(|(address, port)| (addresses, format!("{address} . {protocol} . {port}")));
    let on_ports = route.node_port.iter().map(|port| (ports, format!("{protocol} . {port}")));
    for (map, key) in on_addresses.chain(on_ports) {
        if taken.insert(key.clone()) {
            line(script, format_args!("add element {table} {map} {{ {key} : {goal} }}"));
        }
    }
}
