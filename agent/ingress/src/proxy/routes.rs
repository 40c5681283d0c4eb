//! The table as the proxy looks things up in it: hosts by name, paths in order, endpoints with what is known of them.

use std::collections::HashMap;
use std::sync::Arc;

use super::balance::Endpoint;
use super::certificates::Certificates;
use super::limits::{Networks, RateLimiter};
use super::metrics::HostMetrics;
use crate::table::{self, Own, PathKind, Protocol, Table};

#[derive(Debug, Default)]
pub struct Routes {
    exact: HashMap<Box<str>, Host>,
    /// By the name without `*.`.
    wildcard: HashMap<Box<str>, Host>,
    any: Option<Host>,
    pub backends: Vec<Arc<Backend>>,
    pub http_answers: HashMap<String, String>,
    pub own: Own,
    pub certificates: Certificates,
}

#[derive(Debug)]
pub struct Host {
    pub tls: bool,
    pub trusted: bool,
    pub metrics: Arc<HostMetrics>,
    paths: Vec<Arc<Route>>,
}

#[derive(Debug)]
pub struct Route {
    kind: PathKind,
    path: Box<str>,
    pub ingress: Box<str>,
    pub backend: Option<Arc<Backend>>,
    pub options: Arc<Options>,
}

#[derive(Debug)]
pub struct Backend {
    pub name: String,
    pub protocol: Protocol,
    pub endpoints: Vec<Arc<Endpoint>>,
}

#[derive(Debug)]
pub struct Options {
    pub plain: table::Options,
    pub allow: Networks,
    pub rate: Option<RateLimiter>,
    /// The backend of `plain.forward_auth`.
    pub auth_backend: Option<Arc<Backend>>,
}

impl Routes {
    /// What is known of endpoints, and the counters, are taken over from `before`.
    pub fn new(
        table: Table,
        certificates: Certificates,
        before: &Routes,
        metrics: impl Fn(&str) -> Arc<HostMetrics>,
    ) -> Self {
        let known: HashMap<_, _> =
            before.backends.iter().flat_map(|b| &b.endpoints).map(|e| (e.address, Arc::clone(e))).collect();
        let endpoint = |address| match known.get(&address) {
            Some(endpoint) if before.own.cookie_key == table.own.cookie_key => Arc::clone(endpoint),
            Some(_) | None => Arc::new(Endpoint::new(address, &table.own.cookie_key)),
        };
        let backends: Vec<_> = table
            .backends
            .iter()
            .map(|backend| {
                Arc::new(Backend {
                    name: backend.name.clone(),
                    protocol: backend.protocol,
                    endpoints: backend.endpoints.iter().map(|a| endpoint(*a)).collect(),
                })
            })
            .collect();
        let backend = |index: Option<usize>| index.and_then(|i| backends.get(i)).cloned();
        let options: Vec<_> = table
            .options
            .into_iter()
            .map(|plain| {
                Arc::new(Options {
                    allow: Networks::parse(&plain.allow),
                    rate: plain.rate_limit.map(RateLimiter::new),
                    auth_backend: backend(plain.forward_auth.as_ref().and_then(|a| a.backend)),
                    plain,
                })
            })
            .collect();
        let mut routes = Self {
            http_answers: table.http_answers.into_iter().collect(),
            own: table.own,
            certificates,
            ..Self::default()
        };
        for host in table.hosts {
            let paths = host.paths.into_iter().filter_map(|path| {
                Some(Arc::new(Route {
                    kind: path.kind,
                    path: path.path.into(),
                    ingress: path.ingress.into(),
                    backend: backend(path.backend),
                    options: Arc::clone(options.get(path.options)?),
                }))
            });
            let metrics = metrics(&host.name);
            let compiled = Host { tls: host.tls, trusted: host.trusted, metrics, paths: paths.collect() };
            match host.name.strip_prefix("*.") {
                Some(domain) => drop(routes.wildcard.insert(domain.into(), compiled)),
                None if host.name.is_empty() => routes.any = Some(compiled),
                None => drop(routes.exact.insert(host.name.into(), compiled)),
            }
        }
        routes.backends = backends;
        routes
    }

    /// The most precise host that has the path: an exact name, then a wildcard for one label, then every name.
    pub fn find(&self, host: &str, path: &str) -> Option<(&Host, &Arc<Route>)> {
        let wildcard = || self.wildcard.get(host.split_once('.')?.1);
        let hosts = [self.exact.get(host), wildcard(), self.any.as_ref()];
        hosts.into_iter().flatten().find_map(|host| Some((host, host.paths.iter().find(|r| r.matches(path))?)))
    }
}

impl Route {
    fn matches(&self, path: &str) -> bool {
        match self.kind {
            PathKind::Exact => path == &*self.path,
            PathKind::Prefix => {
                let prefix = self.path.strip_suffix('/').unwrap_or(&self.path);
                path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
        }
    }
}
