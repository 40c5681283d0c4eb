//! A Deployment's status and conditions. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DeploymentCondition, DeploymentStatus};
use kube::ResourceExt;
use skiff_reconcile::Next;

use super::plan::{View, available};
use super::rollout;
use crate::objects;

const AVAILABLE: &str = "Available";
const PROGRESSING: &str = "Progressing";
const FAILURE: &str = "ReplicaFailure";

/// Every replica is of the new template and available, and none else is left.
pub fn is_complete(view: &View<'_>) -> bool {
    let counts = counts(view);
    let wanted = view.wanted();
    let observed = view.deployment.status.as_ref().and_then(|s| s.observed_generation).unwrap_or(0);
    counts.updated == wanted
        && counts.replicas == wanted
        && counts.available == wanted
        && observed >= view.deployment.metadata.generation.unwrap_or(0)
}

struct Counts {
    replicas: i32,
    updated: i32,
    ready: i32,
    available: i32,
    terminating: i32,
}

fn counts(view: &View<'_>) -> Counts {
    let mut counts = Counts { replicas: 0, updated: 0, ready: 0, available: 0, terminating: 0 };
    for set in view.all() {
        let status = set.status.clone().unwrap_or_default();
        counts.replicas += status.replicas;
        counts.ready += status.ready_replicas.unwrap_or(0);
        counts.available += available(set);
        counts.terminating += status.terminating_replicas.unwrap_or(0);
    }
    counts.updated = view.new.as_ref().and_then(|s| s.status.as_ref()).map_or(0, |s| s.replicas);
    counts
}

pub fn status(view: &View<'_>, now: Timestamp) -> (DeploymentStatus, Next) {
    let counts = counts(view);
    let old = view.deployment.status.clone().unwrap_or_default();
    let positive = |n: i32| Some(n).filter(|n| *n > 0);
    let mut conditions = old.conditions.clone().unwrap_or_default();
    set(&mut conditions, availability(view, &counts), now);
    let next = progress(view, &counts, &old, &mut conditions, now);
    failure(view, &mut conditions, now);
    let status = DeploymentStatus {
        observed_generation: view.deployment.metadata.generation,
        replicas: positive(counts.replicas),
        updated_replicas: positive(counts.updated),
        ready_replicas: positive(counts.ready),
        available_replicas: positive(counts.available),
        unavailable_replicas: positive(view.all().map(|s| super::plan::replicas(s)).sum::<i32>() - counts.available),
        terminating_replicas: positive(counts.terminating),
        collision_count: old.collision_count,
        conditions: Some(conditions).filter(|c| !c.is_empty()),
    };
    (status, next)
}

