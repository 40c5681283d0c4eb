//! Starts things of a pod in the runtime: its sandbox, its containers with their files, and the postStart hook. Takes no
//! decision about what to start (see `plan`).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container as Spec, Pod, PodSpec};
use skiff_cri::pb;
use skiff_reconcile::EventKind;

use super::hooks;
use super::observe::Sandbox;
use super::plan::{Failure, Start};
use crate::context::{Context, chain};
use crate::env::{self, Facts};
use crate::files;
use crate::images::Pulls;
use crate::objects::Missing;
use crate::resources::{Amounts, Qos, pod_limits, pod_requests};
use crate::spec::container::{ReadyMount, propagation};
use crate::spec::{ContainerInputs, container, sandbox};
use crate::status::Waiting;
use crate::volumes::beneath::Links;
use crate::volumes::{Volumes, Writer, subpaths};
use crate::{dns, spec};

/// The parts of a pod's identity that paths and calls need.
pub struct Identity<'a> {
    pub uid: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
}

impl<'a> Identity<'a> {
    pub fn of(pod: &'a Pod) -> Self {
        let meta = &pod.metadata;
        Self {
            uid: meta.uid.as_deref().unwrap_or_default(),
            namespace: meta.namespace.as_deref().unwrap_or_default(),
            name: meta.name.as_deref().unwrap_or_default(),
        }
    }
}

/// Why a container was not started, and when it is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unstarted {
    pub waiting: Waiting,
    /// What its coming would mend.
    pub missing: Option<Missing>,
    /// Where it is not the container's own failures that count.
    pub hold: Option<Failure>,
}

impl Unstarted {
    pub fn of(reason: &'static str, message: String) -> Self {
        Self { waiting: Waiting { reason, message }, missing: None, hold: None }
    }
}

/// A configuration that could not be made.
struct Unconfigured {
    message: String,
    missing: Option<Missing>,
}

impl From<String> for Unconfigured {
    fn from(message: String) -> Self {
        Self { message, missing: None }
    }
}

/// What is needed to start parts of one pod.
pub struct Starter<'a> {
    pub context: &'a Arc<Context>,
    pub pod: &'a Pod,
    pub spec: &'a PodSpec,
}

