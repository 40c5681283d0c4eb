//! The hosts and paths of Ingresses, put together: the oldest Ingress has a path that two ask for.

use std::collections::{BTreeMap, HashMap, HashSet};

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::networking::v1::{Ingress, IngressBackend};
use kube::ResourceExt;

use super::backends::{Backends, Port};
use super::{Held, Observed, Problem, mistake};
use crate::annotations::{self, Chosen};
use crate::certificates::wanted::{self, Source};
use crate::table::{BasicAuth, ForwardAuth, Host, Options, Path, PathKind, Protocol};

#[derive(Default)]
pub struct Hosts {
    paths: BTreeMap<String, Vec<Path>>,
    taken: HashMap<(String, PathKind, String), String>,
    tls: HashSet<String>,
    trusted: HashSet<String>,
}

impl Hosts {
    pub fn finish(self) -> Vec<Host> {
        let (tls, trusted) = (self.tls, self.trusted);
        let is_in = |set: &HashSet<String>, name: &str| {
            let wildcard = || name.split_once('.').map(|(_, domain)| format!("*.{domain}"));
            set.contains(name) || wildcard().is_some_and(|w| set.contains(&w))
        };
        self.paths
            .into_iter()
            .map(|(name, mut paths)| {
                // The longest first; of the same length, the exact one: kubernetes.io, "Multiple matches".
                let length = |p: &Path| p.path.trim_end_matches('/').len();
                paths.sort_by(|a, b| length(b).cmp(&length(a)).then(a.kind.cmp(&b.kind)).then(a.path.cmp(&b.path)));
                Host { tls: is_in(&tls, &name), trusted: is_in(&trusted, &name), name, paths }
            })
            .collect()
    }
}

/// Adds one Ingress.
pub struct Builder<'a, 'b> {
    pub observed: &'a Observed<'a>,
    pub ingress: &'b Ingress,
    pub backends: &'b mut Backends<'a>,
    pub hosts: &'b mut Hosts,
    pub problems: &'b mut Vec<Problem>,
}

impl Builder<'_, '_> {
    pub fn add(&mut self, all_options: &mut Vec<Options>) {
        let observed = self.observed;
        let mut chosen = annotations::choose(self.ingress, observed.body_bytes_max, observed.cluster_domain);
        for error in std::mem::take(&mut chosen.errors) {
            self.problems.push(mistake(self.ingress, error));
        }
        let is_barred = !self.add_auth(&mut chosen);
        let options = match all_options.iter().position(|o| *o == chosen.options) {
            Some(index) => index,
            None => {
                all_options.push(chosen.options.clone());
                all_options.len() - 1
            }
        };
        self.add_tls(&chosen);
        let protocol = chosen.protocol;
        let spec = self.ingress.spec.clone().unwrap_or_default();
        for rule in spec.rules.iter().flatten() {
            let host = rule.host.as_deref().unwrap_or_default().to_lowercase();
            if observed.is_own(&host) {
                self.refuse_own(&host);
                continue;
            }
            for path in rule.http.iter().flat_map(|http| &http.paths) {
                let kind = if path.path_type == "Exact" { PathKind::Exact } else { PathKind::Prefix };
                let text = path.path.clone().filter(|p| !p.is_empty()).unwrap_or_else(|| "/".to_owned());
                let backend = self.backend(&path.backend, protocol).filter(|_| !is_barred);
                self.add_path(&host, kind, &text, backend, options);
            }
        }
        if let Some(default) = &spec.default_backend {
            let backend = self.backend(default, protocol).filter(|_| !is_barred);
            let hosts: Vec<String> =
                spec.rules.iter().flatten().filter_map(|r| r.host.clone()).map(|h| h.to_lowercase()).collect();
            let hosts: Vec<String> = hosts.into_iter().filter(|host| !observed.is_own(host)).collect();
            for host in hosts.iter().map(String::as_str).chain([""]) {
                let is_taken = self.hosts.taken.contains_key(&(host.to_owned(), PathKind::Prefix, "/".to_owned()))
                    && !host.is_empty();
                if !is_taken {
                    self.add_path(host, PathKind::Prefix, "/", backend, options);
                }
            }
        }
    }

