//! What becomes of a certificate signing request. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use skiff_reconcile::Next;

const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const NODE_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const NODE_SERVING: &str = "kubernetes.io/kubelet-serving";
const NODES: &str = "system:nodes";
const NODE_PREFIX: &str = "system:node:";
const LIFETIME_MAX: Duration = Duration::from_secs(365 * 86_400);
/// As upstream: what was decided goes after an hour, what nobody decided after a day.
const DECIDED_KEPT: SignedDuration = SignedDuration::from_hours(1);
const PENDING_KEPT: SignedDuration = SignedDuration::from_hours(24);

/// What a request asks for.
#[derive(Debug, Clone, Default)]
pub struct Requested {
    pub common_name: String,
    pub organizations: Vec<String>,
    pub dns_names: Vec<String>,
    pub addresses: usize,
    /// Names of other sorts.
    pub others: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Plan {
    Wait(Next),
    Delete,
    /// If whoever asks has this right; otherwise others may, until it is too old.
    Approve {
        right: &'static str,
        left: Duration,
    },
    Sign {
        lifetime: Duration,
    },
    Fail(String),
}

pub fn plan(request: &CertificateSigningRequest, read: &Result<Requested, String>, now: Timestamp) -> Plan {
    let condition = |ty: &str| conditions(request).find(|condition| condition.type_ == ty);
    let is_issued = request.status.as_ref().is_some_and(|status| status.certificate.is_some());
    let decided = ["Denied", "Failed", "Approved"].into_iter().find_map(condition);
    let is_open = condition("Approved").is_some() && !is_issued && condition("Failed").is_none();
    if let (true, Some(signer)) = (is_open, signer(&request.spec.signer_name)) {
        return match read.as_ref().map_err(String::clone).and_then(|read| check(signer, request, read)) {
            Ok(()) => Plan::Sign { lifetime: lifetime(request) },
            Err(why) => Plan::Fail(why),
        };
    }
    let (since, kept) = match decided {
        Some(decided) if !is_open => (decided.last_update_time.as_ref().map(|time| time.0), DECIDED_KEPT),
        Some(_) | None => (request.metadata.creation_timestamp.as_ref().map(|time| time.0), PENDING_KEPT),
    };
    let left = since.map_or(kept, |since| kept - now.duration_since(since));
    if left <= SignedDuration::ZERO {
        return Plan::Delete;
    }
    match (decided, read) {
        (None, Ok(read)) if request.spec.signer_name == NODE_CLIENT && is_of_node(request, read).is_ok() => {
            let is_own = request.spec.username.as_deref() == Some(&read.common_name);
            let right = if is_own { "selfnodeclient" } else { "nodeclient" };
            Plan::Approve { right, left: left.unsigned_abs() }
        }
        _ => Plan::Wait(Next::After(left.unsigned_abs())),
    }
}

fn conditions(request: &CertificateSigningRequest) -> impl Iterator<Item = &CertificateSigningRequestCondition> {
    request.status.iter().flat_map(|status| status.conditions.iter().flatten())
}

#[derive(Clone, Copy)]
enum Signer {
    Client,
    NodeClient,
    NodeServing,
}

fn signer(name: &str) -> Option<Signer> {
    match name {
        CLIENT => Some(Signer::Client),
        NODE_CLIENT => Some(Signer::NodeClient),
        NODE_SERVING => Some(Signer::NodeServing),
        _ => None,
    }
}

pub fn usages(request: &CertificateSigningRequest) -> &[String] {
    request.spec.usages.as_deref().unwrap_or_default()
}

fn lifetime(request: &CertificateSigningRequest) -> Duration {
    let asked = request.spec.expiration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    asked.map_or(LIFETIME_MAX, Duration::from_secs).min(LIFETIME_MAX)
}

/// What upstream's signers ask of a request.
fn check(signer: Signer, request: &CertificateSigningRequest, read: &Requested) -> Result<(), String> {
    let usages = |needed: &str| {
        let asked = self::usages(request);
        let allowed = ["digital signature", "key encipherment", needed];
        match asked.iter().find(|usage| !allowed.contains(&usage.as_str())) {
            Some(usage) => Err(format!("usage {usage:?} is not one of this signer's")),
            None if asked.iter().any(|usage| usage == needed) => Ok(()),
            None => Err(format!("usages did not include {needed:?}")),
        }
    };
    match signer {
        Signer::Client => usages("client auth"),
        Signer::NodeClient => usages("client auth").and_then(|()| is_of_node(request, read)),
        Signer::NodeServing => {
            usages("server auth")?;
            node_subject(read)?;
            if request.spec.username.as_deref() != Some(&read.common_name) {
                return Err("the subject's common name is not who asked".to_owned());
            }
            if read.dns_names.is_empty() && read.addresses == 0 {
                return Err("DNS or IP subjectAltName is required".to_owned());
            }
            if read.others > 0 { Err("subject alternative names are of DNS and IP only".to_owned()) } else { Ok(()) }
        }
    }
}

fn node_subject(read: &Requested) -> Result<(), String> {
    if read.organizations != [NODES] {
        return Err(format!("subject organization is not {NODES}"));
    }
    match read.common_name.strip_prefix(NODE_PREFIX) {
        Some(name) if !name.is_empty() => Ok(()),
        Some(_) | None => Err(format!("subject common name does not begin with {NODE_PREFIX}")),
    }
}

fn is_of_node(request: &CertificateSigningRequest, read: &Requested) -> Result<(), String> {
    node_subject(read)?;
    if !read.dns_names.is_empty() || read.addresses > 0 || read.others > 0 {
        return Err("subject alternative names are not allowed".to_owned());
    }
    let is_of_clients =
        |usage: &String| ["digital signature", "key encipherment", "client auth"].contains(&usage.as_str());
    match usages(request).iter().all(is_of_clients) {
        true => Ok(()),
        false => Err("a usage is not one of clients".to_owned()),
    }
}
