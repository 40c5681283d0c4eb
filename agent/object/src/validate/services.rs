//! Services.
//!
//! Owns ports, addresses and types by themselves; which addresses and node ports are free is the server's.

use super::errors::{Errors, FieldErrorKind};
use super::metadata;
use super::names;
use super::node::Node;
use super::structs;
use crate::addresses::special;
use serde_json::json;
use std::collections::BTreeSet;

pub const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const TRAFFIC_POLICIES: &[&str] = &["Cluster", "Local"];
const FAMILIES: &[&str] = &["IPv4", "IPv6"];
const FAMILY_POLICIES: &[&str] = &["PreferDualStack", "RequireDualStack", "SingleStack"];
const DISTRIBUTIONS: &[&str] = &["PreferClose", "PreferSameZone", "PreferSameNode"];

pub fn service(service: &Node<'_>, errors: &mut Errors) {
    let spec = service.get("spec");
    let ty = spec.get("type");
    topology_annotations(service, errors);
    if spec.get("ports").is_empty() && !is_headless(&spec) && ty.text() != "ExternalName" {
        errors.required(&spec.get("ports"), "");
    }
    match ty.text() {
        "ExternalName" => external_name(&spec, errors),
        "LoadBalancer" | "NodePort" if is_headless(&spec) => {
            let first = Node { path: "spec.clusterIPs[0]".to_owned(), ..spec.get("clusterIP") };
            let detail = format!("may not be set to 'None' for {} services", ty.text());
            errors.invalid_value(&first, &"None".into(), &detail);
        }
        _ => {}
    }
    let ports = spec.get("ports").items();
    ports.iter().for_each(|port| port_form(port, ports.len() > 1, errors));
    unique_names(&spec, errors);
    metadata::labels(&spec.get("selector"), errors);
    affinity(&spec, errors);
    if ty.text() != "ExternalName" {
        addresses(&spec, errors);
    }
    external_addresses(&spec, errors);
    errors.one_of(&ty, TYPES);
    ports_of_type(&spec, errors);
    source_ranges(service, errors);
    fields_of_type(&spec, errors);
}

/// Without an address of its own.
pub fn is_headless(spec: &Node<'_>) -> bool {
    match spec.get("clusterIPs").items().as_slice() {
        [] => spec.get("clusterIP").text() == "None",
        [only] => only.text() == "None",
        _ => false,
    }
}

/// The old name of an annotation may not say other than the new one.
fn topology_annotations(service: &Node<'_>, errors: &mut Errors) {
    const OLD: &str = "service.kubernetes.io/topology-aware-hints";
    let annotations = service.at(&["metadata", "annotations"]);
    let (mode, hints) = (annotations.key("service.kubernetes.io/topology-mode"), annotations.key(OLD));
    if !mode.is_missing() && !hints.is_missing() && mode.value != hints.value {
        errors.invalid(&mode, &format!("must match annotations[{OLD}] when both are specified"));
    }
}

fn external_name(spec: &Node<'_>, errors: &mut Errors) {
    if !spec.get("clusterIPs").is_empty() || !matches!(spec.get("clusterIP").text(), "" | "None") {
        errors.forbidden(&spec.get("clusterIPs"), "may not be set for ExternalName services");
    }
    for field in ["ipFamilies", "ipFamilyPolicy"].map(|field| spec.get(field)) {
        if !field.is_empty() {
            errors.forbidden(&field, "may not be set for ExternalName services");
        }
    }
    let name = spec.get("externalName");
    match name.text().strip_suffix('.').unwrap_or(name.text()) {
        "" => errors.required(&name, ""),
        text => {
            for problem in names::dns_subdomain(text) {
                errors.invalid_value(&name, &text.into(), &problem);
            }
        }
    }
}

/// A client may stay with an endpoint for less than a day.
const AFFINITY_SECONDS_MAX: i64 = 86400;

fn affinity(spec: &Node<'_>, errors: &mut Errors) {
    let (affinity, config) = (spec.get("sessionAffinity"), spec.get("sessionAffinityConfig"));
    errors.one_of(&affinity, &["ClientIP", "None"]);
    if affinity.text() != "ClientIP" {
        return;
    }
    let seconds = config.at(&["clientIP", "timeoutSeconds"]);
    if seconds.is_missing() {
        errors.required(&seconds, "when session affinity type is ClientIP");
    } else if seconds.int().is_some_and(|number| !(1..=AFFINITY_SECONDS_MAX).contains(&number)) {
        errors.invalid(&seconds, &format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}"));
    }
}

