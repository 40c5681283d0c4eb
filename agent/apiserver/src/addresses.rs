//! Which addresses traffic may be led to: those that nodes say that they and their pods have, and those of endpoints. The
//! box's own node says what its settings say, and this server where it is reached. And which a Service may take from outside.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::Value;
use skiff_object::validate::{FieldError, FieldErrorKind};
use skiff_object::{addresses, kinds, meta};
use skiff_store::Store;

use crate::rbac::Attributes;
use crate::status::ApiError;
use crate::users::User;
use crate::write::{Author, Write};
use crate::{Api, codec};

/// What a node says of its own addresses: others send traffic for its pods to them.
pub async fn check_node<S: Store>(
    api: &Api<S>,
    write: &Write<'_>,
    new: &Value,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    let Some(node) = another(api, &write.author.user) else { return Ok(()) };
    let before = old.map(of_node).unwrap_or_default();
    let added: Vec<IpAddr> = of_node(new).difference(&before).copied().collect();
    let refuse = |address, why: &str| {
        let why = format!("node {node:?} is not allowed to set the address {address}: {why}");
        Err(ApiError::forbidden_object(write.kind, meta::name(new), &why))
    };
    for address in &added {
        if let Some(why) = api.config().why_taken(*address) {
            return refuse(address, &format!("it {why}"));
        }
    }
    if added.is_empty() {
        return Ok(());
    }
    for other in api.entries_of(write.kind, None).await?.iter().map(codec::decode) {
        let name = meta::name(&other);
        // Another that is away may have lost it, or is this machine by an older name.
        if name != node
            && (is_ready(&other) || name == api.config().node_name)
            && let Some(address) = added.iter().find(|address| of_node(&other).contains(address))
        {
            return refuse(address, &format!("it is node {name:?}'s"));
        }
    }
    Ok(())
}

/// What a node says of a pod's addresses: Services send traffic to them.
pub async fn check_pod<S: Store>(
    api: &Api<S>,
    write: &Write<'_>,
    new: &Value,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    let Some(node) = another(api, &write.author.user) else { return Ok(()) };
    let before = old.map(of_pod).unwrap_or_default();
    let added: Vec<&str> = of_pod(new).difference(&before).copied().collect();
    if added.is_empty() {
        return Ok(());
    }
    let nodes = kinds::by_kind("v1", "Node").expect("a built-in kind");
    let object = api.read(nodes, None, node).await?.unwrap_or_default();
    let refused = added.into_iter().find_map(|text| Some((text, fault(&object, new, text)?)));
    refused.map_or(Ok(()), |(text, why)| {
        let why = format!("node {node:?} is not allowed to set podIP {text}: it {why}");
        Err(ApiError::forbidden_object(write.kind, meta::name(new), &why))
    })
}

/// Why an address is none of a pod on the node.
fn fault(node: &Value, pod: &Value, text: &str) -> Option<&'static str> {
    let Ok(address) = text.parse::<IpAddr>() else { return Some("is no IP address") };
    let host_network = meta::at(pod, &["spec", "hostNetwork"]) == Some(&Value::Bool(true));
    addresses::unowned(address).or_else(|| match host_network {
        true => (!of_node(node).contains(&address.to_canonical())).then_some("is none of the node's"),
        false => (!is_in_range(node, address)).then_some("is not in the node's podCIDR"),
    })
}

/// Endpoints are elsewhere than on whichever machine sends to them. As upstream validates them; not in `object::validate`, as
/// an API server that listens on a loopback address alone is an endpoint too, of its own Service.
pub fn check_endpoints(write: &Write<'_>, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let same = |field: &str| old.is_some_and(|old| old.get(field) == new.get(field));
    if write.author.user == Author::own().user || same("subsets") && same("endpoints") {
        return Vec::new();
    }
    let found = endpoint_addresses(new).into_iter().filter_map(|(field, value)| {
        let why = addresses::special(value.as_str()?.parse().ok()?)?;
        Some(FieldError::new(FieldErrorKind::Invalid, field, Some(value), why))
    });
    found.collect()
}

/// The addresses of Endpoints or of an EndpointSlice, and where each is.
fn endpoint_addresses(object: &Value) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    for (at, subset) in meta::items(object.get("subsets")).iter().enumerate() {
        for list in ["addresses", "notReadyAddresses"] {
            let all = meta::items(subset.get(list)).iter().enumerate();
            found.extend(all.map(|(n, address)| (format!("subsets[{at}].{list}[{n}].ip"), &address["ip"])));
        }
    }
    for (at, endpoint) in meta::items(object.get("endpoints")).iter().enumerate() {
        let all = meta::items(endpoint.get("addresses")).iter().enumerate();
        found.extend(all.map(|(n, address)| (format!("endpoints[{at}].addresses[{n}]"), address)));
    }
    found
}

/// What may be done with which a Service takes addresses that are not the cluster's: every pod that calls one of them comes to
/// that Service, whoever else has the address. No role for a namespace has it.
const EXTERNAL: (&str, &str) = ("update", "services/externalips");

/// As upstream's `DenyServiceExternalIPs`, which is off there, but for whoever may do [`EXTERNAL`]: addresses are taken away by
/// everybody, and those that are there stay.
pub fn check_external<S: Store>(
    api: &Api<S>,
    write: &Write<'_>,
    new: &Value,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    let all = |service: &Value| meta::items(meta::at(service, &["spec", "externalIPs"])).to_vec();
    let before = old.map(all).unwrap_or_default();
    if all(new).iter().all(|address| before.contains(address)) {
        return Ok(());
    }
    let name = meta::name(new);
    let (verb, resource) = EXTERNAL;
    let (namespace, named) = (write.namespace, Some(name).filter(|name| !name.is_empty()));
    let wanted = Attributes::Resource { verb, group: "", resource, namespace, name: named, of_node: None };
    if api.authorizer().allows(&write.author.user, &wanted) {
        return Ok(());
    }
    Err(ApiError::forbidden_object(write.kind, name, "Use of external IPs is denied by admission control"))
}

/// The node that writes, if it is not the box's own.
fn another<'a, S: Store>(api: &Api<S>, user: &'a User) -> Option<&'a str> {
    user.node().filter(|node| *node != api.config().node_name)
}

/// Addresses of a node, whatever their types are.
fn of_node(node: &Value) -> BTreeSet<IpAddr> {
    let all = meta::items(meta::at(node, &["status", "addresses"])).iter();
    all.filter_map(|address| meta::text_at(address, &["address"]).parse::<IpAddr>().ok())
        .map(|address| address.to_canonical())
        .collect()
}

fn of_pod(pod: &Value) -> BTreeSet<&str> {
    let first = meta::text_at(pod, &["status", "podIP"]);
    let all = meta::items(meta::at(pod, &["status", "podIPs"])).iter().map(|item| meta::text_at(item, &["ip"]));
    all.chain([first]).filter(|text| !text.is_empty()).collect()
}

fn is_in_range(node: &Value, address: IpAddr) -> bool {
    let ranges = meta::items(meta::at(node, &["spec", "podCIDRs"])).iter().filter_map(Value::as_str);
    let first = meta::text_at(node, &["spec", "podCIDR"]);
    ranges.chain([first]).any(|range| addresses::is_in(address, range))
}

fn is_ready(node: &Value) -> bool {
    let conditions = meta::items(meta::at(node, &["status", "conditions"])).iter();
    conditions.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}
