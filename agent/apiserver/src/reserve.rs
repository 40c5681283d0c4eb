//! What has to be nobody else's: cluster addresses and node ports of Services.
//!
//! Each is a key of its own in the store, written in one commit with the Service. That two want the same shows as a refused
//! commit, so that any number of API servers may share a store. The keys of addresses are upstream's IPAddress objects.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;

use serde_json::{Value, json};
use skiff_object::kinds::{self, Kind};
use skiff_object::meta;
use skiff_object::validate::{FieldError, FieldErrorKind};
use skiff_store::{Entry, Expect, ListOptions, Store, Write};

use crate::status::ApiError;
use crate::strategy::{Reserves, Strategy};
use crate::{Api, codec, prepare, random};

/// Node ports have no object upstream either; it keeps a map of them below this folder.
const PORTS_PREFIX: &str = "/registry/ranges/nodeports/";
const MANAGED_BY: &str = "ipallocator.k8s.io";

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

    pub(crate) fn contains(&self, address: Ipv4Addr) -> bool {
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

    /// All addresses, in the order in which a free one is looked for. Where it starts is random, so that one that was given
    /// back is not given out again at once.
    fn addresses(&self, seed: u32) -> impl Iterator<Item = Claim> + use<'_> {
        let (first, last) = (self.first_dynamic(), self.size() - 1);
        let span = last.saturating_sub(first).max(1);
        let start = seed % span;
        let upper = (0..span).map(move |n| first + (start + n) % span);
        upper.chain(1..first).map(|n| self.nth(n)).filter(|a| self.contains(*a)).map(Claim::Address)
    }

    fn ports(&self, seed: u32) -> impl Iterator<Item = Claim> + use<> {
        let (first, last) = (u32::from(*self.node_ports.start()), u32::from(*self.node_ports.end()));
        let span = last - first + 1;
        let start = seed % span;
        (0..span).filter_map(move |n| u16::try_from(first + (start + n) % span).ok()).map(Claim::Port)
    }
}

/// One thing that is reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    Address(Ipv4Addr),
    Port(u16),
}

/// What has to be written with an object.
#[derive(Default)]
pub struct Reserved {
    /// Where the object stays.
    pub changed: Vec<Write>,
    /// Where it goes.
    pub released: Vec<Write>,
    /// In any case: the quotas that it counts for.
    pub charged: Vec<Write>,
}

impl Claim {
    fn key(self) -> String {
        match self {
            Claim::Address(address) => addresses_kind().key(None, &address.to_string()),
            Claim::Port(port) => format!("{PORTS_PREFIX}{port}"),
        }
    }

    fn value(self, service: &Value) -> Value {
        let parent =
            json!({"resource": "services", "namespace": meta::namespace(service), "name": meta::name(service)});
        match self {
            Claim::Address(address) => json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
                "metadata": {"name": address.to_string(), "uid": random::uuid(), "creationTimestamp": prepare::now(),
                    "labels": {"ipaddress.kubernetes.io/ip-family": "IPv4",
                        "ipaddress.kubernetes.io/managed-by": MANAGED_BY}},
                "spec": {"parentRef": parent},
            }),
            Claim::Port(port) => json!({"metadata": {"name": port.to_string()}, "spec": {"parentRef": parent}}),
        }
    }

    fn put(self, service: &Value) -> Write {
        Write::put(&self.key(), codec::encode(self.value(service)), Expect::Absent)
    }
}

fn addresses_kind() -> &'static Kind {
    kinds::by_kind("networking.k8s.io/v1", "IPAddress").expect("a built-in kind")
}

/// What a Service has for itself.
fn claims(service: &Value, network: &ServiceNetwork) -> BTreeSet<Claim> {
    let address = meta::text_at(service, &["spec", "clusterIP"]).parse().ok().filter(|a| network.contains(*a));
    let ports = meta::items(meta::at(service, &["spec", "ports"])).iter().filter_map(node_port);
    address.map(Claim::Address).into_iter().chain(ports.map(Claim::Port)).collect()
}

impl<S: Store> Api<S> {
    /// Gives an object what it lacks, and answers with what has to be written for it. `old` is what is there, `new` what
    /// will be.
    pub(crate) async fn reserve(
        &self,
        kind: &Kind,
        old: Option<&Value>,
        new: Option<&mut Value>,
    ) -> Result<Reserved, ApiError> {
        match Strategy::of(kind).reserves {
            Reserves::Nothing => Ok(Reserved::default()),
            Reserves::ServiceAddresses => self.reserve_addresses(kind, old, new).await,
        }
    }