fn addresses(spec: &Node<'_>, errors: &mut Errors) {
    let (address, list, families) = (spec.get("clusterIP"), spec.get("clusterIPs"), spec.get("ipFamilies"));
    let items = list.items();
    match items.first() {
        Some(_) if address.is_empty() => errors.invalid(&list, "must be empty when `clusterIP` is not specified"),
        Some(first) if first.text() != address.text() => errors.invalid(&list, "first value must match `clusterIP`"),
        Some(_) | None => {}
    }
    let mut seen = BTreeSet::new();
    for family in families.items() {
        errors.supported(&family, FAMILIES);
        if !seen.insert(family.text()) {
            errors.duplicate(&family);
        }
    }
    errors.optional_supported(&spec.get("ipFamilyPolicy"), FAMILY_POLICIES);
    // The server makes the list of a single one, later.
    let single = Node { path: "spec.clusterIPs[0]".to_owned(), ..address.clone() };
    let asked = if items.is_empty() && !address.is_empty() { vec![single] } else { items };
    let before = errors.len();
    for (index, node) in asked.iter().enumerate() {
        if index == 0 && node.text() == "None" {
            if asked.len() > 1 {
                errors.invalid(&list, "'None' must be the first and only value");
            }
        } else {
            errors.formed(node, names::ip);
        }
    }
    let right = errors.len() == before;
    if asked.len() > 2 {
        errors.invalid(&list, "may only hold up to 2 values");
    }
    if right && !is_headless(spec) {
        families_of(&list, &asked, &families.items(), errors);
    }
}

/// Two addresses are one of each family, in the order of the families that are asked for.
fn families_of(list: &Node<'_>, addresses: &[Node<'_>], families: &[Node<'_>], errors: &mut Errors) {
    let family = |node: &Node<'_>| if node.text().contains(':') { "IPv6" } else { "IPv4" };
    let distinct: BTreeSet<&str> = addresses.iter().map(family).collect();
    if addresses.len() > 1 && distinct.len() < 2 {
        errors.invalid(list, "may specify no more than one IP for each IP family");
    }
    for (index, (address, wanted)) in addresses.iter().zip(families).enumerate() {
        if FAMILIES.contains(&wanted.text()) && family(address) != wanted.text() {
            let detail = format!("expected an {} value as indicated by `ipFamilies[{index}]`", wanted.text());
            errors.invalid(address, &detail);
        }
    }
}

fn external_addresses(spec: &Node<'_>, errors: &mut Errors) {
    for external in spec.get("externalIPs").items() {
        match external.text().parse() {
            Ok(address) => special(address).into_iter().for_each(|why| errors.invalid(&external, why)),
            Err(_) => errors.formed(&external, names::ip),
        }
    }
}

fn unique_names(spec: &Node<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for name in spec.get("ports").items().iter().map(|port| port.get("name")) {
        if !name.is_empty() && !seen.insert(name.text()) {
            errors.duplicate(&name);
        }
    }
}

fn ports_of_type(spec: &Node<'_>, errors: &mut Errors) {
    let (ports, ty) = (spec.get("ports").items(), spec.get("type"));
    let (mut seen, mut seen_node_ports) = (BTreeSet::new(), BTreeSet::new());
    let number = |port: &Node<'_>, field: &str| port.get(field).int().unwrap_or(0);
    if ty.text() == "ClusterIP" {
        for port in ports.iter().filter(|port| number(port, "nodePort") != 0) {
            errors.forbidden(&port.get("nodePort"), "may not be used when `type` is 'ClusterIP'");
        }
    }
    for port in ports.iter().filter(|port| number(port, "nodePort") != 0) {
        if !seen_node_ports.insert((port.get("protocol").text(), number(port, "nodePort"))) {
            errors.duplicate(&port.get("nodePort"));
        }
    }
    for port in &ports {
        let (protocol, own) = (port.get("protocol").text(), number(port, "port"));
        if !seen.insert((protocol, own)) {
            let key = json!({"protocol": protocol, "port": own});
            let key = Node { path: port.path.clone(), value: &key };
            errors.about_struct(FieldErrorKind::Duplicate, &key, structs::SERVICE_PORT, "");
        }
    }
}