    fn say(&mut self, reason: &'static str, message: String) {
        let problem = Problem { ingress: wanted::reference(self.ingress), reason, message };
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    fn refuse_own(&mut self, host: &str) {
        let hint = format!("app.{}", self.observed.local_domain);
        self.say(
            "HostReserved",
            format!("{host} is a name of the box itself and leads to its own pages: take another, such as {hint}"),
        );
    }

    fn name(&self) -> String {
        format!("{}/{}", self.ingress.namespace().unwrap_or_default(), self.ingress.name_any())
    }

    fn add_path(&mut self, host: &str, kind: PathKind, path: &str, backend: Option<usize>, options: usize) {
        let name = self.name();
        let plain = if kind == PathKind::Prefix && path.len() > 1 { path.trim_end_matches('/') } else { path };
        let key = (host.to_owned(), kind, plain.to_owned());
        if let Some(owner) = self.hosts.taken.get(&key) {
            let shown = if host.is_empty() { "every host" } else { host };
            let message = match *owner == name {
                true => format!("{shown}{plain} is named twice: the first counts"),
                false => format!("{shown}{plain} is served by Ingress {owner}, which is older"),
            };
            return self.say("HostConflict", message);
        }
        self.hosts.taken.insert(key, name.clone());
        let paths = self.hosts.paths.entry(host.to_owned()).or_default();
        paths.push(Path { kind, path: path.to_owned(), backend, options, ingress: name });
    }

    fn backend(&mut self, backend: &IngressBackend, protocol: Option<Protocol>) -> Option<usize> {
        let Some(service) = &backend.service else {
            self.say("BackendNotSupported", "a resource as backend is not supported: name a Service".to_owned());
            return None;
        };
        let port = service.port.as_ref().and_then(|port| match (&port.name, port.number) {
            (Some(name), _) => Some(Port::Name(name.clone())),
            (None, Some(number)) => Some(Port::Number(number)),
            (None, None) => None,
        })?;
        let namespace = self.ingress.namespace().unwrap_or_default();
        match self.backends.find(&namespace, &service.name, &port, protocol) {
            Ok(index) => Some(index),
            Err((reason, message)) => {
                self.say(reason, message);
                None
            }
        }
    }

    fn add_tls(&mut self, chosen: &Chosen) {
        let observed = self.observed;
        let namespace = self.ingress.namespace().unwrap_or_default();
        for (mut hosts, secret_name) in wanted::tls_entries(self.ingress) {
            let own: Vec<String> = hosts.extract_if(.., |host| observed.is_own(host)).collect();
            own.iter().for_each(|host| self.refuse_own(host));
            let source = wanted::source(self.ingress, &hosts, secret_name, observed.acme, observed.local_domain);
            let is_there = |name: &str| matches!((observed.certificate)(&namespace, name), Held::Certificate { .. });
            let is_trusted = match &source {
                Source::Ordered(name) => is_there(name),
                // Whether clients trust the user's own certificate, only the user knows.
                Source::Secret(name) => chosen.says_hsts && is_there(name),
                Source::BoxCa => false,
            };
            if is_trusted {
                self.hosts.trusted.extend(hosts.iter().cloned());
            }
            self.hosts.tls.extend(hosts);
        }
    }

    /// Fills in who may pass. `false`: it is asked for and cannot be had, so that nobody may.
    fn add_auth(&mut self, chosen: &mut Chosen) -> bool {
        if annotations::has_broken_auth(self.ingress, chosen) {
            return false;
        }
        let namespace = self.ingress.namespace().unwrap_or_default();
        if let Some(name) = &chosen.basic_auth_secret {
            let is_it =
                |s: &&std::sync::Arc<Secret>| s.namespace().as_ref() == Some(&namespace) && s.name_any() == *name;
            let secret = self.observed.secrets.iter().find(is_it);
            let users = secret.map_or_else(|| Err("is not there".to_owned()), |secret| users(secret));
            match users {
                Ok(users) => {
                    chosen.options.basic_auth = Some(BasicAuth { realm: chosen.basic_auth_realm.clone(), users });
                }
                Err(why) => {
                    self.say("AuthSecretInvalid", format!("nobody can sign in: Secret \"{name}\" {why}"));
                    return false;
                }
            }
        }
        if let Some(url) = &chosen.auth_url {
            let port = Port::Number(i32::from(url.port));
            let host = format!("{}.{}.svc", url.service, url.namespace);
            let found = self.backends.find(&url.namespace, &url.service, &port, Some(Protocol::Http1));
            let backend = match found {
                Ok(index) => Some(index),
                Err((reason, message)) => {
                    self.say(reason, format!("nobody can pass: {message}"));
                    None
                }
            };
            chosen.options.forward_auth = Some(ForwardAuth {
                backend,
                host,
                path: url.path.clone(),
                sign_in: url.sign_in.clone(),
                headers: url.headers.clone(),
            });
        }
        true
    }
}

/// From a Secret of type `kubernetes.io/basic-auth`, or the lines of an htpasswd file.
pub(crate) fn users(secret: &Secret) -> Result<BTreeMap<String, String>, String> {
    let text = |key: &str| {
        let data = secret.data.as_ref().and_then(|d| d.get(key))?;
        String::from_utf8(data.0.clone()).ok()
    };
    if let (Some(user), Some(password)) = (text("username"), text("password")) {
        return Ok([(user, format!("plain:{password}"))].into());
    }
    let Some(file) = text("auth") else {
        return Err("has neither \"username\" and \"password\" nor an htpasswd file in \"auth\"".to_owned());
    };
    let mut users = BTreeMap::new();
    for (number, line) in file.lines().map(str::trim).enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((user, hash)) = line.split_once(':') else {
            return Err(format!("has no user and hash in line {} of \"auth\"", number + 1));
        };
        if !["$2a$", "$2b$", "$2y$"].iter().any(|prefix| hash.starts_with(prefix)) {
            return Err(format!(
                "has a hash in line {} of \"auth\" that is not bcrypt: make it with htpasswd -B",
                number + 1
            ));
        }
        users.insert(user.to_owned(), hash.to_owned());
    }
    if users.is_empty() { Err("names no user in \"auth\"".to_owned()) } else { Ok(users) }
}
