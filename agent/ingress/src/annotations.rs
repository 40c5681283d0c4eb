//! The annotations `ingress.skiff.dev/…` of an Ingress.

use k8s_openapi::api::networking::v1::Ingress;
use kube::ResourceExt;

use crate::config::Challenge;

pub const PREFIX: &str = "ingress.skiff.dev/";

/// Where the certificate is to come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// The Secret if one is named, else a public CA for public names, else the box CA.
    Unsaid,
    /// A public CA, into the Secret that is named.
    Acme,
    BoxCa,
}

fn value<'a>(ingress: &'a Ingress, name: &str) -> Option<&'a str> {
    ingress.annotations().get(&format!("{PREFIX}{name}")).map(String::as_str)
}

pub fn certificate(ingress: &Ingress) -> Certificate {
    match value(ingress, "certificate") {
        Some("acme") => Certificate::Acme,
        Some("box-ca") => Certificate::BoxCa,
        Some(_) | None => Certificate::Unsaid,
    }
}

pub fn acme_challenge(ingress: &Ingress) -> Option<Challenge> {
    Challenge::parse(value(ingress, "acme-challenge")?)
}
