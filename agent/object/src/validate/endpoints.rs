//! Endpoints and slices of them.
//!
//! Owns the checks of these kinds by themselves; which addresses endpoints may have is the server's to say.

use super::errors::Errors;
use super::node::Node;
use super::services::PROTOCOLS;
use super::{metadata, names};
use std::collections::BTreeSet;
use std::net::IpAddr;

pub fn endpoints(endpoints: &Node<'_>, errors: &mut Errors) {
    for subset in endpoints.get("subsets").items() {
        let (ready, not_ready) = (subset.get("addresses"), subset.get("notReadyAddresses"));
        if ready.is_empty() && not_ready.is_empty() {
            errors.required(&subset, "must specify `addresses` or `notReadyAddresses`");
        }
        for address in ready.items().iter().chain(&not_ready.items()) {
            let ip = address.get("ip");
            errors.formed(&ip, names::ip);
            errors.optional_named(&address.get("hostname"), names::dns_label);
            let node = address.get("nodeName");
            if !node.is_missing() {
                errors.formed(&node, names::dns_subdomain);
            }
        }
        let ports = subset.get("ports").items();
        for port in &ports {
            let (name, number) = (port.get("name"), port.get("port"));
            if ports.len() > 1 && name.is_empty() {
                errors.required(&name, "");
            }
            errors.optional_named(&name, names::dns_label);
            for problem in names::port_number(number.int().unwrap_or(0)) {
                errors.invalid_value(&number, &number.int().unwrap_or(0).into(), &problem);
            }
            errors.one_of(&port.get("protocol"), PROTOCOLS);
            app_protocol(&port.get("appProtocol"), errors);
        }
    }
}

/// Limits of one slice.
const SLICE_ENDPOINTS_MAX: usize = 1000;
const SLICE_PORTS_MAX: usize = 20_000;
const SLICE_ADDRESSES_MAX: usize = 100;
const SLICE_TOPOLOGY_MAX: usize = 16;
const SLICE_HINTS_MAX: usize = 8;

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
        for (field, form) in [("nodeName", names::dns_subdomain as names::Form), ("hostname", names::dns_label)] {
            let node = endpoint.get(field);
            if !node.is_missing() {
                errors.formed(&node, form);
            }
        }
        topology(&endpoint.get("deprecatedTopology"), errors);
        hints(&endpoint.at(&["hints", "forZones"]), names::label_value, errors);
        hints(&endpoint.at(&["hints", "forNodes"]), names::dns_subdomain, errors);
    }
    slice_ports(&ports, errors);
}

fn topology(topology: &Node<'_>, errors: &mut Errors) {
    if topology.entries().len() > SLICE_TOPOLOGY_MAX {
        errors.too_many(topology, topology.entries().len(), SLICE_TOPOLOGY_MAX);
    }
    metadata::labels(topology, errors);
}

fn hints(hints: &Node<'_>, form: names::Form, errors: &mut Errors) {
    let items = hints.items();
    if items.len() > SLICE_HINTS_MAX {
        return errors.too_many(hints, items.len(), SLICE_HINTS_MAX);
    }
    let mut seen = BTreeSet::new();
    for name in items.iter().map(|hint| hint.get("name")) {
        if !seen.insert(name.text()) {
            errors.duplicate(&name);
        }
        errors.formed(&name, form);
    }
}

fn app_protocol(protocol: &Node<'_>, errors: &mut Errors) {
    if !protocol.is_missing() {
        errors.formed(protocol, names::qualified_name);
    }
}

fn slice_address(ty: &str, address: &Node<'_>, errors: &mut Errors) {
    match (ty, address.text().parse::<IpAddr>()) {
        ("IPv4", Ok(IpAddr::V4(_))) | ("IPv6", Ok(IpAddr::V6(_))) => {}
        ("IPv4", _) => errors.invalid(address, "must be a valid IPv4 address"),
        ("IPv6", _) => errors.invalid(address, "must be a valid IPv6 address"),
        ("FQDN", _) => full_name(address, errors),
        (_, _) => {} // said of the type
    }
}

/// A domain of two parts at least, with a dot at its end or without.
fn full_name(address: &Node<'_>, errors: &mut Errors) {
    let name = address.text().strip_suffix('.').unwrap_or(address.text());
    let problems = names::dns_subdomain(name);
    let detail = match problems.as_slice() {
        _ if address.is_empty() => return errors.required(address, ""),
        [] if !name.contains('.') => "should be a domain with at least two segments separated by dots".to_owned(),
        [] => return,
        problems => problems.join(","),
    };
    errors.invalid_value(address, &name.into(), &detail);
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
        app_protocol(&port.get("appProtocol"), errors);
    }
}
