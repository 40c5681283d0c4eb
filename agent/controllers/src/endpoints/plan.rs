//! The Endpoints and EndpointSlices a Service should have. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort as CorePort, EndpointSubset, Endpoints, ObjectReference, Pod, Service, ServicePort,
};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use skiff_object::addresses;
use skiff_object::labels::Selector;

use crate::objects::{self, is_deleted, is_ready};

pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub const MANAGER: &str = "endpointslice-controller.k8s.io";
pub const MIRRORER: &str = "endpointslicemirroring-controller.k8s.io";
/// Marks Endpoints that follow a Service, as upstream does.
pub const MADE_HERE: &str = "endpoints.kubernetes.io/managed-by";
const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";
const HEADLESS: &str = "service.kubernetes.io/headless";
/// Upstream's limits on one object.
const SLICE_ENDPOINTS_MAX: usize = 100;
const SUBSET_ADDRESSES_MAX: usize = 1000;

pub fn has_selector(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    let external = spec.and_then(|s| s.type_.as_deref()) == Some("ExternalName");
    !external && spec.and_then(|s| s.selector.as_ref()).is_some_and(|s| !s.is_empty())
}

pub fn is_mirrored(endpoints: &Endpoints) -> bool {
    let labels = objects::labels(endpoints);
    labels.get(SKIP_MIRROR).is_none_or(|v| v != "true") && !labels.contains_key(MADE_HERE)
}

/// The pods with an address that the Service selects, in a stable order.
pub fn select(service: &Service, pods: &[Arc<Pod>]) -> Vec<Arc<Pod>> {
    let wanted = service.spec.as_ref().and_then(|s| s.selector.clone()).unwrap_or_default();
    let wanted = wanted.into_iter().map(|(k, v)| (k, serde_json::Value::String(v))).collect();
    let selector = Selector::from_map(&wanted);
    let with_address = |pod: &&Arc<Pod>| pod_ip(pod).is_some() && !objects::is_terminal(pod);
    let mut selected: Vec<_> =
        pods.iter().filter(with_address).filter(|p| selector.matches(objects::labels(&***p))).cloned().collect();
    selected.sort_by_key(|p| p.name_any());
    selected
}

fn pod_ip(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.pod_ip.as_deref().filter(|ip| is_elsewhere(ip))
}

/// Whether traffic may be sent to an address: the API takes no others into Endpoints.
fn is_elsewhere(ip: &str) -> bool {
    ip.parse().is_ok_and(|ip| addresses::special(ip).is_none())
}

fn tolerates_unready(service: &Service) -> bool {
    service.spec.as_ref().and_then(|s| s.publish_not_ready_addresses) == Some(true)
}

fn target(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        name: Some(pod.name_any()),
        namespace: pod.namespace(),
        uid: pod.uid(),
        ..ObjectReference::default()
    }
}

/// The name that a headless Service publishes for the pod.
fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let own = spec.subdomain.as_deref() == Some(&service.name_any());
    spec.hostname.clone().filter(|name| own && !name.is_empty())
}

/// The number a Service's port stands for on one pod; `None` where the pod has no port of that name.
fn port_on(port: &ServicePort, pod: &Pod) -> Option<i32> {
    match port.target_port.as_ref() {
        Some(IntOrString::Int(0)) | None => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let spec = pod.spec.as_ref()?;
            let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
            let mut ports = containers.flat_map(|c| c.ports.iter().flatten());
            let named =
                ports.find(|p| p.name.as_deref() == Some(name) && p.protocol.as_deref().unwrap_or("TCP") == protocol);
            named.map(|p| p.container_port)
        }
    }
}

type Ports = Vec<(Option<String>, String, i32, Option<String>)>;

fn ports_on(service: &Service, pod: &Pod) -> Ports {
    let ports = service.spec.as_ref().and_then(|s| s.ports.as_ref());
    let resolved = ports.into_iter().flatten().filter_map(|port| {
        let number = port_on(port, pod)?;
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
        Some((port.name.clone(), protocol, number, port.app_protocol.clone()))
    });
    resolved.collect()
}

/// Pods with the same ports share a subset or slice; named ports may differ from pod to pod.
fn by_ports(service: &Service, pods: &[Arc<Pod>]) -> BTreeMap<Ports, Vec<Arc<Pod>>> {
    let mut groups: BTreeMap<Ports, Vec<Arc<Pod>>> = BTreeMap::new();
    for pod in pods {
        groups.entry(ports_on(service, pod)).or_default().push(Arc::clone(pod));
    }
    groups
}

fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()) == Some("None")
}

