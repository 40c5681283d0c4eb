//! Ingresses, network policies, endpoints and address ranges.
//!
//! Owns the checks of these kinds by themselves.

use super::errors::Errors;
use super::node::Node;
use super::services::{PROTOCOLS, port_reference};
use super::{names, selectors};
use std::collections::BTreeSet;
use std::net::IpAddr;

pub fn ingress(ingress: &Node<'_>, errors: &mut Errors) {
    let spec = ingress.get("spec");
    let (backend, rules) = (spec.get("defaultBackend"), spec.get("rules"));
    if rules.is_empty() && backend.is_missing() {
        errors.invalid(&spec, "either `defaultBackend` or `rules` must be specified");
    }
    ingress_backend(&backend, errors);
    errors.optional_named(&spec.get("ingressClassName"), names::dns_subdomain);
    for tls in spec.get("tls").items() {
        for host in tls.get("hosts").items() {
            ingress_host(&host, errors);
        }
        errors.optional_named(&tls.get("secretName"), names::dns_subdomain);
    }
    for rule in rules.items() {
        ingress_host(&rule.get("host"), errors);
        let http = rule.get("http");
        let paths = http.get("paths");
        if !http.is_missing() && paths.is_empty() {
            errors.required(&paths, "");
        }
        for path in paths.items() {
            ingress_path(&path, errors);
        }
    }
}

fn ingress_host(host: &Node<'_>, errors: &mut Errors) {
    match host.text() {
        "" => {}
        text if text.parse::<IpAddr>().is_ok() => errors.invalid(host, "must be a DNS name, not an IP address"),
        text if text.contains('*') => errors.invalid_all(host, names::wildcard_subdomain(text)),
        text => errors.invalid_all(host, names::dns_subdomain(text)),
    }
}

fn ingress_path(path: &Node<'_>, errors: &mut Errors) {
    let (ty, text) = (path.get("pathType"), path.get("path"));
    match ty.text() {
        "" => errors.required(&ty, "pathType must be specified"),
        "Exact" | "Prefix" => {
            if !text.text().starts_with('/') {
                errors.invalid_value(&text, &text.text().into(), "must be an absolute path");
            }
            for sequence in ["//", "/./", "/../", "%2f", "%2F"] {
                if text.text().contains(sequence) {
                    errors.invalid(&text, &format!("must not contain '{sequence}'"));
                }
            }
            for suffix in ["/..", "/."] {
                if text.text().ends_with(suffix) {
                    errors.invalid(&text, &format!("cannot end with '{suffix}'"));
                }
            }
        }
        "ImplementationSpecific" => {
            if !text.is_empty() && !text.text().starts_with('/') {
                errors.invalid(&text, "must be an absolute path");
            }
        }
        _ => errors.not_supported(&ty, &["Exact", "ImplementationSpecific", "Prefix"]),
    }
    ingress_backend(&path.get("backend"), errors);
}

fn ingress_backend(backend: &Node<'_>, errors: &mut Errors) {
    if backend.is_missing() {
        return;
    }
    let (service, resource) = (backend.get("service"), backend.get("resource"));
    match (service.is_missing(), resource.is_missing()) {
        (false, false) => errors.invalid_value(backend, &"".into(), "cannot set both resource and service backends"),
        (true, true) => errors.required(backend, "must set one of `service` or `resource`"),
        (true, false) => {}
        (false, true) => {
            errors.named(&service.get("name"), names::dns1035_label);
            let port = service.get("port");
            let (name, number) = (port.get("name"), port.get("number"));
            match (name.is_empty(), number.int().unwrap_or(0)) {
                (true, 0) => errors.required(&port, "port name or number is required"),
                (false, 0) => errors.invalid_all(&name, names::port_name(name.text())),
                (true, value) => errors.invalid_all(&number, names::port_number(value)),
                (false, _) => errors.invalid_value(&port, &"".into(), "cannot set both port name & port number"),
            }
        }
    }
}

pub fn ingress_class(class: &Node<'_>, errors: &mut Errors) {
    let controller = class.at(&["spec", "controller"]);
    let domain_path =
        controller.text().split_once('/').is_some_and(|(domain, path)| !domain.is_empty() && !path.is_empty());
    if controller.is_empty() {
        errors.required(&controller, "");
    } else if !domain_path {
        errors.invalid(&controller, "must be a domain-prefixed path (such as \"acme.io/foo\")");
    }
}

pub fn network_policy(policy: &Node<'_>, errors: &mut Errors) {
    let spec = policy.get("spec");
    selectors::label_selector(&spec.get("podSelector"), errors);
    for ty in spec.get("policyTypes").items() {
        errors.one_of(&ty, &["Egress", "Ingress"]);
    }
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.get(direction).items() {
            for port in rule.get("ports").items() {
                policy_port(&port, errors);
            }
            for peer in rule.get(peers).items() {
                policy_peer(&peer, errors);
            }
        }
    }
}

fn policy_port(port: &Node<'_>, errors: &mut Errors) {
    errors.optional_one_of(&port.get("protocol"), PROTOCOLS);
    let (number, end) = (port.get("port"), port.get("endPort"));
    port_reference(&number, errors);
    match (end.int(), number.int()) {
        (Some(end_number), Some(start)) if end_number < start => {
            errors.invalid(&end, "must be greater than or equal to `port`");
        }
        (Some(_), None) => errors.required(&number, "must be specified when `endPort` is set"),
        (Some(_) | None, _) => errors.in_range(&end, 1, 65535),
    }
}

