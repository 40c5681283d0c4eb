//! The volumes of pods.
//!
//! Owns the common sources and paths within volumes; projected volumes and the sources of other systems are in modules
//! of their own, mounts are the containers'.

mod foreign;
mod projected;

pub use foreign::{Of, source as foreign_source};
pub use projected::token_seconds;

use super::containers::{ResourceOf, field_reference, resource_reference};
use super::errors::Errors;
use super::node::Node;
use super::pods;
use super::{containers, metadata, names, storage};
use std::collections::{BTreeMap, BTreeSet};

/// What of a volume matters to who mounts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A claim, by name or made for the pod.
    Claim,
    Image,
    Other,
}

/// Checks the volumes of a pod, and gives those that are right.
pub fn volumes<'a>(volumes: &Node<'a>, of: pods::Of<'_>, errors: &mut Errors) -> BTreeMap<&'a str, Kind> {
    let items = volumes.items();
    let made: BTreeSet<String> = match of {
        pods::Of::Pod(pod) if !pod.is_empty() => {
            let ephemeral = items.iter().filter(|volume| volume.has("ephemeral"));
            ephemeral.map(|volume| format!("{pod}-{}", volume.get("name").text())).collect()
        }
        pods::Of::Pod(_) | pods::Of::Template => BTreeSet::new(),
    };
    let mut found = BTreeMap::new();
    for volume in &items {
        let name = volume.get("name");
        let before = errors.len();
        source(volume, of, errors);
        errors.named(&name, names::dns_label);
        if found.contains_key(name.text()) {
            errors.duplicate(&name);
        }
        if errors.len() == before {
            found.insert(name.text(), kind(volume));
        }
        let claim = volume.at(&["persistentVolumeClaim", "claimName"]);
        if made.contains(claim.text()) {
            errors.invalid(&claim, "must not reference a PVC that gets created for an ephemeral volume");
        }
    }
    found
}

fn kind(volume: &Node<'_>) -> Kind {
    if volume.has("persistentVolumeClaim") || volume.has("ephemeral") {
        Kind::Claim
    } else if volume.has("image") {
        Kind::Image
    } else {
        Kind::Other
    }
}

/// The sources in the order in which upstream looks for them: of two, the first is the one that is meant.
const SOURCES: &[&str] = &[
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
];

fn source(volume: &Node<'_>, of: pods::Of<'_>, errors: &mut Errors) {
    let mut found = SOURCES.iter().filter(|name| volume.has(name));
    let Some(first) = found.next() else {
        // One that is not known here, or none.
        if volume.value.as_object().is_none_or(|map| map.keys().all(|key| key == "name")) {
            errors.required(volume, "must specify a volume type");
        }
        return;
    };
    let source = volume.get(first);
    match *first {
        "emptyDir" => size_limit(&source.get("sizeLimit"), errors),
        "secret" => {
            errors.set(&source.get("secretName"));
            mode_and_items(&source, errors);
        }
        "configMap" => {
            errors.set(&source.get("name"));
            mode_and_items(&source, errors);
        }
        "downwardAPI" => {
            file_mode(&source.get("defaultMode"), errors);
            source.get("items").items().iter().for_each(|file| downward_file(&source, file, errors));
        }
        "projected" => projected::projected(&source, errors),
        "persistentVolumeClaim" => errors.set(&source.get("claimName")),
        "ephemeral" => ephemeral(volume, &source, of, errors),
        "csi" => csi(&source, errors),
        "image" => image(&source, of, errors),
        name => foreign_source(name, &source, Of::Volume(volume.get("name").text()), errors),
    }
    for other in found {
        errors.forbidden(&volume.get(other), "may not specify more than 1 volume type");
    }
}

fn size_limit(limit: &Node<'_>, errors: &mut Errors) {
    if limit.quantity().is_some_and(|limit| limit.is_negative()) {
        errors.forbidden(limit, "SizeLimit field must be a valid resource quantity");
    }
}