impl Starter<'_> {
    pub fn facts(&self, sandbox: Option<&Sandbox>) -> Facts {
        let config = &self.context.config;
        let host_network = self.spec.host_network == Some(true);
        Facts {
            node_name: config.node_name.clone(),
            host_ips: config.node_ips.clone(),
            pod_ips: match host_network {
                true => config.node_ips.clone(),
                false => sandbox.map(|sandbox| sandbox.ips.clone()).unwrap_or_default(),
            },
            allocatable: Amounts {
                cpu_milli: Some((self.context.machine.cpus * 1000).saturating_sub(config.reserved_cpu_milli)),
                memory_bytes: Some(self.context.machine.memory_bytes.saturating_sub(config.reserved_memory_bytes)),
            },
        }
    }

    pub fn sandbox_config(&self, attempt: u32) -> pb::PodSandboxConfig {
        let config = &self.context.config;
        let id = Identity::of(self.pod);
        let host = fs::read_to_string(&config.resolv_conf).map(|text| dns::parse(&text)).unwrap_or_default();
        sandbox::render(&sandbox::SandboxInputs {
            pod: self.pod,
            spec: self.spec,
            attempt,
            log_directory: config.pod_log_dir(id.namespace, id.name, id.uid).to_string_lossy().into_owned(),
            cgroup_parent: self.context.cgroups.path(Qos::of(self.spec), id.uid),
            dns: dns::config(self.spec, id.namespace, &config.cluster_dns, &config.cluster_domain, host),
        })
    }

    /// Makes the pod's directories and cgroup.
    pub fn prepare(&self) -> Result<(), String> {
        let id = Identity::of(self.pod);
        let logs = self.context.config.pod_log_dir(id.namespace, id.name, id.uid);
        for dir in [logs, self.context.config.pod_dir(id.uid)] {
            make_dir(&dir)?;
        }
        let (requests, limits) = (pod_requests(self.spec), pod_limits(self.spec));
        let made = self.context.cgroups.ensure(Qos::of(self.spec), id.uid, requests, limits);
        made.map_err(|error| format!("cannot set up the pod's cgroup: {error}"))
    }

    /// Makes the sandbox. What a failure leaves in the runtime is removed.
    pub async fn sandbox(&self, attempt: u32) -> Result<(), String> {
        let made = match self.prepare() {
            Ok(()) => self.context.runtime.run_pod_sandbox(self.sandbox_config(attempt)).await,
            Err(message) => return Err(self.failed_sandbox(&message)),
        };
        match made {
            Ok(id) if self.has_address(&id).await => Ok(()),
            Ok(_) => Err(self.failed_sandbox("the network plugins gave it no address")),
            Err(error) => Err(self.failed_sandbox(&error.to_string())),
        }
    }

    async fn has_address(&self, id: &str) -> bool {
        if self.spec.host_network == Some(true) {
            return true;
        }
        let status = self.context.runtime.pod_sandbox_status(id).await;
        // Whoever cannot be asked is looked at again.
        status.map_or(true, |status| status.network.is_some_and(|network| !network.ip.is_empty()))
    }

    fn failed_sandbox(&self, error: &str) -> String {
        let message = format!("Failed to create pod sandbox: {error}");
        self.context.event(self.pod, None, EventKind::Warning, "FailedCreatePodSandBox", message.clone());
        message
    }

    /// Makes and starts one container; answers its identifier.
    pub async fn container(
        &self,
        start: &Start,
        sandbox: &Sandbox,
        volumes: &Volumes,
        pulls: &mut Pulls,
    ) -> Result<String, Unstarted> {
        let Some(spec) = find(self.spec, &start.name) else {
            let message = format!("container {} is not in the pod's spec", start.name);
            return Err(Unstarted::of("CreateContainerConfigError", message));
        };
        let image = pulls.ensure(self.context, self.pod, spec).await?;
        let config = self.container_config(spec, start, sandbox, volumes, &image).await;
        let config = config.map_err(|error| {
            let unstarted = self.failed(spec, "CreateContainerConfigError", error.message);
            Unstarted { missing: error.missing, ..unstarted }
        })?;
        let made =
            self.context.runtime.create_container(&sandbox.id, config, self.sandbox_config(sandbox.attempt)).await;
        let id = made.map_err(|error| self.failed(spec, "CreateContainerError", error.to_string()))?;
        let name = Some(spec.name.as_str());
        self.context.event(self.pod, name, EventKind::Normal, "Created", format!("Created container: {}", spec.name));
        let started = self.context.runtime.start_container(&id).await;
        started.map_err(|error| self.failed(spec, "RunContainerError", error.to_string()))?;
        self.context.event(self.pod, name, EventKind::Normal, "Started", format!("Started container {}", spec.name));
        Ok(id)
    }

    /// Runs the postStart hook if there is one. `false`: it failed and the container must end.
    pub async fn post_start(&self, name: &str, id: &str, sandbox: &Sandbox) -> bool {
        let Some(spec) = find(self.spec, name) else { return true };
        let hook = spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref());
        let Some(hook) = hook else { return true };
        match hooks::run(self.context, id, spec, hook, sandbox.ips.first().copied()).await {
            Ok(()) => true,
            Err(message) => {
                let message = format!("PostStartHook failed: {message}");
                self.context.event(self.pod, Some(name), EventKind::Warning, "FailedPostStartHook", message);
                false
            }
        }
    }

    fn failed(&self, spec: &Spec, reason: &'static str, message: String) -> Unstarted {
        let name = Some(spec.name.as_str());
        self.context.event(self.pod, name, EventKind::Warning, "Failed", format!("Error: {message}"));
        Unstarted::of(reason, message)
    }

    async fn container_config(
        &self,
        spec: &Spec,
        start: &Start,
        sandbox: &Sandbox,
        volumes: &Volumes,
        image: &pb::Image,
    ) -> Result<pb::ContainerConfig, Unconfigured> {
        let id = Identity::of(self.pod);
        let pod_dir = self.context.config.pod_dir(id.uid);
        let facts = self.facts(Some(sandbox));
        let services = self.context.service_vars(self.pod).await.map_err(|error| chain(&error))?;
        let env = env::render(&self.context.objects, self.pod, spec, &facts, &services).await;
        let env = env.map_err(|error| Unconfigured { message: chain(&error), missing: error.missing() })?;
        let message_file = message_file(&pod_dir, &spec.name, start.attempt)?;
        make_dir(&self.context.config.pod_log_dir(id.namespace, id.name, id.uid).join(&spec.name))?;
        let mut mounts = self.volume_mounts(spec, volumes, &env)?;
        self.add_hosts(spec, &pod_dir, sandbox, &mut mounts)?;
        check_non_root(self.spec, spec, image)?;
        Ok(container::render(&ContainerInputs {
            pod: self.pod,
            spec: self.spec,
            container: spec,
            attempt: start.attempt,
            image_ref: image.id.clone(),
            env,
            mounts,
            message_file,
            image_user: image.uid.as_ref().map(|uid| uid.value),
            memory_capacity: self.context.machine.memory_bytes,
            cgroup_version: self.context.cgroups.version(),
        }))
    }

    fn volume_mounts(
        &self,
        spec: &Spec,
        volumes: &Volumes,
        env: &[(String, String)],
    ) -> Result<Vec<ReadyMount>, String> {
        let lookup = |name: &str| env.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let pod_dir = self.context.config.pod_dir(Identity::of(self.pod).uid);
        let mut mounts = Vec::new();
        for (index, mount) in spec.volume_mounts.iter().flatten().enumerate() {
            let Some(volume) = volumes.ready.get(&mount.name) else {
                return Err(format!("volume \"{}\" is not in the pod's spec", mount.name));
            };
            let part = match (&mount.sub_path_expr, &mount.sub_path) {
                (Some(expression), _) => Some(env::expand(expression, lookup)),
                (None, path) => path.clone(),
            };
            let host_path = match part.filter(|part| !part.is_empty()) {
                Some(part) => {
                    let place = subpaths::place(&pod_dir, &mount.name, &spec.name, index);
                    let links = match volume.writer {
                        Writer::Node => Links::Followed,
                        Writer::Containers => Links::Refused,
                    };
                    subpaths::ensure(&volume.path, &part, links, &place).map_err(|error| {
                        let (mount, error) = (&mount.name, chain(&error));
                        format!(
                            "failed to prepare subPath for volumeMount \"{mount}\" of container \"{}\": {error}",
                            spec.name
                        )
                    })?;
                    place
                }
                None => volume.path.clone(),
            };
            mounts.push(ReadyMount {
                container_path: mount.mount_path.clone(),
                host_path,
                read_only: mount.read_only == Some(true) || volume.writer == Writer::Node,
                propagation: propagation(mount),
            });
        }
        Ok(mounts)
    }

    /// The pod's hosts file, unless the container mounts one itself.
    fn add_hosts(
        &self,
        container: &Spec,
        pod_dir: &Path,
        sandbox: &Sandbox,
        mounts: &mut Vec<ReadyMount>,
    ) -> Result<(), String> {
        if mounts.iter().any(|mount| mount.container_path == "/etc/hosts") || container.name.is_empty() {
            return Ok(());
        }
        let id = Identity::of(self.pod);
        let text = match self.spec.host_network == Some(true) {
            true => dns::host_network_hosts(self.spec, &fs::read_to_string("/etc/hosts").unwrap_or_default()),
            false => {
                let hostname = spec::hostname(self.spec, id.name);
                dns::hosts(self.spec, &sandbox.ips, &hostname, &self.context.config.cluster_domain, id.namespace)
            }
        };
        let path = pod_dir.join("etc-hosts");
        // Containers write to it: it may have become anything, of any size.
        let is_same = fs::metadata(&path).is_ok_and(|meta| meta.len() == text.len() as u64)
            && fs::read_to_string(&path).is_ok_and(|now| now == text);
        if !is_same {
            fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
            let _ = fs::set_permissions(&path, fs::Permissions::from_mode(0o644));
        }
        mounts.push(ReadyMount {
            container_path: "/etc/hosts".to_owned(),
            host_path: path,
            read_only: false,
            propagation: pb::MountPropagation::Private,
        });
        Ok(())
    }
}

