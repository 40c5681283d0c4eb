//! What a Deployment needs next: the new ReplicaSet, the scale of each, the revisions. Pure.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStatus, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use skiff_reconcile::Next;

use super::{rollout, status};
use crate::{objects, owners, templates};

pub const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAX: &str = "deployment.kubernetes.io/max-replicas";
const HASH_LABEL: &str = "pod-template-hash";
/// Annotations of the Deployment that its sets do not get.
const NOT_COPIED: &[&str] = &[
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];

#[derive(Debug)]
pub enum Action {
    Create(Box<ReplicaSet>),
    Scale { set: Arc<ReplicaSet>, from: i32, to: i32, annotations: BTreeMap<String, String> },
    Annotate { set: Arc<ReplicaSet>, annotations: BTreeMap<String, String>, min_ready_seconds: Option<i32> },
    Delete(Arc<ReplicaSet>),
}

#[derive(Debug)]
pub struct Plan {
    pub actions: Vec<Action>,
    /// The Deployment's revision, where it is to be written.
    pub revision: Option<String>,
    pub status: DeploymentStatus,
    pub next: Next,
}

/// The Deployment with its sets, told apart.
pub struct View<'a> {
    pub deployment: &'a Deployment,
    pub spec: &'a DeploymentSpec,
    pub new: Option<Arc<ReplicaSet>>,
    /// Oldest first.
    pub old: Vec<Arc<ReplicaSet>>,
    pub pods: &'a HashMap<String, Vec<Arc<Pod>>>,
}

impl View<'_> {
    pub fn all(&self) -> impl Iterator<Item = &Arc<ReplicaSet>> {
        self.new.iter().chain(&self.old)
    }

    pub fn wanted(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }

    pub fn is_rolling(&self) -> bool {
        self.spec.strategy.as_ref().and_then(|s| s.type_.as_deref()) != Some("Recreate")
    }
}

pub fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap_or(1)
}

pub fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0)
}

pub fn plan(
    deployment: &Deployment,
    sets: &[Arc<ReplicaSet>],
    pods: &HashMap<String, Vec<Arc<Pod>>>,
    now: Timestamp,
) -> Plan {
    let spec = deployment.spec.clone();
    let mut view = view(deployment, &spec, sets, pods);
    let mut actions = Vec::new();
    let mut revision = None;
    if !objects::is_deleted(deployment) {
        let paused = spec.paused == Some(true);
        if !paused {
            revision = sync_new(&mut view, &mut actions);
        }
        if actions.is_empty() {
            actions = if paused || rollout::is_scaling_event(&view) {
                rollout::scale_proportionally(&view)
            } else if view.is_rolling() {
                rollout::roll(&view)
            } else {
                rollout::recreate(&view, &mut revision)
            };
            if actions.is_empty() && (paused || status::is_complete(&view)) {
                actions = clean_up(&view);
            }
        }
    }
    let (status, next) = status::status(&view, now);
    Plan { actions, revision, status, next }
}

fn view<'a>(
    deployment: &'a Deployment,
    spec: &'a DeploymentSpec,
    sets: &[Arc<ReplicaSet>],
    pods: &'a HashMap<String, Vec<Arc<Pod>>>,
) -> View<'a> {
    let mut sets = sets.to_vec();
    sets.sort_by_cached_key(|s| (s.creation_timestamp().map(|t| t.0), revision_of(s), s.name_any()));
    let position = sets.iter().position(|s| !objects::is_deleted(&**s) && same_template(s, deployment));
    let new = position.map(|at| sets.remove(at));
    View { deployment, spec, new, old: sets, pods }
}

pub fn same_template(set: &ReplicaSet, deployment: &Deployment) -> bool {
    let Some(set_template) = set.spec.template.clone() else { return false };
    without_hash(set_template) == without_hash(deployment.spec.template.clone())
}

fn without_hash(mut template: PodTemplateSpec) -> serde_json::Value {
    if let Some(labels) = template.metadata.as_mut().and_then(|m| m.labels.as_mut()) {
        labels.remove(HASH_LABEL);
    }
    serde_json::to_value(template).unwrap_or_default()
}

pub fn revision_of(set: &ReplicaSet) -> u64 {
    objects::annotation(set, REVISION).and_then(|r| r.parse().ok()).unwrap_or(0)
}