    async fn reserve_addresses(
        &self,
        kind: &Kind,
        old: Option<&Value>,
        new: Option<&mut Value>,
    ) -> Result<Reserved, ApiError> {
        let network = self.service_network();
        let had = old.map(|old| claims(old, network)).unwrap_or_default();
        let mut reserved = Reserved { released: self.release(had.iter()).await?, ..Reserved::default() };
        let Some(service) = new else { return Ok(reserved) };
        let mut errors = Vec::new();
        self.allocate_address(service, &had, &mut errors).await?;
        self.allocate_ports(service, &had, &mut errors).await?;
        if !errors.is_empty() {
            return Err(ApiError::invalid(kind, meta::name(service), &errors));
        }
        let wants = claims(service, network);
        reserved.changed = self.release(had.difference(&wants)).await?;
        reserved.changed.extend(wants.difference(&had).map(|claim| claim.put(service)));
        Ok(reserved)
    }

    async fn claimed(&self, claim: Claim) -> Result<Option<Entry>, ApiError> {
        let entry = self.store().get(&claim.key()).await;
        entry.map_err(|e| ApiError::from_store(e, addresses_kind(), ""))
    }

    async fn release(&self, claims: impl Iterator<Item = &Claim>) -> Result<Vec<Write>, ApiError> {
        let mut writes = Vec::new();
        for claim in claims {
            if let Some(entry) = self.claimed(*claim).await? {
                writes.push(Write::delete(&entry.key, entry.modified));
            }
        }
        Ok(writes)
    }

    async fn first_free(&self, mut claims: impl Iterator<Item = Claim>) -> Result<Option<Claim>, ApiError> {
        for claim in claims.by_ref() {
            if self.claimed(claim).await?.is_none() {
                return Ok(Some(claim));
            }
        }
        Ok(None)
    }

