//! Certificate signing requests.

use super::errors::Errors;
use super::names;
use super::node::Node;
use crate::base64;
use crate::meta;
use serde_json::Value;

/// The names of usages that upstream has.
const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
const SECONDS_MIN: i64 = 600;
/// What decides of a request, and stays.
const FINAL: &[&str] = &["Approved", "Denied", "Failed"];

pub fn request(object: &Node<'_>, errors: &mut Errors) {
    let spec = object.get("spec");
    let request = spec.get("request");
    if !is_pem(request.text(), "CERTIFICATE REQUEST") {
        errors.invalid_unsaid(&request, "PEM block type must be CERTIFICATE REQUEST");
    }
    let usages = spec.get("usages");
    if usages.items().is_empty() {
        errors.required(&usages, "");
    }
    let mut seen = Vec::new();
    for usage in usages.items() {
        if seen.contains(&usage.text()) {
            errors.duplicate(&usage);
        }
        seen.push(usage.text());
        errors.supported(&usage, USAGES);
    }
    signer(&spec.get("signerName"), errors);
    let seconds = spec.get("expirationSeconds");
    if seconds.int().is_some_and(|seconds| seconds < SECONDS_MIN) {
        errors.invalid(&seconds, "may not specify a duration less than 600 seconds (10 minutes)");
    }
    conditions(&object.at(&["status", "conditions"]), errors);
    let certificate = object.at(&["status", "certificate"]);
    if !certificate.is_empty() && !is_pem(certificate.text(), "CERTIFICATE") {
        errors.invalid_unsaid(&certificate, "must contain one or more PEM blocks of type CERTIFICATE");
    }
}

fn signer(name: &Node<'_>, errors: &mut Errors) {
    let parts = name.text().split_once('/');
    match parts {
        None if name.text().is_empty() => errors.required(name, ""),
        Some((domain, path)) if names::dns_subdomain(domain).is_empty() && domain.contains('.') => {
            for segment in path.split('.') {
                errors.invalid_all(name, names::dns_label(segment));
            }
        }
        Some(_) | None => {
            errors.invalid(name, "must be a fully qualified domain and path of the form 'example.com/signer-name'");
        }
    }
    if name.text() == "kubernetes.io/legacy-unknown" {
        errors.invalid(name, "the legacy signerName is not allowed via this API version");
    }
}

fn conditions(conditions: &Node<'_>, errors: &mut Errors) {
    let mut seen: Vec<&str> = Vec::new();
    for condition in conditions.items() {
        let ty = condition.get("type");
        errors.set(&ty);
        if seen.contains(&ty.text()) {
            errors.duplicate(&ty);
        }
        let status = condition.get("status");
        if FINAL.contains(&ty.text()) {
            errors.one_of(&status, &["True"]);
        } else {
            errors.one_of(&status, &["False", "True", "Unknown"]);
        }
        seen.push(ty.text());
    }
    if seen.contains(&"Approved") && seen.contains(&"Denied") {
        errors.invalid_value(conditions, &"Denied".into(), "Approved and Denied conditions are mutually exclusive");
    }
}

/// What was decided of a request stays, and so does its certificate.
pub fn update(new: &Node<'_>, old: &Node<'_>, errors: &mut Errors) {
    let types = |object: &Node<'_>| -> Vec<String> {
        let all = object.at(&["status", "conditions"]).items().into_iter();
        all.map(|condition| condition.get("type").text().to_owned()).collect()
    };
    let left = types(new);
    let conditions = new.at(&["status", "conditions"]);
    for ty in types(old).iter().filter(|ty| FINAL.contains(&ty.as_str()) && !left.contains(ty)) {
        errors.forbidden(&conditions, &format!("updates may not remove a condition of type {ty:?}"));
    }
    let (certificate, before) = (new.at(&["status", "certificate"]), old.at(&["status", "certificate"]));
    if !before.is_empty() && certificate.value != before.value {
        errors.forbidden(
            &certificate,
            "updates may not set certificate content if existing certificate content has been set",
        );
    }
}

/// Whether bytes in base64 are PEM of blocks of this sort alone.
fn is_pem(encoded: &str, label: &str) -> bool {
    let Some(text) = base64::decode(encoded).and_then(|bytes| String::from_utf8(bytes).ok()) else { return false };
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let lines = text.lines().map(str::trim).filter(|line| line.starts_with("-----"));
    let lines: Vec<&str> = lines.collect();
    !lines.is_empty() && lines.chunks(2).all(|pair| pair == [begin.as_str(), end.as_str()])
}

/// Which conditions are a decision about the request, and written apart from its status.
pub const DECISIONS: &[&str] = &["Approved", "Denied"];

/// The old object with what another decided of it, or with all else of its status.
pub fn with_status(new: &Value, old: &Value, is_decision: bool) -> Value {
    let of = |object: &Value, decisions: bool| -> Vec<Value> {
        let all = meta::items(meta::at(object, &["status", "conditions"])).iter();
        let is_one = |condition: &&Value| DECISIONS.contains(&meta::text_at(condition, &["type"]));
        all.filter(|condition| is_one(condition) == decisions).cloned().collect()
    };
    let mut result = old.clone();
    let mut status = if is_decision { old.get("status") } else { new.get("status") }.cloned().unwrap_or_default();
    if !status.is_object() {
        status = Value::Object(serde_json::Map::new());
    }
    let (decisions, others) = if is_decision { (new, old) } else { (old, new) };
    let conditions = [of(decisions, true), of(others, false)].concat();
    let map = meta::map_mut(&mut status);
    match conditions.is_empty() {
        true => drop(map.remove("conditions")),
        false => drop(map.insert("conditions".to_owned(), Value::Array(conditions))),
    }
    result["status"] = status;
    result
}
