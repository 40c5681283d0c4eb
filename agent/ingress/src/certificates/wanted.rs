//! Which certificates Ingresses ask for. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use k8s_openapi::api::networking::v1::Ingress;
use kube::ResourceExt;

use crate::annotations;
use crate::config::{Acme, Challenge};

/// Says of a Secret that this crate made it and keeps it valid.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "skiff-ingress");

/// One certificate that a public CA is to issue.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Lower case, sorted, without repeats; wildcards as `*.example.org`.
    pub names: Vec<String>,
    pub namespace: String,
    /// The Secret of type `kubernetes.io/tls` that the certificate belongs in.
    pub secret: String,
    pub challenge: Challenge,
    /// Where events about it go.
    pub ingress: ObjectReference,
}

/// Where a TLS entry's certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A Secret that the user keeps.
    Secret(String),
    /// A Secret that a certificate is ordered for; until it is there, the box CA's is served.
    Ordered(String),
    /// The box CA, for ever.
    BoxCa,
}

/// `tls` is one entry of `spec.tls`: its hosts and its Secret's name.
pub fn source(
    ingress: &Ingress,
    hosts: &[String],
    secret: Option<&str>,
    acme: Option<&Acme>,
    local_domain: &str,
) -> Source {
    let public = !hosts.is_empty() && hosts.iter().all(|host| is_public(host, local_domain));
    let asked = annotations::certificate(ingress);
    match (secret.filter(|s| !s.is_empty()), asked) {
        (_, annotations::Certificate::BoxCa) => Source::BoxCa,
        (Some(name), annotations::Certificate::Acme) if public && acme.is_some() => Source::Ordered(name.to_owned()),
        (Some(name), _) => Source::Secret(name.to_owned()),
        (None, _) if public && acme.is_some() => Source::Ordered(secret_name(hosts)),
        (None, _) => Source::BoxCa,
    }
}

/// The entries of `spec.tls`, with the name of their Secret: hosts in lower case, sorted, without repeats. An entry without
/// hosts is for those of the rules.
pub fn tls_entries(ingress: &Ingress) -> Vec<(Vec<String>, Option<&str>)> {
    let spec = ingress.spec.as_ref();
    let rules = || spec.iter().flat_map(|s| s.rules.iter().flatten()).filter_map(|r| r.host.as_ref());
    let entries = spec.iter().flat_map(|s| s.tls.iter().flatten()).map(|tls| {
        let mut hosts: Vec<String> = tls.hosts.iter().flatten().map(|h| h.to_lowercase()).collect();
        if hosts.is_empty() {
            hosts = rules().map(|h| h.to_lowercase()).filter(|h| !h.is_empty()).collect();
        }
        hosts.sort();
        hosts.dedup();
        (hosts, tls.secret_name.as_deref())
    });
    entries.collect()
}

/// Whether a public CA may issue for this name at all.
pub fn is_public(host: &str, local_domain: &str) -> bool {
    const PRIVATE: &[&str] =
        &["local", "localhost", "internal", "home.arpa", "lan", "home", "test", "invalid", "onion"];
    let name = host.strip_prefix("*.").unwrap_or(host);
    let below = |domain: &str| name == domain || name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    name.contains('.') && !below(local_domain) && !PRIVATE.iter().any(|domain| below(domain))
}

/// A name of its own for the certificate of these hosts.
fn secret_name(hosts: &[String]) -> String {
    let first = hosts.iter().min().map_or("", String::as_str);
    let name = first.replace("*.", "wildcard.");
    match hosts.len() {
        0 | 1 => format!("{name}-tls"),
        more => format!("{name}-and-{}-tls", more - 1),
    }
}

/// One entry for each Secret; where Ingresses share a Secret, their names are put together and the oldest is told.
pub fn wanted(ingresses: &[Arc<Ingress>], acme: &Acme, local_domain: &str) -> Vec<Wanted> {
    let mut found: BTreeMap<(String, String), Wanted> = BTreeMap::new();
    let mut oldest_first: Vec<_> = ingresses.iter().collect();
    oldest_first.sort_by_key(|i| (i.creation_timestamp().map(|t| t.0), i.namespace(), i.name_any()));
    for ingress in oldest_first {
        for (names, secret_name) in tls_entries(ingress) {
            let Source::Ordered(secret) = source(ingress, &names, secret_name, Some(acme), local_domain) else {
                continue;
            };
            let namespace = ingress.namespace().unwrap_or_default();
            let challenge = annotations::acme_challenge(ingress).unwrap_or(acme.challenge);
            let wildcard = names.iter().any(|n| n.starts_with("*."));
            let wanted = found.entry((namespace.clone(), secret.clone())).or_insert_with(|| Wanted {
                names: Vec::new(),
                namespace,
                secret,
                challenge,
                ingress: reference(ingress),
            });
            wanted.names.extend(names);
            wanted.names.sort();
            wanted.names.dedup();
            if wildcard {
                wanted.challenge = Challenge::Dns01;
            }
        }
    }
    found.into_values().collect()
}

pub fn reference(ingress: &Ingress) -> ObjectReference {
    ObjectReference {
        api_version: Some("networking.k8s.io/v1".to_owned()),
        kind: Some("Ingress".to_owned()),
        name: Some(ingress.name_any()),
        namespace: ingress.namespace(),
        uid: ingress.uid(),
        ..ObjectReference::default()
    }
}

/// Whether this crate may replace what is in the Secret.
pub fn is_managed(secret: &Secret) -> bool {
    secret.metadata.labels.as_ref().and_then(|l| l.get(MANAGED_BY.0)).is_some_and(|v| v == MANAGED_BY.1)
}
