//! As whom pods run: users, groups, profiles, kernel parameters, and what does not go with their system.
//!
//! Owns the pod's security context; that of a container is in [`super::super::containers`].

use super::super::containers::{self, security};
use super::super::errors::Errors;
use super::super::names;
use super::super::node::Node;
use std::collections::BTreeSet;

pub fn context(spec: &Node<'_>, errors: &mut Errors) {
    let context = spec.get("securityContext");
    security::ids(&context, &["fsGroup", "runAsUser", "runAsGroup"], errors);
    for group in context.get("supplementalGroups").items() {
        errors.in_range(&group, 0, security::ID_MAX);
    }
    if spec.get("shareProcessNamespace").is_true() && spec.get("hostPID").is_true() {
        let shared = Node { path: context.get("shareProcessNamespace").path, ..spec.get("shareProcessNamespace") };
        errors.invalid(&shared, "ShareProcessNamespace and HostPID cannot both be enabled");
    }
    sysctls(&context.get("sysctls"), errors);
    errors.optional_supported(&context.get("fsGroupChangePolicy"), &["Always", "OnRootMismatch"]);
    security::seccomp(&context.get("seccompProfile"), errors);
    security::windows(&context.get("windowsOptions"), errors);
    security::app_armor(&context.get("appArmorProfile"), errors);
    errors.optional_supported(&context.get("supplementalGroupsPolicy"), &["Merge", "Strict"]);
    errors.optional_supported(&context.get("seLinuxChangePolicy"), &["MountOption", "Recursive"]);
}

fn sysctls(sysctls: &Node<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for name in sysctls.items().iter().map(|sysctl| sysctl.get("name")) {
        let before = errors.len();
        errors.named(&name, names::sysctl);
        if !seen.insert(name.text()) && errors.len() == before {
            errors.duplicate(&name);
        }
    }
}

const HOST: &[&str] = &["hostNetwork", "hostPID", "hostIPC"];

/// Users of the pod's own do not go with what is the host's.
pub fn host_users(spec: &Node<'_>, errors: &mut Errors) {
    if spec.get("hostUsers").value.as_bool() == Some(false) {
        for node in HOST.iter().map(|field| spec.get(field)).filter(Node::is_true) {
            errors.forbidden(&node, "when `hostUsers` is false");
        }
    }
}

/// All containers are the host's processes on Windows, or none is.
pub fn host_process(spec: &Node<'_>, errors: &mut Errors) {
    const OPTION: [&str; 3] = ["securityContext", "windowsOptions", "hostProcess"];
    let whole = spec.at(&OPTION).value.as_bool();
    let containers = containers::all(spec);
    let mut count = 0;
    for option in containers.iter().map(|container| container.at(&OPTION)) {
        let own = option.value.as_bool();
        if let (Some(whole), Some(own)) = (whole, own)
            && whole != own
        {
            let detail = format!("pod hostProcess value must be identical if both are specified, was {whole}");
            errors.invalid(&option, &detail);
        }
        count += usize::from(own.or(whole) == Some(true));
    }
    if count == 0 {
        return;
    }
    if count != containers.len() {
        let detail = "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.invalid_value(spec, &"".into(), detail);
    }
    let network = spec.get("hostNetwork");
    if !network.is_true() {
        let detail = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.invalid_value(&network, &false.into(), detail);
    }
}

/// What only Linux has, of a pod and of its security context.
const LINUX_POD: &[&str] = &["hostUsers", "hostPID", "hostIPC", "shareProcessNamespace"];
const LINUX_CONTEXT: &[&str] = &[
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
    "seLinuxChangePolicy",
];
const LINUX_CONTAINER: &[&str] = &[
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];

pub fn os(spec: &Node<'_>, errors: &mut Errors) {
    let (os, name) = (spec.get("os"), spec.at(&["os", "name"]));
    match name.text() {
        _ if os.is_missing() => {}
        "" => errors.required(&name, "cannot be empty"),
        "linux" => {
            for context in contexts(spec) {
                let options = context.get("windowsOptions");
                if !options.is_missing() {
                    errors.forbidden(&options, "windows options cannot be set for a linux pod");
                }
            }
        }
        "windows" => windows(spec, errors),
        _ => errors.not_supported_value(&os, name.value, &["linux", "windows"]),
    }
}

/// The security contexts of a pod and of its containers.
fn contexts<'a>(spec: &Node<'a>) -> Vec<Node<'a>> {
    let containers = containers::all(spec);
    let own = containers.iter().map(|container| container.get("securityContext"));
    std::iter::once(spec.get("securityContext")).chain(own).collect()
}

fn windows(spec: &Node<'_>, errors: &mut Errors) {
    let mut contexts = contexts(spec).into_iter();
    let of_pod = contexts.next().into_iter().flat_map(|context| LINUX_CONTEXT.iter().map(move |f| context.get(f)));
    let of_containers = contexts.flat_map(|context| LINUX_CONTAINER.iter().map(move |field| context.get(field)));
    let fields = LINUX_POD.iter().map(|field| spec.get(field));
    // A flag that is off is not set, and neither is an empty list.
    let unset = |node: &Node<'_>| {
        node.is_missing()
            || node.path.ends_with("sysctls") && node.is_empty()
            || (node.path.ends_with("hostPID") || node.path.ends_with("hostIPC")) && !node.is_true()
    };
    for node in fields.chain(of_pod).chain(of_containers).filter(|node| !unset(node)) {
        errors.forbidden(&node, "cannot be set for a windows pod");
    }
}
