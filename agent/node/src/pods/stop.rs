//! Stops containers and pods, with hooks and grace periods, and cleans up what a pod leaves on the machine.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use skiff_reconcile::EventKind;
use tokio::time::Instant;

use super::hooks;
use super::observe::{Container, Observed, State};
use super::start::find;
use crate::context::Context;
use crate::names;
use crate::resources::{init_containers, is_restartable_init};
use crate::volumes::{mounts, subpaths};

/// After a hook used up the grace period the program still gets this long.
const GRACE_MIN: Duration = Duration::from_secs(2);

/// Stops one container: hook, stop signal, and after the grace period SIGKILL.
pub async fn container(
    context: &Arc<Context>,
    pod: &Pod,
    container: &Container,
    message: &str,
    grace: Duration,
) -> skiff_cri::Result<()> {
    let started = Instant::now();
    let name = Some(container.name.as_str());
    context.event(pod, name, EventKind::Normal, "Killing", message.to_owned());
    let spec = pod.spec.as_ref().and_then(|spec| find(spec, &container.name));
    let hook = spec.and_then(|spec| spec.lifecycle.as_ref()?.pre_stop.as_ref().map(|hook| (spec, hook)));
    if let Some((spec, hook)) = hook.filter(|_| !grace.is_zero()) {
        let ip = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()?.parse().ok());
        let done = tokio::time::timeout(grace, hooks::run(context, &container.id, spec, hook, ip)).await;
        if let Ok(Err(error)) = done {
            let message = format!("PreStopHook failed: {error}");
            context.event(pod, name, EventKind::Warning, "FailedPreStopHook", message);
        }
    }
    let left = match grace.is_zero() {
        true => Duration::ZERO,
        false => grace.saturating_sub(started.elapsed()).max(GRACE_MIN.min(grace)),
    };
    context.runtime.stop_container(&container.id, left).await
}

/// Stops everything of a pod: the main containers at once, then the sidecars in reverse order, then the sandboxes.
pub async fn pod(context: &Arc<Context>, pod: &Pod, observed: &Observed, grace: Duration) -> skiff_cri::Result<()> {
    let deadline = Instant::now() + grace;
    let sidecars: Vec<&str> = pod
        .spec
        .iter()
        .flat_map(init_containers)
        .filter(|spec| is_restartable_init(spec))
        .map(|spec| spec.name.as_str())
        .collect();
    let (side, main): (Vec<_>, Vec<_>) = observed.running().partition(|c| sidecars.contains(&c.name.as_str()));
    let stopping = |container: &Container| format!("Stopping container {}", container.name);
    let mains = main.into_iter().map(|c| async move { self::container(context, pod, c, &stopping(c), grace).await });
    for result in join_all(mains).await {
        result?;
    }
    for name in sidecars.iter().rev() {
        for container in side.iter().filter(|container| container.name == *name) {
            let left = deadline.saturating_duration_since(Instant::now());
            self::container(context, pod, container, &stopping(container), left).await?;
        }
    }
    sandboxes(context, observed).await
}

pub async fn sandboxes(context: &Context, observed: &Observed) -> skiff_cri::Result<()> {
    for sandbox in observed.sandboxes.iter().filter(|sandbox| sandbox.ready) {
        context.runtime.stop_pod_sandbox(&sandbox.id).await?;
    }
    Ok(())
}

/// Removes every trace of a pod that has been stopped, except its API object.
pub async fn remove(context: &Context, uid: &str, observed: &Observed) -> skiff_cri::Result<()> {
    for sandbox in &observed.sandboxes {
        context.runtime.stop_pod_sandbox(&sandbox.id).await?;
    }
    for container in &observed.containers {
        context.runtime.remove_container(&container.id).await?;
    }
    for sandbox in &observed.sandboxes {
        context.runtime.remove_pod_sandbox(&sandbox.id).await?;
    }
    remove_files(context, uid);
    Ok(())
}

/// The pod's directory, logs and cgroup.
pub fn remove_files(context: &Context, uid: &str) {
    if !names::is_component(uid) {
        return;
    }
    let dir = context.config.pod_dir(uid);
    if let Err(error) = mounts::remove_all(&dir) {
        tracing::warn!(%error, dir = %dir.display(), "pod directory not removed, will retry");
    }
    let suffix = format!("_{uid}");
    let logs = context.config.data_dir.join("logs/pods");
    for entry in std::fs::read_dir(logs).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().ends_with(&suffix) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    context.cgroups.remove(uid);
}