fn port_form(port: &Node<'_>, must_be_named: bool, errors: &mut Errors) {
    let name = port.get("name");
    if must_be_named {
        errors.named(&name, names::dns_label);
    } else {
        errors.optional_named(&name, names::dns_label);
    }
    let number = port.get("port");
    for problem in names::port_number(number.int().unwrap_or(0)) {
        errors.invalid_value(&number, &json!(number.int().unwrap_or(0)), &problem);
    }
    errors.one_of(&port.get("protocol"), PROTOCOLS);
    port_reference(&port.get("targetPort"), errors);
    let protocol = port.get("appProtocol");
    if !protocol.is_missing() {
        errors.formed(&protocol, names::qualified_name);
    }
}

const LOAD_BALANCER_ONLY: &str = "may only be used when `type` is 'LoadBalancer'";

/// Who may use a load balancer, by the field or, of old, by an annotation.
fn source_ranges(service: &Node<'_>, errors: &mut Errors) {
    const ANNOTATION: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
    let spec = service.get("spec");
    let balanced = spec.get("type").text() == "LoadBalancer";
    let ranges = spec.get("loadBalancerSourceRanges");
    let check = |node: &Node<'_>, text: &str, errors: &mut Errors| {
        for problem in names::cidr(text) {
            errors.invalid_value(node, &text.into(), &problem);
        }
    };
    if !ranges.is_empty() {
        // Upstream spells the field so here.
        let ranges = Node { path: "spec.LoadBalancerSourceRanges".to_owned(), ..ranges };
        if !balanced {
            errors.forbidden(&ranges, LOAD_BALANCER_ONLY);
        }
        ranges.items().iter().for_each(|range| check(range, range.text().trim(), errors));
        return;
    }
    let annotation = service.at(&["metadata", "annotations"]).key(ANNOTATION);
    if annotation.is_missing() {
        return;
    }
    if !balanced {
        errors.forbidden(&annotation, LOAD_BALANCER_ONLY);
    }
    for range in annotation.text().split(',').map(str::trim).filter(|_| !annotation.text().trim().is_empty()) {
        check(&annotation, range, errors);
    }
}

/// What only some types of Services have.
fn fields_of_type(spec: &Node<'_>, errors: &mut Errors) {
    let ty = spec.get("type").text();
    let class = spec.get("loadBalancerClass");
    for field in [spec.get("allocateLoadBalancerNodePorts"), class.clone()] {
        if ty != "LoadBalancer" && !field.is_missing() {
            errors.forbidden(&field, LOAD_BALANCER_ONLY);
        }
    }
    if ty == "LoadBalancer" && !class.is_missing() {
        errors.formed(&class, names::qualified_name);
    }
    let external = spec.get("externalTrafficPolicy");
    if is_external(spec) {
        errors.one_of(&external, TRAFFIC_POLICIES);
    } else if !external.is_empty() {
        errors.invalid(&external, "may only be set for externally-accessible services");
    }
    let health = spec.get("healthCheckNodePort");
    let number = health.int().unwrap_or(0);
    if ty == "LoadBalancer" && external.text() == "Local" {
        // The server gives a port where none is asked for.
        if number != 0 {
            errors.in_range(&health, 1, 65535);
        }
    } else if number != 0 {
        let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.invalid(&health, detail);
    }
    let internal = spec.get("internalTrafficPolicy");
    if internal.is_missing() && matches!(ty, "ClusterIP" | "NodePort" | "LoadBalancer") {
        errors.required(&internal, "");
    }
    errors.optional_supported(&internal, TRAFFIC_POLICIES);
    errors.optional_supported(&spec.get("trafficDistribution"), DISTRIBUTIONS);
}

/// Whether it is reached from outside of the cluster.
fn is_external(spec: &Node<'_>) -> bool {
    match spec.get("type").text() {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => !spec.get("externalIPs").is_empty(),
        _ => false,
    }
}

/// A port by number or by name.
pub fn port_reference(port: &Node<'_>, errors: &mut Errors) {
    match (port.int(), port.value.as_str()) {
        (Some(number), _) => errors.invalid_all(port, names::port_number(number)),
        (None, Some(name)) => errors.invalid_all(port, names::port_name(name)),
        (None, None) => {}
    }
}
