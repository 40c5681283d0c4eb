//! Volumes, claims and storage classes.
//!
//! Owns the checks of these kinds by themselves; binding is the controllers'.

use super::errors::Errors;
use super::node::Node;
use super::{names, selectors, volumes};
use crate::quantity::Quantity;

const ACCESS_MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const VOLUME_MODES: &[&str] = &["Block", "Filesystem"];
const RECLAIM_POLICIES: &[&str] = &["Delete", "Recycle", "Retain"];

fn access_modes(modes: &Node<'_>, detail: &str, errors: &mut Errors) {
    let items = modes.items();
    if items.is_empty() {
        errors.required(modes, detail);
    }
    for mode in &items {
        errors.one_of(mode, ACCESS_MODES);
    }
    if items.len() > 1 && items.iter().any(|mode| mode.text() == "ReadWriteOncePod") {
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
    access_modes(&spec.get("accessModes"), "at least 1 access mode is required", errors);
    selectors::label_selector(&spec.get("selector"), errors);
    let storage = spec.at(&["resources", "requests"]).key("storage");
    if storage.is_missing() {
        errors.required(&storage, "");
    } else {
        storage_amount(&storage, errors);
    }
    let class = spec.get("storageClassName");
    errors.optional_named(&class, names::dns_subdomain);
    errors.optional_one_of(&spec.get("volumeMode"), VOLUME_MODES);
    let source = spec.get("dataSource");
    if !source.is_missing() {
        for field in ["name", "kind"] {
            if source.get(field).is_empty() {
                errors.required(&source.get(field), "");
            }
        }
    }
}

/// The fields of a volume's spec that are a source.
const SOURCES: &[&str] = &[
    "awsElasticBlockStore",
    "azureDisk",
    "azureFile",
    "cephfs",
    "cinder",
    "csi",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "glusterfs",
    "hostPath",
    "iscsi",
    "local",
    "nfs",
    "photonPersistentDisk",
    "portworxVolume",
    "quobyte",
    "rbd",
    "scaleIO",
    "storageos",
    "vsphereVolume",
];

pub fn volume(volume: &Node<'_>, errors: &mut Errors) {
    let spec = volume.get("spec");
    access_modes(&spec.get("accessModes"), "", errors);
    let capacity = spec.get("capacity");
    if capacity.is_empty() {
        errors.required(&capacity, "");
    } else if !capacity.has("storage") || capacity.entries().len() > 1 {
        errors.not_supported(&capacity, &["storage"]);
    }
    for (_, amount) in capacity.entries() {
        storage_amount(&amount, errors);
    }
    errors.optional_one_of(&spec.get("persistentVolumeReclaimPolicy"), RECLAIM_POLICIES);
    errors.optional_one_of(&spec.get("volumeMode"), VOLUME_MODES);
    errors.optional_named(&spec.get("storageClassName"), names::dns_subdomain);
    volume_source(&spec, errors);
}

fn volume_source(spec: &Node<'_>, errors: &mut Errors) {
    let mut found: Vec<&str> = SOURCES.iter().copied().filter(|source| spec.has(source)).collect();
    if found.is_empty() {
        errors.required(spec, "must specify a volume type");
        return;
    }
    let first = found.remove(0);
    for other in found {
        errors.forbidden(&spec.get(other), "may not specify more than 1 volume type");
    }
    let source = spec.get(first);
    match first {
        "hostPath" => volumes::host_path(&source, errors),
        "nfs" => volumes::nfs(&source, errors),
        "local" => {
            volumes::relative_free_path(&source.get("path"), errors);
            if spec.get("nodeAffinity").is_missing() {
                errors.required(&spec.get("nodeAffinity"), "Local volume requires node affinity");
            }
        }
        "csi" => {
            for field in ["driver", "volumeHandle"] {
                if source.get(field).is_empty() {
                    errors.required(&source.get(field), "");
                }
            }
        }
        _ => {}
    }
}

pub fn class(class: &Node<'_>, errors: &mut Errors) {
    let provisioner = class.get("provisioner");
    match provisioner.text() {
        "" => errors.required(&provisioner, ""),
        text => errors.invalid_all(&provisioner, names::qualified_name(&text.to_lowercase())),
    }
    errors.optional_one_of(&class.get("reclaimPolicy"), &["Delete", "Retain"]);
    errors.one_of(&class.get("volumeBindingMode"), &["Immediate", "WaitForFirstConsumer"]);
}
