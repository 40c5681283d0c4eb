//! The state of the front door for a person: routes, where they lead, and what is wrong. Pure.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use serde::Serialize;

use crate::config::Acme;
use crate::held;
pub use crate::own::names as own_names;
use crate::routes::{self, Observed, Problem};
use crate::table::{EndpointStatus, PathKind, Table};

/// The objects of the cluster.
pub struct Objects {
    pub ingresses: Vec<Arc<Ingress>>,
    pub classes: Vec<Arc<IngressClass>>,
    pub services: Vec<Arc<Service>>,
    pub slices: Vec<Arc<EndpointSlice>>,
    pub secrets: Vec<Arc<Secret>>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RouteReport {
    /// Empty for every name.
    pub host: String,
    pub path: String,
    pub exact: bool,
    pub tls: bool,
    pub ingress: String,
    pub backend: Option<String>,
    pub endpoints: Vec<EndpointReport>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EndpointReport {
    pub address: String,
    /// `None`: the proxy does not know it.
    pub health: Option<Health>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Health {
    pub active: usize,
    pub requests: u64,
    pub failures: u64,
    pub set_aside: bool,
    pub last_error: Option<String>,
}

/// What the proxy would be told, and what cannot be served.
pub fn plan(
    objects: &Objects,
    acme: Option<&Acme>,
    local_domain: &str,
    cluster_domain: &str,
    own_names: &[String],
) -> (Table, Vec<Problem>, Vec<Arc<Ingress>>) {
    let mut cache = held::Cache::default();
    cache.refresh(&objects.secrets, Timestamp::now());
    let plan = routes::plan(&Observed {
        ingresses: objects.ingresses.clone(),
        classes: objects.classes.clone(),
        services: objects.services.clone(),
        slices: objects.slices.clone(),
        secrets: objects.secrets.clone(),
        certificate: &|namespace, name| cache.get(namespace, name),
        acme,
        local_domain,
        cluster_domain,
        body_bytes_max: u64::MAX,
        own_names,
    });
    (plan.table, plan.problems, plan.ours)
}

pub fn routes(table: &Table, status: &[EndpointStatus]) -> Vec<RouteReport> {
    let mut routes = Vec::new();
    for host in &table.hosts {
        for path in &host.paths {
            let backend = path.backend.and_then(|index| table.backends.get(index));
            let endpoints = backend.iter().flat_map(|b| b.endpoints.iter().map(move |address| (b, address)));
            let endpoints = endpoints.map(|(backend, address)| {
                let known = status.iter().find(|s| s.address == *address && s.backend == backend.name);
                EndpointReport {
                    address: address.to_string(),
                    health: known.map(|s| Health {
                        active: s.active,
                        requests: s.requests,
                        failures: s.failures,
                        set_aside: s.set_aside_ms > 0,
                        last_error: s.last_error.clone().filter(|_| s.set_aside_ms > 0),
                    }),
                }
            });
            routes.push(RouteReport {
                host: host.name.clone(),
                path: path.path.clone(),
                exact: path.kind == PathKind::Exact,
                tls: host.tls,
                ingress: path.ingress.clone(),
                backend: backend.map(|b| b.name.clone()),
                endpoints: endpoints.collect(),
            });
        }
    }
    routes
}
