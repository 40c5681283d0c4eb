//! Addresses and ports of Services: given out when a Service is written, unique across the cluster.
//!
//! The Services in the store are the only record of what is taken; one lock serializes the writers.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;

use serde_json::{Value, json};
use skiff_object::kinds::{self, Kind};
use skiff_object::meta;
use skiff_object::validate::{FieldError, FieldErrorKind};
use skiff_store::{ListOptions, Store};

use crate::Api;
use crate::status::ApiError;

/// The network that cluster addresses come from, and the range of node ports.
#[derive(Clone, Debug)]
pub struct ServiceNetwork {
    pub base: Ipv4Addr,
    pub prefix_len: u8,
    pub node_ports: RangeInclusive<u16>,
}

impl ServiceNetwork {
    fn size(&self) -> u32 {
        1u32.checked_shl(32 - u32::from(self.prefix_len)).unwrap_or(u32::MAX)
    }

    fn nth(&self, n: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base.to_bits().wrapping_add(n))
    }

    fn contains(&self, address: Ipv4Addr) -> bool {
        let offset = address.to_bits().wrapping_sub(self.base.to_bits());
        (1..self.size() - 1).contains(&offset)
    }

    /// The address of the `kubernetes` Service: the first of the network.
    pub fn api_address(&self) -> IpAddr {
        IpAddr::V4(self.nth(1))
    }

    /// Upstream keeps the lower part of the network for addresses that are asked for.
    fn first_dynamic(&self) -> u32 {
        (self.size() / 16).clamp(16, 256).min(self.size() / 2)
    }

    fn free_address(&self, taken: &HashSet<Ipv4Addr>, seed: u32) -> Option<Ipv4Addr> {
        let (first, last) = (self.first_dynamic(), self.size() - 1);
        let span = last.saturating_sub(first).max(1);
        let upper = (0..span).map(|n| first + (seed.wrapping_add(n)) % span);
        upper.chain(1..first).map(|n| self.nth(n)).find(|a| self.contains(*a) && !taken.contains(a))
    }

    fn free_port(&self, taken: &HashSet<u16>, seed: u32) -> Option<u16> {
        let (first, last) = (u32::from(*self.node_ports.start()), u32::from(*self.node_ports.end()));
        let span = last - first + 1;
        (0..span).filter_map(|n| u16::try_from(first + (seed.wrapping_add(n)) % span).ok()).find(|p| !taken.contains(p))
    }
}

#[derive(Default)]
struct Taken {
    addresses: HashSet<Ipv4Addr>,
    ports: HashSet<u16>,
}

pub(crate) fn is_service(kind: &Kind) -> bool {
    kind.group.is_empty() && kind.kind == "Service"
}

impl<S: Store> Api<S> {
    /// Gives a Service what it lacks. The caller holds the lock until the write is done.
    pub(crate) async fn allocate_service(&self, service: &mut Value) -> Result<Vec<FieldError>, ApiError> {
        let taken = self.taken(service).await?;
        let mut errors = Vec::new();
        self.allocate_address(service, &taken, &mut errors);
        self.allocate_ports(service, &taken, &mut errors);
        Ok(errors)
    }

    async fn taken(&self, except: &Value) -> Result<Taken, ApiError> {
        let kind = kinds::by_kind("v1", "Service").expect("a built-in kind");
        let page = self.store().list(&kind.key_prefix(None), ListOptions::default()).await;
        let page = page.map_err(|e| ApiError::from_store(e, kind, ""))?;
        let mut taken = Taken::default();
        for entry in &page.entries {
            let service: Value = serde_json::from_slice(&entry.value).unwrap_or_default();
            if !meta::uid(except).is_empty() && meta::uid(&service) == meta::uid(except) {
                continue;
            }
            taken.addresses.extend(meta::text_at(&service, &["spec", "clusterIP"]).parse::<Ipv4Addr>());
            let ports = meta::items(meta::at(&service, &["spec", "ports"]));
            taken.ports.extend(ports.iter().filter_map(node_port));
        }
        Ok(taken)
    }

