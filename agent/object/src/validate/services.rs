//! Services.
//!
//! Owns ports, addresses and types by themselves; which addresses and node ports are free is the server's.

use super::errors::Errors;
use super::metadata;
use super::names;
use super::node::Node;
use serde_json::json;
use std::collections::BTreeSet;

pub const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

pub fn service(service: &Node<'_>, errors: &mut Errors) {
    let spec = service.get("spec");
    let ty = spec.get("type");
    let headless = spec.get("clusterIP").text() == "None";
    errors.one_of(&ty, TYPES);
    ports(&spec, headless, errors);
    addresses(&spec, errors);
    match ty.text() {
        "ExternalName" => external_name(&spec, errors),
        "LoadBalancer" if headless => {
            let detail = "may not be set to 'None' for LoadBalancer services";
            errors.invalid_value(
                &Node { path: "spec.clusterIPs[0]".to_owned(), ..spec.get("clusterIP") },
                &"None".into(),
                detail,
            );
        }
        "NodePort" if headless => {
            let detail = "may not be set to 'None' for NodePort services";
            errors.invalid_value(
                &Node { path: "spec.clusterIPs[0]".to_owned(), ..spec.get("clusterIP") },
                &"None".into(),
                detail,
            );
        }
        _ => {}
    }
    metadata::labels(&spec.get("selector"), errors);
    errors.optional_one_of(&spec.get("sessionAffinity"), &["ClientIP", "None"]);
    errors.in_range(&spec.at(&["sessionAffinityConfig", "clientIP", "timeoutSeconds"]), 1, 86400);
    errors.optional_one_of(&spec.get("externalTrafficPolicy"), &["Cluster", "Local"]);
    errors.optional_one_of(&spec.get("internalTrafficPolicy"), &["Cluster", "Local"]);
    errors.optional_one_of(&spec.get("ipFamilyPolicy"), &["PreferDualStack", "RequireDualStack", "SingleStack"]);
    for family in spec.get("ipFamilies").items() {
        errors.one_of(&family, &["IPv4", "IPv6"]);
    }
}

fn external_name(spec: &Node<'_>, errors: &mut Errors) {
    if !spec.get("clusterIPs").is_empty() || !matches!(spec.get("clusterIP").text(), "" | "None") {
        errors.forbidden(&spec.get("clusterIPs"), "may not be set when `type` is 'ExternalName'");
    }
    let name = spec.get("externalName");
    match name.text() {
        "" => errors.required(&name, ""),
        text => errors.invalid_all(&name, names::dns_subdomain(text.strip_suffix('.').unwrap_or(text))),
    }
}

fn addresses(spec: &Node<'_>, errors: &mut Errors) {
    let (address, addresses) = (spec.get("clusterIP"), spec.get("clusterIPs"));
    for node in addresses.items() {
        if node.text() != "None" {
            errors.invalid_all(&node, names::ip(node.text()));
        }
    }
    if addresses.is_empty() && !matches!(address.text(), "" | "None") {
        let node = Node { path: "spec.clusterIPs[0]".to_owned(), ..address.clone() };
        errors.invalid_all(&node, names::ip(address.text()));
    }
    if let Some(first) = addresses.items().first()
        && first.text() != address.text()
    {
        errors.invalid(&addresses, "first value must match `clusterIP`");
    }
    for external in spec.get("externalIPs").items() {
        errors.invalid_all(&external, names::ip(external.text()));
    }
    for range in spec.get("loadBalancerSourceRanges").items() {
        errors.invalid_all(&range, names::cidr(range.text().trim()));
    }
}

fn ports(spec: &Node<'_>, headless: bool, errors: &mut Errors) {
    let (ports, ty) = (spec.get("ports"), spec.get("type"));
    let items = ports.items();
    if items.is_empty() && !headless && ty.text() != "ExternalName" {
        errors.required(&ports, "");
    }
    let (mut seen_names, mut seen, mut seen_node_ports) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for port in &items {
        port_form(port, items.len() > 1, errors);
        let (name, protocol) = (port.get("name"), port.get("protocol").text());
        if !name.is_empty() && !seen_names.insert(name.text()) {
            errors.duplicate(&name);
        }
        let number = port.get("port").int().unwrap_or(0);
        if number != 0 && !seen.insert((protocol, number)) {
            errors.duplicate_value(port, port.value);
        }
        let node_port = port.get("nodePort");
        let node_number = node_port.int().unwrap_or(0);
        if node_number != 0 && matches!(ty.text(), "ClusterIP" | "ExternalName") {
            errors.forbidden(&node_port, &format!("may not be used when `type` is '{}'", ty.text()));
        } else if node_number != 0 && !seen_node_ports.insert((protocol, node_number)) {
            errors.duplicate(&node_port);
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
    errors.in_range(&port.get("nodePort"), 0, 65535);
    errors.optional_named(&port.get("appProtocol"), names::qualified_name);
}

/// A port by number or by name.
pub fn port_reference(port: &Node<'_>, errors: &mut Errors) {
    match (port.int(), port.value.as_str()) {
        (Some(number), _) => errors.invalid_all(port, names::port_number(number)),
        (None, Some(name)) => errors.invalid_all(port, names::port_name(name)),
        (None, None) => {}
    }
}
