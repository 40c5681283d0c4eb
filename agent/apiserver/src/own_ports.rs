//! The box's own ports and addresses stay its own: what a Service or a pod may not take. Pure.

use std::net::IpAddr;

use serde_json::Value;
use skiff_object::addresses::Network;
use skiff_object::validate::{FieldError, FieldErrorKind};
use skiff_object::{addresses, meta};

use crate::Config;

/// A port of the box, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnPort {
    /// As Services have it: `TCP` or `UDP`.
    pub protocol: &'static str,
    pub port: u16,
    pub of: &'static str,
}

impl From<(&'static str, u16, &'static str)> for OwnPort {
    fn from((protocol, port, of): (&'static str, u16, &'static str)) -> Self {
        Self { protocol, port, of }
    }
}

/// The number under `field` of a port, if that is the box's own, and whose it is.
fn own_port(config: &Config, port: &Value, field: &str) -> Option<(u64, &'static str)> {
    let number = port.get(field).and_then(Value::as_u64)?;
    let protocol = port.get("protocol").and_then(Value::as_str).unwrap_or("TCP");
    let mut all = config.own_ports.iter();
    all.find(|own| own.protocol == protocol && u64::from(own.port) == number).map(|own| (number, own.of))
}

fn forbidden(field: String, why: &str) -> FieldError {
    FieldError::new(FieldErrorKind::Forbidden, field, None, why)
}

/// Only what is new is looked at: what was taken before there was this check can still be changed in other ways.
fn added<'a>(new: &'a Value, old: Option<&Value>, path: &[&str]) -> Vec<(usize, &'a Value)> {
    let before = old.map(|old| meta::items(meta::at(old, path)).to_vec()).unwrap_or_default();
    let all = meta::items(meta::at(new, path)).iter().enumerate();
    all.filter(|(_, item)| !before.contains(item)).collect()
}

/// Ports of the machine that a pod asks for.
pub fn check_host_ports(config: &Config, pod: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for list in ["initContainers", "containers"] {
        for (index, container) in added(pod, old, &["spec", list]) {
            for (at, port) in meta::items(container.get("ports")).iter().enumerate() {
                let host_network = meta::at(pod, &["spec", "hostNetwork"]) == Some(&Value::Bool(true));
                let field = if host_network && port.get("hostPort").is_none() { "containerPort" } else { "hostPort" };
                if let Some((number, of)) = own_port(config, port, field) {
                    let field = format!("spec.{list}[{index}].ports[{at}].{field}");
                    errors.push(forbidden(field, &format!("port {number} of this box is for {of}: choose another")));
                }
            }
        }
    }
    errors
}

/// Ports and addresses that a Service would take.
pub fn check_service(config: &Config, service: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let same_type = old.is_none_or(|old| old["spec"]["type"] == service["spec"]["type"]);
    let before = old.filter(|_| same_type);
    if meta::text_at(service, &["spec", "type"]) == "LoadBalancer" {
        for (index, port) in added(service, before, &["spec", "ports"]) {
            if let Some((number, of)) = own_port(config, port, "port") {
                let why =
                    format!("port {number} of this box is for {of}: a Service of type LoadBalancer cannot have it");
                errors.push(forbidden(format!("spec.ports[{index}].port"), &why));
            }
        }
    }
    for (index, address) in added(service, old, &["spec", "externalIPs"]) {
        let field = format!("spec.externalIPs[{index}]");
        let parsed = address.as_str().and_then(|text| text.parse().ok());
        let why = parsed.and_then(|address| config.why_taken(address));
        if let Some(why) = why {
            errors.push(FieldError::new(FieldErrorKind::Invalid, field, Some(address), why));
        }
    }
    errors
}

impl Config {
    /// Why an address is not one that a Service or a node may claim.
    pub(crate) fn why_taken(&self, address: IpAddr) -> Option<&'static str> {
        self.why_own(address).or_else(|| self.why_of_pods(address))
    }

    /// Why an address is not one that a request may be forwarded to.
    pub(crate) fn why_own(&self, address: IpAddr) -> Option<&'static str> {
        let address = address.to_canonical();
        if let Some(why) = addresses::unowned(address) {
            Some(why)
        } else if address == self.address.ip() {
            Some("is this box's own address")
        } else if let IpAddr::V4(v4) = address
            && self.service_network.contains(v4)
        {
            Some("is in the network of cluster addresses")
        } else {
            None
        }
    }

    fn why_of_pods(&self, address: IpAddr) -> Option<&'static str> {
        let IpAddr::V4(v4) = address.to_canonical() else { return None };
        let (base, length) = self.pod_network;
        let pods = Network::new(base, length)?;
        pods.contains(v4).then_some("is in the pods' network")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ServiceNetwork;

    fn config() -> Config {
        Config {
            node_name: "box".to_owned(),
            address: ([192, 168, 0, 1], 6443).into(),
            service_network: ServiceNetwork { base: [10, 43, 0, 0].into(), prefix_len: 24, node_ports: 30000..=30010 },
            pod_network: ([10, 42, 0, 0].into(), 24),
            own_ports: vec![("TCP", 6443, "the API").into(), ("TCP", 22, "SSH").into()],
            audit: None,
            authentication: Default::default(),
        }
    }

    fn texts(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ports_of_the_box_are_not_given_away() {
        let service = |kind: &str| json!({"spec": {"type": kind, "ports": [{"port": 80}, {"port": 6443}]}});
        assert_eq!(
            texts(&check_service(&config(), &service("LoadBalancer"), None)),
            [
                "spec.ports[1].port: Forbidden: port 6443 of this box is for the API: a Service of type LoadBalancer cannot have it"
            ]
        );
        assert!(check_service(&config(), &service("ClusterIP"), None).is_empty());
        assert_eq!(check_service(&config(), &service("LoadBalancer"), Some(&service("ClusterIP"))).len(), 1);
        assert!(check_service(&config(), &service("LoadBalancer"), Some(&service("LoadBalancer"))).is_empty());
        let pod = json!({"spec": {"containers": [{"ports": [{"containerPort": 80, "hostPort": 22}]}]}});
        assert_eq!(
            texts(&check_host_ports(&config(), &pod, None)),
            ["spec.containers[0].ports[0].hostPort: Forbidden: port 22 of this box is for SSH: choose another"]
        );
        let pod = json!({"spec": {"hostNetwork": true, "containers": [{"ports": [{"containerPort": 22}]}]}});
        assert_eq!(check_host_ports(&config(), &pod, None).len(), 1);
        let pod = json!({"spec": {"containers": [{"ports": [{"containerPort": 22}]}]}});
        assert!(check_host_ports(&config(), &pod, None).is_empty());
    }

    #[test]
    fn external_addresses_are_others() {
        for (address, refused) in [
            ("203.0.113.7", false),
            ("192.168.0.9", false),
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("0.0.0.0", true),
            ("169.254.1.1", true),
            ("192.168.0.1", true),
            ("10.43.0.10", true),
            ("224.0.0.1", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("fe80::1", true),
            ("2001:db8::1", false),
            ("10.42.0.7", true),
        ] {
            let service = json!({"spec": {"type": "ClusterIP", "externalIPs": [address]}});
            assert_eq!(!check_service(&config(), &service, None).is_empty(), refused, "{address}");
        }
    }
}