/// Brings the new set's annotations up to date, or makes the set where it may exist already.
/// Returns the revision that the Deployment is to carry.
fn sync_new(view: &mut View<'_>, actions: &mut Vec<Action>) -> Option<String> {
    let newest_old = view.old.iter().map(|s| revision_of(s)).max().unwrap_or(0);
    let revision = (newest_old + 1).to_string();
    let carried = objects::annotation(view.deployment, REVISION);
    match &view.new {
        Some(new) => {
            let own = revision_of(new);
            let kept = if own > newest_old { own.to_string() } else { revision };
            let annotations = set_annotations(view, Some(new), &kept);
            let current = new.metadata.annotations.clone().unwrap_or_default();
            let same_wait = new.spec.min_ready_seconds.unwrap_or(0) == view.spec.min_ready_seconds.unwrap_or(0);
            // Replicas are recorded when they are changed: that is how a scaling is told from a rollout.
            let settled = annotations.iter().all(|(k, v)| k == DESIRED || k == MAX || current.get(k) == Some(v));
            if !settled || !same_wait {
                let mut annotations = annotations;
                annotations.remove(DESIRED);
                annotations.remove(MAX);
                actions.push(Action::Annotate {
                    set: Arc::clone(new),
                    annotations,
                    min_ready_seconds: view.spec.min_ready_seconds,
                });
            }
            Some(kept).filter(|kept| carried != Some(kept))
        }
        // With `Recreate` the set is made when the old pods are gone.
        None if !view.is_rolling() => None,
        None => {
            let replicas = rollout::new_replicas(view, 0);
            actions.push(Action::Create(Box::new(new_set(view, &revision, replicas))));
            Some(revision).filter(|revision| carried != Some(revision))
        }
    }
}

/// The annotations a set gets from its Deployment.
fn set_annotations(view: &View<'_>, set: Option<&ReplicaSet>, revision: &str) -> BTreeMap<String, String> {
    let mut annotations: BTreeMap<String, String> = view
        .deployment
        .metadata
        .annotations
        .iter()
        .flatten()
        .filter(|(key, _)| !NOT_COPIED.contains(&key.as_str()))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    annotations.insert(REVISION.to_owned(), revision.to_owned());
    if let Some(previous) = set.and_then(|s| objects::annotation(s, REVISION)).filter(|p| *p != revision) {
        let history = set.and_then(|s| objects::annotation(s, REVISION_HISTORY)).filter(|h| !h.is_empty());
        let history = history.map_or(previous.to_owned(), |history| format!("{history},{previous}"));
        annotations.insert(REVISION_HISTORY.to_owned(), history);
    }
    annotations.extend(scale_annotations(view));
    annotations
}

pub fn scale_annotations(view: &View<'_>) -> BTreeMap<String, String> {
    let max = view.wanted() + rollout::surge(view);
    BTreeMap::from([(DESIRED.to_owned(), view.wanted().to_string()), (MAX.to_owned(), max.to_string())])
}

/// The set for the current template.
pub fn new_set(view: &View<'_>, revision: &str, replicas: i32) -> ReplicaSet {
    let deployment = view.deployment;
    let collisions = deployment.status.as_ref().and_then(|s| s.collision_count);
    let hash = templates::hash(&without_hash(view.spec.template.clone()), collisions);
    let mut template = view.spec.template.clone();
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH_LABEL.to_owned(), hash.clone());
    let labels = labels.clone();
    let mut selector = view.spec.selector.clone();
    selector.match_labels.get_or_insert_default().insert(HASH_LABEL.to_owned(), hash.clone());
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", deployment.name_any())),
            namespace: deployment.namespace(),
            labels: Some(labels),
            annotations: Some(set_annotations(view, None, revision)),
            owner_references: Some(vec![owners::controller_reference(deployment)]),
            ..ObjectMeta::default()
        },
        spec: ReplicaSetSpec {
            replicas: Some(replicas),
            min_ready_seconds: view.spec.min_ready_seconds,
            selector,
            template: Some(template),
        },
        status: None,
    }
}

/// Sets beyond the history limit go, the oldest revisions first, once they are empty.
fn clean_up(view: &View<'_>) -> Vec<Action> {
    let limit = usize::try_from(view.spec.revision_history_limit.unwrap_or(10)).unwrap_or(usize::MAX);
    let mut old: Vec<_> = view.old.iter().filter(|s| !objects::is_deleted(&***s)).collect();
    old.sort_by_key(|s| revision_of(s));
    let surplus = old.len().saturating_sub(limit);
    let empty = |set: &&&Arc<ReplicaSet>| {
        replicas(set) == 0
            && set.status.as_ref().is_some_and(|s| s.replicas == 0)
            && set.metadata.generation.unwrap_or(0)
                <= set.status.as_ref().and_then(|s| s.observed_generation).unwrap_or(0)
    };
    old[..surplus].iter().filter(empty).map(|set| Action::Delete(Arc::clone(set))).collect()
}
