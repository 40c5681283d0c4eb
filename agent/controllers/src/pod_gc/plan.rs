//! Which pods are removed, and what their status says at the end. Pure.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::objects;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its node is gone.
    Orphaned,
    /// It is to go and has no node that could end it.
    NeverPlaced,
    /// It ended, and so did too many others.
    Surplus,
}

pub fn node_name(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

pub fn plan(pods: &[Arc<Pod>], gone: &HashSet<String>, terminated_max: usize) -> Vec<(Arc<Pod>, Reason)> {
    let mut removals = Vec::new();
    let mut ended = Vec::new();
    for pod in pods.iter().filter(|pod| !is_removed(pod)) {
        match node_name(pod) {
            Some(node) if gone.contains(node) => removals.push((Arc::clone(pod), Reason::Orphaned)),
            None if objects::is_deleted(&**pod) => removals.push((Arc::clone(pod), Reason::NeverPlaced)),
            Some(_) | None if objects::is_terminal(pod) => ended.push(Arc::clone(pod)),
            Some(_) | None => {}
        }
    }
    let surplus = ended.len().saturating_sub(terminated_max);
    // Upstream's order: what was evicted first, then the oldest.
    ended.sort_by_cached_key(|pod| (!is_evicted(pod), pod.creation_timestamp().map(|t| t.0), pod.name_any()));
    removals.extend(ended.into_iter().take(surplus).map(|pod| (pod, Reason::Surplus)));
    removals
}

/// Whether all was done for it already: only finalizers hold it.
fn is_removed(pod: &Pod) -> bool {
    objects::is_terminal(pod)
        && objects::is_deleted(pod)
        && pod.metadata.deletion_grace_period_seconds == Some(0)
        && !pod.finalizers().is_empty()
}

fn is_evicted(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|status| status.reason.as_deref()) == Some("Evicted")
}

/// What is written before the pod is removed; nothing if it says how it ended.
pub fn last_status(pod: &Pod, reason: Reason, now: Timestamp) -> Option<Value> {
    if objects::is_terminal(pod) {
        return None;
    }
    let mut status = json!({"phase": "Failed"});
    if reason == Reason::Orphaned {
        status["conditions"] = json!([{"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
            "message": "PodGC: node no longer exists", "lastTransitionTime": objects::time(now)}]);
    }
    Some(status)
}
