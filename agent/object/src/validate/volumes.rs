//! The volumes of pods.
//!
//! Owns their sources; mounts are the containers'.

use super::errors::Errors;
use super::node::Node;
use super::{names, storage};
use std::collections::BTreeSet;

const HOST_PATH_TYPES: &[&str] =
    &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

/// Checks the volumes of a pod, and gives their names.
pub fn volumes<'a>(volumes: &Node<'a>, errors: &mut Errors) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    for volume in volumes.items() {
        let name = volume.get("name");
        errors.named(&name, names::dns_label);
        if !name.is_empty() && !seen.insert(name.text()) {
            errors.duplicate(&name);
        }
        source(&volume, errors);
    }
    seen
}

fn source(volume: &Node<'_>, errors: &mut Errors) {
    let fields = volume.value.as_object().into_iter().flat_map(|map| map.keys());
    let mut sources: Vec<&str> = fields.map(String::as_str).filter(|name| *name != "name").collect();
    if sources.is_empty() {
        errors.required(volume, "must specify a volume type");
        return;
    }
    let first = sources.remove(0);
    for other in sources {
        errors.forbidden(&volume.get(other), "may not specify more than 1 volume type");
    }
    let source = volume.get(first);
    match first {
        "hostPath" => host_path(&source, errors),
        "nfs" => nfs(&source, errors),
        "emptyDir" => size_limit(&source.get("sizeLimit"), errors),
        "secret" => {
            errors.set(&source.get("secretName"));
            mode_and_items(&source, errors);
        }
        "configMap" => {
            errors.set(&source.get("name"));
            mode_and_items(&source, errors);
        }
        "downwardAPI" => mode_and_items(&source, errors),
        "projected" => projected(&source, errors),
        "persistentVolumeClaim" => errors.set(&source.get("claimName")),
        "ephemeral" => {
            let template = source.get("volumeClaimTemplate");
            if template.is_missing() {
                errors.required(&template, "");
            } else {
                storage::claim_spec(&template.get("spec"), errors);
            }
        }
        "csi" => errors.set(&source.get("driver")),
        _ => {}
    }
}

fn size_limit(limit: &Node<'_>, errors: &mut Errors) {
    if limit.quantity().is_some_and(|limit| limit.is_negative()) {
        errors.forbidden(limit, "SizeLimit field must be a valid resource quantity");
    }
}

pub fn host_path(source: &Node<'_>, errors: &mut Errors) {
    relative_free_path(&source.get("path"), errors);
    let ty = source.get("type");
    if !HOST_PATH_TYPES.contains(&ty.text()) {
        errors.not_supported(&ty, &HOST_PATH_TYPES[1..]);
    }
}

/// A path that must be set and may not step back.
pub fn relative_free_path(path: &Node<'_>, errors: &mut Errors) {
    if path.is_empty() {
        errors.required(path, "");
    }
    no_backsteps(path, errors);
}

pub fn no_backsteps(path: &Node<'_>, errors: &mut Errors) {
    if path.text().split('/').any(|part| part == "..") {
        errors.invalid(path, "must not contain '..'");
    }
}

pub fn nfs(source: &Node<'_>, errors: &mut Errors) {
    let (server, path) = (source.get("server"), source.get("path"));
    if server.is_empty() {
        errors.required(&server, "");
    }
    if path.is_empty() {
        errors.required(&path, "");
    } else if !path.text().starts_with('/') {
        errors.invalid(&path, "must be an absolute path");
    }
}

fn file_mode(mode: &Node<'_>, errors: &mut Errors) {
    if mode.int().is_some_and(|mode| !(0..=0o777).contains(&mode)) {
        errors.invalid(mode, "must be a number between 0 and 0777 (octal), both inclusive");
    }
}

fn mode_and_items(source: &Node<'_>, errors: &mut Errors) {
    file_mode(&source.get("defaultMode"), errors);
    for item in source.get("items").items() {
        let path = item.get("path");
        let downward = item.has("fieldRef") || item.has("resourceFieldRef");
        if !downward && item.get("key").is_empty() {
            errors.required(&item.get("key"), "");
        }
        local_path(&path, errors);
        file_mode(&item.get("mode"), errors);
    }
}

/// A path within a volume.
fn local_path(path: &Node<'_>, errors: &mut Errors) {
    if path.is_empty() {
        errors.required(path, "");
    }
    if path.text().starts_with('/') {
        errors.invalid(path, "must be a relative path");
    }
    no_backsteps(path, errors);
    if path.text().starts_with("..") && !path.text().starts_with("../") && path.text() != ".." {
        errors.invalid(path, "must not start with '..'");
    }
}

/// A token lives at least this long, in seconds.
const TOKEN_SECONDS_MIN: i64 = 600;

fn projected(source: &Node<'_>, errors: &mut Errors) {
    file_mode(&source.get("defaultMode"), errors);
    for projection in source.get("sources").items() {
        let fields: Vec<&String> = projection.value.as_object().into_iter().flat_map(|map| map.keys()).collect();
        if fields.len() > 1 {
            errors.forbidden(&projection, "may not specify more than 1 volume type per source");
        }
        for name in ["secret", "configMap"] {
            let inner = projection.get(name);
            if !inner.is_missing() && inner.get("name").is_empty() {
                errors.required(&inner.get("name"), "");
            }
            mode_and_items(&inner, errors);
        }
        mode_and_items(&projection.get("downwardAPI"), errors);
        let token = projection.get("serviceAccountToken");
        if !token.is_missing() {
            local_path(&token.get("path"), errors);
            let seconds = token.get("expirationSeconds");
            if seconds.int().is_some_and(|seconds| seconds < TOKEN_SECONDS_MIN) {
                errors.invalid(&seconds, "may not specify a duration less than 10 minutes");
            }
        }
    }
}
