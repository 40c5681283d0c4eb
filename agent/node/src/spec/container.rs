//! One container: its command, mounts, identity and limits.

use std::collections::HashMap;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, SecurityContext, VolumeMount};
use skiff_cri::pb;

use super::sandbox::{is_privileged, labels};
use super::{int64, namespaces, seccomp};
use crate::cgroups::Version;
use crate::env::expand;
use crate::names;
use crate::pods::plan::hash;
use crate::resources::{Amounts, CPU_PERIOD_US, Qos, cpu_quota_us, cpu_shares, oom_score_adj};

/// What unprivileged containers must not see of the kernel, and what they must not change; upstream's lists.
const MASKED_PATHS: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// A mount that is ready to be used: its source exists.
#[derive(Clone, Debug)]
pub struct ReadyMount {
    pub container_path: String,
    pub host_path: PathBuf,
    pub read_only: bool,
    pub propagation: pb::MountPropagation,
}

pub struct ContainerInputs<'a> {
    pub pod: &'a Pod,
    pub spec: &'a PodSpec,
    pub container: &'a Container,
    pub attempt: u32,
    /// The image's identifier on this machine.
    pub image_ref: String,
    pub env: Vec<(String, String)>,
    pub mounts: Vec<ReadyMount>,
    pub message_file: PathBuf,
    /// The user of the image, when it is a number and the spec names none.
    pub image_user: Option<i64>,
    pub memory_capacity: u64,
    pub cgroup_version: Version,
}

/// Where in the container the program may leave its last words.
pub fn message_path(container: &Container) -> &str {
    container.termination_message_path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/dev/termination-log")
}

pub fn propagation(mount: &VolumeMount) -> pb::MountPropagation {
    match mount.mount_propagation.as_deref() {
        Some("HostToContainer") => pb::MountPropagation::HostToContainer,
        Some("Bidirectional") => pb::MountPropagation::Bidirectional,
        Some(_) | None => pb::MountPropagation::Private,
    }
}

