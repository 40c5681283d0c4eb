//! The rows of volumes, claims, classes, config maps and secrets.
//!
//! Owns capacities and access modes as text.

use super::cells::{NONE, UNSET, access_modes, count, flag, joined, list, or_none, scalar_or, text_or_none};
use super::{AGE, Column, NAME, Printed, age, boolean, name, number, text, wide};
use crate::meta;
use jiff::Timestamp;
use serde_json::Value;

const VOLUME_MODE: Column<'static> = wide("VolumeMode", "Whether the volume is a file system or a block device.");
const CLASS: Column<'static> = text("StorageClass", "The class of the volume.");
const ATTRIBUTES: Column<'static> = text("VolumeAttributesClass", "The attributes class of the volume.");
const ACCESS: Column<'static> = text("Access Modes", "How the volume can be mounted.");

pub const PRINTED: &[Printed] = &[
    ("", "ConfigMap", &[NAME, number("Data", "Number of entries."), AGE], config_map),
    ("", "Secret", &[NAME, text("Type", "The type of the secret."), number("Data", "Number of entries."), AGE], secret),
    (
        "",
        "PersistentVolume",
        &[
            NAME,
            text("Capacity", "The size of the volume."),
            ACCESS,
            text("Reclaim Policy", "What happens when the claim is gone."),
            text("Status", "The phase of the volume."),
            text("Claim", "The claim that is bound."),
            CLASS,
            ATTRIBUTES,
            text("Reason", "Why the volume is in this phase."),
            AGE,
            VOLUME_MODE,
        ],
        volume,
    ),
    (
        "",
        "PersistentVolumeClaim",
        &[
            NAME,
            text("Status", "The phase of the claim."),
            text("Volume", "The volume that is bound."),
            text("Capacity", "The size of the volume."),
            ACCESS,
            CLASS,
            ATTRIBUTES,
            AGE,
            VOLUME_MODE,
        ],
        claim,
    ),
    (
        "storage.k8s.io",
        "StorageClass",
        &[
            NAME,
            text("Provisioner", "Who makes the volumes."),
            text("ReclaimPolicy", "What happens when the claim is gone."),
            text("VolumeBindingMode", "When volumes are made."),
            boolean("AllowVolumeExpansion", "Whether volumes can grow."),
            AGE,
        ],
        class,
    ),
    (
        "storage.k8s.io",
        "VolumeAttachment",
        &[
            NAME,
            text("Attacher", "The driver."),
            text("PV", "The volume."),
            text("Node", "The node."),
            boolean("Attached", "Whether the volume is attached."),
            AGE,
        ],
        attachment,
    ),
    ("storage.k8s.io", "VolumeAttributesClass", &[NAME, text("DriverName", "The driver."), AGE], attributes_class),
    ("storage.k8s.io", "CSINode", &[NAME, number("Drivers", "Number of drivers on the node."), AGE], csi_node),
    (
        "storage.k8s.io",
        "CSIDriver",
        &[
            NAME,
            boolean("AttachRequired", "Whether volumes are attached."),
            boolean("PodInfoOnMount", "Whether the driver is told of the pod."),
            boolean("StorageCapacity", "Whether capacities are tracked."),
            text("TokenRequests", "The audiences of the tokens the driver gets."),
            boolean("RequiresRepublish", "Whether volumes are published again and again."),
            text("Modes", "The lifecycles of volumes."),
            AGE,
        ],
        csi_driver,
    ),
    (
        "storage.k8s.io",
        "CSIStorageCapacity",
        &[NAME, text("StorageClassName", "The class."), text("Capacity", "What is left."), AGE],
        csi_capacity,
    ),
];

fn config_map(map: &Value, now: Timestamp) -> Vec<Value> {
    let entries = count(map, &["data"]) + count(map, &["binaryData"]);
    vec![name(map), entries.into(), age(map, now)]
}

fn secret(secret: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(secret), meta::text_at(secret, &["type"]).into(), count(secret, &["data"]).into(), age(secret, now)]
}

fn phase(object: &Value) -> Value {
    match meta::deletion_timestamp(object) {
        Some(_) => "Terminating".into(),
        None => meta::text_at(object, &["status", "phase"]).into(),
    }
}

