//! Projected volumes: several sources in one.
//!
//! Owns the sources, and that no two files of them are one.

use super::super::errors::Errors;
use super::super::node::Node;
use super::super::selectors;
use super::{downward_file, file_mode, key_to_path, local_path};
use std::collections::BTreeSet;

/// How long a token lives, in seconds.
const TOKEN_SECONDS_MIN: i64 = 600;
const TOKEN_SECONDS_MAX: i64 = 1 << 32;

const SOURCES: &[&str] =
    &["secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate"];

pub fn projected(source: &Node<'_>, errors: &mut Errors) {
    file_mode(&source.get("defaultMode"), errors);
    let mut paths = BTreeSet::new();
    for projection in source.get("sources").items() {
        for name in ["secret", "configMap"] {
            let inner = projection.get(name);
            if inner.is_missing() {
                continue;
            }
            errors.set(&inner.get("name"));
            for item in inner.get("items").items() {
                key_to_path(&item, errors);
                once(source, &item.get("path"), inner.get("name").text(), &mut paths, errors);
            }
        }
        let downward = projection.get("downwardAPI");
        for file in downward.get("items").items() {
            downward_file(&downward, &file, errors);
            once(source, &file.get("path"), file.get("path").text(), &mut paths, errors);
        }
        token(source, &projection.get("serviceAccountToken"), errors);
        let bundle = projection.get("clusterTrustBundle");
        if !bundle.is_missing() {
            trust_bundle(&bundle, errors);
            once(source, &bundle.get("path"), bundle.get("path").text(), &mut paths, errors);
        }
        if SOURCES.iter().filter(|name| projection.has(name)).count() > 1 {
            errors.forbidden(&projection, "may not specify more than 1 volume type per source");
        }
    }
}

/// A path that no other file of the volume has.
fn once<'a>(source: &Node<'_>, path: &Node<'a>, said: &str, paths: &mut BTreeSet<&'a str>, errors: &mut Errors) {
    if !path.is_empty() && !paths.insert(path.text()) {
        errors.invalid_value(source, &said.into(), "conflicting duplicate paths");
    }
}

fn token(source: &Node<'_>, token: &Node<'_>, errors: &mut Errors) {
    if token.is_missing() {
        return;
    }
    token_seconds(&token.get("expirationSeconds"), errors);
    // Upstream leaves out which source it is.
    let path = Node { path: source.get("path").path, ..token.get("path") };
    errors.set(&path);
    local_path(&path, errors);
}

/// Checks how long a token is asked to live.
pub fn token_seconds(seconds: &Node<'_>, errors: &mut Errors) {
    match seconds.int() {
        Some(..TOKEN_SECONDS_MIN) => errors.invalid(seconds, "may not specify a duration less than 10 minutes"),
        Some(number) if number > TOKEN_SECONDS_MAX => {
            errors.invalid(seconds, "may not specify a duration larger than 2^32 seconds");
        }
        Some(_) | None => {}
    }
}

fn trust_bundle(bundle: &Node<'_>, errors: &mut Errors) {
    let (name, signer, selector) = (bundle.get("name"), bundle.get("signerName"), bundle.get("labelSelector"));
    match (name.is_missing(), signer.is_missing()) {
        (false, false) => errors.invalid(bundle, "only one of name and signerName may be used"),
        (false, true) => {
            if name.is_empty() {
                errors.required(&name, "must be a valid object name");
            }
            if !selector.is_missing() {
                errors.invalid(&selector, "labelSelector must be unset if name is specified");
            }
        }
        (true, false) => {
            if signer.is_empty() {
                errors.required(&signer, "must be a valid signer name");
            }
            selectors::label_selector(&selector, errors);
        }
        (true, true) => errors.required(bundle, "either name or signerName must be specified"),
    }
    errors.set(&bundle.get("path"));
    local_path(&bundle.get("path"), errors);
}
