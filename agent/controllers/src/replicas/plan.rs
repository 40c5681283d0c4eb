//! What a set of pods needs: pods to make, delete, adopt or release, and what its status counts. Pure.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use skiff_reconcile::Next;

use super::Replicated;
use crate::objects::{self, is_active, is_deleted, is_ready};
use crate::owners::{self, Claims};

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

#[derive(Debug)]
pub struct Plan {
    pub create: usize,
    pub delete: Vec<Arc<Pod>>,
    pub adopt: Vec<Arc<Pod>>,
    pub release: Vec<Arc<Pod>>,
    /// The active pods that are seen, for the status.
    active: Vec<Arc<Pod>>,
    terminating: usize,
    pub next: Next,
}

/// `unseen` pods were made but are not in `pods` yet; `deleted` are on their way though they do not look it.
pub fn plan<K: Replicated>(set: &K, pods: &[Arc<Pod>], unseen: usize, deleted: &HashSet<&str>, now: Timestamp) -> Plan {
    let Claims { owned: mine, mut adopt, release } = owners::claim(set, &set.selector(), pods);
    adopt.retain(|pod| is_active(pod));
    let dying = is_deleted(set);
    let on_its_way = |pod: &Pod| deleted.contains(pod.metadata.uid.as_deref().unwrap_or_default());
    let terminating = mine.iter().filter(|p| is_deleted(&***p) && !objects::is_terminal(p)).count();
    let mut active: Vec<_> = mine.into_iter().chain(adopt.iter().cloned()).filter(|p| is_active(p)).collect();
    active.sort_by_cached_key(|pod| victim_rank(pod));
    let staying: Vec<_> = active.iter().filter(|p| !on_its_way(p)).cloned().collect();
    let wanted = usize::try_from(set.wanted()).unwrap_or(0);
    let (create, delete) = if dying {
        (0, Vec::new())
    } else {
        let have = staying.len() + unseen;
        let surplus = have.saturating_sub(wanted).min(staying.len());
        (wanted.saturating_sub(have), staying[..surplus].to_vec())
    };
    let next = next_availability(&active, min_ready(set), now);
    Plan { create, delete, adopt, release, active, terminating, next }
}

/// Those that are missed least come first: not placed, not running, not ready, cheap, young, often restarted.
fn victim_rank(pod: &Pod) -> impl Ord + use<> {
    let placed = pod.spec.as_ref().is_some_and(|s| s.node_name.is_some());
    let phase = match objects::phase(pod) {
        "Pending" => 0,
        "Running" => 2,
        _ => 1,
    };
    let cost: i64 = objects::annotation(pod, DELETION_COST).and_then(|c| c.parse().ok()).unwrap_or(0);
    let ready_since = objects::ready_since(pod).map(Reverse);
    let restarts: i32 = pod
        .status
        .as_ref()
        .and_then(|s| s.container_statuses.as_ref())
        .map_or(0, |all| all.iter().map(|c| c.restart_count).max().unwrap_or(0));
    let created = pod.creation_timestamp().map(|t| Reverse(t.0));
    (placed, phase, is_ready(pod), cost, ready_since, Reverse(restarts), created, Reverse(pod.name_any()))
}

fn is_available(pod: &Pod, min_ready: Duration, now: Timestamp) -> bool {
    is_ready(pod) && objects::waits(pod, min_ready, now).is_none()
}

fn next_availability(active: &[Arc<Pod>], min_ready: Duration, now: Timestamp) -> Next {
    let soonest = active.iter().filter_map(|pod| objects::waits(pod, min_ready, now)).min();
    soonest.map_or(Next::Change, Next::After)
}

fn min_ready<K: Replicated>(set: &K) -> Duration {
    objects::min_ready(Some(set.min_ready_seconds()))
}

/// What statuses count. But for the first, a number is left out where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    pub replicas: i32,
    pub fully_labeled: Option<i32>,
    pub ready: Option<i32>,
    pub available: Option<i32>,
    pub terminating: Option<i32>,
}

pub fn counts<K: Replicated>(set: &K, plan: &Plan, now: Timestamp) -> Counts {
    let template_labels = set.template().metadata.and_then(|m| m.labels).unwrap_or_default();
    let labelled = |pod: &&Arc<Pod>| {
        let labels = objects::labels(&***pod);
        template_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    };
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let some = |n: usize| Some(count(n)).filter(|n| *n > 0);
    let min_ready = min_ready(set);
    Counts {
        replicas: count(plan.active.len()),
        fully_labeled: some(plan.active.iter().filter(labelled).count()),
        ready: some(plan.active.iter().filter(|p| is_ready(p)).count()),
        available: some(plan.active.iter().filter(|p| is_available(p, min_ready, now)).count()),
        terminating: some(plan.terminating),
    }
}

/// The conditions with that of a failure, or without any. One that is there stays as it is.
pub fn conditions<C>(old: Option<Vec<C>>, failure: Option<C>, is_failure: fn(&C) -> bool) -> Option<Vec<C>> {
    let mut conditions = old.unwrap_or_default();
    match failure {
        None => conditions.retain(|condition| !is_failure(condition)),
        Some(_) if conditions.iter().any(is_failure) => {}
        Some(failure) => conditions.push(failure),
    }
    Some(conditions).filter(|conditions| !conditions.is_empty())
}
