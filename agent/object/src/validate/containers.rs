//! The containers of pods.
//!
//! Owns what containers are in their pod; their variables, mounts, probes and security contexts are in modules of
//! their own, their resources in [`super::resources`].

mod environment;
mod mounts;
mod probes;
pub mod security;

pub use environment::{ResourceOf, field_reference, resource_reference};

use super::errors::Errors;
use super::node::Node;
use super::services::PROTOCOLS;
use super::{names, resources, volumes};
use std::collections::{BTreeMap, BTreeSet};

/// What containers may refer to in their pod.
#[derive(Debug)]
pub struct Pod<'a> {
    pub volumes: BTreeMap<&'a str, volumes::Kind>,
    /// The names of its resource claims.
    pub claims: BTreeSet<&'a str>,
    pub grace_seconds: Option<i64>,
    pub restart_policy: &'a str,
    /// Whether its users are the host's.
    pub host_users: bool,
}

pub const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];

/// All containers of a pod's spec, those that prepare it first.
pub fn all<'a>(spec: &Node<'a>) -> Vec<Node<'a>> {
    ["initContainers", "containers", "ephemeralContainers"].map(|list| spec.get(list).items()).concat()
}

/// Checks all containers of a pod's spec.
pub fn containers(spec: &Node<'_>, pod: &Pod<'_>, errors: &mut Errors) {
    let list = spec.get("containers");
    if list.is_empty() {
        errors.required(&list, "");
    }
    let mut seen = BTreeSet::new();
    for container in list.items() {
        self::container(&container, pod, errors);
        unique(&container, &mut seen, errors);
        probes::lifecycle(&container.get("lifecycle"), pod, errors);
        probes::probes(&container, errors);
        let policy = container.get("restartPolicy");
        if !policy.is_missing() {
            errors.forbidden(&policy, "may not be set for non-init containers");
        }
    }
    host_ports(&list.items(), errors);
    for container in spec.get("initContainers").items() {
        self::container(&container, pod, errors);
        errors.optional_supported(&container.get("restartPolicy"), &["Always"]);
        unique(&container, &mut seen, errors);
        host_ports(std::slice::from_ref(&container), errors);
        init_container(&container, pod, errors);
    }
}

fn unique<'a>(container: &Node<'a>, seen: &mut BTreeSet<&'a str>, errors: &mut Errors) {
    let name = container.get("name");
    if !name.is_empty() && !seen.insert(name.text()) {
        errors.duplicate(&name);
    }
}

/// The containers that were put into a running pod to look at it.
pub fn ephemeral(spec: &Node<'_>, pod: &Pod<'_>, errors: &mut Errors) {
    const FORBIDDEN: &[&str] = &[
        "ports",
        "resources",
        "resizePolicy",
        "restartPolicy",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "lifecycle",
    ];
    const DETAIL: &str = "cannot be set for an Ephemeral Container";
    let regular = ["containers", "initContainers"].map(|list| spec.get(list).items()).concat();
    let mut seen: BTreeSet<&str> = regular.iter().map(|container| container.get("name").text()).collect();
    for container in spec.get("ephemeralContainers").items() {
        self::container(&container, pod, errors);
        trimmed_image(&container, errors);
        unique(&container, &mut seen, errors);
        let target = container.get("targetContainerName");
        if !target.is_empty() && !regular.iter().any(|regular| regular.get("name").text() == target.text()) {
            errors.not_found(&target);
        }
        for field in FORBIDDEN.iter().map(|field| container.get(field)).filter(|field| !field.is_empty()) {
            errors.forbidden(&field, DETAIL);
        }
        for mount in container.get("volumeMounts").items() {
            for path in ["subPath", "subPathExpr"].map(|field| mount.get(field)) {
                if !path.is_empty() {
                    errors.forbidden(&path, DETAIL);
                }
            }
        }
    }
}

fn init_container(container: &Node<'_>, pod: &Pod<'_>, errors: &mut Errors) {
    if container.get("restartPolicy").text() == "Always" {
        probes::lifecycle(&container.get("lifecycle"), pod, errors);
        probes::probes(container, errors);
        return;
    }
    for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
        let node = container.get(field);
        if !node.is_missing() {
            errors.forbidden(&node, "may not be set for init containers without restartPolicy=Always");
        }
    }
}

/// What holds for containers of all kinds.
fn container(container: &Node<'_>, pod: &Pod<'_>, errors: &mut Errors) {
    errors.named(&container.get("name"), names::dns_label);
    let image = container.get("image");
    if image.is_empty() {
        errors.required(&image, "");
    }
    errors.one_of(&container.get("terminationMessagePolicy"), &["File", "FallbackToLogsOnError"]);
    ports(container, errors);
    environment::environment(container, errors);
    mounts::mounts(container, pod, errors);
    mounts::devices(container, pod, errors);
    errors.one_of(&container.get("imagePullPolicy"), PULL_POLICIES);
    resources::container(&container.get("resources"), &pod.claims, errors);
    resize_policy(&container.get("resizePolicy"), pod, errors);
    security::context(&container.get("securityContext"), pod.host_users, errors);
}

/// Pods, other than templates, name images without spaces around them.
pub fn trimmed_image(container: &Node<'_>, errors: &mut Errors) {
    let image = container.get("image");
    if image.text().trim() != image.text() {
        errors.invalid(&image, "must not have leading or trailing whitespace");
    }
}

fn ports(container: &Node<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for port in container.get("ports").items() {
        let name = port.get("name");
        let before = errors.len();
        errors.optional_named(&name, names::port_name);
        if !name.is_empty() && errors.len() == before && !seen.insert(name.text()) {
            errors.duplicate(&name);
        }
        let (number, host) = (port.get("containerPort"), port.get("hostPort"));
        match number.int().unwrap_or(0) {
            0 => errors.required(&number, ""),
            value => errors.invalid_all(&number, names::port_number(value)),
        }
        match host.int().unwrap_or(0) {
            0 => {}
            value => errors.invalid_all(&host, names::port_number(value)),
        }
        errors.one_of(&port.get("protocol"), PROTOCOLS);
    }
}

/// Two containers cannot have the same port of the host.
fn host_ports(containers: &[Node<'_>], errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for port in containers.iter().flat_map(|container| container.get("ports").items()) {
        let host = port.get("hostPort");
        let number = host.int().unwrap_or(0);
        if number == 0 {
            continue;
        }
        let text = format!("{}/{}/{number}", port.get("protocol").text(), port.get("hostIP").text());
        if !seen.insert(text.clone()) {
            errors.duplicate_value(&host, &text.into());
        }
    }
}

/// The errors are about the whole list: upstream's name no entry.
fn resize_policy(policies: &Node<'_>, pod: &Pod<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for policy in policies.items() {
        let whole = |field: &str| Node { path: policies.path.clone(), ..policy.get(field) };
        let (resource, restart) = (whole("resourceName"), whole("restartPolicy"));
        if !seen.insert(resource.text()) {
            errors.duplicate_value(&policy, resource.value);
        }
        errors.one_of(&resource, &["cpu", "memory"]);
        errors.one_of(&restart, &["NotRequired", "RestartContainer"]);
        if pod.restart_policy == "Never" && restart.text() != "NotRequired" {
            errors.invalid_text(&restart, "must be 'NotRequired' when `restartPolicy` is 'Never'");
        }
    }
}
