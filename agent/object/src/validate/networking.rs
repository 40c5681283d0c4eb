//! Ingresses, network policies, and ranges and owners of addresses.
//!
//! Owns the checks of these kinds by themselves.

use super::errors::Errors;
use super::node::Node;
use super::services::port_reference;
use super::{names, selectors, structs};
use crate::addresses::is_in;
use std::net::IpAddr;

pub fn ingress(ingress: &Node<'_>, errors: &mut Errors) {
    let spec = ingress.get("spec");
    let (backend, rules) = (spec.get("defaultBackend"), spec.get("rules"));
    if rules.is_empty() && backend.is_missing() {
        let none = Node { path: spec.path.clone(), ..rules.clone() };
        errors.invalid(&none, "either `defaultBackend` or `rules` must be specified");
    }
    if !backend.is_missing() {
        ingress_backend(&backend, errors);
    }
    for rule in rules.items() {
        let host = rule.get("host");
        if host.text().parse::<IpAddr>().is_ok() {
            errors.invalid(&host, "must be a DNS name, not an IP address");
        }
        if !host.is_empty() {
            ingress_host(&host, errors);
        }
        let http = rule.get("http");
        let paths = http.get("paths");
        if !http.is_missing() && paths.is_empty() {
            errors.required(&paths, "");
        }
        for path in paths.items() {
            ingress_path(&path, errors);
        }
    }
    for tls in spec.get("tls").items() {
        tls.get("hosts").items().iter().for_each(|host| ingress_host(host, errors));
        errors.optional_named(&tls.get("secretName"), names::dns_subdomain);
    }
    let class = spec.get("ingressClassName");
    if !class.is_missing() {
        errors.formed(&class, names::dns_subdomain);
    }
}

/// What is checked of a new one alone: its class by the old annotation.
pub fn ingress_create_only(ingress: &Node<'_>, errors: &mut Errors) {
    const ANNOTATION: &str = "kubernetes.io/ingress.class";
    let (old, new) =
        (ingress.at(&["metadata", "annotations"]).key(ANNOTATION), ingress.at(&["spec", "ingressClassName"]));
    if !old.is_missing() && !new.is_missing() && old.value != new.value {
        let node = Node { path: format!("annotations.{ANNOTATION}"), ..old };
        errors.invalid(&node, "must match `ingressClassName` when both are specified");
    }
}

fn ingress_host(host: &Node<'_>, errors: &mut Errors) {
    let wildcard = host.text().contains('*');
    errors.formed(host, if wildcard { names::wildcard_subdomain } else { names::dns_subdomain });
}

