//! DaemonSets: one pod on each node that they are for. Scope: cluster.
//!
//! Writes pods it controls, the revisions of its templates, and the status of DaemonSets. The scheduler places the pods, each
//! of which asks for its node.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod};
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use skiff_reconcile::{
    BoxError, Caches, Chain, Changes, EventKind, Failures, Informer, Next, Reconciler, Recorder, Scope,
};
use tokio::time::Instant;

use crate::expectations::Expectations;
use crate::refusals::Refusals;
use crate::revisions::{self, POD_LABEL, Settled};
use crate::{objects, owners, statuses, templates};

mod plan;
#[cfg(test)]
mod tests;

use plan::{Plan, View, Why, plan};

pub struct Controller {
    client: Client,
    recorder: Recorder,
    sets: Informer<DaemonSet>,
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    revisions: Informer<ControllerRevision>,
    /// By the UIDs of sets and the names of nodes.
    expectations: Expectations,
    refusals: Refusals,
    /// By the same.
    ended: HashMap<String, Ended>,
}

/// A pod that ended, which should not: the next one is given time, and each more than the one before.
struct Ended {
    since: Instant,
    delay: Duration,
}

impl Ended {
    const DELAY_MIN: Duration = Duration::from_secs(1);
    const DELAY_MAX: Duration = Duration::from_secs(900);

    fn after(last: Option<&Self>) -> Self {
        let last = last.filter(|last| !last.is_old());
        let delay = last.map_or(Self::DELAY_MIN, |last| (last.delay * 2).min(Self::DELAY_MAX));
        Self { since: Instant::now(), delay }
    }

    fn is_old(&self) -> bool {
        self.since.elapsed() > 2 * Self::DELAY_MAX
    }

    /// Until a pod that ended is removed.
    fn left(&self) -> Option<Duration> {
        self.delay.checked_sub(self.since.elapsed()).filter(|left| !left.is_zero())
    }
}

/// A node, for one set.
fn place(set: &DaemonSet, node: &str) -> String {
    format!("{}/{node}", set.uid().unwrap_or_default())
}

impl Controller {
    pub fn new(client: Client, recorder: Recorder, caches: &Caches) -> Self {
        let (sets, nodes, pods, revisions) = (caches.of(), caches.of(), caches.of(), caches.of());
        let (expectations, refusals) = (Expectations::default(), Refusals::default());
        Self { client, recorder, sets, nodes, pods, revisions, expectations, refusals, ended: HashMap::new() }
    }

    pub fn wakes(&self) -> Vec<Changes> {
        vec![self.sets.changes(), self.nodes.changes(), self.pods.changes(), self.revisions.changes()]
    }

    async fn reconcile_one(
        &mut self,
        set: &DaemonSet,
        pods: &[Arc<Pod>],
        revisions: &[Arc<ControllerRevision>],
    ) -> Result<Next, BoxError> {
        let selector = objects::selector(&set.spec.selector);
        let (pods, revisions) = (owners::claim(set, &selector, pods), owners::claim(set, &selector, revisions));
        let mut failures = Failures::default();
        owners::apply(&self.client, set, &pods.adopt, &pods.release, &mut failures).await;
        owners::apply(&self.client, set, &revisions.adopt, &[], &mut failures).await;
        failures.into_result()?;
        // What it has is on its way out, too: nothing is made again.
        if objects::is_deleted(set) {
            return Ok(Next::Change);
        }
        let (pods, revisions) = ([pods.owned, pods.adopt].concat(), [revisions.owned, revisions.adopt].concat());
        let mut status = set.status.clone().unwrap_or_default();
        let newest = revisions::newest(set, &set.spec.template, &revisions, status.collision_count);
        let Settled::Revision(newest) = revisions::settle(&self.client, set, newest).await? else {
            revisions::count_collision(&mut status.collision_count);
            statuses::write(&self.client, set, &status).await?;
            return Ok(Next::Change);
        };
        let hash = hash_of(set, &newest);
        let nodes = self.nodes.list();
        let names = nodes.iter().map(|node| node.name_any());
        let expected = names.filter(|node| self.expectations.unseen(&place(set, node)) > 0).collect();
        let held = nodes.iter().filter_map(|node| {
            let name = node.name_any();
            let left = self.ended.get(&place(set, &name))?.left()?;
            Some((name, left))
        });
        let held = held.collect();
        let plan = plan(&View {
            set,
            nodes: &nodes,
            held: &held,
            pods: &pods,
            revision: &hash,
            collisions: set.status.as_ref().and_then(|status| status.collision_count),
            expected: &expected,
            leaving: &self.expectations.leaving(),
            now: objects::now(),
        });
        let done = self.act(set, &hash, &plan).await;
        if set.status.as_ref() != Some(&plan.status) {
            statuses::write(&self.client, set, &plan.status).await?;
        }
        self.forget(set, &newest, &pods, &revisions).await?;
        done?;
        Ok(plan.next)
    }

