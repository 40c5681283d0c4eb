//! Sources of volumes that other systems provide, of pods and of persistent volumes.
//!
//! Owns which of their fields have to be set. Most are rows of a table.

use super::super::errors::Errors;
use super::super::names;
use super::super::node::Node;
use super::{descending_path, host_path};

/// Whose source it is, with the name of the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of<'a> {
    Volume(&'a str),
    PersistentVolume(&'a str),
}

/// Fields that have to be set: source, fields.
const REQUIRED: &[(&str, &[&str])] = &[
    ("gitRepo", &["repository"]),
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("nfs", &["server", "path"]),
    ("iscsi", &["targetPortal"]),
    ("glusterfs", &["endpoints", "path"]),
    ("rbd", &["monitors", "image"]),
    ("cinder", &["volumeID"]),
    ("cephfs", &["monitors"]),
    ("flexVolume", &["driver"]),
    ("azureFile", &["secretName", "shareName"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("storageos", &["volumeName"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("quobyte", &["volume"]),
];

/// Checks a source by its name.
pub fn source(name: &str, source: &Node<'_>, of: Of<'_>, errors: &mut Errors) {
    // Upstream calls this one otherwise.
    let renamed = source.path.replace("gcePersistentDisk", "persistentDisk");
    let source = &Node { path: renamed, ..source.clone() };
    if name == "quobyte" {
        quobyte(source, errors);
    }
    for field in REQUIRED.iter().filter(|(row, _)| *row == name).flat_map(|(_, fields)| *fields) {
        errors.set(&source.get(field));
    }
    match name {
        "hostPath" => host_path(source, errors),
        "gitRepo" => descending_path(&source.get("directory"), source.get("directory").text(), errors),
        "gcePersistentDisk" | "awsElasticBlockStore" => partition(&source.get("partition"), errors),
        "nfs" if !source.get("path").text().starts_with('/') => {
            errors.invalid_text(&source.get("path"), "must be an absolute path");
        }
        "iscsi" => iscsi(source, of, errors),
        "glusterfs" => {
            let namespace = source.get("endpointsNamespace");
            if !namespace.is_missing() {
                errors.formed(&namespace, names::dns_label);
            }
        }
        "flocker" => flocker(source, errors),
        "cinder" => secret(source, of, errors),
        "fc" => fibre_channel(source, errors),
        "flexVolume" => options(&source.get("options"), errors),
        "azureFile" => {
            let namespace = source.get("secretNamespace");
            if !namespace.is_missing() {
                errors.set(&namespace);
            }
        }
        "azureDisk" => azure_disk(source, errors),
        "storageos" => {
            errors.optional_named(&source.get("volumeName"), names::dns_label);
            errors.optional_named(&source.get("volumeNamespace"), names::dns_label);
            secret(source, of, errors);
        }
        _ => {}
    }
}

fn partition(partition: &Node<'_>, errors: &mut Errors) {
    if partition.int().is_some_and(|number| !(0..=255).contains(&number)) {
        errors.invalid(partition, &names::range(1, 255));
    }
}

/// A secret of the pod's namespace, or, of a persistent volume, of any.
fn secret(source: &Node<'_>, of: Of<'_>, errors: &mut Errors) {
    let secret = source.get("secretRef");
    if secret.is_missing() {
        return;
    }
    errors.set(&secret.get("name"));
    if let Of::PersistentVolume(_) = of {
        errors.set(&secret.get("namespace"));
    }
}

const INITIATOR_MAX: usize = 64;

fn iscsi(source: &Node<'_>, of: Of<'_>, errors: &mut Errors) {
    let (portal, iqn, initiator) = (source.get("targetPortal"), source.get("iqn"), source.get("initiatorName"));
    errors.set(&iqn);
    if !iqn.is_empty() && !is_initiator(iqn.text()) {
        errors.invalid(&iqn, "must be valid format");
    }
    if source.get("lun").int().is_some_and(|lun| !(0..=255).contains(&lun)) {
        errors.invalid(&source.get("lun"), &names::range(0, 255));
    }
    let (discovery, session) = (source.get("chapAuthDiscovery"), source.get("chapAuthSession"));
    if (discovery.is_true() || session.is_true()) && !source.has("secretRef") {
        errors.required(&source.get("secretRef"), "");
    }
    if initiator.is_missing() {
        return;
    }
    if !is_initiator(initiator.text()) {
        let node = Node { path: source.get("initiatorname").path, ..initiator };
        errors.invalid(&node, "must be valid format");
    }
    let (Of::Volume(name) | Of::PersistentVolume(name)) = of;
    if name.len() + 1 + portal.text().len() > INITIATOR_MAX {
        let detail = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
        errors.invalid(&Node { path: source.get("targetportal").path, ..portal }, detail);
    }
}

/// `iqn.2001-04.com.example:disk`, `eui.` and 16 letters, or `naa.` and 32.
fn is_initiator(name: &str) -> bool {
    let hex = |rest: &str, length: usize| rest.len() == length && rest.bytes().all(|b| b.is_ascii_alphanumeric());
    let dated = |rest: &str| {
        rest.split_once(':').is_some_and(|(authority, own)| {
            let (date, domain) = authority.split_once('.').unwrap_or((authority, ""));
            date.len() == 7
                && !domain.is_empty()
                && domain.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b))
                && !own.is_empty()
                && !own.contains(|c: char| c.is_whitespace() || ",;*&$|".contains(c))
        })
    };
    match name.split_at_checked(4) {
        Some(("iqn.", rest)) => dated(rest),
        Some(("eui.", rest)) => hex(rest, 16),
        Some(("naa.", rest)) => hex(rest, 32),
        Some(_) | None => false,
    }
}

fn flocker(source: &Node<'_>, errors: &mut Errors) {
    let (name, id) = (source.get("datasetName"), source.get("datasetUUID"));
    match (name.is_empty(), id.is_empty()) {
        (true, true) => errors.required(source, "one of datasetName and datasetUUID is required"),
        (false, false) => {
            let detail = "datasetName and datasetUUID can not be specified simultaneously";
            errors.invalid_value(source, &"resource".into(), detail);
        }
        (true, false) | (false, true) => {}
    }
    if name.text().contains('/') {
        errors.invalid(&name, "must not contain '/'");
    }
}

fn fibre_channel(source: &Node<'_>, errors: &mut Errors) {
    let (targets, ids, lun) = (source.get("targetWWNs"), source.get("wwids"), source.get("lun"));
    match (targets.is_empty(), ids.is_empty()) {
        (true, true) => errors.required(&targets, "must specify either targetWWNs or wwids, but not both"),
        (false, false) => errors.invalid(&targets, "targetWWNs and wwids can not be specified simultaneously"),
        (true, false) | (false, true) => {}
    }
    if targets.is_empty() {
        return;
    }
    match lun.int() {
        None => errors.required(&lun, "lun is required if targetWWNs is specified"),
        Some(0..=255) => {}
        Some(_) => errors.invalid(&lun, &names::range(0, 255)),
    }
}

fn options(options: &Node<'_>, errors: &mut Errors) {
    for (key, node) in options.entries() {
        let domain = format!(".{}", key.split('/').next().unwrap_or(key).to_lowercase());
        if domain.ends_with(".kubernetes.io") || domain.ends_with(".k8s.io") {
            errors.invalid_value(&node, &key.into(), "kubernetes.io and k8s.io namespaces are reserved");
        }
    }
}

const TENANT_MAX: usize = 64;

fn quobyte(source: &Node<'_>, errors: &mut Errors) {
    const DETAIL: &str = "must be a host:port pair or multiple pairs separated by commas";
    let (registry, tenant) = (source.get("registry"), source.get("tenant"));
    if registry.is_empty() {
        errors.required(&registry, DETAIL);
    } else if tenant.text().len() > TENANT_MAX {
        errors.required(&tenant, "must be a UUID and may not exceed a length of 64 characters");
    } else {
        for _ in registry.text().split(',').filter(|pair| !pair.contains(':')) {
            errors.invalid(&registry, DETAIL);
        }
    }
}

fn azure_disk(source: &Node<'_>, errors: &mut Errors) {
    const MANAGED: &str =
        "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
    const BLOB: &str = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";
    let (kind, uri) = (source.get("kind"), source.get("diskURI"));
    errors.optional_supported(&source.get("cachingMode"), &["None", "ReadOnly", "ReadWrite"]);
    errors.optional_supported(&kind, &["Dedicated", "Managed", "Shared"]);
    match kind.value.as_str() {
        Some("Managed") if !uri.text().starts_with("/subscriptions/") => errors.not_supported(&uri, &[MANAGED]),
        Some("Managed") | None => {}
        Some(_) if !uri.text().starts_with("https://") => errors.not_supported(&uri, &[BLOB]),
        Some(_) => {}
    }
}