pub fn endpoints(service: &Service, pods: &[Arc<Pod>]) -> Endpoints {
    let subsets: Vec<_> =
        by_ports(service, pods).into_iter().filter_map(|(ports, pods)| subset(service, ports, &pods)).collect();
    let mut labels = objects::labels(service).clone();
    labels.insert(MADE_HERE.to_owned(), "endpoint-controller".to_owned());
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    Endpoints {
        metadata: ObjectMeta {
            name: Some(service.name_any()),
            namespace: service.namespace(),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        subsets: Some(subsets).filter(|s| !s.is_empty()),
    }
}

fn subset(service: &Service, ports: Ports, pods: &[Arc<Pod>]) -> Option<EndpointSubset> {
    let living: Vec<_> = pods.iter().filter(|p| !is_deleted(&***p)).take(SUBSET_ADDRESSES_MAX).collect();
    let (ready, waiting): (Vec<_>, Vec<_>) =
        living.into_iter().partition(|pod| is_ready(pod) || tolerates_unready(service));
    let addresses = |pods: Vec<&Arc<Pod>>| {
        let addresses = pods.into_iter().map(|pod| EndpointAddress {
            ip: pod_ip(pod).unwrap_or_default().to_owned(),
            hostname: hostname(service, pod),
            node_name: pod.spec.as_ref().and_then(|s| s.node_name.clone()),
            target_ref: Some(target(pod)),
        });
        Some(addresses.collect::<Vec<_>>()).filter(|a| !a.is_empty())
    };
    let ports = ports.into_iter().map(|(name, protocol, port, app_protocol)| CorePort {
        name,
        port,
        protocol: Some(protocol),
        app_protocol,
    });
    let subset = EndpointSubset {
        addresses: addresses(ready),
        not_ready_addresses: addresses(waiting),
        ports: Some(ports.collect::<Vec<_>>()).filter(|p| !p.is_empty()),
    };
    (subset.addresses.is_some() || subset.not_ready_addresses.is_some()).then_some(subset)
}

pub fn slices(service: &Service, pods: &[Arc<Pod>]) -> Vec<EndpointSlice> {
    let mut slices = Vec::new();
    for (ports, pods) in by_ports(service, pods) {
        for chunk in pods.chunks(SLICE_ENDPOINTS_MAX) {
            let endpoints = chunk.iter().map(|pod| endpoint(service, pod)).collect();
            slices.push(slice(service, MANAGER, slice_ports(&ports), endpoints));
        }
    }
    if slices.is_empty() {
        slices.push(slice(service, MANAGER, Vec::new(), Vec::new()));
    }
    slices
}

fn endpoint(service: &Service, pod: &Pod) -> Endpoint {
    let (serving, terminating) = (is_ready(pod), is_deleted(pod));
    Endpoint {
        addresses: vec![pod_ip(pod).unwrap_or_default().to_owned()],
        conditions: Some(EndpointConditions {
            ready: Some((serving && !terminating) || tolerates_unready(service)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: hostname(service, pod),
        node_name: pod.spec.as_ref().and_then(|s| s.node_name.clone()),
        target_ref: Some(target(pod)),
        ..Endpoint::default()
    }
}

fn slice_ports(ports: &Ports) -> Vec<EndpointPort> {
    let port = |(name, protocol, port, app_protocol): &(Option<String>, String, i32, Option<String>)| EndpointPort {
        name: Some(name.clone().unwrap_or_default()),
        port: Some(*port),
        protocol: Some(protocol.clone()),
        app_protocol: app_protocol.clone(),
    };
    ports.iter().map(port).collect()
}

fn slice(service: &Service, manager: &str, ports: Vec<EndpointPort>, endpoints: Vec<Endpoint>) -> EndpointSlice {
    let mut labels = objects::labels(service).clone();
    labels.insert(SERVICE_NAME.to_owned(), service.name_any());
    labels.insert(MANAGED_BY.to_owned(), manager.to_owned());
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", service.name_any())),
            namespace: service.namespace(),
            labels: Some(labels),
            owner_references: Some(vec![crate::owners::controller_reference(service)]),
            ..ObjectMeta::default()
        },
        address_type: "IPv4".to_owned(),
        endpoints: Some(endpoints),
        ports: Some(ports),
    }
}

/// Slices that say the same as Endpoints made by hand.
pub fn mirror(service: &Service, endpoints: &Endpoints) -> Vec<EndpointSlice> {
    let mirrored = |address: &EndpointAddress, ready: bool| Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone(),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    };
    let subsets = endpoints.subsets.iter().flatten();
    let slices = subsets.map(|subset| {
        let elsewhere = |address: &&EndpointAddress| is_elsewhere(&address.ip);
        let ready = subset.addresses.iter().flatten().filter(elsewhere).map(|a| mirrored(a, true));
        let waiting = subset.not_ready_addresses.iter().flatten().filter(elsewhere).map(|a| mirrored(a, false));
        let ports = subset.ports.iter().flatten().map(|port| EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(port.port),
            protocol: port.protocol.clone(),
            app_protocol: port.app_protocol.clone(),
        });
        slice(service, MIRRORER, ports.collect(), ready.chain(waiting).collect())
    });
    slices.collect()
}