fn attributes(object: &Value) -> Value {
    scalar_or(object, &["spec", "volumeAttributesClassName"], UNSET).into()
}

fn volume_mode(object: &Value) -> Value {
    scalar_or(object, &["spec", "volumeMode"], UNSET).into()
}

fn volume(volume: &Value, now: Timestamp) -> Vec<Value> {
    let claim = |field: &str| meta::text_at(volume, &["spec", "claimRef", field]);
    let claim =
        if claim("name").is_empty() { String::new() } else { format!("{}/{}", claim("namespace"), claim("name")) };
    vec![
        name(volume),
        meta::text_at(volume, &["spec", "capacity", "storage"]).into(),
        access_modes(volume, &["spec", "accessModes"]).into(),
        meta::text_at(volume, &["spec", "persistentVolumeReclaimPolicy"]).into(),
        phase(volume),
        claim.into(),
        meta::text_at(volume, &["spec", "storageClassName"]).into(),
        attributes(volume),
        meta::text_at(volume, &["status", "reason"]).into(),
        age(volume, now),
        volume_mode(volume),
    ]
}

fn claim(claim: &Value, now: Timestamp) -> Vec<Value> {
    let volume = meta::text_at(claim, &["spec", "volumeName"]);
    let (capacity, modes) = if volume.is_empty() {
        (String::new(), String::new())
    } else {
        (
            meta::text_at(claim, &["status", "capacity", "storage"]).to_owned(),
            access_modes(claim, &["status", "accessModes"]),
        )
    };
    vec![
        name(claim),
        phase(claim),
        volume.into(),
        capacity.into(),
        modes.into(),
        meta::text_at(claim, &["spec", "storageClassName"]).into(),
        attributes(claim),
        age(claim, now),
        volume_mode(claim),
    ]
}

fn class(class: &Value, now: Timestamp) -> Vec<Value> {
    let is_default = meta::annotation(class, "storageclass.kubernetes.io/is-default-class") == Some("true");
    let suffix = if is_default { " (default)" } else { "" };
    let field = |field: &str| meta::text_at(class, &[field]).into();
    vec![
        format!("{}{suffix}", meta::name(class)).into(),
        field("provisioner"),
        field("reclaimPolicy"),
        field("volumeBindingMode"),
        meta::at(class, &["allowVolumeExpansion"]).and_then(Value::as_bool).unwrap_or(false).into(),
        age(class, now),
    ]
}

fn attachment(attachment: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(attachment),
        meta::text_at(attachment, &["spec", "attacher"]).into(),
        meta::text_at(attachment, &["spec", "source", "persistentVolumeName"]).into(),
        meta::text_at(attachment, &["spec", "nodeName"]).into(),
        meta::at(attachment, &["status", "attached"]).and_then(Value::as_bool).unwrap_or(false).into(),
        age(attachment, now),
    ]
}

fn attributes_class(class: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(class), meta::text_at(class, &["driverName"]).into(), age(class, now)]
}

fn csi_node(node: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(node), count(node, &["spec", "drivers"]).into(), age(node, now)]
}

fn csi_driver(driver: &Value, now: Timestamp) -> Vec<Value> {
    let audiences =
        list(driver, &["spec", "tokenRequests"]).iter().map(|request| meta::text_at(request, &["audience"]));
    let audiences = audiences.collect::<Vec<_>>().join(",");
    let tokens = if audiences.is_empty() { UNSET.to_owned() } else { audiences };
    let spec = |field: &str| flag(driver, &["spec", field]);
    vec![
        name(driver),
        spec("attachRequired"),
        spec("podInfoOnMount"),
        spec("storageCapacity"),
        tokens.into(),
        spec("requiresRepublish"),
        or_none(joined(driver, &["spec", "volumeLifecycleModes"])),
        age(driver, now),
    ]
}

fn csi_capacity(capacity: &Value, now: Timestamp) -> Vec<Value> {
    let amount = scalar_or(capacity, &["capacity"], NONE).into();
    vec![name(capacity), text_or_none(capacity, &["storageClassName"]), amount, age(capacity, now)]
}