    /// Goes on after a failure: nodes do not wait for each other.
    async fn act(&mut self, set: &DaemonSet, hash: &str, plan: &Plan) -> Result<(), BoxError> {
        let mut done = Ok(());
        for (pod, why) in &plan.delete {
            done = self.delete(set, pod, *why).await.and(done);
        }
        for node in &plan.create {
            done = self.create(set, hash, node).await.and(done);
        }
        done
    }

    async fn create(&mut self, set: &DaemonSet, hash: &str, node: &str) -> Result<(), BoxError> {
        let owner = place(set, node);
        match self.api(set).create(&PostParams::default(), &pod(set, hash, node)).await {
            Ok(made) => {
                self.expectations.created(&owner, made.uid().unwrap_or_default());
                let message = format!("Created pod: {}", made.name_any());
                self.event(set, EventKind::Normal, "SuccessfulCreate", &message).await;
                Ok(())
            }
            Err(error) if objects::is_outdated(&error) => Ok(()),
            Err(error) => {
                let message = format!("Error creating: {}", Chain(&error));
                self.event(set, EventKind::Warning, "FailedCreate", &message).await;
                Err(error.into())
            }
        }
    }

    async fn delete(&mut self, set: &DaemonSet, pod: &Pod, why: Why) -> Result<(), BoxError> {
        let ended = match why {
            Why::Failed => Some((EventKind::Warning, "FailedDaemonPod", "failed", "kill")),
            Why::Succeeded => Some((EventKind::Normal, "SucceededDaemonPod", "succeeded", "delete")),
            Why::Surplus | Why::Outdated => None,
        };
        if let Some((kind, reason, state, verb)) = ended {
            let (namespace, node) = (set.namespace().unwrap_or_default(), plan::node_of(pod).unwrap_or_default());
            let place = place(set, node);
            let ended = Ended::after(self.ended.get(&place));
            self.ended.insert(place, ended);
            let name = pod.name_any();
            let message = format!("Found {state} daemon pod {namespace}/{name} on node {node}, will try to {verb} it");
            self.event(set, kind, reason, &message).await;
        }
        let preconditions = Some(Preconditions { uid: pod.uid(), resource_version: None });
        let params = DeleteParams { preconditions, ..DeleteParams::background() };
        match self.api(set).delete(&pod.name_any(), &params).await {
            Ok(_) => {
                self.expectations.deleted(pod.uid().unwrap_or_default());
                let message = format!("Deleted pod: {}", pod.name_any());
                self.event(set, EventKind::Normal, "SuccessfulDelete", &message).await;
                Ok(())
            }
            Err(error) if objects::is_outdated(&error) => Ok(()),
            Err(error) => {
                let message = format!("Error deleting: {}", Chain(&error));
                self.event(set, EventKind::Warning, "FailedDelete", &message).await;
                Err(error.into())
            }
        }
    }

