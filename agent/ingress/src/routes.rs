//! From Ingresses and what they name to the proxy's table, and to what cannot be served. Pure.

mod backends;
mod hosts;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use kube::ResourceExt;

use crate::annotations::Mistake;
use crate::certificates::wanted::{self, Source};
use crate::config::Acme;
use crate::table::{CertificateId, Table};

#[cfg(any(fuzzing, test))]
pub(crate) use hosts::users;

/// The name in `spec.controller` of classes that are ours.
pub const CONTROLLER: &str = "skiff.dev/ingress";

/// What the plan is made from.
pub struct Observed<'a> {
    pub ingresses: Vec<Arc<Ingress>>,
    pub classes: Vec<Arc<IngressClass>>,
    pub services: Vec<Arc<Service>>,
    pub slices: Vec<Arc<EndpointSlice>>,
    pub secrets: Vec<Arc<Secret>>,
    /// What is known of the certificate in a Secret, named by namespace and name.
    pub certificate: &'a dyn Fn(&str, &str) -> Held,
    pub acme: Option<&'a Acme>,
    pub local_domain: &'a str,
    pub cluster_domain: &'a str,
    pub body_bytes_max: u64,
    /// What the box itself is called: no Ingress gets these.
    pub own_names: &'a [String],
}

impl Observed<'_> {
    fn is_own(&self, host: &str) -> bool {
        self.own_names.iter().any(|name| name == host)
    }
}

/// What a Secret holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    Missing,
    /// Why it cannot be used.
    Broken(String),
    Certificate {
        id: CertificateId,
        names: Vec<String>,
        /// Why it will not convince a client, if so.
        expired: Option<String>,
    },
}

#[derive(Debug, Default)]
pub struct Plan {
    /// Without certificates of the box CA and without what the box answers itself.
    pub table: Table,
    pub problems: Vec<Problem>,
    /// Names that the box CA vouches for, or does until a certificate is there.
    pub box_names: BTreeSet<String>,
    /// Ingresses that are ours.
    pub ours: Vec<Arc<Ingress>>,
}

/// Why something that an Ingress asks for is not served.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    pub ingress: ObjectReference,
    /// As events have it.
    pub reason: &'static str,
    pub message: String,
}

pub fn plan(observed: &Observed<'_>) -> Plan {
    let mut plan = Plan { ours: ours(observed), ..Plan::default() };
    let mut backends = backends::Backends::new(observed);
    let mut hosts = hosts::Hosts::default();
    for ingress in plan.ours.clone() {
        let mut builder = hosts::Builder {
            observed,
            ingress: &ingress,
            backends: &mut backends,
            hosts: &mut hosts,
            problems: &mut plan.problems,
        };
        builder.add(&mut plan.table.options);
        certificates(observed, &ingress, &mut plan);
    }
    plan.table.backends = backends.finish();
    plan.table.hosts = hosts.finish();
    plan
}

/// Ours by their class, the oldest first: it wins where two want the same.
fn ours(observed: &Observed<'_>) -> Vec<Arc<Ingress>> {
    let mut ours: Vec<_> = observed.ingresses.iter().filter(|i| is_ours(i, &observed.classes)).cloned().collect();
    ours.sort_by_key(|i| (i.creation_timestamp().map(|t| t.0), i.namespace(), i.name_any()));
    ours
}

/// By the class that an Ingress names, or by the default class if it names none.
pub fn is_ours(ingress: &Ingress, classes: &[Arc<IngressClass>]) -> bool {
    let is_our_class =
        |class: &IngressClass| class.spec.as_ref().and_then(|s| s.controller.as_deref()) == Some(CONTROLLER);
    let legacy = ingress.annotations().get("kubernetes.io/ingress.class");
    let named = ingress.spec.as_ref().and_then(|s| s.ingress_class_name.as_ref()).or(legacy);
    let is_default = |class: &IngressClass| {
        class.annotations().get("ingressclass.kubernetes.io/is-default-class").is_some_and(|v| v == "true")
    };
    ingress.metadata.deletion_timestamp.is_none()
        && match named {
            Some(name) => classes.iter().any(|class| class.name_any() == *name && is_our_class(class)),
            None => classes.iter().any(|class| is_default(class) && is_our_class(class)),
        }
}

/// The certificate of each TLS host.
fn certificates(observed: &Observed<'_>, ingress: &Ingress, plan: &mut Plan) {
    let namespace = ingress.namespace().unwrap_or_default();
    for (mut hosts, secret_name) in wanted::tls_entries(ingress) {
        hosts.retain(|host| !observed.is_own(host));
        let source = wanted::source(ingress, &hosts, secret_name, observed.acme, observed.local_domain);
        let held = match &source {
            Source::Secret(name) | Source::Ordered(name) => (observed.certificate)(&namespace, name),
            Source::BoxCa => Held::Missing,
        };
        let mut say = |reason, message| {
            plan.problems.push(Problem { ingress: wanted::reference(ingress), reason, message });
        };
        match (&source, &held) {
            (Source::Secret(name), Held::Missing) => say(
                "SecretNotFound",
                format!(
                    "there is no Secret \"{name}\" with the certificate for {}: the box CA's is served",
                    hosts.join(", ")
                ),
            ),
            (Source::Secret(name) | Source::Ordered(name), Held::Broken(why)) => {
                say(
                    "SecretInvalid",
                    format!("the certificate in Secret \"{name}\" cannot be used: {why}: the box CA's is served"),
                );
            }
            (Source::Secret(name) | Source::Ordered(name), Held::Certificate { names, expired, .. }) => {
                for host in hosts.iter().filter(|host| !names.iter().any(|n| covers(n, host))) {
                    let names = names.join(", ");
                    say(
                        "CertificateMismatch",
                        format!("the certificate in Secret \"{name}\" is for {names}, not for {host}"),
                    );
                }
                if let Some(expired) = expired {
                    say("CertificateExpired", format!("the certificate in Secret \"{name}\" {expired}"));
                }
            }
            (Source::Ordered(_), Held::Missing) | (Source::BoxCa, _) => {}
        }
        let certificates = &mut plan.table.certificates;
        for host in hosts {
            match &held {
                Held::Certificate { id, .. } => {
                    certificates.entry(host).or_insert_with(|| id.clone());
                }
                Held::Missing | Held::Broken(_) if !certificates.contains_key(&host) => {
                    plan.box_names.insert(host);
                }
                Held::Missing | Held::Broken(_) => {}
            }
        }
    }
    let certificates: &BTreeMap<_, _> = &plan.table.certificates;
    plan.box_names.retain(|name| !certificates.contains_key(name));
}

/// RFC 6125: a wildcard stands for one label.
pub fn covers(name: &str, host: &str) -> bool {
    match name.strip_prefix("*.") {
        Some(domain) => {
            host == name || host.split_once('.').is_some_and(|(label, rest)| rest == domain && label != "*")
        }
        None => name.eq_ignore_ascii_case(host),
    }
}

fn mistake(ingress: &Ingress, mistake: Mistake) -> Problem {
    let (reason, message) = match mistake {
        Mistake::Unknown(message) => ("UnknownAnnotation", message),
        Mistake::Invalid(message) => ("InvalidAnnotation", message),
    };
    Problem { ingress: wanted::reference(ingress), reason, message }
}