fn ingress_path(path: &Node<'_>, errors: &mut Errors) {
    let (ty, text) = (path.get("pathType"), path.get("path"));
    match ty.text() {
        _ if ty.is_missing() => return errors.required(&ty, "pathType must be specified"),
        "Exact" | "Prefix" => {
            if !text.text().starts_with('/') {
                errors.invalid_text(&text, "must be an absolute path");
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
    let (service, resource) = (backend.get("service"), backend.get("resource"));
    match (service.is_missing(), resource.is_missing()) {
        (false, false) => errors.invalid_value(backend, &"".into(), "cannot set both resource and service backends"),
        (true, true) => errors.invalid_value(backend, &"".into(), "resource or service backend is required"),
        (true, false) => local_reference(&resource, errors),
        (false, true) => {
            errors.named(&service.get("name"), names::dns1035_label);
            let port = service.get("port");
            let (name, number) = (port.get("name"), port.get("number"));
            match (name.is_empty(), number.int().unwrap_or(0)) {
                (true, 0) => errors.required(backend, "port name or number is required"),
                (false, 0) => errors.formed(&name, names::port_name),
                (true, value) => errors.invalid_all(&number, names::port_number(value)),
                (false, _) => errors.invalid_value(backend, &"".into(), "cannot set both port name & port number"),
            }
        }
    }
}

fn local_reference(reference: &Node<'_>, errors: &mut Errors) {
    let group = reference.get("apiGroup");
    if !group.is_missing() {
        errors.formed(&group, names::dns_subdomain);
    }
    for field in ["kind", "name"] {
        let node = reference.get(field);
        if node.is_empty() {
            errors.required(&node, &format!("{field} is required"));
        } else {
            errors.formed(&node, names::path_segment);
        }
    }
}

const CONTROLLER_MAX: usize = 250;

pub fn ingress_class(class: &Node<'_>, errors: &mut Errors) {
    let (controller, parameters) = (class.at(&["spec", "controller"]), class.at(&["spec", "parameters"]));
    if controller.text().len() > CONTROLLER_MAX {
        errors.too_long(&controller.path, CONTROLLER_MAX);
    }
    errors.domain_path(&controller);
    if parameters.is_missing() {
        return;
    }
    local_reference(&parameters, errors);
    let (scope, namespace) = (parameters.get("scope"), parameters.get("namespace"));
    match scope.value.as_str() {
        None => errors.required(&scope, ""),
        Some("Namespace") if namespace.is_missing() => {
            errors.required(&namespace, "`parameters.scope` is set to 'Namespace'");
        }
        Some("Namespace") => errors.formed(&namespace, names::dns_label),
        Some("Cluster") if !namespace.is_missing() => {
            errors.forbidden(&namespace, "`parameters.scope` is set to 'Cluster'");
        }
        Some("Cluster") => {}
        Some(_) => errors.not_supported(&scope, &["Cluster", "Namespace"]),
    }
}

/// The directions that a policy can be about, and as many.
const POLICY_TYPES: &[&str] = &["Ingress", "Egress"];

pub fn network_policy(policy: &Node<'_>, errors: &mut Errors) {
    let spec = policy.get("spec");
    selectors::label_selector(&spec.get("podSelector"), errors);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.get(direction).items() {
            rule.get("ports").items().iter().for_each(|port| policy_port(port, errors));
            rule.get(peers).items().iter().for_each(|peer| policy_peer(peer, errors));
        }
    }
    let types = spec.get("policyTypes");
    if types.items().len() > POLICY_TYPES.len() {
        return errors.invalid(&types, "may not specify more than two policyTypes");
    }
    types.items().iter().for_each(|ty| errors.supported(ty, POLICY_TYPES));
}

fn policy_port(port: &Node<'_>, errors: &mut Errors) {
    errors.optional_supported(&port.get("protocol"), &["TCP", "UDP", "SCTP"]);
    let (number, end) = (port.get("port"), port.get("endPort"));
    port_reference(&number, errors);
    let Some(end_number) = end.int() else {
        return;
    };
    match number.int() {
        Some(start) => {
            if end_number < start {
                errors.invalid_value(&end, &start.into(), "must be greater than or equal to `port`");
            }
            errors.invalid_all(&end, names::port_number(end_number));
        }
        None if number.is_missing() => errors.invalid(&end, "may not be specified when `port` is not specified"),
        None => errors.invalid(&end, "may not be specified when `port` is non-numeric"),
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
        ip_block(&block, errors);
    }
}

fn ip_block(block: &Node<'_>, errors: &mut Errors) {
    let cidr = block.get("cidr");
    let before = errors.len();
    errors.named(&cidr, names::cidr);
    if errors.len() > before {
        return;
    }
    let length = |text: &str| text.split_once('/').and_then(|(_, length)| length.parse::<u8>().ok()).unwrap_or(0);
    for except in block.get("except").items() {
        let before = errors.len();
        errors.formed(&except, names::cidr);
        let address = except.text().split_once('/').and_then(|(address, _)| address.parse().ok());
        let inside = address.is_some_and(|address| is_in(address, cidr.text()));
        if errors.len() == before && !(inside && length(except.text()) > length(cidr.text())) {
            errors.invalid(&except, "must be a strict subset of `cidr`");
        }
    }
}

pub fn service_cidr(range: &Node<'_>, errors: &mut Errors) {
    let (spec, ranges) = (range.get("spec"), range.at(&["spec", "cidrs"]));
    let whole = Node { path: ranges.path.clone(), ..spec };
    let items = ranges.items();
    match items.as_slice() {
        [] => return errors.required(&ranges, "at least one CIDR required"),
        [_] => {}
        [first, second] if first.text().contains(':') == second.text().contains(':') => {
            let detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
            return errors.invalid_struct(&whole, structs::SERVICE_CIDR, detail);
        }
        [_, _] => {}
        _ => return errors.invalid_struct(&whole, structs::SERVICE_CIDR, "may only hold up to 2 values"),
    }
    items.iter().for_each(|item| errors.formed(item, names::canonical_cidr));
}

/// Whose an address is.
pub fn ip_address(address: &Node<'_>, errors: &mut Errors) {
    let parent = address.at(&["spec", "parentRef"]);
    if parent.is_missing() {
        return errors.required(&parent, "");
    }
    errors.optional_named(&parent.get("group"), names::dns_subdomain);
    errors.named(&parent.get("resource"), names::path_segment);
    errors.named(&parent.get("name"), names::path_segment);
    errors.optional_named(&parent.get("namespace"), names::path_segment);
}
