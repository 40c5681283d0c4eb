//! Ports and addresses that are the box's own, which no Service and no pod takes from it, and what is said of those that
//! want one. Pure.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ContainerPort, ObjectReference, Pod, Service};
use kube::{Resource, ResourceExt};

use crate::{Config, Range};

/// A port that a program of the box listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnPort {
    /// As Services have it: `TCP` or `UDP`.
    pub protocol: &'static str,
    pub number: u16,
    /// For people.
    pub of: &'static str,
}

impl OwnPort {
    pub const fn tcp(number: u16, of: &'static str) -> Self {
        Self { protocol: "TCP", number, of }
    }
}

/// The same on every box: how its owner gets in when all else fails, and what every pod asks for names.
pub const ALWAYS: [OwnPort; 3] =
    [OwnPort::tcp(22, "SSH"), OwnPort::tcp(53, "DNS"), OwnPort { protocol: "UDP", number: 53, of: "DNS" }];

/// What is not programmed, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    pub regarding: ObjectReference,
    /// As events have it.
    pub reason: &'static str,
    pub message: String,
}

/// Addresses of this machine and of its networks, to tell who may have which.
#[derive(Clone, Copy, Debug)]
pub struct Ground<'a> {
    pub config: &'a Config,
    /// Of its interfaces.
    pub addresses: &'a [Ipv4Addr],
}

impl Ground<'_> {
    /// Who listens on a port of the box.
    pub fn owner(&self, protocol: Option<&str>, number: i32) -> Option<&'static str> {
        let protocol = protocol.unwrap_or("TCP");
        let mut all = ALWAYS.iter().chain(&self.config.own_ports);
        all.find(|own| own.protocol == protocol && i32::from(own.number) == number).map(|own| own.of)
    }

    fn is_own(&self, address: Ipv4Addr) -> bool {
        self.config.node_address == IpAddr::V4(address) || self.addresses.contains(&address)
    }

    fn is_inside(&self, address: Ipv4Addr) -> bool {
        let address = Range { base: address, prefix_len: 32 };
        address.is_in(self.config.pod_network) || address.is_in(self.config.service_network)
    }

    /// Why an address in `externalIPs` is not served. Whoever may write Services would else take the traffic of others.
    pub fn external_fault(&self, address: Ipv4Addr) -> Option<&'static str> {
        match address {
            a if a.is_loopback() => Some("is a loopback address"),
            a if a.is_link_local() => Some("is a link-local address"),
            a if a.is_unspecified() || a.is_multicast() || a.is_broadcast() => Some("is no address of one machine"),
            a if self.is_inside(a) => Some("is of the pods' or the Services' own network"),
            a if self.is_own(a) => Some("is an address of the box itself: type LoadBalancer shares that"),
            _ => None,
        }
    }

    /// The address that a host port is on, `None` for all of them; or why it is not served.
    pub fn host_address(&self, port: &ContainerPort) -> Result<Option<Ipv4Addr>, String> {
        let Some(text) = port.host_ip.as_deref().filter(|text| !text.is_empty()) else { return Ok(None) };
        match text.parse::<Ipv4Addr>() {
            Ok(address) if address.is_unspecified() => Ok(None),
            Ok(address) if self.is_own(address) && !self.is_inside(address) => Ok(Some(address)),
            Ok(_) | Err(_) => Err(format!("hostIP {text} is no IPv4 address of this machine")),
        }
    }

    /// A Service of type LoadBalancer is not served at all if it wants a port of the box: half of it is not what it says.
    pub fn reserved_port(&self, service: &Service) -> Option<(i32, &'static str)> {
        let ports = service.spec.iter().flat_map(|s| s.ports.iter().flatten());
        ports.filter_map(|port| Some((port.port, self.owner(port.protocol.as_deref(), port.port)?))).next()
    }

    pub fn refusals(&self, services: &[Arc<Service>], pods: &[Arc<Pod>]) -> Vec<Refusal> {
        let of_services = services.iter().flat_map(|service| self.of_service(service));
        of_services.chain(pods.iter().flat_map(|pod| self.of_pod(pod))).collect()
    }

    fn of_service(&self, service: &Service) -> Vec<Refusal> {
        let spec = service.spec.as_ref();
        let regarding = reference(service);
        let mut refusals = Vec::new();
        for text in spec.iter().flat_map(|s| s.external_ips.iter().flatten()) {
            let Some(fault) = text.parse().ok().and_then(|address| self.external_fault(address)) else { continue };
            let message = format!("external IP {text} is not served: it {fault}");
            refusals.push(Refusal { regarding: regarding.clone(), reason: "ExternalIPRefused", message });
        }
        if spec.and_then(|s| s.type_.as_deref()) == Some("LoadBalancer")
            && let Some((port, owner)) = self.reserved_port(service)
        {
            let message = format!("port {port} of the box's address is its own ({owner}): choose another");
            refusals.push(Refusal { regarding, reason: "PortReserved", message });
        }
        refusals
    }

    fn of_pod(&self, pod: &Pod) -> Vec<Refusal> {
        if !is_here(self.config, pod) {
            return Vec::new();
        }
        let refuse = |message| Refusal { regarding: reference(pod), reason: "HostPortRefused", message };
        let ports = pod.spec.iter().flat_map(|s| &s.containers).flat_map(|c| c.ports.iter().flatten());
        ports
            .filter_map(|port| {
                let number = port.host_port.filter(|number| *number != 0)?;
                let owner = self.owner(port.protocol.as_deref(), number);
                let taken = owner.map(|owner| format!("it is the box's own ({owner})"));
                let why = taken.or_else(|| self.host_address(port).err())?;
                Some(refuse(format!("host port {number} is not served: {why}")))
            })
            .collect()
    }
}

/// Whether host ports of the pod are to be made on this machine.
pub fn is_here(config: &Config, pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    let is_on_this_node = spec.and_then(|s| s.node_name.as_deref()) == Some(&config.node_name);
    let has_ended = matches!(pod.status.as_ref().and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed"));
    is_on_this_node && spec.and_then(|s| s.host_network) != Some(true) && !has_ended
}

fn reference<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        name: Some(object.name_any()),
        namespace: object.namespace(),
        uid: object.uid(),
        ..ObjectReference::default()
    }
}