    fn allocate_address(&self, service: &mut Value, taken: &Taken, errors: &mut Vec<FieldError>) {
        let network = self.service_network();
        let asked = meta::text_at(service, &["spec", "clusterIP"]).to_owned();
        if meta::text_at(service, &["spec", "type"]) == "ExternalName" {
            for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
                meta::map_mut(&mut service["spec"]).remove(field);
            }
            return;
        }
        let address = match asked.as_str() {
            "None" => asked,
            "" => match network.free_address(&taken.addresses, seed()) {
                Some(address) => address.to_string(),
                None => {
                    errors.push(invalid("spec.clusterIPs[0]", "failed to allocate a serviceIP: range is full"));
                    return;
                }
            },
            _ => {
                match asked.parse::<Ipv4Addr>() {
                    Ok(address) if !network.contains(address) => errors.push(invalid(
                        "spec.clusterIPs",
                        &format!(
                            "Invalid value: [\"{asked}\"]: failed to allocate IP {asked}: the provided IP ({asked}) is \
                             not in the valid range. The range of valid IPs is {}/{}",
                            network.base, network.prefix_len
                        ),
                    )),
                    Ok(address) if taken.addresses.contains(&address) => errors.push(invalid(
                        "spec.clusterIPs",
                        &format!(
                            "Invalid value: [\"{asked}\"]: failed to allocate IP {asked}: provided IP is already allocated"
                        ),
                    )),
                    // What is not an address has been refused by validation.
                    Ok(_) | Err(_) => {}
                }
                asked
            }
        };
        let spec = meta::map_mut(&mut service["spec"]);
        spec.insert("clusterIP".to_owned(), json!(address));
        spec.insert("clusterIPs".to_owned(), json!([address]));
        spec.entry("ipFamilies").or_insert_with(|| json!(["IPv4"]));
        spec.entry("ipFamilyPolicy").or_insert_with(|| json!("SingleStack"));
    }

    fn allocate_ports(&self, service: &mut Value, taken: &Taken, errors: &mut Vec<FieldError>) {
        let network = self.service_network();
        let wants = match meta::text_at(service, &["spec", "type"]) {
            "NodePort" => true,
            "LoadBalancer" => meta::at(service, &["spec", "allocateLoadBalancerNodePorts"]) != Some(&json!(false)),
            _ => false,
        };
        let Some(ports) = service["spec"]["ports"].as_array_mut() else { return };
        let mut used = taken.ports.clone();
        for (index, port) in ports.iter_mut().enumerate() {
            let field = format!("spec.ports[{index}].nodePort");
            match node_port(port) {
                Some(asked) if !network.node_ports.contains(&asked) => errors.push(invalid(
                    &field,
                    &format!(
                        "Invalid value: {asked}: provided port is not in the valid range. The range of valid ports is {}-{}",
                        network.node_ports.start(),
                        network.node_ports.end()
                    ),
                )),
                Some(asked) if taken.ports.contains(&asked) => errors
                    .push(invalid(&field, &format!("Invalid value: {asked}: provided port is already allocated"))),
                Some(asked) => {
                    used.insert(asked);
                }
                None if wants => match network.free_port(&used, seed()) {
                    Some(free) => {
                        used.insert(free);
                        port["nodePort"] = json!(free);
                    }
                    None => errors.push(invalid(&field, "failed to allocate a nodePort: range is full")),
                },
                None => {}
            }
        }
    }
}

fn node_port(port: &Value) -> Option<u16> {
    port.get("nodePort").and_then(Value::as_u64).and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0)
}

/// An update that leaves an address or a node port out keeps the one it has.
pub(crate) fn keep(service: &mut Value, old: &Value) {
    let kind = |s: &Value| meta::text_at(s, &["spec", "type"]).to_owned();
    if kind(service) == "ExternalName" || kind(old) == "ExternalName" {
        return;
    }
    for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        let missing = service["spec"].get(field).is_none_or(|v| v == "" || v.is_null());
        if let (true, Some(value)) = (missing, old["spec"].get(field)) {
            service["spec"][field] = value.clone();
        }
    }
    if kind(service) == "ClusterIP" {
        for port in service["spec"]["ports"].as_array_mut().into_iter().flatten() {
            if kind(old) != "ClusterIP" {
                meta::map_mut(port).remove("nodePort");
            }
        }
        return;
    }
    let old_ports: Vec<Value> = meta::items(meta::at(old, &["spec", "ports"])).to_vec();
    for port in service["spec"]["ports"].as_array_mut().into_iter().flatten().filter(|p| node_port(p).is_none()) {
        let same = |p: &&Value| p["port"] == port["port"] && p["protocol"] == port["protocol"];
        if let Some(kept) = old_ports.iter().find(same).and_then(node_port) {
            port["nodePort"] = json!(kept);
        }
    }
}

fn invalid(field: &str, detail: &str) -> FieldError {
    FieldError { kind: FieldErrorKind::Invalid, field: field.to_owned(), detail: detail.to_owned() }
}

/// Where the search for something free starts, so that a freed one is not given out again at once.
fn seed() -> u32 {
    let random = crate::random::bytes::<4>();
    u32::from_ne_bytes(random)
}