pub fn find<'a>(spec: &'a PodSpec, name: &str) -> Option<&'a Spec> {
    spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|container| container.name == name)
}

fn make_dir(dir: &Path) -> Result<(), String> {
    files::make_private(dir).map_err(|error| format!("cannot make {}: {error}", dir.display()))
}

/// An empty file that any user in the container may write. One that an earlier attempt left empty serves again: a new
/// file for each restart is several pages of the file system, written for nothing.
fn message_file(pod_dir: &Path, container: &str, attempt: u32) -> Result<PathBuf, String> {
    const NAME: &str = "termination-log.";
    let dir = pod_dir.join("containers").join(container);
    make_dir(&dir)?;
    let number = |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix(NAME)?.parse::<u32>().ok();
    let earlier = fs::read_dir(&dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let newest = earlier.filter(|path| number(path).is_some_and(|n| n <= attempt)).max_by_key(number);
    // Where a link was put is not looked behind it.
    let is_empty = |path: &PathBuf| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() == 0);
    if let Some(path) = newest.filter(is_empty) {
        return Ok(path);
    }
    let path = dir.join(format!("{NAME}{attempt}"));
    let made = fs::write(&path, b"").and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o666)));
    made.map_err(|error| format!("cannot make {}: {error}", path.display()))?;
    Ok(path)
}

fn check_non_root(pod: &PodSpec, container: &Spec, image: &pb::Image) -> Result<(), String> {
    let own = container.security_context.clone().unwrap_or_default();
    let shared = pod.security_context.clone().unwrap_or_default();
    if own.run_as_non_root.or(shared.run_as_non_root) != Some(true) {
        return Ok(());
    }
    let user = own.run_as_user.or(shared.run_as_user);
    match (user, &image.uid, image.username.as_str()) {
        (Some(0), _, _) => Err("container's runAsUser breaks non-root policy".to_owned()),
        (Some(_), _, _) => Ok(()),
        (None, Some(uid), _) if uid.value == 0 => {
            Err("container has runAsNonRoot and image will run as root".to_owned())
        }
        (None, Some(_), _) => Ok(()),
        (None, None, "") => Err("container has runAsNonRoot and image will run as root".to_owned()),
        (None, None, name) => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_message_file_serves_again() {
        let dir = tempfile::tempdir().unwrap();
        let first = message_file(dir.path(), "a", 0).unwrap();
        assert_eq!(message_file(dir.path(), "a", 1).unwrap(), first);
        fs::write(&first, "last words").unwrap();
        let second = message_file(dir.path(), "a", 2).unwrap();
        assert_ne!(second, first);
        assert_eq!(fs::read_to_string(&first).unwrap(), "last words");
        assert_eq!(message_file(dir.path(), "a", 3).unwrap(), second);
        assert_ne!(message_file(dir.path(), "b", 3).unwrap(), second);
    }
}
