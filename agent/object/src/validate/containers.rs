//! The containers of pods.
//!
//! Owns everything within one container and between the containers of a pod; their resources are in
//! [`super::resources`].

use super::errors::Errors;
use super::node::Node;
use super::services::{PROTOCOLS, port_reference};
use super::{names, resources, volumes};
use std::collections::BTreeSet;

/// What containers may refer to in their pod.
#[derive(Debug)]
pub struct Pod<'a> {
    pub volumes: BTreeSet<&'a str>,
    pub host_network: bool,
}

/// Checks all containers of a pod's spec.
pub fn containers(spec: &Node<'_>, pod: &Pod<'_>, errors: &mut Errors) {
    let list = spec.get("containers");
    if list.is_empty() {
        errors.required(&list, "");
    }
    let mut seen = BTreeSet::new();
    for container in list.items() {
        self::container(&container, pod, &mut seen, errors);
        probes(&container, errors);
        errors.optional_one_of(&container.get("restartPolicy"), &["Always", "Never", "OnFailure"]);
    }
    for container in spec.get("initContainers").items() {
        self::container(&container, pod, &mut seen, errors);
        init_container(&container, errors);
    }
    host_ports(&list, errors);
}

/// The containers that were put into a running pod to look at it.
pub fn ephemeral(spec: &Node<'_>, pod: &Pod<'_>, errors: &mut Errors) {
    const FORBIDDEN: &[&str] = &["lifecycle", "livenessProbe", "ports", "readinessProbe", "resources", "startupProbe"];
    let regular = ["containers", "initContainers"].map(|list| spec.get(list).items()).concat();
    let mut seen: BTreeSet<&str> = regular.iter().map(|container| container.get("name").text()).collect();
    for container in spec.get("ephemeralContainers").items() {
        self::container(&container, pod, &mut seen, errors);
        for field in FORBIDDEN.iter().map(|field| container.get(field)).filter(|field| !field.is_empty()) {
            errors.forbidden(&field, "cannot be set for an Ephemeral Container");
        }
        let target = container.get("targetContainerName");
        if !target.is_empty() && !regular.iter().any(|regular| regular.get("name").text() == target.text()) {
            errors.not_found(&target);
        }
    }
}

fn init_container(container: &Node<'_>, errors: &mut Errors) {
    if container.get("restartPolicy").text() == "Always" {
        probes(container, errors);
        return;
    }
    for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
        let node = container.get(field);
        if !node.is_missing() {
            errors.forbidden(&node, "may not be set for init containers without restartPolicy=Always");
        }
    }
}

fn container<'a>(container: &Node<'a>, pod: &Pod<'_>, seen: &mut BTreeSet<&'a str>, errors: &mut Errors) {
    let name = container.get("name");
    errors.named(&name, names::dns_label);
    if !name.is_empty() && !seen.insert(name.text()) {
        errors.duplicate(&name);
    }
    let image = container.get("image");
    if image.is_empty() {
        errors.required(&image, "");
    } else if image.text().trim() != image.text() {
        errors.invalid(&image, "must not have leading or trailing whitespace");
    }
    errors.one_of(&container.get("terminationMessagePolicy"), &["FallbackToLogsOnError", "File"]);
    errors.one_of(&container.get("imagePullPolicy"), &["Always", "IfNotPresent", "Never"]);
    ports(container, pod, errors);
    environment(container, errors);
    mounts(container, pod, errors);
    resources::container(&container.get("resources"), errors);
    lifecycle(&container.get("lifecycle"), errors);
    security_context(&container.get("securityContext"), errors);
}

fn ports(container: &Node<'_>, pod: &Pod<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for port in container.get("ports").items() {
        let name = port.get("name");
        errors.optional_named(&name, names::port_name);
        if !name.is_empty() && !seen.insert(name.text()) {
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
        if pod.host_network && host.int().is_some_and(|host| host != 0 && Some(host) != number.int()) {
            errors.invalid(&number, "must match `hostPort` when `hostNetwork` is true");
        }
        errors.one_of(&port.get("protocol"), PROTOCOLS);
    }
}

