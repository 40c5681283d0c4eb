//! The sandbox: what all containers of a pod share.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use skiff_cri::pb;

use super::{hostname, int64, namespaces, seccomp};
use crate::names;
use crate::resources::{containers, init_containers};

pub struct SandboxInputs<'a> {
    pub pod: &'a Pod,
    pub spec: &'a PodSpec,
    pub attempt: u32,
    pub log_directory: String,
    pub cgroup_parent: String,
    pub dns: pb::DnsConfig,
}

pub fn labels(pod: &Pod) -> HashMap<String, String> {
    let meta = &pod.metadata;
    let own = |text: &Option<String>| text.clone().unwrap_or_default();
    HashMap::from([
        (names::POD_NAME.to_owned(), own(&meta.name)),
        (names::POD_NAMESPACE.to_owned(), own(&meta.namespace)),
        (names::POD_UID.to_owned(), own(&meta.uid)),
    ])
}

pub fn render(inputs: &SandboxInputs<'_>) -> pb::PodSandboxConfig {
    let SandboxInputs { pod, spec, .. } = inputs;
    let meta = &pod.metadata;
    let own = |text: &Option<String>| text.clone().unwrap_or_default();
    let name = own(&meta.name);
    let host_network = spec.host_network == Some(true);
    let grace = spec.termination_grace_period_seconds.unwrap_or(30);
    pb::PodSandboxConfig {
        metadata: Some(pb::PodSandboxMetadata {
            name: name.clone(),
            uid: own(&meta.uid),
            namespace: own(&meta.namespace),
            attempt: inputs.attempt,
        }),
        // In the host's network the host's name is shared as well.
        hostname: if host_network { String::new() } else { hostname(spec, &name) },
        log_directory: inputs.log_directory.clone(),
        dns_config: Some(inputs.dns.clone()),
        port_mappings: if host_network { Vec::new() } else { port_mappings(spec) },
        labels: labels(pod),
        annotations: HashMap::from([(names::POD_GRACE_PERIOD.to_owned(), grace.to_string())]),
        linux: Some(linux(inputs)),
    }
}

fn linux(inputs: &SandboxInputs<'_>) -> pb::LinuxPodSandboxConfig {
    let spec = inputs.spec;
    let context = spec.security_context.clone().unwrap_or_default();
    let mut groups: Vec<i64> = context.fs_group.into_iter().collect();
    groups.extend(context.supplemental_groups.iter().flatten());
    let privileged = containers(spec).chain(init_containers(spec)).any(is_privileged);
    let sysctls = context.sysctls.iter().flatten().map(|sysctl| (sysctl.name.clone(), sysctl.value.clone()));
    pb::LinuxPodSandboxConfig {
        cgroup_parent: inputs.cgroup_parent.clone(),
        sysctls: sysctls.collect(),
        security_context: Some(pb::LinuxSandboxSecurityContext {
            namespace_options: Some(namespaces(spec)),
            run_as_user: int64(context.run_as_user),
            run_as_group: int64(context.run_as_group.filter(|_| context.run_as_user.is_some())),
            readonly_rootfs: false,
            supplemental_groups: groups,
            privileged,
            // The sandbox's own program needs no system call that the default profile refuses.
            seccomp: Some(pb::SecurityProfile {
                profile_type: pb::SecurityProfileType::RuntimeDefault as i32,
                localhost_ref: String::new(),
            })
            .filter(|_| !privileged)
            .or_else(|| Some(seccomp(None))),
        }),
    }
}

pub fn is_privileged(container: &Container) -> bool {
    container.security_context.as_ref().is_some_and(|context| context.privileged == Some(true))
}

fn port_mappings(spec: &PodSpec) -> Vec<pb::PortMapping> {
    let ports = containers(spec).chain(init_containers(spec)).flat_map(|c| c.ports.iter().flatten());
    ports
        .filter(|port| port.host_port.is_some_and(|host| host > 0))
        .map(|port| pb::PortMapping {
            protocol: match port.protocol.as_deref() {
                Some("UDP") => pb::Protocol::Udp as i32,
                Some("SCTP") => pb::Protocol::Sctp as i32,
                Some(_) | None => pb::Protocol::Tcp as i32,
            },
            container_port: port.container_port,
            host_port: port.host_port.unwrap_or(0),
            host_ip: port.host_ip.clone().unwrap_or_default(),
        })
        .collect()
}
