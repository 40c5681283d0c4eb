//! StatefulSets: pods that keep their name, number and claims, made and replaced in order. Scope: cluster.
//!
//! Writes pods it controls, their claims, the revisions of its templates, and the status of StatefulSets.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use skiff_reconcile::{
    BoxError, Caches, Chain, Changes, EventKind, Failures, Informer, Next, Reconciler, Recorder, Scope,
};

use crate::refusals::Refusals;
use crate::revisions::{self, Settled};
use crate::{objects, owners, statuses};

mod identity;
mod plan;
#[cfg(test)]
mod tests;

use plan::{Action, Plan, View, Why, plan};

pub struct Controller {
    client: Client,
    recorder: Recorder,
    sets: Informer<StatefulSet>,
    pods: Informer<Pod>,
    claims: Informer<PersistentVolumeClaim>,
    revisions: Informer<ControllerRevision>,
    refusals: Refusals,
}

/// What there is in one namespace.
#[derive(Default)]
struct Surroundings {
    pods: Vec<Arc<Pod>>,
    claims: BTreeMap<String, Arc<PersistentVolumeClaim>>,
    revisions: Vec<Arc<ControllerRevision>>,
}

impl Controller {
    pub fn new(client: Client, recorder: Recorder, caches: &Caches) -> Self {
        let (sets, pods, claims, revisions) = (caches.of(), caches.of(), caches.of(), caches.of());
        Self { client, recorder, sets, pods, claims, revisions, refusals: Refusals::default() }
    }

    pub fn wakes(&self) -> Vec<Changes> {
        vec![self.sets.changes(), self.pods.changes(), self.claims.changes(), self.revisions.changes()]
    }

    fn surroundings(&self) -> HashMap<String, Surroundings> {
        let mut all: HashMap<String, Surroundings> = HashMap::new();
        for pod in self.pods.list() {
            all.entry(pod.namespace().unwrap_or_default()).or_default().pods.push(pod);
        }
        for claim in self.claims.list() {
            let around = all.entry(claim.namespace().unwrap_or_default()).or_default();
            around.claims.insert(claim.name_any(), claim);
        }
        for revision in self.revisions.list() {
            all.entry(revision.namespace().unwrap_or_default()).or_default().revisions.push(revision);
        }
        all
    }

    async fn reconcile_one(&self, set: &StatefulSet, around: &Surroundings) -> Result<Next, BoxError> {
        let selector = objects::selector(&set.spec.selector);
        let mut pods = owners::claim(set, &selector, &around.pods);
        // A pod without a number of this set's is none of it.
        let is_member = |pod: &Arc<Pod>| identity::ordinal(set, &pod.name_any()).is_some();
        pods.adopt.retain(is_member);
        pods.owned.retain(is_member);
        let revisions = owners::claim(set, &selector, &around.revisions);
        let mut failures = Failures::default();
        owners::apply(&self.client, set, &pods.adopt, &pods.release, &mut failures).await;
        owners::apply(&self.client, set, &revisions.adopt, &[], &mut failures).await;
        failures.into_result()?;
        let revisions = [revisions.owned, revisions.adopt].concat();
        let pods = [pods.owned, pods.adopt].concat();
        if objects::is_deleted(set) {
            return Ok(Next::Change);
        }
        let mut status = set.status.clone().unwrap_or_default();
        let newest = revisions::newest(set, &set.spec.template, &revisions, status.collision_count);
        let Settled::Revision(update) = revisions::settle(&self.client, set, newest).await? else {
            revisions::count_collision(&mut status.collision_count);
            statuses::write(&self.client, set, &status).await?;
            return Ok(Next::Change);
        };
        let current = set.status.as_ref().and_then(|status| status.current_revision.as_deref());
        let current = revisions.iter().find(|revision| Some(&*revision.name_any()) == current);
        let plan = plan(&View {
            set,
            pods: &pods,
            claims: &around.claims,
            current: current.unwrap_or(&update),
            update: &update,
            collisions: set.status.as_ref().and_then(|status| status.collision_count),
            now: objects::now(),
        });
        self.act(set, &plan).await?;
        self.forget(set, &plan, &pods, &revisions).await?;
        Ok(plan.next)
    }

    /// Does what is planned, and tells in the status what there is.
    async fn act(&self, set: &StatefulSet, plan: &Plan) -> Result<(), BoxError> {
        let mut done = Ok(());
        for action in &plan.actions {
            done = self.apply(set, action).await;
            if done.is_err() {
                break;
            }
        }
        if set.status.as_ref() != Some(&plan.status) {
            statuses::write(&self.client, set, &plan.status).await?;
        }
        done
    }

    async fn apply(&self, set: &StatefulSet, action: &Action) -> Result<(), BoxError> {
        match action {
            Action::Create { pod, claims } => {
                self.claim(set, &pod.name_any(), claims).await?;
                let what = format!("Pod {} in StatefulSet {}", pod.name_any(), set.name_any());
                let made = self.api::<Pod>(set).create(&PostParams::default(), pod).await;
                self.tell(set, ["create", "Create"], what, made).await
            }
            Action::Claim { pod, claims } => self.claim(set, &pod.name_any(), claims).await,
            Action::Delete(pod, why) => self.delete(set, pod, *why).await,
            Action::Name { pod, labels } => {
                let patch = json!({"metadata": {"uid": pod.uid(), "labels": labels}});
                self.merge::<Pod>(set, &pod.name_any(), patch).await
            }
            Action::Own { claim, owners } => {
                let resource_version = claim.resource_version();
                let patch = json!({"metadata": {"resourceVersion": resource_version, "ownerReferences": owners}});
                self.merge::<PersistentVolumeClaim>(set, &claim.name_any(), patch).await
            }
        }
    }