fn condition(kind: &str, status: bool, reason: &str, message: String) -> DeploymentCondition {
    DeploymentCondition {
        type_: Some(kind.to_owned()),
        status: Some(if status { "True" } else { "False" }.to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_transition_time: None,
        last_update_time: None,
    }
}

/// Puts a condition in its place; times move only when it says something new.
fn set(conditions: &mut Vec<DeploymentCondition>, mut wanted: DeploymentCondition, now: Timestamp) {
    let old = conditions.iter_mut().find(|c| c.type_ == wanted.type_);
    wanted.last_update_time = Some(objects::time(now));
    wanted.last_transition_time = Some(objects::time(now));
    match old {
        Some(old) if old.status == wanted.status && old.reason == wanted.reason => {
            if old.message != wanted.message {
                old.message = wanted.message;
                old.last_update_time = wanted.last_update_time;
            }
        }
        Some(old) => {
            if old.status == wanted.status {
                wanted.last_transition_time = old.last_transition_time.clone();
            }
            *old = wanted;
        }
        None => conditions.push(wanted),
    }
}

fn availability(view: &View<'_>, counts: &Counts) -> DeploymentCondition {
    if counts.available >= view.wanted() - rollout::max_unavailable(view) {
        let message = "Deployment has minimum availability.".to_owned();
        condition(AVAILABLE, true, "MinimumReplicasAvailable", message)
    } else {
        let message = "Deployment does not have minimum availability.".to_owned();
        condition(AVAILABLE, false, "MinimumReplicasUnavailable", message)
    }
}

/// The Progressing condition, and when it has to be looked at again.
fn progress(
    view: &View<'_>,
    counts: &Counts,
    old: &DeploymentStatus,
    conditions: &mut Vec<DeploymentCondition>,
    now: Timestamp,
) -> Next {
    let deadline = view.spec.progress_deadline_seconds.unwrap_or(600);
    if deadline == i32::MAX {
        conditions.retain(|c| c.type_.as_deref() != Some(PROGRESSING));
        return Next::Change;
    }
    if view.spec.paused == Some(true) {
        if !conditions.iter().any(|c| c.reason.as_deref() == Some("ProgressDeadlineExceeded")) {
            let mut paused = condition(PROGRESSING, true, "DeploymentPaused", "Deployment is paused".to_owned());
            paused.status = Some("Unknown".to_owned());
            set(conditions, paused, now);
        }
        return Next::Change;
    }
    let name = view.deployment.name_any();
    let subject = match &view.new {
        Some(new) => format!("ReplicaSet \"{}\"", new.name_any()),
        None => format!("Deployment \"{name}\""),
    };
    let current = conditions.iter().find(|c| c.type_.as_deref() == Some(PROGRESSING)).cloned();
    let complete = counts.updated == view.wanted()
        && counts.replicas == view.wanted()
        && counts.available == view.wanted()
        && view.new.is_some();
    if complete {
        let message = format!("{subject} has successfully progressed.");
        set(conditions, condition(PROGRESSING, true, "NewReplicaSetAvailable", message), now);
        return Next::Change;
    }
    let was_complete = current.as_ref().is_some_and(|c| c.reason.as_deref() == Some("NewReplicaSetAvailable"));
    let new_generation = old.observed_generation != view.deployment.metadata.generation;
    if was_complete && !new_generation {
        // A finished rollout stays finished when a pod of it fails.
        return Next::Change;
    }
    if has_moved(old, counts) || new_generation || current.is_none() {
        let (reason, message) = if view.new.is_none() || current.is_none() {
            ("NewReplicaSetCreated", format!("Created new replica set for {subject}."))
        } else {
            ("ReplicaSetUpdated", format!("{subject} is progressing."))
        };
        conditions.retain(|c| c.type_.as_deref() != Some(PROGRESSING));
        let mut progressing = condition(PROGRESSING, true, reason, message);
        progressing.last_update_time = Some(objects::time(now));
        let since = current.filter(|c| c.status.as_deref() == Some("True")).and_then(|c| c.last_transition_time);
        progressing.last_transition_time = since.or(Some(objects::time(now)));
        conditions.push(progressing);
        return Next::After(Duration::from_secs(u64::try_from(deadline).unwrap_or(600) + 1));
    }
    match current {
        Some(current) => in_time(&current, &subject, deadline, conditions, now),
        None => Next::Change,
    }
}

/// Whether more pods are new, ready or available than before, or fewer are old.
fn has_moved(old: &DeploymentStatus, counts: &Counts) -> bool {
    old.updated_replicas.unwrap_or(0) < counts.updated
        || old.ready_replicas.unwrap_or(0) < counts.ready
        || old.available_replicas.unwrap_or(0) < counts.available
        || (old.replicas.unwrap_or(0) - old.updated_replicas.unwrap_or(0)) > (counts.replicas - counts.updated)
}

/// A rollout that stands still has time until its deadline.
fn in_time(
    current: &DeploymentCondition,
    subject: &str,
    deadline: i32,
    conditions: &mut Vec<DeploymentCondition>,
    now: Timestamp,
) -> Next {
    if current.reason.as_deref() == Some("ProgressDeadlineExceeded") {
        return Next::Change;
    }
    let since = current.last_update_time.as_ref().map_or(now, |t| t.0);
    let passed = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    let limit = Duration::from_secs(u64::try_from(deadline).unwrap_or(600));
    if passed <= limit {
        return Next::After(limit - passed + Duration::from_secs(1));
    }
    let message = format!("{subject} has timed out progressing.");
    set(conditions, condition(PROGRESSING, false, "ProgressDeadlineExceeded", message), now);
    Next::Change
}

/// What keeps a set from making pods is shown on the Deployment.
fn failure(view: &View<'_>, conditions: &mut Vec<DeploymentCondition>, now: Timestamp) {
    let failed = view.all().find_map(|set| {
        let conditions = set.status.as_ref()?.conditions.as_ref()?;
        conditions.iter().find(|c| c.type_.as_deref() == Some(FAILURE) && c.status.as_deref() == Some("True")).cloned()
    });
    match failed {
        Some(failed) => {
            let (reason, message) = (failed.reason.unwrap_or_default(), failed.message.unwrap_or_default());
            set(conditions, condition(FAILURE, true, &reason, message), now);
        }
        None => conditions.retain(|c| c.type_.as_deref() != Some(FAILURE)),
    }
}
