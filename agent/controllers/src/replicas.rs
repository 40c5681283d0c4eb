//! As many pods as are asked for, made from a template: what ReplicaSets and ReplicationControllers share. Scope: cluster.
//!
//! Writes pods that these control, and their status. What is particular about each kind is in its own file.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde::Serialize;
use skiff_object::labels::Selector;
use skiff_reconcile::{
    BoxError, Caches, Chain, Changes, EventKind, Failures, Informer, Next, Reconciler, Recorder, Scope,
};

use crate::expectations::Expectations;
use crate::owners::Claimable;
use crate::refusals::{Refusal, is_refusal};
use crate::{objects, owners, statuses, templates};

mod plan;
#[cfg(test)]
mod tests;

pub use plan::{Counts, conditions};
use plan::{Plan, plan};

/// Pods made or deleted at once, so that a large set does not starve the rest.
const PARALLEL: usize = 16;
/// Pods of one set made in one pass.
const BURST: usize = 100;

/// A kind whose objects ask for a number of pods.
pub trait Replicated: Claimable + Serialize {
    /// Names the reconciler of the kind.
    const CONTROLLER: &'static str;
    type Status: Serialize + PartialEq + Send + Sync;

    fn wanted(&self) -> i32;
    fn selector(&self) -> Selector;
    fn template(&self) -> PodTemplateSpec;
    fn min_ready_seconds(&self) -> i32;
    fn status(&self) -> Option<&Self::Status>;
    /// What it is to say; `failure`: why it has too few pods.
    fn new_status(&self, counts: Counts, failure: Option<String>, now: Timestamp) -> Self::Status;
}

pub struct Controller<K> {
    client: Client,
    recorder: Recorder,
    sets: Informer<K>,
    pods: Informer<Pod>,
    expectations: Expectations,
    /// By the UIDs of sets.
    refusals: HashMap<String, Refusal>,
}

impl<K: Replicated> Controller<K> {
    pub fn new(client: Client, recorder: Recorder, caches: &Caches) -> Self {
        let expectations = Expectations::default();
        let refusals = HashMap::new();
        Self { client, recorder, sets: caches.of(), pods: caches.of(), expectations, refusals }
    }

    pub fn wakes(&self) -> Vec<Changes> {
        vec![self.sets.changes(), self.pods.changes()]
    }

    async fn reconcile_one(&mut self, set: &K, pods: &[Arc<Pod>]) -> Result<Next, BoxError> {
        let uid = set.uid().unwrap_or_default();
        let mut plan = plan(set, pods, self.expectations.unseen(&uid), &self.expectations.leaving(), objects::now());
        let mut failures = Failures::default();
        owners::apply(&self.client, set, &plan.adopt, &plan.release, &mut failures).await;
        let waits = self.refusals.get(&uid).and_then(|refusal| refusal.left().filter(|_| plan.create > 0));
        if let Some(left) = waits {
            plan.create = 0;
            plan.next = plan.next.sooner(Next::After(left));
        }
        let mut failure = self.apply(set, &uid, &plan).await;
        let why = match (&failure, waits) {
            (Some(failure), _) => Some(failure.to_string()),
            (None, Some(_)) => self.refusals.get(&uid).map(|refusal| refusal.why.clone()),
            (None, None) => {
                self.refusals.remove(&uid);
                None
            }
        };
        if let Some(refused) = failure.take_if(|failure| is_refusal(failure)) {
            let refusal = Refusal::after(self.refusals.get(&uid), refused.to_string());
            plan.next = plan.next.sooner(Next::After(refusal.delay));
            self.refusals.insert(uid, refusal);
        }
        let now = objects::now();
        let status = set.new_status(plan::counts(set, &plan, now), why, now);
        if set.status() != Some(&status) {
            failures.keep("its status", statuses::write(&self.client, set, &status).await);
        }
        failures.keep("its pods", failure.map_or(Ok(()), Err));
        failures.into_result()?;
        Ok(plan.next)
    }

    /// Returns the last failure: as upstream, a set says one reason why it has too few pods.
    async fn apply(&mut self, set: &K, uid: &str, plan: &Plan) -> Option<BoxError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &set.namespace().unwrap_or_default());
        let pod = templates::pod(set, &set.template());
        let made: Vec<_> = futures::stream::iter(0..plan.create.min(BURST))
            .map(|_| {
                let (api, pod) = (api.clone(), pod.clone());
                async move { api.create(&PostParams::default(), &pod).await }
            })
            .buffer_unordered(PARALLEL)
            .collect()
            .await;
        let mut failure: Option<BoxError> = None;
        for result in made {
            match result {
                Ok(pod) => {
                    self.expectations.created(uid, pod.uid().unwrap_or_default());
                    let message = format!("Created pod: {}", pod.name_any());
                    self.event(set, EventKind::Normal, "SuccessfulCreate", &message).await;
                }
                Err(error) if objects::is_outdated(&error) => {}
                Err(error) => {
                    let message = format!("Error creating: {}", Chain(&error));
                    self.event(set, EventKind::Warning, "FailedCreate", &message).await;
                    failure = Some(error.into());
                }
            }
        }
        for pod in &plan.delete {
            failure = self.delete(set, &api, pod).await.err().map(Into::into).or(failure);
        }
        failure
    }

    async fn delete(&mut self, set: &K, api: &Api<Pod>, pod: &Pod) -> Result<(), kube::Error> {
        let preconditions = Some(Preconditions { uid: pod.uid(), resource_version: None });
        let params = DeleteParams { preconditions, ..DeleteParams::background() };
        match api.delete(&pod.name_any(), &params).await {
            Ok(_) => {
                self.expectations.deleted(pod.uid().unwrap_or_default());
                let message = format!("Deleted pod: {}", pod.name_any());
                self.event(set, EventKind::Normal, "SuccessfulDelete", &message).await;
            }
            Err(error) if objects::is_outdated(&error) => {}
            Err(error) => {
                let message = format!("Error deleting: {}", Chain(&error));
                self.event(set, EventKind::Warning, "FailedDelete", &message).await;
                return Err(error);
            }
        }
        Ok(())
    }

    async fn event(&self, set: &K, kind: EventKind, reason: &str, message: &str) {
        self.recorder.event(&objects::reference(set), kind, reason, message).await;
    }
}

impl<K: Replicated> Reconciler for Controller<K> {
    const NAME: &'static str = K::CONTROLLER;
    const SCOPE: Scope = Scope::Cluster;

    async fn reconcile(&mut self) -> Result<Next, BoxError> {
        self.sets.synced().await;
        self.pods.synced().await;
        let sets = self.sets.list();
        self.refusals.retain(|uid, _| sets.iter().any(|set| set.meta().uid.as_ref() == Some(uid)));
        if sets.is_empty() {
            return Ok(Next::Change);
        }
        let all = self.pods.list();
        let seen: HashSet<&str> = all.iter().filter_map(|pod| pod.metadata.uid.as_deref()).collect();
        self.expectations.observe(&seen);
        let by_namespace = objects::by_namespace(&all);
        let mut next = Next::Change;
        let mut failures = Failures::default();
        for set in sets {
            let namespace = set.namespace().unwrap_or_default();
            let pods = by_namespace.get(&namespace).map(Vec::as_slice).unwrap_or_default();
            let result = self.reconcile_one(&set, pods).await;
            let wanted = failures.keep(format_args!("{namespace}/{}", set.name_any()), result);
            next = next.sooner(wanted.unwrap_or(Next::Change));
        }
        failures.into_result()?;
        Ok(next.sooner(self.expectations.next()))
    }
}