    fn api(&self, set: &DaemonSet) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &set.namespace().unwrap_or_default())
    }

    async fn event(&self, set: &DaemonSet, kind: EventKind, reason: &str, message: &str) {
        self.recorder.event(&objects::reference(set), kind, reason, message).await;
    }

    /// Revisions that nobody can want any more.
    async fn forget(
        &self,
        set: &DaemonSet,
        newest: &ControllerRevision,
        pods: &[Arc<Pod>],
        revisions: &[Arc<ControllerRevision>],
    ) -> Result<(), BoxError> {
        let hashes: HashSet<&str> =
            pods.iter().filter_map(|pod| Some(objects::labels(&**pod).get(POD_LABEL)?.as_str())).collect();
        let is_live = |name: &str| {
            name == newest.name_any() || name.rsplit_once('-').is_some_and(|(_, hash)| hashes.contains(hash))
        };
        for revision in revisions::surplus(revisions, is_live, set.spec.revision_history_limit) {
            revisions::delete(&self.client, set, revision).await?;
        }
        Ok(())
    }
}

/// What the pods of a revision say of it: as upstream, without the set's name.
fn hash_of(set: &DaemonSet, revision: &ControllerRevision) -> String {
    let name = revision.name_any();
    name.strip_prefix(&format!("{}-", set.name_any())).unwrap_or(&name).to_owned()
}

/// A pod that is for one node.
fn pod(set: &DaemonSet, hash: &str, node: &str) -> Pod {
    let mut pod = templates::pod(set, &set.spec.template);
    pod.metadata.labels.get_or_insert_default().insert(POD_LABEL.to_owned(), hash.to_owned());
    let spec = pod.spec.get_or_insert_default();
    let every = plan::tolerations(spec);
    let tolerations = spec.tolerations.get_or_insert_default();
    tolerations.extend(every.into_iter().filter(|one| {
        !set.spec.template.spec.iter().flat_map(|s| s.tolerations.iter().flatten()).any(|own| own == one)
    }));
    let term = NodeSelectorTerm {
        match_fields: Some(vec![NodeSelectorRequirement {
            key: "metadata.name".to_owned(),
            operator: "In".to_owned(),
            values: Some(vec![node.to_owned()]),
        }]),
        match_expressions: None,
    };
    // What the template asks of nodes was looked at: this one is left.
    let affinity = spec.affinity.get_or_insert_default().node_affinity.get_or_insert_default();
    affinity.required_during_scheduling_ignored_during_execution =
        Some(NodeSelector { node_selector_terms: vec![term] });
    pod
}

impl Reconciler for Controller {
    const NAME: &'static str = "daemonset";
    const SCOPE: Scope = Scope::Cluster;

    async fn reconcile(&mut self) -> Result<Next, BoxError> {
        self.sets.synced().await;
        self.nodes.synced().await;
        self.pods.synced().await;
        self.revisions.synced().await;
        let sets = self.sets.list();
        self.refusals.retain(&sets);
        self.ended.retain(|_, ended| !ended.is_old());
        if sets.is_empty() {
            return Ok(Next::Change);
        }
        let pods = self.pods.list();
        let seen: HashSet<&str> = pods.iter().filter_map(|pod| pod.metadata.uid.as_deref()).collect();
        self.expectations.observe(&seen);
        let pods = objects::by_namespace(&pods);
        let revisions = objects::by_namespace(&self.revisions.list());
        let mut next = Next::Change;
        let mut failures = Failures::default();
        for set in sets {
            let (namespace, uid) = (set.namespace().unwrap_or_default(), set.uid().unwrap_or_default());
            if let Some(left) = self.refusals.wait(&uid) {
                next = next.sooner(Next::After(left));
                continue;
            }
            let (pods, revisions) = (pods.get(&namespace), revisions.get(&namespace));
            let (pods, revisions) = (pods.map_or(&[][..], Vec::as_slice), revisions.map_or(&[][..], Vec::as_slice));
            let result = self.reconcile_one(&set, pods, revisions).await;
            let result = self.refusals.note(&uid, result);
            let wanted = failures.keep(format_args!("{namespace}/{}", set.name_any()), result);
            next = next.sooner(wanted.unwrap_or(Next::Change));
        }
        failures.into_result()?;
        Ok(next.sooner(self.expectations.next()))
    }
}
