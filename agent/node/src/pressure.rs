//! Memory and disk pressure: seen here, told in the node's conditions, answered by image garbage collection and, if that
//! is not enough, by evicting one pod at a time. https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use skiff_reconcile::{EventKind, Informer};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::images::gc;
use crate::machine::{Disk, memory_available};
use crate::pods::Evictor;
use crate::pods::worker::is_terminal;
use crate::resources::{Qos, pod_requests};

/// Upstream's housekeeping interval; the looks cost two system calls.
const CHECK: Duration = Duration::from_secs(10);
/// Images are noted this often, so that their ages are known when space is needed.
const IMAGE_CHECK: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    pub memory: bool,
    pub disk: bool,
}

/// Reads the current pressure and waits for changes.
#[derive(Clone, Debug)]
pub struct PressureWatch(watch::Receiver<Pressure>);

impl PressureWatch {
    pub fn now(&mut self) -> Pressure {
        *self.0.borrow_and_update()
    }

    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

pub fn channel() -> (watch::Sender<Pressure>, PressureWatch) {
    let (sender, receiver) = watch::channel(Pressure::default());
    (sender, PressureWatch(receiver))
}

/// A pod that could be evicted.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub uid: String,
    pub priority: i32,
    pub qos: Qos,
    pub requested: u64,
    pub used: u64,
}

/// Who goes first: those above their request, then by priority, then by how far above it they are.
pub fn rank(mut pods: Vec<Candidate>) -> Vec<Candidate> {
    pods.sort_by_key(|pod| {
        let over = pod.used.saturating_sub(pod.requested);
        (pod.used <= pod.requested, pod.priority, std::cmp::Reverse(over))
    });
    pods
}

pub async fn run(
    context: Arc<Context>,
    informer: Informer<Pod>,
    evictor: Evictor,
    sender: watch::Sender<Pressure>,
    shutdown: CancellationToken,
) {
    let mut seen = gc::Seen::default();
    let (mut memory_since, mut disk_since) = (None, None);
    let mut images_at = Instant::now();
    loop {
        let limits = context.config.eviction;
        let disk = Disk::observe(&context.config.data_dir).unwrap_or_default();
        let low_memory = memory_available().is_some_and(|bytes| bytes < limits.memory_available_min_bytes);
        let low_disk = disk.bytes > 0 && 100 - disk.used_percent() < limits.disk_available_min_percent;
        let full = disk.used_percent() >= context.config.image_gc.high_percent;
        if full || Instant::now() >= images_at {
            images_at = Instant::now() + IMAGE_CHECK;
            let settings = context.config.image_gc;
            if let Err(error) =
                gc::run(&*context.runtime, &mut seen, settings, &context.config.sandbox_image, disk).await
            {
                tracing::debug!(%error, "images not cleaned up, will retry");
            }
        }
        let held = |low: bool, since: &mut Option<Instant>| {
            if low {
                *since = Some(Instant::now());
            }
            since.is_some_and(|since| low || since.elapsed() < limits.transition_period)
        };
        let now = Pressure { memory: held(low_memory, &mut memory_since), disk: held(low_disk, &mut disk_since) };
        sender.send_if_modified(|old| std::mem::replace(old, now) != now);
        if low_memory || low_disk {
            let resource = if low_memory { "memory" } else { "ephemeral-storage" };
            evict_one(&context, &informer, &evictor, resource);
        }
        tokio::select! {
            () = tokio::time::sleep(CHECK) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

fn evict_one(context: &Arc<Context>, informer: &Informer<Pod>, evictor: &Evictor, resource: &str) {
    let pods: Vec<_> = informer.list().into_iter().filter(|pod| may_go(pod)).collect();
    let candidates = pods.iter().filter_map(|pod| {
        let (uid, spec) = (pod.metadata.uid.clone()?, pod.spec.as_ref()?);
        let qos = Qos::of(spec);
        let used = context.cgroups.memory_usage(qos, &uid).unwrap_or(0);
        let requested = pod_requests(spec).memory_bytes.unwrap_or(0);
        Some(Candidate { priority: spec.priority.unwrap_or(0), uid, qos, requested, used })
    });
    for candidate in rank(candidates.collect()) {
        let message = format!("The node was low on resource: {resource}.");
        if !evictor.evict(&candidate.uid, message.clone()) {
            continue;
        }
        tracing::warn!(uid = candidate.uid, resource, qos = ?candidate.qos, "pod evicted");
        if let Some(pod) = pods.iter().find(|pod| pod.metadata.uid.as_ref() == Some(&candidate.uid)) {
            context.event(pod, None, EventKind::Warning, "Evicted", message);
        }
        return;
    }
}

/// Critical pods stay; what has ended or is ending takes nothing.
fn may_go(pod: &Pod) -> bool {
    /// The lowest priority of a system-critical class.
    const CRITICAL: i32 = 2_000_000_000;
    let priority = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
    priority < CRITICAL && !is_terminal(pod) && pod.metadata.deletion_timestamp.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greediest_of_low_priority_goes_first() {
        let pod = |uid: &str, priority, requested, used| Candidate {
            uid: uid.into(),
            priority,
            qos: Qos::Burstable,
            requested,
            used,
        };
        let pods = vec![pod("modest", 0, 10, 5), pod("high", 9, 0, 99), pod("big", 0, 0, 50), pod("small", 0, 0, 5)];
        let order: Vec<_> = rank(pods).into_iter().map(|pod| pod.uid).collect();
        assert_eq!(order, ["big", "small", "high", "modest"]);
    }
}