/// Ends a pod that the API does not know (any more).
pub async fn orphan(context: &Arc<Context>, uid: &str) -> skiff_cri::Result<()> {
    let observed = super::observe::observe(&*context.runtime, uid, &mut Default::default()).await?;
    let labels = HashMap::from([(names::POD_UID.to_owned(), uid.to_owned())]);
    let sandboxes = context.runtime.list_pod_sandboxes(labels).await?;
    let noted = sandboxes.iter().find_map(|sandbox| sandbox.annotations.get(names::POD_GRACE_PERIOD)?.parse().ok());
    let grace = Duration::from_secs(noted.unwrap_or(30));
    let stops = observed.running().map(|container| context.runtime.stop_container(&container.id, grace));
    for result in join_all(stops).await {
        result?;
    }
    remove(context, uid, &observed).await
}

/// Keeps a few dead containers of each name, for `kubectl logs --previous`, and no sandbox without a
/// container besides the newest.
pub async fn leftovers(context: &Context, observed: &Observed) {
    for container in too_many(observed) {
        if let Err(error) = context.runtime.remove_container(&container.id).await {
            tracing::debug!(%error, container = container.id, "old container not removed, will retry");
            continue;
        }
        let in_use = |file: &String| {
            let others = observed.containers.iter().filter(|other| other.id != container.id);
            others.filter_map(|other| other.message_file.as_ref()).any(|other| other == file)
        };
        crate::logs::remove_attempt(context, container, in_use);
    }
    let dead = observed.sandboxes.iter().skip(1).filter(|sandbox| !sandbox.ready && is_empty(observed, &sandbox.id));
    for sandbox in dead {
        remove_sandbox(context, &sandbox.id).await;
    }
}

/// Removes what sandboxes that could not be made left in the runtime: the newest ones, without containers.
pub async fn failed_sandboxes(context: &Context, observed: &Observed) {
    for sandbox in observed.sandboxes.iter().take_while(|sandbox| is_empty(observed, &sandbox.id)) {
        remove_sandbox(context, &sandbox.id).await;
    }
}

/// Ended containers that nobody asks for any more: of each name the newest two stay, the last one's log among them. They
/// are removed several at a time: each removal alone rewrites the same pages of the file system.
fn too_many(observed: &Observed) -> Vec<&Container> {
    const KEPT: usize = 2;
    const TOO_MANY: usize = 5;
    let mut ended: HashMap<&str, Vec<&Container>> = HashMap::new();
    for (index, container) in observed.containers.iter().enumerate() {
        let newer = observed.containers[..index].iter().filter(|other| other.name == container.name).count();
        if newer >= KEPT && container.state != State::Running {
            ended.entry(container.name.as_str()).or_default().push(container);
        }
    }
    // One in an older sandbox keeps that: it does not wait.
    let newest = observed.sandboxes.first().map(|sandbox| sandbox.id.as_str());
    let is_over = |old: &Vec<&Container>| old.len() + KEPT >= TOO_MANY;
    let keeps_more = |container: &&Container| Some(container.sandbox.as_str()) != newest;
    ended
        .into_values()
        .flat_map(|old| if is_over(&old) { old } else { old.into_iter().filter(keeps_more).collect() })
        .collect()
}

fn is_empty(observed: &Observed, sandbox: &str) -> bool {
    observed.containers.iter().all(|container| container.sandbox != sandbox)
}

async fn remove_sandbox(context: &Context, id: &str) {
    let removed = async {
        context.runtime.stop_pod_sandbox(id).await?;
        context.runtime.remove_pod_sandbox(id).await
    };
    if let Err(error) = removed.await {
        tracing::debug!(%error, sandbox = id, "dead sandbox not removed, will retry");
    }
}

/// Unmounts what holds memory for a pod that has ended; its files stay until the pod is deleted.
pub fn release_volumes(context: &Context, uid: &str) {
    if !names::is_component(uid) {
        return;
    }
    let dir = context.config.pod_dir(uid);
    for part in [subpaths::root(&dir), dir.join("volumes")] {
        if let Err(error) = mounts::remove_all(&part) {
            tracing::debug!(%error, uid, "volumes not removed, will retry");
        }
    }
}
