//! The names of the cluster and what they stand for. Pure.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::ResourceExt;
use skiff_reconcile::endpoints;

/// What a name has. A name that exists without addresses is answered with nothing, not with "no such name".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Name {
    pub addresses: BTreeSet<Ipv4Addr>,
    pub alias: Option<String>,
    /// Port and target.
    pub services: BTreeSet<(u16, String)>,
}

#[derive(Debug, Default)]
pub struct Records {
    domain: String,
    names: HashMap<String, Name>,
    pointers: HashMap<Ipv4Addr, BTreeSet<String>>,
    /// Namespaces that have pods, for names made of an address.
    namespaces: HashSet<String>,
}

/// What is known of a name.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    Name(Name),
    Pointer(BTreeSet<String>),
    Version,
    /// Of this cluster, and not there.
    Absent,
    /// Not of this cluster.
    Elsewhere,
}

impl Records {
    pub fn empty(domain: &str) -> Self {
        Self { domain: domain.to_owned(), ..Self::default() }
    }

    pub fn new(domain: &str, services: &[Arc<Service>], slices: &[Arc<EndpointSlice>], pods: &[Arc<Pod>]) -> Self {
        let mut records = Self::empty(domain);
        let mut by_service: HashMap<(String, String), Vec<&EndpointSlice>> = HashMap::new();
        for slice in slices {
            let name = slice.metadata.labels.as_ref().and_then(|l| l.get("kubernetes.io/service-name"));
            if let Some(name) = name {
                by_service.entry((slice.namespace().unwrap_or_default(), name.clone())).or_default().push(slice);
            }
        }
        for service in services {
            let key = (service.namespace().unwrap_or_default(), service.name_any());
            records.add_service(service, by_service.get(&key).map(Vec::as_slice).unwrap_or_default());
        }
        records.namespaces = pods.iter().filter_map(|p| p.namespace()).collect();
        records.add_parents();
        records
    }

    pub fn domain(&self) -> &str {
        &self.domain
    }

    fn add_service(&mut self, service: &Service, slices: &[&EndpointSlice]) {
        let Some(spec) = &service.spec else { return };
        let name = format!("{}.{}.svc.{}", service.name_any(), service.namespace().unwrap_or_default(), self.domain);
        if spec.type_.as_deref() == Some("ExternalName") {
            let alias = spec.external_name.clone().filter(|n| !n.is_empty());
            self.names.entry(name).or_default().alias = alias;
            return;
        }
        match spec.cluster_ip.as_deref().map(str::parse::<Ipv4Addr>) {
            Some(Ok(address)) => {
                self.names.entry(name.clone()).or_default().addresses.insert(address);
                self.pointers.entry(address).or_default().insert(name.clone());
                for port in spec.ports.iter().flatten() {
                    let number = u16::try_from(port.port).unwrap_or(0);
                    self.add_port(&name, port.name.as_deref(), port.protocol.as_deref(), number, &name);
                }
            }
            Some(Err(_)) | None => self.add_headless(&name, slices),
        }
    }

    fn add_headless(&mut self, name: &str, slices: &[&EndpointSlice]) {
        self.names.entry(name.to_owned()).or_default();
        for slice in slices {
            for endpoint in slice.endpoints.iter().flatten().filter(|e| endpoints::is_ready(e)) {
                for address in endpoint.addresses.iter().filter_map(|a| a.parse().ok()) {
                    let own = format!("{}.{name}", endpoint_label(endpoint, address));
                    self.names.entry(name.to_owned()).or_default().addresses.insert(address);
                    self.names.entry(own.clone()).or_default().addresses.insert(address);
                    self.pointers.entry(address).or_default().insert(own.clone());
                    for port in slice.ports.iter().flatten() {
                        let number = port.port.and_then(|p| u16::try_from(p).ok()).unwrap_or(0);
                        self.add_port(name, port.name.as_deref(), port.protocol.as_deref(), number, &own);
                    }
                }
            }
        }
    }

    fn add_port(&mut self, service: &str, port: Option<&str>, protocol: Option<&str>, number: u16, target: &str) {
        let Some(port) = port.filter(|p| !p.is_empty()) else { return };
        let protocol = protocol.unwrap_or("TCP").to_ascii_lowercase();
        let record = (number, target.to_owned());
        self.names.entry(format!("_{port}._{protocol}.{service}")).or_default().services.insert(record.clone());
        self.names.entry(service.to_owned()).or_default().services.insert(record);
    }

    /// Names between a record and the domain exist too, though they have nothing (RFC 8020).
    fn add_parents(&mut self) {
        let names: Vec<String> = self.names.keys().cloned().collect();
        for name in names {
            let mut rest = name.as_str();
            while let Some((_, parent)) = rest.split_once('.') {
                if !parent.ends_with(&self.domain) || self.names.contains_key(parent) {
                    break;
                }
                self.names.insert(parent.to_owned(), Name::default());
                rest = parent;
            }
        }
        self.names.entry(self.domain.clone()).or_default();
    }

    /// `name` in lower case without its final dot.
    pub fn find(&self, name: &str) -> Found {
        if let Some(address) = reverse(name) {
            return self.pointers.get(&address).map_or(Found::Elsewhere, |names| Found::Pointer(names.clone()));
        }
        let Some(below) = name.strip_suffix(&self.domain) else { return Found::Elsewhere };
        if !below.is_empty() && !below.ends_with('.') {
            return Found::Elsewhere;
        }
        if below == "dns-version." {
            return Found::Version;
        }
        if let Some(found) = self.names.get(name) {
            return Found::Name(found.clone());
        }
        self.pod(below.trim_end_matches('.')).map_or(Found::Absent, Found::Name)
    }

    /// `10-42-0-7.NAMESPACE.pod`.
    fn pod(&self, below: &str) -> Option<Name> {
        let (address, namespace) = below.strip_suffix(".pod")?.split_once('.')?;
        let address = address.replace('-', ".").parse().ok()?;
        self.namespaces.contains(namespace).then(|| Name { addresses: [address].into(), ..Name::default() })
    }
}

fn endpoint_label(endpoint: &Endpoint, address: Ipv4Addr) -> String {
    let hostname = endpoint.hostname.clone().filter(|h| !h.is_empty());
    hostname.unwrap_or_else(|| address.to_string().replace('.', "-"))
}

/// `7.0.42.10.in-addr.arpa` is 10.42.0.7.
fn reverse(name: &str) -> Option<Ipv4Addr> {
    let octets: Vec<u8> = name.strip_suffix(".in-addr.arpa")?.split('.').rev().filter_map(|o| o.parse().ok()).collect();
    <[u8; 4]>::try_from(octets).ok().map(Ipv4Addr::from)
}