    async fn allocate_address(
        &self,
        service: &mut Value,
        had: &BTreeSet<Claim>,
        errors: &mut Vec<FieldError>,
    ) -> Result<(), ApiError> {
        let network = self.service_network();
        let asked = meta::text_at(service, &["spec", "clusterIP"]).to_owned();
        if meta::text_at(service, &["spec", "type"]) == "ExternalName" {
            for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
                meta::map_mut(&mut service["spec"]).remove(field);
            }
            return Ok(());
        }
        let address = match asked.parse::<Ipv4Addr>() {
            _ if asked == "None" => asked,
            Ok(address) => {
                let taken = !had.contains(&Claim::Address(address));
                let taken = taken && self.claimed(Claim::Address(address)).await?.is_some();
                if let Some(why) = refusal(network, address, taken) {
                    let detail = format!("Invalid value: [\"{asked}\"]: failed to allocate IP {asked}: {why}");
                    errors.push(invalid("spec.clusterIPs", &detail));
                }
                asked
            }
            Err(_) if asked.is_empty() => match self.first_free(network.addresses(seed())).await? {
                Some(Claim::Address(address)) => address.to_string(),
                Some(Claim::Port(_)) | None => {
                    errors.push(invalid("spec.clusterIPs[0]", "failed to allocate a serviceIP: range is full"));
                    return Ok(());
                }
            },
            // What is not an address has been refused by validation.
            Err(_) => asked,
        };
        let spec = meta::map_mut(&mut service["spec"]);
        spec.insert("clusterIP".to_owned(), json!(address));
        spec.insert("clusterIPs".to_owned(), json!([address]));
        spec.entry("ipFamilies").or_insert_with(|| json!(["IPv4"]));
        spec.entry("ipFamilyPolicy").or_insert_with(|| json!("SingleStack"));
        Ok(())
    }

    async fn allocate_ports(
        &self,
        service: &mut Value,
        had: &BTreeSet<Claim>,
        errors: &mut Vec<FieldError>,
    ) -> Result<(), ApiError> {
        let network = self.service_network();
        let wants = match meta::text_at(service, &["spec", "type"]) {
            "NodePort" => true,
            "LoadBalancer" => meta::at(service, &["spec", "allocateLoadBalancerNodePorts"]) != Some(&json!(false)),
            _ => false,
        };
        let Some(ports) = service["spec"]["ports"].as_array_mut() else { return Ok(()) };
        let mut own: BTreeSet<Claim> = ports.iter().filter_map(node_port).map(Claim::Port).collect();
        for (index, port) in ports.iter_mut().enumerate() {
            let field = format!("spec.ports[{index}].nodePort");
            match node_port(port) {
                Some(asked) if !network.node_ports.contains(&asked) => {
                    let (first, last) = (network.node_ports.start(), network.node_ports.end());
                    let why = "provided port is not in the valid range. The range of valid ports is";
                    errors.push(invalid(&field, &format!("Invalid value: {asked}: {why} {first}-{last}")));
                }
                Some(asked) => {
                    let claim = Claim::Port(asked);
                    if !had.contains(&claim) && self.claimed(claim).await?.is_some() {
                        let why = "provided port is already allocated";
                        errors.push(invalid(&field, &format!("Invalid value: {asked}: {why}")));
                    }
                }
                None if wants => {
                    let free = network.ports(seed()).filter(|claim| !own.contains(claim)).collect::<Vec<_>>();
                    match self.first_free(free.into_iter()).await? {
                        Some(Claim::Port(free)) => {
                            own.insert(Claim::Port(free));
                            port["nodePort"] = json!(free);
                        }
                        Some(Claim::Address(_)) | None => {
                            errors.push(invalid(&field, "failed to allocate a nodePort: range is full"));
                        }
                    }
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Makes the reservations what the Services say: an earlier version kept none, and a restored copy may be of another
    /// time.
    pub(crate) async fn repair_reservations(&self) -> Result<(), ApiError> {
        let services = kinds::by_kind("v1", "Service").expect("a built-in kind");
        let mut wanted = std::collections::BTreeMap::new();
        for entry in self.entries(&services.key_prefix(None)).await? {
            let service = codec::decode(&entry);
            for claim in claims(&service, self.service_network()) {
                if wanted.insert(claim.key(), (claim, service.clone())).is_some() {
                    tracing::error!(?claim, "two services have this: delete one of them");
                }
            }
        }
        let mut writes = Vec::new();
        for prefix in [addresses_kind().key_prefix(None), PORTS_PREFIX.to_owned()] {
            for entry in self.entries(&prefix).await? {
                let reservation = codec::decode(&entry);
                let label = meta::label(&reservation, "ipaddress.kubernetes.io/managed-by");
                let ours = label.is_none_or(|manager| manager == MANAGED_BY);
                if wanted.remove(&*entry.key).is_none() && ours {
                    writes.push(Write::delete(&entry.key, entry.modified));
                }
            }
        }
        writes.extend(wanted.into_values().map(|(claim, service)| claim.put(&service)));
        if writes.is_empty() {
            return Ok(());
        }
        let repaired = writes.len();
        self.store().commit(writes).await.map_err(|e| ApiError::from_store(e, services, ""))?;
        tracing::info!(repaired, "reservations of addresses and ports repaired");
        Ok(())
    }

    async fn entries(&self, prefix: &str) -> Result<Vec<Entry>, ApiError> {
        let page = self.store().list(prefix, ListOptions::default()).await;
        page.map(|page| page.entries).map_err(|e| ApiError::from_store(e, addresses_kind(), ""))
    }
}

fn refusal(network: &ServiceNetwork, address: Ipv4Addr, taken: bool) -> Option<String> {
    if !network.contains(address) {
        let (base, length) = (network.base, network.prefix_len);
        return Some(format!(
            "the provided IP ({address}) is not in the valid range. The range of valid IPs is {base}/{length}"
        ));
    }
    taken.then(|| "provided IP is already allocated".to_owned())
}

fn node_port(port: &Value) -> Option<u16> {
    port.get("nodePort").and_then(Value::as_u64).and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0)
}

/// An update that leaves out what was reserved for the object keeps it.
pub fn keep(reserves: Reserves, new: &mut Value, old: &Value) {
    match reserves {
        Reserves::Nothing => {}
        Reserves::ServiceAddresses => keep_addresses(new, old),
    }
}

fn keep_addresses(service: &mut Value, old: &Value) {
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

fn seed() -> u32 {
    u32::from_ne_bytes(random::bytes())
}
