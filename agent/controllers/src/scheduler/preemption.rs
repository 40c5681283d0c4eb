//! Which pods make room for a more important one. Pure.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::fit::{OnNode, Placed, fits};
use crate::objects;

/// Who goes, and from where.
#[derive(Debug, PartialEq)]
pub struct Preemption {
    pub node: String,
    pub victims: Vec<Arc<Pod>>,
}

pub fn priority(pod: &Pod) -> i32 {
    pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0)
}

/// The node where the least is lost; `None` where nobody less important is in the way, or those who were told to go have not
/// gone yet.
pub fn preempt(pod: &Arc<Pod>, placed: &Placed) -> Option<Preemption> {
    let policy = pod.spec.as_ref().and_then(|spec| spec.preemption_policy.as_deref());
    if policy == Some("Never") || is_awaited(pod, placed) {
        return None;
    }
    let candidates = placed.nodes().iter().filter_map(|on_node| on(on_node, pod, placed));
    candidates.min_by_key(cost)
}

/// Whether somebody already makes room for it.
pub fn is_awaited(pod: &Pod, placed: &Placed) -> bool {
    let nominated = pod.status.as_ref().and_then(|status| status.nominated_node_name.as_deref());
    let there = placed.nodes().iter().filter(|on_node| on_node.node().metadata.name.as_deref() == nominated);
    nominated.is_some()
        && there
            .flat_map(|on_node| on_node.pods())
            .any(|other| objects::is_deleted(&**other) && priority(other) < priority(pod))
}

/// Without everybody less important; then those who may stay come back, the most important first.
fn on(on_node: &OnNode, pod: &Arc<Pod>, placed: &Placed) -> Option<Preemption> {
    let node = on_node.node().name_any();
    let mut lesser: Vec<&Arc<Pod>> = on_node.pods().iter().filter(|other| priority(other) < priority(pod)).collect();
    if lesser.is_empty() {
        return None;
    }
    lesser.sort_by_key(|other| (Reverse(priority(other)), started(other), other.name_any()));
    let mut gone: HashSet<&str> = lesser.iter().filter_map(|other| other.metadata.uid.as_deref()).collect();
    if !fits(pod, &node, &placed.without(&node, &gone)) {
        return None;
    }
    let mut victims = Vec::new();
    for other in lesser {
        let uid = other.metadata.uid.as_deref().unwrap_or_default();
        gone.remove(uid);
        if !fits(pod, &node, &placed.without(&node, &gone)) {
            gone.insert(uid);
            victims.push(Arc::clone(other));
        }
    }
    Some(Preemption { node, victims })
}

fn started(pod: &Pod) -> Option<jiff::Timestamp> {
    pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0)
}

/// The most important victim counts first, then how important they are together, then how many, then how long they ran.
fn cost(preemption: &Preemption) -> impl Ord + use<> {
    let victims = &preemption.victims;
    let highest = victims.iter().map(|victim| priority(victim)).max();
    let sum: i64 = victims.iter().map(|victim| i64::from(priority(victim)) - i64::from(i32::MIN)).sum();
    let most_important = victims.iter().filter(|victim| Some(priority(victim)) == highest);
    let earliest = most_important.filter_map(|victim| started(victim)).min();
    (highest, sum, victims.len(), Reverse(earliest), preemption.node.clone())
}
