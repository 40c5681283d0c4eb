//! From objects to routes: which addresses and ports lead to which endpoints. Pure.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use skiff_reconcile::endpoints;

use crate::reserved::{self, Ground};

/// One port of a Service, or one host port of a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Names the chain: stable for as long as the port exists.
    pub name: String,
    pub protocol: Protocol,
    /// Addresses with their port.
    pub addresses: BTreeSet<(Ipv4Addr, u16)>,
    /// A port on every address of this machine.
    pub node_port: Option<u16>,
    pub endpoints: BTreeSet<(Ipv4Addr, u16)>,
    /// Seconds a client stays with its endpoint.
    pub affinity_seconds: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    fn parse(text: Option<&str>) -> Self {
        match text {
            Some("UDP") => Protocol::Udp,
            Some("SCTP") => Protocol::Sctp,
            Some(_) | None => Protocol::Tcp,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

pub fn routes(
    ground: &Ground<'_>,
    services: &[Arc<Service>],
    balanced: &[Arc<Service>],
    slices: &[Arc<EndpointSlice>],
    pods: &[Arc<Pod>],
) -> Vec<Route> {
    let mut routes: Vec<Route> = services
        .iter()
        .filter(|s| s.metadata.deletion_timestamp.is_none())
        .flat_map(|service| {
            let of_service: Vec<_> = slices.iter().filter(|slice| belongs(slice, service)).collect();
            let is_balanced = balanced.iter().any(|b| b.uid() == service.uid());
            let ports = service.spec.iter().flat_map(|s| s.ports.iter().flatten());
            ports.filter_map(|port| route(ground, service, port, is_balanced, &of_service)).collect::<Vec<_>>()
        })
        .chain(pods.iter().flat_map(|pod| host_ports(ground, pod)))
        .collect();
    routes.sort();
    routes
}

fn belongs(slice: &EndpointSlice, service: &Service) -> bool {
    let of = slice.metadata.labels.as_ref().and_then(|l| l.get("kubernetes.io/service-name"));
    slice.address_type == "IPv4" && slice.namespace() == service.namespace() && of == Some(&service.name_any())
}

fn number(port: i32) -> Option<u16> {
    u16::try_from(port).ok().filter(|p| *p != 0)
}

fn route(
    ground: &Ground<'_>,
    service: &Service,
    port: &ServicePort,
    is_balanced: bool,
    slices: &[&Arc<EndpointSlice>],
) -> Option<Route> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    let cluster_ip: Option<Ipv4Addr> = spec.cluster_ip.as_deref().and_then(|ip| ip.parse().ok());
    let own = number(port.port)?;
    let external = spec.external_ips.iter().flatten().filter_map(|ip| ip.parse().ok());
    let external = external.filter(|address| ground.external_fault(*address).is_none());
    let balancer = match ground.config.node_address {
        IpAddr::V4(address) if is_balanced => Some(address),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    };
    let addresses: BTreeSet<_> = cluster_ip.into_iter().chain(external).chain(balancer).map(|a| (a, own)).collect();
    let node_port = port.node_port.and_then(number);
    if addresses.is_empty() && node_port.is_none() {
        return None;
    }
    let affinity = spec.session_affinity.as_deref() == Some("ClientIP");
    let timeout = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref()?.timeout_seconds);
    Some(Route {
        name: chain_name(service, port),
        protocol: Protocol::parse(port.protocol.as_deref()),
        addresses,
        node_port,
        endpoints: endpoints::choose(port, slices.iter().map(|slice| &***slice)),
        affinity_seconds: affinity.then(|| u32::try_from(timeout.unwrap_or(10_800)).unwrap_or(10_800)),
    })
}

/// Ports that a pod on this machine has on the machine itself.
fn host_ports(ground: &Ground<'_>, pod: &Pod) -> Vec<Route> {
    let ip: Option<Ipv4Addr> = pod.status.as_ref().and_then(|s| s.pod_ip.as_deref()).and_then(|ip| ip.parse().ok());
    let Some(ip) = ip.filter(|_| reserved::is_here(ground.config, pod)) else { return Vec::new() };
    let containers = pod.spec.iter().flat_map(|s| &s.containers);
    let ports = containers.flat_map(|c| c.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let (host, own) = (number(port.host_port?)?, number(port.container_port)?);
            let protocol = Protocol::parse(port.protocol.as_deref());
            let is_free = ground.owner(port.protocol.as_deref(), host.into()).is_none();
            let on = ground.host_address(port).ok().filter(|_| is_free)?;
            Some(Route {
                name: hash(&format!("{}/{}/{host}", pod.uid().unwrap_or_default(), protocol.as_str())),
                protocol,
                addresses: on.map(|ip| (ip, host)).into_iter().collect(),
                node_port: if on.is_none() { Some(host) } else { None },
                endpoints: [(ip, own)].into(),
                affinity_seconds: None,
            })
        })
        .collect()
}

fn chain_name(service: &Service, port: &ServicePort) -> String {
    hash(&format!(
        "{}/{}/{}/{}",
        service.uid().unwrap_or_default(),
        port.protocol.as_deref().unwrap_or("TCP"),
        port.port,
        port.name.as_deref().unwrap_or_default()
    ))
}

/// FNV-1a, in hexadecimal: short enough for the kernel's names.
fn hash(text: &str) -> String {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{hash:016x}")
}
