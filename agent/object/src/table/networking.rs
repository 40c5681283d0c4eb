//! The rows of services, endpoints, ingresses and network policies.
//!
//! Owns addresses and ports as text.

use super::cells::{NONE, UNSET, at_most, int, joined, labels, list, load_balancer, or_none, selector, text_or_none};
use super::{AGE, Column, NAME, Printed, age, name, text, wide};
use crate::meta;
use jiff::Timestamp;
use serde_json::Value;

pub const PRINTED: &[Printed] = &[
    ("", "Service", SERVICE, service),
    ("", "Endpoints", &[NAME, text("Endpoints", "Addresses and ports."), AGE], endpoints),
    (
        "discovery.k8s.io",
        "EndpointSlice",
        &[
            NAME,
            text("AddressType", "The type of the addresses."),
            text("Ports", "The ports of every endpoint."),
            text("Endpoints", "The addresses."),
            AGE,
        ],
        endpoint_slice,
    ),
    (
        "networking.k8s.io",
        "Ingress",
        &[
            NAME,
            text("Class", "The ingress class."),
            text("Hosts", "The hosts of the rules."),
            text("Address", "Where the ingress is reached."),
            text("Ports", "The ports that are open."),
            AGE,
        ],
        ingress,
    ),
    (
        "networking.k8s.io",
        "IngressClass",
        &[
            NAME,
            text("Controller", "The controller that handles this class."),
            text("Parameters", "The parameters of the controller."),
            AGE,
        ],
        ingress_class,
    ),
    (
        "networking.k8s.io",
        "NetworkPolicy",
        &[NAME, text("Pod-Selector", "The pods that the policy is about."), AGE],
        network_policy,
    ),
    ("networking.k8s.io", "IPAddress", &[NAME, text("ParentRef", "What the address belongs to.")], ip_address),
    ("networking.k8s.io", "ServiceCIDR", &[NAME, text("CIDRs", "The address ranges."), AGE], service_cidr),
];

const SERVICE: &[Column<'static>] = &[
    NAME,
    text("Type", "How the service is exposed."),
    text("Cluster-IP", "The address within the cluster."),
    text("External-IP", "The addresses outside the cluster."),
    text("Port(s)", "The ports of the service."),
    AGE,
    wide("Selector", "The labels that the pods are selected by."),
];

fn service(service: &Value, now: Timestamp) -> Vec<Value> {
    let ports: Vec<String> = list(service, &["spec", "ports"]).iter().map(service_port).collect();
    let address = match list(service, &["spec", "clusterIPs"]).first().and_then(Value::as_str) {
        Some(first) => first.into(),
        None => text_or_none(service, &["spec", "clusterIP"]),
    };
    vec![
        name(service),
        meta::text_at(service, &["spec", "type"]).into(),
        address,
        external_address(service).into(),
        or_none(ports.join(",")),
        age(service, now),
        labels(service, &["spec", "selector"]),
    ]
}

fn service_port(port: &Value) -> String {
    let protocol = meta::text_at(port, &["protocol"]);
    match (int(port, &["port"]), int(port, &["nodePort"])) {
        (number, 0) => format!("{number}/{protocol}"),
        (number, node) => format!("{number}:{node}/{protocol}"),
    }
}

fn external_address(service: &Value) -> String {
    let fixed = joined(service, &["spec", "externalIPs"]);
    match meta::text_at(service, &["spec", "type"]) {
        "ExternalName" => meta::text_at(service, &["spec", "externalName"]).to_owned(),
        "LoadBalancer" => {
            let mut all = load_balancer(service);
            all.extend(Some(fixed).filter(|fixed| !fixed.is_empty()));
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        _ if fixed.is_empty() => NONE.to_owned(),
        _ => fixed,
    }
}

/// More addresses than these are only counted.
const SHOWN_MAX: usize = 3;

fn endpoints(object: &Value, now: Timestamp) -> Vec<Value> {
    let mut texts = Vec::new();
    for subset in list(object, &["subsets"]) {
        let (addresses, ports) = (list(subset, &["addresses"]), list(subset, &["ports"]));
        for address in addresses {
            let ip = meta::text_at(address, &["ip"]);
            if ports.is_empty() {
                texts.push(ip.to_owned());
            }
            texts.extend(ports.iter().map(|port| socket(ip, int(port, &["port"]))));
        }
    }
    vec![name(object), or_none(at_most(&texts, SHOWN_MAX)), age(object, now)]
}

fn socket(ip: &str, port: i64) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

fn endpoint_slice(slice: &Value, now: Timestamp) -> Vec<Value> {
    let port = |port: &Value| match int(port, &["port"]) {
        0 => meta::text_at(port, &["name"]).to_owned(),
        number => number.to_string(),
    };
    let ports: Vec<String> = list(slice, &["ports"]).iter().map(port).collect();
    let addresses = list(slice, &["endpoints"]).iter().flat_map(|endpoint| list(endpoint, &["addresses"]));
    let addresses: Vec<String> = addresses.filter_map(Value::as_str).map(str::to_owned).collect();
    let or_unset = |text: String| {
        if text.is_empty() { UNSET.to_owned() } else { text }
    };
    vec![
        name(slice),
        meta::text_at(slice, &["addressType"]).into(),
        or_unset(at_most(&ports, SHOWN_MAX)).into(),
        or_unset(at_most(&addresses, SHOWN_MAX)).into(),
        age(slice, now),
    ]
}

fn ingress(ingress: &Value, now: Timestamp) -> Vec<Value> {
    let hosts = list(ingress, &["spec", "rules"]).iter().map(|rule| meta::text_at(rule, &["host"]).to_owned());
    let hosts: Vec<String> = hosts.filter(|host| !host.is_empty()).collect();
    let hosts = if hosts.is_empty() { "*".to_owned() } else { at_most(&hosts, SHOWN_MAX) };
    let ports = if list(ingress, &["spec", "tls"]).is_empty() { "80" } else { "80, 443" };
    vec![
        name(ingress),
        text_or_none(ingress, &["spec", "ingressClassName"]),
        hosts.into(),
        load_balancer(ingress).join(",").into(),
        ports.into(),
        age(ingress, now),
    ]
}

fn ingress_class(class: &Value, now: Timestamp) -> Vec<Value> {
    let parameter = |field: &str| meta::text_at(class, &["spec", "parameters", field]);
    let parameters = match (parameter("kind"), parameter("apiGroup"), parameter("name")) {
        ("", _, _) => NONE.to_owned(),
        (kind, "", name) => format!("{kind}/{name}"),
        (kind, group, name) => format!("{kind}.{group}/{name}"),
    };
    vec![name(class), meta::text_at(class, &["spec", "controller"]).into(), parameters.into(), age(class, now)]
}

fn network_policy(policy: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(policy), selector(policy, &["spec", "podSelector"]), age(policy, now)]
}

fn ip_address(address: &Value, _now: Timestamp) -> Vec<Value> {
    let parts =
        ["resource", "group", "namespace", "name"].map(|field| meta::text_at(address, &["spec", "parentRef", field]));
    let [resource, group, namespace, parent] = parts;
    let resource = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
    let path: Vec<&str> = [resource.as_str(), namespace, parent].into_iter().filter(|part| !part.is_empty()).collect();
    vec![name(address), or_none(path.join("/"))]
}

fn service_cidr(range: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(range), joined(range, &["spec", "cidrs"]).into(), age(range, now)]
}