fn ephemeral(volume: &Node<'_>, source: &Node<'_>, of: pods::Of<'_>, errors: &mut Errors) {
    let template = source.get("volumeClaimTemplate");
    if template.is_missing() {
        errors.required(&template, "");
    } else {
        let meta = template.get("metadata");
        metadata::annotations(&meta.get("annotations"), errors);
        metadata::labels(&meta.get("labels"), errors);
        let own = meta.value.as_object().into_iter().flat_map(|map| map.keys());
        for field in own.map(|name| meta.get(name)).filter(|field| !field.is_missing()) {
            if !field.path.ends_with(".labels") && !field.path.ends_with(".annotations") {
                errors.forbidden(&field, "cannot be set");
            }
        }
        storage::claim_spec(&template.get("spec"), errors);
    }
    let name = volume.get("name");
    if let pods::Of::Pod(pod) = of
        && !pod.is_empty()
        && !name.is_empty()
    {
        let claim = format!("{pod}-{}", name.text());
        for problem in names::dns_subdomain(&claim) {
            errors.invalid(&name, &format!("PVC name {claim:?}: {problem}"));
        }
    }
}

/// Checks the name of a CSI driver.
pub fn driver_name(name: &Node<'_>, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(name, "");
    }
    if name.text().len() > names::LABEL_MAX {
        errors.too_long(&name.path, names::LABEL_MAX);
    }
    errors.formed(name, names::driver);
}

fn csi(source: &Node<'_>, errors: &mut Errors) {
    driver_name(&source.get("driver"), errors);
    let secret = source.get("nodePublishSecretRef");
    if secret.is_missing() {
        return;
    }
    let name = secret.get("name");
    if name.is_empty() {
        errors.required(&name, "");
    } else {
        errors.formed(&Node { path: source.get("name").path, ..name }, names::dns_subdomain);
    }
}

fn image(source: &Node<'_>, of: pods::Of<'_>, errors: &mut Errors) {
    if of != pods::Of::Template {
        errors.set(&source.get("reference"));
    }
    errors.one_of(&source.get("pullPolicy"), containers::PULL_POLICIES);
}

const HOST_PATH_TYPES: &[&str] =
    &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

pub fn host_path(source: &Node<'_>, errors: &mut Errors) {
    let path = source.get("path");
    if path.is_empty() {
        return errors.required(&path, "");
    }
    no_backsteps(&path, path.text(), errors);
    errors.optional_supported(&source.get("type"), HOST_PATH_TYPES);
}

/// A path without a step back.
pub fn no_backsteps(node: &Node<'_>, path: &str, errors: &mut Errors) {
    if path.split('/').any(|part| part == "..") {
        errors.invalid_value(node, &path.into(), "must not contain '..'");
    }
}

/// A path below something.
pub fn descending_path(node: &Node<'_>, path: &str, errors: &mut Errors) {
    if path.starts_with('/') {
        errors.invalid_value(node, &path.into(), "must be a relative path");
    }
    no_backsteps(node, path, errors);
}

/// A path within a volume, whose own entries begin with dots.
fn local_path(path: &Node<'_>, errors: &mut Errors) {
    descending_path(path, path.text(), errors);
    if path.text().starts_with("..") && !path.text().starts_with("../") {
        errors.invalid(path, "must not start with '..'");
    }
}

fn file_mode(mode: &Node<'_>, errors: &mut Errors) {
    if mode.int().is_some_and(|mode| !(0..=0o777).contains(&mode)) {
        errors.invalid(mode, "must be a number between 0 and 0777 (octal), both inclusive");
    }
}

fn mode_and_items(source: &Node<'_>, errors: &mut Errors) {
    file_mode(&source.get("defaultMode"), errors);
    source.get("items").items().iter().for_each(|item| key_to_path(item, errors));
}

fn key_to_path(item: &Node<'_>, errors: &mut Errors) {
    errors.set(&item.get("key"));
    errors.set(&item.get("path"));
    local_path(&item.get("path"), errors);
    file_mode(&item.get("mode"), errors);
}

const DOWNWARD_FIELDS: &[&str] =
    &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

/// A file with a field of the pod; upstream's errors name the volume, not the entry.
fn downward_file(source: &Node<'_>, file: &Node<'_>, errors: &mut Errors) {
    let file = Node { path: source.path.clone(), ..file.clone() };
    errors.set(&file.get("path"));
    local_path(&file.get("path"), errors);
    let (field, resource) = (file.get("fieldRef"), file.get("resourceFieldRef"));
    if !field.is_missing() {
        field_reference(&field, DOWNWARD_FIELDS, errors);
        if !resource.is_missing() {
            let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
            errors.invalid_value(&file, &"resource".into(), detail);
        }
    } else if !resource.is_missing() {
        resource_reference(&resource, ResourceOf::Named, errors);
    } else {
        errors.required(&file, "one of fieldRef and resourceFieldRef is required");
    }
    file_mode(&file.get("mode"), errors);
}
