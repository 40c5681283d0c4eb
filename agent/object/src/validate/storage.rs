//! Volumes and claims.
//!
//! Owns the checks of these kinds by themselves; binding is the controllers', classes and drivers are in [`classes`].

pub mod classes;

use super::errors::Errors;
use super::node::Node;
use super::volumes::{self, Of};
use super::{names, pods, selectors};
use crate::quantity::Quantity;

const ACCESS_MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const VOLUME_MODES: &[&str] = &["Block", "Filesystem"];
const RECLAIM_POLICIES: &[&str] = &["Delete", "Recycle", "Retain"];

/// The errors are about the whole list: upstream's name no entry.
fn access_modes(modes: &Node<'_>, detail: &str, errors: &mut Errors) {
    let items = modes.items();
    if items.is_empty() {
        errors.required(modes, detail);
    }
    let (known, unknown): (Vec<_>, Vec<_>) = items.iter().partition(|mode| ACCESS_MODES.contains(&mode.text()));
    for mode in unknown {
        errors.not_supported_value(modes, mode.value, ACCESS_MODES);
    }
    let alone = known.iter().filter(|mode| mode.text() == "ReadWriteOncePod").count();
    if alone > 0 && alone < known.len() {
        errors.forbidden(modes, "may not use ReadWriteOncePod with other access modes");
    }
}

fn storage_amount(node: &Node<'_>, errors: &mut Errors) {
    if node.quantity().is_none_or(|quantity| quantity <= Quantity::ZERO) {
        errors.invalid(node, "must be greater than zero");
    }
}

pub fn claim(claim: &Node<'_>, errors: &mut Errors) {
    claim_spec(&claim.get("spec"), errors);
}

/// The spec of a claim, also within templates.
pub fn claim_spec(spec: &Node<'_>, errors: &mut Errors) {
    let modes = spec.get("accessModes");
    if modes.is_empty() {
        errors.required(&modes, "at least 1 access mode is required");
    }
    selectors::label_selector(&spec.get("selector"), errors);
    if !modes.is_empty() {
        access_modes(&modes, "", errors);
    }
    // Upstream leaves the requests out of the path.
    let path = spec.get("resources").key("storage").path;
    let storage = Node { path, ..spec.at(&["resources", "requests"]).key("storage") };
    if storage.is_missing() {
        errors.required(&storage, "");
    } else {
        storage_amount(&storage, errors);
    }
    errors.optional_named(&spec.get("storageClassName"), names::dns_subdomain);
    errors.optional_supported(&spec.get("volumeMode"), VOLUME_MODES);
    for source in ["dataSource", "dataSourceRef"].map(|field| spec.get(field)) {
        if !source.is_missing() {
            data_source(&source, errors);
        }
    }
    data_sources_agree(spec, errors);
    errors.optional_named(&spec.get("volumeAttributesClassName"), names::dns_subdomain);
}

fn data_source(source: &Node<'_>, errors: &mut Errors) {
    errors.set(&source.get("name"));
    errors.set(&source.get("kind"));
    let (kind, group) = (source.get("kind"), source.get("apiGroup"));
    if group.is_empty() && kind.text() != "PersistentVolumeClaim" {
        let node = Node { path: source.path.clone(), ..kind };
        errors.invalid_text(&node, "must be 'PersistentVolumeClaim' when referencing the default apiGroup");
    }
    errors.optional_named(&group, names::dns_subdomain);
    errors.optional_named(&source.get("namespace"), names::dns_label);
}

/// The older field and the newer one say the same.
fn data_sources_agree(spec: &Node<'_>, errors: &mut Errors) {
    let (old, new) = (spec.get("dataSource"), spec.get("dataSourceRef"));
    if old.is_missing() || new.is_missing() {
        return;
    }
    let said = old.path.as_str().into();
    if !new.get("namespace").is_empty() {
        errors.invalid_value(spec, &said, "may not be specified when dataSourceRef.namespace is specified");
    } else if ["apiGroup", "kind", "name"].iter().any(|field| old.get(field).value != new.get(field).value) {
        errors.invalid_value(spec, &said, "must match dataSourceRef");
    }
}

/// The fields of a volume's spec that are a source, in the order in which upstream looks for them.
const SOURCES: &[&str] = &[
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
];

pub fn volume(volume: &Node<'_>, errors: &mut Errors) {
    let spec = volume.get("spec");
    access_modes(&spec.get("accessModes"), "", errors);
    let capacity = spec.get("capacity");
    if capacity.is_empty() {
        errors.required(&capacity, "");
    }
    if !capacity.has("storage") || capacity.entries().len() > 1 {
        errors.not_supported_value(&capacity, capacity.value, &["storage"]);
    }
    for (_, amount) in capacity.entries() {
        storage_amount(&amount, errors);
    }
    errors.optional_one_of(&spec.get("persistentVolumeReclaimPolicy"), RECLAIM_POLICIES);
    let affinity = spec.get("nodeAffinity");
    let required = affinity.get("required");
    match (affinity.is_missing(), required.is_missing()) {
        (true, _) => {}
        (false, true) => errors.required(&required, "must specify required node constraints"),
        (false, false) => pods::node_selector(&required, errors),
    }
    volume_source(&spec, volume.at(&["metadata", "name"]).text(), errors);
    errors.optional_named(&spec.get("storageClassName"), names::dns_subdomain);
    errors.optional_supported(&spec.get("volumeMode"), VOLUME_MODES);
    let class = spec.get("volumeAttributesClassName");
    if class.is_missing() {
        return;
    }
    if class.is_empty() {
        errors.required(&class, "an empty string is disallowed");
    }
    errors.optional_named(&class, names::dns_subdomain);
    if !spec.has("csi") {
        errors.required(&spec.get("csi"), "has to be specified when using volumeAttributesClassName");
    }
}

fn volume_source(spec: &Node<'_>, name: &str, errors: &mut Errors) {
    let mut found = SOURCES.iter().filter(|source| spec.has(source));
    let Some(first) = found.next() else {
        errors.required(spec, "must specify a volume type");
        return;
    };
    let source = spec.get(first);
    match *first {
        "local" => {
            errors.set(&source.get("path"));
            volumes::no_backsteps(&source.get("path"), source.get("path").text(), errors);
            if !spec.has("nodeAffinity") {
                errors.required(&spec.get("nodeAffinity"), "Local volume requires node affinity");
            }
        }
        "csi" => csi(&source, errors),
        other => volumes::foreign_source(other, &source, Of::PersistentVolume(name), errors),
    }
    for other in found {
        errors.forbidden(&spec.get(other), "may not specify more than 1 volume type");
    }
    let root = spec.at(&["hostPath", "path"]).text();
    let policy = spec.get("persistentVolumeReclaimPolicy");
    if !root.is_empty() && root.trim_matches('/').is_empty() && policy.text() == "Recycle" {
        errors.forbidden(&policy, "may not be 'recycle' for a hostPath mount of '/'");
    }
}

const CSI_SECRETS: &[&str] =
    &["controllerPublishSecretRef", "controllerExpandSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef"];

fn csi(source: &Node<'_>, errors: &mut Errors) {
    volumes::driver_name(&source.get("driver"), errors);
    errors.set(&source.get("volumeHandle"));
    for secret in CSI_SECRETS.iter().map(|field| source.get(field)).filter(|secret| !secret.is_missing()) {
        errors.named(&secret.get("name"), names::dns_subdomain);
        errors.named(&secret.get("namespace"), names::dns_label);
    }
}
