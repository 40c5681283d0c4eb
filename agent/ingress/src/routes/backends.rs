//! From a Service and a port to the endpoints that serve it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use skiff_reconcile::endpoints;

use super::Observed;
use crate::table::{Backend, Protocol};

/// A port as an Ingress names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Port {
    Number(i32),
    Name(String),
}

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Port::Number(number) => write!(f, "{number}"),
            Port::Name(name) => f.write_str(name),
        }
    }
}

/// Why there is no backend: the reason as events have it, and a sentence.
pub type Missing = (&'static str, String);

/// Backends of the table, each once. Services and slices are found by their names.
pub struct Backends<'a> {
    services: HashMap<(String, String), &'a Arc<Service>>,
    slices: HashMap<(String, String), Vec<&'a Arc<EndpointSlice>>>,
    index: HashMap<(String, Protocol), usize>,
    list: Vec<Backend>,
}

impl<'a> Backends<'a> {
    pub fn new(observed: &'a Observed<'_>) -> Self {
        let key = |namespace: Option<String>, name: String| (namespace.unwrap_or_default(), name);
        let mut slices: HashMap<_, Vec<_>> = HashMap::new();
        for slice in &observed.slices {
            let service = slice.metadata.labels.as_ref().and_then(|l| l.get("kubernetes.io/service-name"));
            if let Some(service) = service {
                slices.entry(key(slice.namespace(), service.clone())).or_default().push(slice);
            }
        }
        Self {
            services: observed.services.iter().map(|s| (key(s.namespace(), s.name_any()), s)).collect(),
            slices,
            index: HashMap::new(),
            list: Vec::new(),
        }
    }

    /// The backend's place in the table.
    pub fn find(
        &mut self,
        namespace: &str,
        name: &str,
        port: &Port,
        protocol: Option<Protocol>,
    ) -> Result<usize, Missing> {
        let key = (namespace.to_owned(), name.to_owned());
        let Some(service) = self.services.get(&key) else {
            return Err(("ServiceNotFound", format!("there is no Service \"{name}\" in namespace {namespace}")));
        };
        let spec = service.spec.as_ref();
        if spec.and_then(|s| s.type_.as_deref()) == Some("ExternalName") {
            let message =
                format!("Service \"{name}\" is of type ExternalName, which has no endpoints to send requests to");
            return Err(("ServiceNotSupported", message));
        }
        let ports = spec.and_then(|s| s.ports.as_deref()).unwrap_or_default();
        let found = ports.iter().find(|p| match port {
            Port::Number(number) => p.port == *number,
            Port::Name(name) => p.name.as_ref() == Some(name),
        });
        let Some(found) = found else {
            let has: Vec<String> = ports.iter().map(described).collect();
            let has = if has.is_empty() { "none".to_owned() } else { has.join(", ") };
            return Err(("PortNotFound", format!("Service \"{name}\" has no port {port}: it has {has}")));
        };
        let protocol = protocol.unwrap_or_else(|| app_protocol(found));
        let full = format!("{namespace}/{name}:{}", found.port);
        let entry = (full.clone(), protocol);
        if let Some(index) = self.index.get(&entry) {
            return Ok(*index);
        }
        let slices = self.slices.get(&key).map(Vec::as_slice).unwrap_or_default();
        let endpoints = endpoints::choose(found, slices.iter().map(|slice| &***slice));
        let endpoints = endpoints.into_iter().map(|(ip, port): (IpAddr, u16)| SocketAddr::new(ip, port)).collect();
        self.list.push(Backend { name: full, protocol, endpoints });
        self.index.insert(entry, self.list.len() - 1);
        Ok(self.list.len() - 1)
    }

    pub fn finish(self) -> Vec<Backend> {
        self.list
    }
}

fn described(port: &ServicePort) -> String {
    match &port.name {
        Some(name) => format!("{} ({name})", port.port),
        None => port.port.to_string(),
    }
}

/// KEP-3726, and what people write for gRPC.
fn app_protocol(port: &ServicePort) -> Protocol {
    match port.app_protocol.as_deref() {
        Some("kubernetes.io/h2c" | "h2c" | "grpc") => Protocol::H2c,
        Some(_) | None => Protocol::Http1,
    }
}