pub fn render(inputs: &ContainerInputs<'_>) -> pb::ContainerConfig {
    let container = inputs.container;
    let lookup = |name: &str| inputs.env.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let expanded = |words: &Option<Vec<String>>| words.iter().flatten().map(|word| expand(word, lookup)).collect();
    let user_image = container.image.clone().unwrap_or_default();
    pb::ContainerConfig {
        metadata: Some(pb::ContainerMetadata { name: container.name.clone(), attempt: inputs.attempt }),
        image: Some(pb::ImageSpec { image: inputs.image_ref.clone(), ..Default::default() }),
        command: expanded(&container.command),
        args: expanded(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: inputs.env.iter().map(|(key, value)| pb::KeyValue { key: key.clone(), value: value.clone() }).collect(),
        mounts: mounts(inputs),
        devices: Vec::new(),
        labels: container_labels(inputs),
        annotations: annotations(inputs, &user_image),
        log_path: format!("{}/{}.log", container.name, inputs.attempt),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        tty: container.tty == Some(true),
        linux: Some(pb::LinuxContainerConfig {
            resources: Some(resources(inputs)),
            security_context: Some(security_context(inputs)),
        }),
    }
}

fn container_labels(inputs: &ContainerInputs<'_>) -> HashMap<String, String> {
    let mut all = labels(inputs.pod);
    all.insert(names::CONTAINER_NAME.to_owned(), inputs.container.name.clone());
    all
}

fn annotations(inputs: &ContainerInputs<'_>, user_image: &str) -> HashMap<String, String> {
    let container = inputs.container;
    let policy = container.termination_message_policy.as_deref().unwrap_or("File");
    let pairs = [
        (names::CONTAINER_HASH, hash(container)),
        (names::CONTAINER_RESTART_COUNT, inputs.attempt.to_string()),
        (names::TERMINATION_MESSAGE_PATH, message_path(container).to_owned()),
        (names::TERMINATION_MESSAGE_POLICY, policy.to_owned()),
        (names::TERMINATION_MESSAGE_FILE, inputs.message_file.to_string_lossy().into_owned()),
        (names::CONTAINER_IMAGE, user_image.to_owned()),
    ];
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn mounts(inputs: &ContainerInputs<'_>) -> Vec<pb::Mount> {
    let mount = |mount: &ReadyMount| pb::Mount {
        container_path: mount.container_path.clone(),
        host_path: mount.host_path.to_string_lossy().into_owned(),
        readonly: mount.read_only,
        propagation: mount.propagation as i32,
    };
    let message = ReadyMount {
        container_path: message_path(inputs.container).to_owned(),
        host_path: inputs.message_file.clone(),
        read_only: false,
        propagation: pb::MountPropagation::Private,
    };
    inputs.mounts.iter().chain([&message]).map(mount).collect()
}

fn resources(inputs: &ContainerInputs<'_>) -> pb::LinuxContainerResources {
    let (requests, limits) = (Amounts::requests(inputs.container), Amounts::limits(inputs.container));
    let qos = Qos::of(inputs.spec);
    let as_i64 = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let cpu_limit = limits.cpu_milli.filter(|milli| *milli > 0);
    let mut unified = HashMap::new();
    if inputs.cgroup_version == Version::V2 {
        // The whole container ends when one of its processes is killed for memory: half a program helps nobody.
        unified.insert("memory.oom.group".to_owned(), "1".to_owned());
    }
    pb::LinuxContainerResources {
        cpu_period: cpu_limit.map_or(0, |_| CPU_PERIOD_US),
        cpu_quota: cpu_limit.map_or(0, cpu_quota_us),
        cpu_shares: cpu_shares(requests.cpu_milli.unwrap_or(0)),
        memory_limit_in_bytes: limits.memory_bytes.map_or(0, as_i64),
        oom_score_adj: oom_score_adj(qos, requests.memory_bytes.unwrap_or(0), inputs.memory_capacity),
        cpuset_cpus: String::new(),
        cpuset_mems: String::new(),
        unified,
    }
}

fn security_context(inputs: &ContainerInputs<'_>) -> pb::LinuxContainerSecurityContext {
    let pod = inputs.spec.security_context.clone().unwrap_or_default();
    let own: SecurityContext = inputs.container.security_context.clone().unwrap_or_default();
    let privileged = is_privileged(inputs.container);
    let mut groups: Vec<i64> = pod.fs_group.into_iter().collect();
    groups.extend(pod.supplemental_groups.iter().flatten());
    let caps = own.capabilities.unwrap_or_default();
    let user = own.run_as_user.or(pod.run_as_user).or(inputs.image_user);
    let group = own.run_as_group.or(pod.run_as_group);
    let profile = own.seccomp_profile.as_ref().or(pod.seccomp_profile.as_ref());
    let bare = privileged || own.proc_mount.as_deref() == Some("Unmasked");
    let paths = |list: &[&str]| if bare { Vec::new() } else { list.iter().map(|path| (*path).to_owned()).collect() };
    pb::LinuxContainerSecurityContext {
        capabilities: Some(pb::Capability {
            add_capabilities: caps.add.unwrap_or_default(),
            drop_capabilities: caps.drop.unwrap_or_default(),
        }),
        privileged,
        namespace_options: Some(namespaces(inputs.spec)),
        run_as_user: int64(user),
        // containerd wants a user with a group.
        run_as_group: int64(group.filter(|_| user.is_some())),
        run_as_username: String::new(),
        readonly_rootfs: own.read_only_root_filesystem == Some(true),
        supplemental_groups: groups,
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: paths(&MASKED_PATHS),
        readonly_paths: paths(&READONLY_PATHS),
        seccomp: Some(if privileged { seccomp(None) } else { seccomp(profile) }),
        apparmor: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rendered(pod: serde_json::Value) -> pb::ContainerConfig {
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let spec = pod.spec.clone().unwrap();
        render(&ContainerInputs {
            pod: &pod,
            spec: &spec,
            container: &spec.containers[0],
            attempt: 2,
            image_ref: "sha256:1".into(),
            env: vec![("A".into(), "1".into())],
            mounts: Vec::new(),
            message_file: "/m".into(),
            image_user: Some(1000),
            memory_capacity: 1 << 30,
            cgroup_version: Version::V2,
        })
    }

    #[test]
    fn command_identity_and_limits() {
        let config = rendered(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {
                "securityContext": {"fsGroup": 7, "runAsGroup": 8},
                "containers": [{
                    "name": "app", "image": "i", "args": ["$(A)", "$(B)"],
                    "resources": {"limits": {"cpu": "500m", "memory": "64Mi"}},
                    "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                }],
            },
        }));
        assert_eq!(config.args, ["1", "$(B)"]);
        assert_eq!(config.log_path, "app/2.log");
        assert_eq!(config.labels[names::POD_UID], "u");
        let linux = config.linux.unwrap();
        let context = linux.security_context.unwrap();
        assert_eq!(context.run_as_user.unwrap().value, 1000);
        assert_eq!(context.supplemental_groups, [7]);
        assert!(context.no_new_privs && !context.masked_paths.is_empty());
        let resources = linux.resources.unwrap();
        assert_eq!((resources.cpu_quota, resources.memory_limit_in_bytes), (50_000, 64 << 20));
        assert_eq!(resources.oom_score_adj, -997);
    }
}
