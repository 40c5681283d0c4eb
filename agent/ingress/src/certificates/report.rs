//! The state of each certificate, for the command line. Pure.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use serde::Serialize;

use super::controller::foreign;
use super::order::state::{self, State};
use super::schedule::{self, Decision};
use super::wanted::Wanted;
use crate::annotations::PREFIX;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CertificateReport {
    pub names: Vec<String>,
    pub namespace: String,
    pub secret: String,
    /// The directory of the CA that issued it, or is asked for it.
    pub issuer: Option<String>,
    pub not_after: Option<Timestamp>,
    /// Whole days; negative once it ended.
    pub days_left: Option<i64>,
    /// A sentence.
    pub state: String,
    pub last_error: Option<String>,
    pub next_attempt: Option<Timestamp>,
}

/// `secrets` are those of all namespaces, or at least all that this crate manages or is asked to write.
pub fn report(wanted: &[Wanted], secrets: &[Arc<Secret>], now: Timestamp) -> Vec<CertificateReport> {
    wanted.iter().map(|wanted| one(wanted, secrets, now)).collect()
}

fn one(wanted: &Wanted, secrets: &[Arc<Secret>], now: Timestamp) -> CertificateReport {
    let get = |name: &str| {
        let is = |s: &&Arc<Secret>| s.metadata.namespace.as_ref() == Some(&wanted.namespace) && s.name_any() == name;
        secrets.iter().find(is)
    };
    let secret = get(&wanted.secret).map(AsRef::as_ref);
    let order = get(&state::name(&wanted.secret)).and_then(|secret| State::read(secret));
    let not_after = secret.and_then(|secret| schedule::leaf(secret).ok()).map(|leaf| leaf.not_after);
    let decision = schedule::decide(wanted, secret, order.as_ref(), None, now);
    let issued_by = secret.and_then(|secret| secret.annotations().get(&format!("{PREFIX}issuer")).cloned());
    let next_attempt = match &decision {
        Decision::Keep { until } | Decision::Wait { until } => Some(*until),
        Decision::Foreign | Decision::Order(_) => None,
    };
    CertificateReport {
        names: wanted.names.clone(),
        namespace: wanted.namespace.clone(),
        secret: wanted.secret.clone(),
        issuer: issued_by.or_else(|| order.as_ref().map(|order| order.issuer.clone())),
        days_left: not_after.map(|end| end.duration_since(now).as_hours().div_euclid(24)),
        state: sentence(wanted, &decision, not_after, now),
        last_error: order.and_then(|order| order.last_error),
        next_attempt,
        not_after,
    }
}

fn sentence(wanted: &Wanted, decision: &Decision, not_after: Option<Timestamp>, now: Timestamp) -> String {
    let day = |at: Timestamp| at.strftime("%Y-%m-%d").to_string();
    let minute = |at: Timestamp| at.strftime("%Y-%m-%d %H:%M UTC").to_string();
    let usable = match not_after {
        Some(end) if end > now => format!("valid until {}", day(end)),
        Some(end) => format!("ended on {}", day(end)),
        None => "not there yet".to_owned(),
    };
    match decision {
        Decision::Foreign => foreign(wanted),
        Decision::Keep { until } => format!("{usable}, renewed from {}", day(*until)),
        Decision::Order(_) => format!("{usable}, being ordered"),
        Decision::Wait { until } => format!("{usable}, the last order failed, the next is at {}", minute(*until)),
    }
}

#[cfg(test)]
mod tests;
