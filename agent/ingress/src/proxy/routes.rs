//! The table as the proxy looks things up in it: hosts by name, paths in order, endpoints with what is known of them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName};

use super::balance::Endpoint;
use super::certificates::Certificates;
use super::limits::{Networks, RateLimiter};
use super::metrics::HostMetrics;
use super::path;
use super::request::Refusal;
use crate::own;
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
    /// As `path::of_rule` has it.
    path: Box<str>,
    pub ingress: Box<str>,
    pub backend: Option<Arc<Backend>>,
    pub options: Arc<Options>,
    /// The box's own pages.
    is_console: bool,
    /// Headers by which the backend knows who was let in, on this way to it or on another.
    guarded: Arc<[HeaderName]>,
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
        let (guarded, console) = (guarded(&table.hosts, &options), routes.own.console);
        for host in table.hosts {
            let paths = host.paths.into_iter().filter_map(|path| {
                Some(Arc::new(Route {
                    kind: path.kind,
                    path: path::of_rule(&path.path).into(),
                    ingress: path.ingress.into(),
                    backend: backend(path.backend),
                    is_console: path.backend.is_some() && path.backend == console,
                    guarded: path.backend.and_then(|b| guarded.get(&b)).cloned().unwrap_or_default(),
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

    /// The rule for a path, and the path as it is forwarded. Refuses what may be read as under another protection.
    pub fn find<'r, 'p>(&'r self, host: &str, path: &'p str) -> Result<Option<Found<'r, 'p>>, Refusal> {
        let target = path::read(path)?;
        let Some((host_found, route)) = self.rule(host, &target.key) else { return Ok(None) };
        let is_protected_alike =
            |key: &str| self.rule(host, key).is_none_or(|(_, other)| Arc::ptr_eq(&other.options, &route.options));
        if !target.others.iter().all(|key| is_protected_alike(key)) {
            return Err(Refusal(StatusCode::BAD_REQUEST, "the request's path is not read by all in the same way"));
        }
        let path = match target.unmerged {
            Some(unmerged) if is_protected_alike(&unmerged.key) => unmerged.normal.into(),
            Some(_) | None => target.normal,
        };
        Ok(Some(Found { host: host_found, route, path }))
    }

    /// The most precise host that has the path: an exact name, then a wildcard for one label, then every name.
    fn rule(&self, host: &str, key: &str) -> Option<(&Host, &Arc<Route>)> {
        let wildcard = || self.wildcard.get(host.split_once('.')?.1);
        let hosts = [self.exact.get(host), wildcard(), self.any.as_ref()];
        hosts.into_iter().flatten().find_map(|host| Some((host, host.paths.iter().find(|r| r.matches(key))?)))
    }
}

/// Where a request goes.
#[derive(Debug)]
pub struct Found<'r, 'p> {
    pub host: &'r Host,
    pub route: &'r Arc<Route>,
    /// As it is forwarded.
    pub path: Cow<'p, str>,
}

/// For each backend what deciding Services say to it. The credentials that browsers send are not among it: on a way
/// without such a Service they are the application's own.
fn guarded(hosts: &[table::Host], options: &[Arc<Options>]) -> HashMap<usize, Arc<[HeaderName]>> {
    let mut all: HashMap<usize, Vec<HeaderName>> = HashMap::new();
    for path in hosts.iter().flat_map(|host| &host.paths) {
        let auth = options.get(path.options).and_then(|options| options.plain.forward_auth.as_ref());
        let (Some(backend), Some(auth)) = (path.backend, auth) else { continue };
        let names = auth.headers.iter().filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok());
        let names = names.filter(|name| ![header::AUTHORIZATION, header::COOKIE].contains(name));
        all.entry(backend).or_default().extend(names);
    }
    all.into_iter().map(|(backend, names)| (backend, names.into())).collect()
}

impl Route {
    /// Removes what only a deciding Service may say, and what only the box's own pages may know.
    pub fn guard(&self, headers: &mut HeaderMap) {
        for name in &*self.guarded {
            headers.remove(name);
        }
        if !self.is_console {
            own::remove_session(headers);
        }
    }

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
