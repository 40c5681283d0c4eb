//! What containers mount, and the block devices they see.
//!
//! Owns places and names in the container; the volumes are the pod's.

use super::super::errors::Errors;
use super::super::node::Node;
use super::super::volumes;
use super::Pod;
use std::collections::BTreeSet;

/// Whether a list has an entry with this in a field.
fn has(list: &[Node<'_>], field: &str, text: &str) -> bool {
    list.iter().any(|entry| entry.get(field).text() == text)
}

pub fn mounts(container: &Node<'_>, pod: &Pod<'_>, errors: &mut Errors) {
    let list = container.get("volumeMounts");
    let devices = container.get("volumeDevices").items();
    let mut seen = BTreeSet::new();
    for mount in list.items() {
        let (name, path) = (mount.get("name"), mount.get("mountPath"));
        if name.is_empty() {
            errors.required(&name, "");
        }
        if !pod.volumes.contains_key(name.text()) {
            errors.not_found(&name);
        }
        if path.is_empty() {
            errors.required(&path, "");
        }
        if !seen.insert(path.text()) {
            errors.invalid_text(&path, "must be unique");
        }
        if has(&devices, "name", name.text()) {
            errors.invalid_text(&name, "must not already exist in volumeDevices");
        }
        if has(&devices, "devicePath", path.text()) {
            errors.invalid_text(&path, "must not already exist as a path in volumeDevices");
        }
        sub_paths(&list, &mount, pod, errors);
        propagation(&list, &mount, container, errors);
        recursive_read_only(&list, &mount, errors);
    }
}

/// A field of a mount as upstream calls it: of the list, not of the entry.
fn of_list<'a>(list: &Node<'_>, mount: &Node<'a>, field: &str) -> Node<'a> {
    Node { path: list.get(field).path, ..mount.get(field) }
}

fn sub_paths(list: &Node<'_>, mount: &Node<'_>, pod: &Pod<'_>, errors: &mut Errors) {
    let paths = ["subPath", "subPathExpr"].map(|field| mount.get(field));
    if pod.volumes.get(mount.get("name").text()) == Some(&volumes::Kind::Image) {
        for path in paths.iter().filter(|path| !path.is_empty()) {
            errors.invalid(path, "not allowed in image volume sources");
        }
    }
    let [path, expression] = &paths;
    if !path.is_empty() {
        volumes::descending_path(&of_list(list, mount, "subPath"), path.text(), errors);
    }
    if !expression.is_empty() {
        if !path.is_empty() {
            errors.invalid(expression, "subPathExpr and subPath are mutually exclusive");
        }
        volumes::descending_path(&of_list(list, mount, "subPathExpr"), expression.text(), errors);
    }
}

fn propagation(list: &Node<'_>, mount: &Node<'_>, container: &Node<'_>, errors: &mut Errors) {
    let mode = of_list(list, mount, "mountPropagation");
    errors.optional_supported(&mode, &["Bidirectional", "HostToContainer", "None"]);
    if mode.text() == "Bidirectional" && !container.at(&["securityContext", "privileged"]).is_true() {
        errors.forbidden(&mode, "Bidirectional mount propagation is available only to privileged containers");
    }
}

fn recursive_read_only(list: &Node<'_>, mount: &Node<'_>, errors: &mut Errors) {
    let mode = of_list(list, mount, "recursiveReadOnly");
    match mode.value.as_str() {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if !mount.get("readOnly").is_true() {
                errors.forbidden(&mode, "may only be specified when readOnly is true");
            }
            let propagation = mount.get("mountPropagation");
            if !propagation.is_missing() && propagation.text() != "None" {
                errors.forbidden(&mode, "may only be specified when mountPropagation is None or not specified");
            }
        }
        Some(_) => errors.not_supported(&mode, &["Disabled", "Enabled", "IfPossible"]),
    }
}

pub fn devices(container: &Node<'_>, pod: &Pod<'_>, errors: &mut Errors) {
    let mounts = container.get("volumeMounts").items();
    let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
    for device in container.get("volumeDevices").items() {
        let (name, path) = (device.get("name"), device.get("devicePath"));
        if name.is_empty() {
            errors.required(&name, "");
        } else if !names.insert(name.text()) {
            errors.invalid(&name, "must be unique");
        }
        match pod.volumes.get(name.text()) {
            None => errors.not_found(&name),
            Some(volumes::Kind::Claim) => {}
            Some(volumes::Kind::Image | volumes::Kind::Other) => {
                let detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.invalid(&name, detail);
            }
        }
        if path.is_empty() {
            errors.required(&path, "");
        }
        if path.text().split('/').any(|part| part == "..") {
            errors.invalid(&path, "can not contain backsteps ('..')");
        } else if !paths.insert(path.text()) {
            errors.invalid_text(&path, "must be unique");
        }
        if has(&mounts, "name", name.text()) {
            errors.invalid_text(&name, "must not already exist in volumeMounts");
        }
        if has(&mounts, "mountPath", path.text()) {
            errors.invalid_text(&path, "must not already exist as a path in volumeMounts");
        }
    }
}