fn policy_peer(peer: &Node<'_>, errors: &mut Errors) {
    let (pods, namespaces, block) = (peer.get("podSelector"), peer.get("namespaceSelector"), peer.get("ipBlock"));
    selectors::label_selector(&pods, errors);
    selectors::label_selector(&namespaces, errors);
    let selects = !pods.is_missing() || !namespaces.is_missing();
    match (selects, block.is_missing()) {
        (true, false) => errors.forbidden(peer, "may not specify both ipBlock and another peer"),
        (false, true) => errors.required(peer, "must specify a peer"),
        (false, false) | (true, true) => {}
    }
    if !block.is_missing() {
        errors.named(&block.get("cidr"), names::cidr);
        for except in block.get("except").items() {
            errors.named(&except, names::cidr);
        }
    }
}

pub fn service_cidr(range: &Node<'_>, errors: &mut Errors) {
    let ranges = range.at(&["spec", "cidrs"]);
    let items = ranges.items();
    if items.is_empty() {
        errors.required(&ranges, "at least one CIDR required");
    }
    if items.len() > 2 {
        errors.invalid(&ranges, "may only hold up to 2 values");
    }
    for item in items {
        errors.named(&item, names::cidr);
    }
}

/// The networks of a node's pods: one of each family.
pub fn node(node: &Node<'_>, errors: &mut Errors) {
    let spec = node.get("spec");
    let (first, ranges) = (spec.get("podCIDR"), spec.get("podCIDRs"));
    let items = ranges.items();
    for range in &items {
        errors.invalid_all(range, names::canonical_cidr(range.text()));
    }
    let families: BTreeSet<bool> = items.iter().map(|range| range.text().contains(':')).collect();
    if families.len() < items.len() {
        errors.invalid(&ranges, "may specify no more than one CIDR for each IP family");
    }
    if items.first().is_some_and(|range| range.value != first.value) {
        errors.invalid(&first, "must be the first of podCIDRs");
    }
}

pub fn endpoints(endpoints: &Node<'_>, errors: &mut Errors) {
    for subset in endpoints.get("subsets").items() {
        let (ready, not_ready) = (subset.get("addresses"), subset.get("notReadyAddresses"));
        if ready.is_empty() && not_ready.is_empty() {
            errors.required(&subset, "must specify `addresses` or `notReadyAddresses`");
        }
        for address in ready.items().iter().chain(&not_ready.items()) {
            let ip = address.get("ip");
            errors.invalid_all(&ip, names::ip(ip.text()));
            errors.optional_named(&address.get("hostname"), names::dns_label);
        }
        let ports = subset.get("ports").items();
        for port in &ports {
            let (name, number) = (port.get("name"), port.get("port"));
            if ports.len() > 1 && name.is_empty() {
                errors.required(&name, "");
            }
            errors.optional_named(&name, names::dns_label);
            errors.in_range(&number, 1, 65535);
            errors.one_of(&port.get("protocol"), PROTOCOLS);
        }
    }
}

/// Limits of one slice.
const SLICE_ENDPOINTS_MAX: usize = 1000;
const SLICE_PORTS_MAX: usize = 20_000;
const SLICE_ADDRESSES_MAX: usize = 100;

pub fn endpoint_slice(slice: &Node<'_>, errors: &mut Errors) {
    let ty = slice.get("addressType");
    errors.one_of(&ty, &["FQDN", "IPv4", "IPv6"]);
    let (endpoints, ports) = (slice.get("endpoints"), slice.get("ports"));
    let items = endpoints.items();
    if items.len() > SLICE_ENDPOINTS_MAX {
        errors.too_many(&endpoints, items.len(), SLICE_ENDPOINTS_MAX);
        return;
    }
    for endpoint in items {
        let addresses = endpoint.get("addresses");
        let list = addresses.items();
        if list.is_empty() {
            errors.required(&addresses, "must contain at least 1 address");
        } else if list.len() > SLICE_ADDRESSES_MAX {
            errors.too_many(&addresses, list.len(), SLICE_ADDRESSES_MAX);
        }
        for address in list {
            slice_address(ty.text(), &address, errors);
        }
        errors.optional_named(&endpoint.get("hostname"), names::dns_label);
    }
    slice_ports(&ports, errors);
}

fn slice_address(ty: &str, address: &Node<'_>, errors: &mut Errors) {
    match (ty, address.text().parse::<IpAddr>()) {
        ("IPv4", Ok(IpAddr::V4(_))) | ("IPv6", Ok(IpAddr::V6(_))) => {}
        ("IPv4", _) => errors.invalid(address, "must be a valid IPv4 address"),
        ("IPv6", _) => errors.invalid(address, "must be a valid IPv6 address"),
        (_, _) => errors.named(address, names::dns_subdomain),
    }
}

fn slice_ports(ports: &Node<'_>, errors: &mut Errors) {
    let items = ports.items();
    if items.len() > SLICE_PORTS_MAX {
        errors.too_many(ports, items.len(), SLICE_PORTS_MAX);
        return;
    }
    let mut seen = BTreeSet::new();
    for port in items {
        let name = port.get("name");
        errors.optional_named(&name, names::dns_label);
        if !seen.insert(name.text()) {
            errors.duplicate_value(&name, &name.text().into());
        }
        errors.one_of(&port.get("protocol"), PROTOCOLS);
        errors.optional_named(&port.get("appProtocol"), names::qualified_name);
    }
}