/// Two containers cannot have the same port of the host.
fn host_ports(containers: &Node<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for port in containers.items().iter().flat_map(|container| container.get("ports").items()) {
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

/// The fields of a pod that a variable can take its value from.
const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

fn environment(container: &Node<'_>, errors: &mut Errors) {
    for variable in container.get("env").items() {
        errors.named(&variable.get("name"), names::env_name);
        let source = variable.get("valueFrom");
        if !source.is_missing() {
            environment_source(&variable, &source, errors);
        }
    }
    for source in container.get("envFrom").items() {
        errors.optional_named(&source.get("prefix"), names::env_name);
        let (map, secret) = (source.get("configMapRef"), source.get("secretRef"));
        match (map.is_missing(), secret.is_missing()) {
            (true, true) => {
                errors.invalid_value(&source, &"".into(), "must specify one of: `configMapRef` or `secretRef`")
            }
            (false, false) => {
                errors.invalid_value(&source, &"".into(), "may not have more than one field specified at a time")
            }
            (false, true) => errors.named(&map.get("name"), names::dns_subdomain),
            (true, false) => errors.named(&secret.get("name"), names::dns_subdomain),
        }
    }
}

fn environment_source(variable: &Node<'_>, source: &Node<'_>, errors: &mut Errors) {
    let fields: Vec<String> = source.value.as_object().into_iter().flat_map(|map| map.keys().cloned()).collect();
    if !variable.get("value").is_empty() && !fields.is_empty() {
        errors.invalid_value(source, &"".into(), "may not be specified when `value` is not empty");
    } else if fields.is_empty() {
        let detail =
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        errors.invalid_value(source, &"".into(), detail);
    } else if fields.len() > 1 {
        errors.invalid_value(source, &"".into(), "may not have more than one field specified at a time");
    }
    for reference in ["configMapKeyRef", "secretKeyRef"].map(|name| source.get(name)) {
        if !reference.is_missing() {
            errors.named(&reference.get("name"), names::dns_subdomain);
            errors.named(&reference.get("key"), names::config_key);
        }
    }
    let field = source.get("fieldRef");
    if !field.is_missing() {
        let path = field.get("fieldPath");
        let subscript =
            ["metadata.labels['", "metadata.annotations['"].iter().any(|start| path.text().starts_with(start));
        if path.is_empty() {
            errors.required(&path, "");
        } else if !subscript && !ENV_FIELDS.contains(&path.text()) {
            errors.not_supported(&path, ENV_FIELDS);
        }
    }
    let resource = source.get("resourceFieldRef");
    if !resource.is_missing() && resource.get("resource").is_empty() {
        errors.required(&resource.get("resource"), "");
    }
}

fn mounts(container: &Node<'_>, pod: &Pod<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for mount in container.get("volumeMounts").items() {
        let (name, path, sub) = (mount.get("name"), mount.get("mountPath"), mount.get("subPath"));
        if name.is_empty() {
            errors.required(&name, "");
        } else if !pod.volumes.contains(name.text()) {
            errors.not_found(&name);
        }
        if path.is_empty() {
            errors.required(&path, "");
        } else if !seen.insert(path.text()) {
            errors.invalid(&path, "must be unique");
        }
        for node in [&sub, &mount.get("subPathExpr")] {
            if node.text().starts_with('/') {
                errors.invalid(node, "must be a relative path");
            }
            volumes::no_backsteps(node, errors);
        }
        if !sub.is_empty() && !mount.get("subPathExpr").is_empty() {
            errors.invalid(&mount.get("subPathExpr"), "subPathExpr and subPath are mutually exclusive");
        }
        let propagation = mount.get("mountPropagation");
        errors.optional_one_of(&propagation, &["Bidirectional", "HostToContainer", "None"]);
        if propagation.text() == "Bidirectional" && !container.at(&["securityContext", "privileged"]).is_true() {
            errors
                .forbidden(&propagation, "Bidirectional mount propagation is available only to privileged containers");
        }
    }
    for device in container.get("volumeDevices").items() {
        let (name, path) = (device.get("name"), device.get("devicePath"));
        if name.is_empty() {
            errors.required(&name, "");
        } else if !pod.volumes.contains(name.text()) {
            errors.not_found(&name);
        }
        if path.is_empty() {
            errors.required(&path, "");
        } else if !seen.insert(path.text()) {
            errors.invalid(&path, "must be unique");
        }
    }
}

fn lifecycle(lifecycle: &Node<'_>, errors: &mut Errors) {
    for hook in ["postStart", "preStop"].map(|name| lifecycle.get(name)) {
        if !hook.is_missing() {
            handler(&hook, &["exec", "httpGet", "tcpSocket", "sleep"], errors);
        }
    }
}

fn probes(container: &Node<'_>, errors: &mut Errors) {
    for (name, must_be_one) in [("livenessProbe", true), ("readinessProbe", false), ("startupProbe", true)] {
        let probe = container.get(name);
        if probe.is_missing() {
            continue;
        }
        handler(&probe, &["exec", "httpGet", "tcpSocket", "grpc"], errors);
        for field in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
        {
            errors.non_negative(&probe.get(field));
        }
        errors.positive(&probe.get("terminationGracePeriodSeconds"));
        let success = probe.get("successThreshold");
        if must_be_one && success.int().is_some_and(|threshold| threshold != 1) {
            errors.invalid(&success, "must be 1");
        }
        if !must_be_one && probe.has("terminationGracePeriodSeconds") {
            errors.invalid(&probe.get("terminationGracePeriodSeconds"), "must not be set for readinessProbes");
        }
    }
}

fn handler(handler: &Node<'_>, allowed: &[&str], errors: &mut Errors) {
    let mut found = allowed.iter().filter(|name| handler.has(name));
    let Some(first) = found.next() else {
        errors.required(handler, "must specify a handler type");
        return;
    };
    for other in found {
        errors.forbidden(&handler.get(other), "may not specify more than 1 handler type");
    }
    let action = handler.get(first);
    match *first {
        "exec" if action.get("command").is_empty() => errors.required(&action.get("command"), ""),
        "httpGet" => {
            if action.get("path").is_empty() {
                errors.required(&action.get("path"), "");
            }
            required_port(&action, errors);
            errors.optional_one_of(&action.get("scheme"), &["HTTP", "HTTPS"]);
            for header in action.get("httpHeaders").items() {
                errors.invalid_all(&header.get("name"), names::http_header(header.get("name").text()));
            }
        }
        "tcpSocket" | "grpc" => required_port(&action, errors),
        "sleep" => errors.non_negative(&action.get("seconds")),
        _ => {}
    }
}

fn required_port(action: &Node<'_>, errors: &mut Errors) {
    let port = action.get("port");
    if port.is_missing() {
        errors.invalid_value(&port, &0.into(), &names::range(1, 65535));
    }
    port_reference(&port, errors);
}

/// User and group ids, as the runtimes take them.
const ID_MAX: i64 = i32::MAX as i64;

pub fn ids(context: &Node<'_>, fields: &[&str], errors: &mut Errors) {
    for field in fields {
        errors.in_range(&context.get(field), 0, ID_MAX);
    }
}

fn security_context(context: &Node<'_>, errors: &mut Errors) {
    ids(context, &["runAsUser", "runAsGroup"], errors);
    errors.optional_one_of(&context.get("procMount"), &["Default", "Unmasked"]);
    seccomp(&context.get("seccompProfile"), errors);
    let escalation = context.get("allowPrivilegeEscalation");
    if escalation.value.as_bool() == Some(false) {
        if context.get("privileged").is_true() {
            errors.invalid(context, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
        }
        if context.at(&["capabilities", "add"]).items().iter().any(|name| name.text() == "CAP_SYS_ADMIN") {
            errors.invalid(
                context,
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
            );
        }
    }
}

/// Checks a seccomp profile.
pub fn seccomp(profile: &Node<'_>, errors: &mut Errors) {
    if profile.is_missing() {
        return;
    }
    let (ty, local) = (profile.get("type"), profile.get("localhostProfile"));
    errors.one_of(&ty, &["Localhost", "RuntimeDefault", "Unconfined"]);
    match (ty.text() == "Localhost", local.is_missing()) {
        (true, true) => errors.required(&local, "must be set when seccomp type is Localhost"),
        (false, false) => errors.invalid(&local, "can only be set when seccomp type is Localhost"),
        (true, false) | (false, true) => {}
    }
}