    async fn claim(&self, set: &StatefulSet, pod: &str, claims: &[PersistentVolumeClaim]) -> Result<(), BoxError> {
        for claim in claims {
            let what = format!("Claim {} Pod {pod} in StatefulSet {}", claim.name_any(), set.name_any());
            let made = self.api::<PersistentVolumeClaim>(set).create(&PostParams::default(), claim).await;
            self.tell(set, ["create", "Create"], what, made).await?;
        }
        Ok(())
    }

    async fn delete(&self, set: &StatefulSet, pod: &Pod, why: Why) -> Result<(), BoxError> {
        let recreating = match why {
            Why::Failed => Some((EventKind::Warning, "RecreatingFailedPod", "failed")),
            Why::Succeeded => Some((EventKind::Normal, "RecreatingTerminatedPod", "terminated")),
            Why::Surplus | Why::Outdated => None,
        };
        if let Some((kind, reason, state)) = recreating {
            let (namespace, name) = (set.namespace().unwrap_or_default(), set.name_any());
            let message = format!("StatefulSet {namespace}/{name} is recreating {state} Pod {}", pod.name_any());
            self.recorder.event(&objects::reference(set), kind, reason, &message).await;
        }
        let preconditions = Some(Preconditions { uid: pod.uid(), resource_version: None });
        let params = DeleteParams { preconditions, ..DeleteParams::background() };
        let deleted = self.api::<Pod>(set).delete(&pod.name_any(), &params).await;
        let what = format!("Pod {} in StatefulSet {}", pod.name_any(), set.name_any());
        self.tell(set, ["delete", "Delete"], what, deleted).await
    }

    /// An event of what was done, or was not.
    async fn tell<T>(
        &self,
        set: &StatefulSet,
        [verb, reason]: [&str; 2],
        what: String,
        done: Result<T, kube::Error>,
    ) -> Result<(), BoxError> {
        let regarding = objects::reference(set);
        match done {
            Ok(_) => {
                let message = format!("{verb} {what} successful");
                self.recorder.event(&regarding, EventKind::Normal, &format!("Successful{reason}"), &message).await;
                Ok(())
            }
            Err(error) if objects::is_outdated(&error) => Ok(()),
            Err(error) => {
                let message = format!("{verb} {what} failed error: {}", Chain(&error));
                self.recorder.event(&regarding, EventKind::Warning, &format!("Failed{reason}"), &message).await;
                Err(error.into())
            }
        }
    }

    fn api<K: owners::Claimable>(&self, set: &StatefulSet) -> Api<K> {
        Api::namespaced(self.client.clone(), &set.namespace().unwrap_or_default())
    }

    async fn merge<K: owners::Claimable>(&self, set: &StatefulSet, name: &str, patch: Value) -> Result<(), BoxError> {
        let patched = self.api::<K>(set).patch_metadata(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        Ok(objects::settle(patched)?)
    }

    /// Revisions that nobody can want any more.
    async fn forget(
        &self,
        set: &StatefulSet,
        plan: &Plan,
        pods: &[Arc<Pod>],
        revisions: &[Arc<ControllerRevision>],
    ) -> Result<(), BoxError> {
        let own = [&plan.status.current_revision, &plan.status.update_revision];
        let is_live = |name: &str| {
            own.iter().any(|own| own.as_deref() == Some(name))
                || pods.iter().any(|pod| identity::revision_of(pod) == name)
        };
        for revision in revisions::surplus(revisions, is_live, set.spec.revision_history_limit) {
            revisions::delete(&self.client, set, revision).await?;
        }
        Ok(())
    }
}

impl Reconciler for Controller {
    const NAME: &'static str = "statefulset";
    const SCOPE: Scope = Scope::Cluster;

    async fn reconcile(&mut self) -> Result<Next, BoxError> {
        self.sets.synced().await;
        self.pods.synced().await;
        self.claims.synced().await;
        self.revisions.synced().await;
        let sets = self.sets.list();
        self.refusals.retain(&sets);
        if sets.is_empty() {
            return Ok(Next::Change);
        }
        let (around, nothing) = (self.surroundings(), Surroundings::default());
        let mut next = Next::Change;
        let mut failures = Failures::default();
        for set in sets {
            let (namespace, uid) = (set.namespace().unwrap_or_default(), set.uid().unwrap_or_default());
            if let Some(left) = self.refusals.wait(&uid) {
                next = next.sooner(Next::After(left));
                continue;
            }
            let result = self.reconcile_one(&set, around.get(&namespace).unwrap_or(&nothing)).await;
            let result = self.refusals.note(&uid, result);
            let wanted = failures.keep(format_args!("{namespace}/{}", set.name_any()), result);
            next = next.sooner(wanted.unwrap_or(Next::Change));
        }
        failures.into_result()?;
        Ok(next)
    }
}
