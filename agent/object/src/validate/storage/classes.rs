//! Classes of storage, and the drivers that provide it.
//!
//! Owns the checks of these kinds by themselves.

use super::super::errors::Errors;
use super::super::node::Node;
use super::super::{names, selectors, volumes};
use std::collections::BTreeSet;

/// What a driver is told about a volume, as a whole.
const PARAMETERS_MAX: usize = 512;
const PARAMETERS_SIZE_MAX: usize = 256 * 1024;

pub fn storage_class(class: &Node<'_>, errors: &mut Errors) {
    provisioner(&class.get("provisioner"), errors);
    parameters(&class.get("parameters"), errors);
    errors.optional_one_of(&class.get("reclaimPolicy"), &["Delete", "Retain"]);
    errors.supported(&class.get("volumeBindingMode"), &["Immediate", "WaitForFirstConsumer"]);
    topologies(&class.get("allowedTopologies"), errors);
}

fn provisioner(provisioner: &Node<'_>, errors: &mut Errors) {
    let lower = provisioner.text().to_lowercase();
    if lower.is_empty() {
        return errors.required(provisioner, "");
    }
    for problem in names::qualified_name(&lower) {
        errors.invalid_value(provisioner, &lower.as_str().into(), &problem);
    }
}

fn parameters(parameters: &Node<'_>, errors: &mut Errors) {
    let entries = parameters.entries();
    if entries.len() > PARAMETERS_MAX {
        return errors.too_long(&parameters.path, PARAMETERS_MAX);
    }
    if entries.iter().any(|(key, _)| key.is_empty()) {
        errors.invalid_value(parameters, &"".into(), "field can not be empty.");
    }
    if entries.iter().map(|(key, value)| key.len() + value.text().len()).sum::<usize>() > PARAMETERS_SIZE_MAX {
        errors.too_long(&parameters.path, PARAMETERS_SIZE_MAX);
    }
}

fn topologies(terms: &Node<'_>, errors: &mut Errors) {
    let mut seen_terms = Vec::new();
    for term in terms.items() {
        let expressions = term.get("matchLabelExpressions");
        let (mut keys, mut whole) = (BTreeSet::new(), BTreeSet::new());
        for expression in expressions.items() {
            let (key, values) = (expression.get("key"), expression.get("values"));
            errors.set(&values);
            let mut seen = BTreeSet::new();
            for value in values.items() {
                if !seen.insert(value.text()) {
                    errors.duplicate(&value);
                }
            }
            errors.formed(&key, names::qualified_name);
            if !keys.insert(key.text()) {
                errors.duplicate(&key);
            }
            whole.insert((key.text(), seen));
        }
        if seen_terms.contains(&whole) {
            errors.duplicate_value(&expressions, &"".into());
        }
        seen_terms.push(whole);
    }
}

pub fn attributes_class(class: &Node<'_>, errors: &mut Errors) {
    provisioner(&class.get("driverName"), errors);
    parameters(&class.get("parameters"), errors);
    if class.get("parameters").is_empty() {
        errors.required(&class.get("parameters"), "must contain at least one key/value pair");
    }
}

const UPDATE_SECONDS_MIN: i64 = 10;

pub fn csi_driver(driver: &Node<'_>, errors: &mut Errors) {
    let spec = driver.get("spec");
    errors.optional_supported(&spec.get("fsGroupPolicy"), &["File", "None", "ReadWriteOnceWithFSType"]);
    let mut audiences = BTreeSet::new();
    for request in spec.get("tokenRequests").items() {
        let audience = request.get("audience");
        if audiences.insert(audience.text()) {
            volumes::token_seconds(&request.get("expirationSeconds"), errors);
        } else {
            errors.duplicate_value(&audience, &audience.text().into());
        }
    }
    let modes = spec.get("volumeLifecycleModes");
    const MODES: &[&str] = &["Persistent", "Ephemeral"];
    for mode in modes.items().iter().filter(|mode| !MODES.contains(&mode.text())) {
        errors.not_supported_value(&modes, mode.value, MODES);
    }
    let seconds = spec.get("nodeAllocatableUpdatePeriodSeconds");
    if seconds.int().is_some_and(|seconds| seconds < UPDATE_SECONDS_MIN) {
        errors.invalid(&seconds, "must be greater than or equal to 10 seconds");
    }
}

const NODE_ID_MAX: usize = 256;

pub fn csi_node(node: &Node<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for driver in node.at(&["spec", "drivers"]).items() {
        let (name, id) = (driver.get("name"), driver.get("nodeID"));
        volumes::driver_name(&name, errors);
        errors.set(&id);
        if id.text().len() > NODE_ID_MAX {
            errors.invalid(&id, &format!("must be {NODE_ID_MAX} characters or less"));
        }
        errors.non_negative(&driver.at(&["allocatable", "count"]));
        if !seen.insert(name.text()) {
            errors.duplicate(&name);
        }
        let mut keys = BTreeSet::new();
        for key in driver.get("topologyKeys").items() {
            let key = Node { path: driver.path.clone(), ..key };
            errors.set(&key);
            if !keys.insert(key.text()) {
                errors.duplicate(&key);
            }
            errors.formed(&key, names::qualified_name);
        }
    }
}

pub fn csi_storage_capacity(capacity: &Node<'_>, errors: &mut Errors) {
    selectors::label_selector(&capacity.get("nodeTopology"), errors);
    errors.formed(&capacity.get("storageClassName"), names::dns_subdomain);
    let amount = capacity.get("capacity");
    if amount.quantity().is_some_and(|amount| amount.is_negative()) {
        errors.invalid(&amount, "must be greater than or equal to 0");
    }
}

pub fn volume_attachment(attachment: &Node<'_>, errors: &mut Errors) {
    const DETAIL: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    let spec = attachment.get("spec");
    let source = spec.get("source");
    errors.set(&spec.get("attacher"));
    let (inline, name) = (source.get("inlineVolumeSpec"), source.get("persistentVolumeName"));
    match (inline.is_missing(), name.is_missing()) {
        (true, true) => errors.required(&source, DETAIL),
        (false, false) => errors.forbidden(&source, DETAIL),
        (true, false) if name.is_empty() => errors.required(&name, "must specify non empty persistentVolumeName"),
        (true, false) | (false, true) => {}
    }
    errors.formed(&spec.get("nodeName"), names::dns_subdomain);
}

/// What is checked of a new one alone.
pub fn attachment_create_only(attachment: &Node<'_>, errors: &mut Errors) {
    let (attacher, name) =
        (attachment.at(&["spec", "attacher"]), attachment.at(&["spec", "source", "persistentVolumeName"]));
    volumes::driver_name(&attacher, errors);
    if !name.is_missing() {
        errors.formed(&name, names::dns_subdomain);
    }
}
