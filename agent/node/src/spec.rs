//! A pod's spec in the runtime's words: the configuration of its sandbox and of each container. Pure; files named here
//! are made by the worker.

pub mod container;
pub mod sandbox;

use k8s_openapi::api::core::v1::{PodSpec, SeccompProfile};
use skiff_cri::pb;

pub use container::ContainerInputs;

/// The longest host name Linux allows.
const HOSTNAME_CHARS_MAX: usize = 63;

/// The pod's host name: its name, unless the spec says otherwise.
pub fn hostname(spec: &PodSpec, pod_name: &str) -> String {
    let name = spec.hostname.as_deref().filter(|name| !name.is_empty()).unwrap_or(pod_name);
    let short: String = name.chars().take(HOSTNAME_CHARS_MAX).collect();
    short.trim_end_matches(['-', '.']).to_owned()
}

pub fn namespaces(spec: &PodSpec) -> pb::NamespaceOption {
    let network = if spec.host_network == Some(true) { pb::NamespaceMode::Node } else { pb::NamespaceMode::Pod };
    let pid = match (spec.host_pid, spec.share_process_namespace) {
        (Some(true), _) => pb::NamespaceMode::Node,
        (_, Some(true)) => pb::NamespaceMode::Pod,
        _ => pb::NamespaceMode::Container,
    };
    let ipc = if spec.host_ipc == Some(true) { pb::NamespaceMode::Node } else { pb::NamespaceMode::Pod };
    pb::NamespaceOption { network: network as i32, pid: pid as i32, ipc: ipc as i32, target_id: String::new() }
}

/// Without a profile a container is unconfined, as upstream's default is.
pub fn seccomp(profile: Option<&SeccompProfile>) -> pb::SecurityProfile {
    let (kind, file) = match profile.map(|profile| profile.type_.as_str()) {
        Some("RuntimeDefault") => (pb::SecurityProfileType::RuntimeDefault, None),
        Some("Localhost") => {
            (pb::SecurityProfileType::Localhost, profile.and_then(|profile| profile.localhost_profile.clone()))
        }
        Some(_) | None => (pb::SecurityProfileType::Unconfined, None),
    };
    pb::SecurityProfile { profile_type: kind as i32, localhost_ref: file.unwrap_or_default() }
}

pub fn int64(value: Option<i64>) -> Option<pb::Int64Value> {
    value.map(|value| pb::Int64Value { value })
}
